"""Loops carry only what they change, repeat only what differs, and go where they run once or never."""

import numpy as np
import pytest

from planish import ir, passes
from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "simplify-loops"
EXACT = f"{PASS},remove-dead-nodes"
TRIPS = Inputs(values={"n": [np.array(trips, np.int64) for trips in (0, 1, 3)]})


def loop(
    body: str,
    outputs: str = "float[N] w",
    results: str = "y",
    *,
    trips: str = "n",
    condition: str = "",
    constants: str = "",
    returned: str = "float[A] y",
    before: str = "",
    carried: str = "x",
    inputs: str = "float[N] v",
) -> str:
    """A Loop that carries `v`, at first `x`, and gives `y`; `go` and `on` are its conditions."""
    held = f"<{constants}>" if constants else ""
    return (
        f"g (float[N] x, int64 n) => ({returned}) {held} {{ {before} "
        f"{results} = Loop({trips}, {condition}, {carried}) <"
        f"body = b (int64 i, bool go, {inputs}) => (bool on, {outputs}) {{ {body} }}> }}"
    )


GO = "on = Identity(go)"


# What is carried


def test_what_never_changes_is_captured() -> None:
    text = loop(
        f"{GO}  u_ = Identity(u)  w = Mul(v, u)",
        "float[N] w, float[N] u_",
        "y, z",
        carried="x, a",
        inputs="float[N] v, float[N] u",
        before="a = Exp(x)",
        returned="float[A] y, float[B] z",
    )
    found = rewritten(text, EXACT, inputs=TRIPS)
    assert found.rules[0] == "unchanged-state"
    assert found.nodes[0] == "z = Exp (x)"
    assert found.nodes[1].startswith('y = Loop (n, "", x)')
    assert found.op_types == ["Exp", "Loop", "Identity", "Mul"]


def test_an_initial_value_that_is_an_input() -> None:
    text = loop(
        f"{GO}  u_ = Identity(u)  w = Mul(v, u)",
        "float[N] w, float[N] u_",
        "y, z",
        carried="x, x",
        inputs="float[N] v, float[N] u",
        returned="float[A] y, float[B] z",
    )
    assert rewritten(text, EXACT, inputs=TRIPS).op_types == ["Identity", "Loop", "Identity", "Mul"]


def test_a_loop_that_changes_nothing_goes() -> None:
    text = loop(f"{GO}  w = Identity(v)", results="r", before="a = Exp(x)", carried="a").replace(
        "}> }", "}>  y = Neg(r) }"
    )
    assert rewritten(text, EXACT, inputs=TRIPS).op_types == ["Exp", "Neg"]


def test_values_that_change_places_stay() -> None:
    text = loop(
        f"{GO}  w = Identity(u)  u_ = Identity(v)",
        "float[N] w, float[N] u_",
        "y, z",
        carried="x, a",
        inputs="float[N] v, float[N] u",
        before="a = Exp(x)",
        returned="float[A] y, float[B] z",
    )
    untouched(text, PASS)


def test_what_leads_to_nothing_is_not_carried() -> None:
    text = loop(
        f"{GO}  u_ = Exp(u)  w = Neg(v)",
        "float[N] w, float[N] u_",
        "y, z",
        carried="x, x",
        inputs="float[N] v, float[N] u",
    )
    found = rewritten(text, EXACT, inputs=TRIPS)
    assert found.rules[0] == "unread-results"
    assert found.op_types == ["Loop", "Identity", "Neg"]


@pytest.mark.parametrize("reader", ["w = Add(v, u)", "s = Add(u, t)  t_ = Neg(s)  w = Add(v, t)"])
def test_what_leads_to_something_is(reader: str) -> None:
    """By way of another carried value too."""
    text = loop(
        f"{GO}  u_ = Exp(u)  {reader if 't_' in reader else reader + '  t_ = Neg(t)'}",
        "float[N] w, float[N] u_, float[N] t_",
        "y, z, q",
        carried="x, x, x",
        inputs="float[N] v, float[N] u, float[N] t",
    )
    found = rewritten(text, EXACT, inputs=TRIPS)
    assert found.op_types.count("Exp") == 1
    assert found.op_types.count("Neg") == ("t_" in reader)


def test_what_the_condition_needs_is_carried() -> None:
    text = loop(
        "s = ReduceSum<keepdims = 0>(u)  on = Less(s, k)  u_ = Add(u, k)  w = Neg(v)",
        "float[N] w, float[N] u_",
        "y, z",
        carried="x, x",
        inputs="float[N] v, float[N] u",
        constants="float k = {10}",
    )
    untouched(text, PASS)


def test_outputs_of_each_iteration() -> None:
    text = loop(f"{GO}  w = Neg(v)  s = Exp(v)  t = Sin(v)", "float[N] w, float[N] s, float[N] t", "r, y, z")
    found = rewritten(text.replace("float[A] y", "float[A,B] z"), EXACT, inputs=TRIPS)
    assert found.op_types == ["Loop", "Identity", "Neg", "Sin"]


# How often


@pytest.mark.parametrize(
    ("trips", "condition", "constants"),
    [
        ("t", "", "int64 t = {0}"),
        ("t", "", "int64 t = {-3}"),
        ("n", "c", "bool c = {0}"),
        (" ", "c", "bool c = {0}"),
    ],
)
def test_loops_that_never_run(trips: str, condition: str, constants: str) -> None:
    text = loop(
        f"{GO}  w = Neg(v)", trips=trips, condition=condition, constants=constants, before="a = Exp(x)", carried="a"
    )
    assert rewritten(text, EXACT, inputs=TRIPS).nodes == ["y = Exp (x)"]


@pytest.mark.parametrize(
    ("trips", "condition", "constants", "on"),
    [
        ("t", "", "int64 t = {1}", GO),
        ("t", "c", "int64 t = {1}, bool c = {1}", GO),
        ("t", "c", "int64 t = {5}, bool c = {1}", "on = Constant<value = bool {0}>()"),
        (" ", "c", "bool c = {1}", "on = Constant<value = bool {0}>()"),
    ],
)
def test_loops_that_run_once(trips: str, condition: str, constants: str, on: str) -> None:
    body = f"{on}  f = Cast<to = 1>(i)  h = Add(v, f)  w = Neg(h)  s = Abs(h)"
    text = loop(body, "float[N] w, float[N] s", "y, z", trips=trips, condition=condition, constants=constants)
    found = rewritten(text.replace("float[A] y", "float[A] y, float[B,C] z"), EXACT, inputs=TRIPS)
    assert sorted(found.op_types) == ["Abs", "Add", "Cast", "Neg", "Unsqueeze"]
    assert found.rules[0] == "one-iteration"


def test_without_a_condition_the_one_that_the_body_gives_counts_for_nothing() -> None:
    text = loop(
        "on = Constant<value = bool {0}>()  w = Neg(v)", trips="t", constants="int64 t = {3}", returned="float[A] y"
    )
    untouched(text, PASS)


@pytest.mark.parametrize(("trips", "condition"), [("n", ""), ("n", "c"), ("t", "d")])
def test_loops_that_may_or_may_not_run(trips: str, condition: str) -> None:
    text = loop(
        f"{GO}  k = Exp(x)  w = Mul(v, k)",
        trips=trips,
        condition=condition,
        constants="bool c = {1}, int64 t = {1}",
    ).replace("int64 n)", "int64 n, bool d)")
    untouched(text, PASS)


def test_what_an_iteration_gives_when_none_runs() -> None:
    text = loop(f"{GO}  w = Neg(v)  s = Exp(v)", "float[N] w, float[N] s", "r, y", trips="t", constants="int64 t = {0}")
    untouched(text.replace("float[A] y", "float[A] r, float[B,C] y"), PASS)


def test_a_carried_value_that_changes_its_shape() -> None:
    text = loop(
        f"{GO}  w = Concat<axis = 0>(v, v)", "float[M] w", inputs="float[L] v", trips="t", constants="int64 t = {1}"
    )
    assert rewritten(text, EXACT, inputs=TRIPS).op_types == ["Concat"]


# What every iteration computes alike


def test_what_does_not_depend_on_the_iteration_moves_out() -> None:
    body = f"{GO}  k = Constant<value = float {{2.0}}>()  e = Exp(x)  m = Mul(e, k)  w = Add(v, m)"
    found = rewritten(loop(body, trips="t", constants="int64 t = {3}"), EXACT, inputs=TRIPS)
    assert found.op_types == ["Exp", "Constant", "Mul", "Loop", "Identity", "Add"]
    assert found.rules == ["move-out", "move-out"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"{GO}  f = Cast<to = 1>(i)  w = Add(v, f)", id="depends on the iteration"),
        pytest.param(f"{GO}  r = RandomNormalLike(x)  w = Add(v, r)", id="is random"),
        pytest.param("on = Identity(go)  w = Exp(x)", id="is given back"),
    ],
)
def test_what_must_stay_inside(body: str) -> None:
    untouched(loop(body, trips="t", constants="int64 t = {3}"), PASS)


def test_a_loop_that_may_not_run_keeps_what_may_fail() -> None:
    """A Reshape that cannot be is no error in a loop that does not run."""
    text = loop(
        f"{GO}  q = Reshape(x, s)  m = ReduceSum<keepdims = 0>(q)  w = Add(v, m)", constants="int64[2] s = {7, 11}"
    )
    untouched(text, PASS)


def test_loops_in_loops() -> None:
    inner = (
        "w = Loop(t, , v) <body = b2 (int64 j, bool go2, float[N] v2) => (bool on2, float[N] w2) "
        "{ on2 = Identity(go2)  e = Exp(x)  f = Sin(v)  m = Add(e, f)  w2 = Mul(v2, m) }>"
    )
    found = rewritten(loop(f"{GO}  {inner}", trips="t", constants="int64 t = {2}"), EXACT, inputs=TRIPS)
    assert found.op_types == ["Exp", "Loop", "Identity", "Sin", "Add", "Loop", "Identity", "Mul"]


# Scan


def scan(body: str, outputs: str, results: str, *, returned: str, shape: str = "4,N", attributes: str = "") -> str:
    return (
        f"g (float[{shape}] x, float[N] s) => ({returned}) {{ {results} = Scan <num_scan_inputs = 1{attributes}, "
        f"body = b (float[N] v, float[N] u, float[N] e) => ({outputs}) {{ {body} }}>(s, s, x) }}"
    )


def test_scans() -> None:
    body = "w = Add(v, e)  u_ = Identity(u)  p = Mul(e, u)  q = Neg(e)  k = Exp(s)  r = Mul(k, e)"
    outputs = "float[N] w, float[N] u_, float[N] p, float[N] q, float[N] r"
    text = scan(body, outputs, "y, z, o1, o2, o3", returned="float[A] y, float[B,C] o1, float[D,E] o3")
    found = rewritten(text, EXACT)
    assert sorted(found.op_types) == ["Add", "Exp", "Mul", "Mul", "Scan"]
    assert found.op_types[:2] == ["Exp", "Scan"]


def test_the_directions_of_a_scan() -> None:
    body = "w = Add(v, e)  u_ = Exp(u)  p = Mul(e, v)  q = Neg(w)"
    outputs = "float[N] w, float[N] u_, float[N] p, float[N] q"
    attributes = ", scan_output_directions = [1, 0], scan_output_axes = [0, 1]"
    text = scan(body, outputs, "y, z, o1, o2", returned="float[A] y, float[B,C] o2", attributes=attributes)
    found = rewritten(text, EXACT, inputs=Inputs(bindings=[{"N": 1}, {"N": 3}]))
    assert "scan_output_axes: ints = [1]" in found.nodes[0]
    assert "scan_output_directions: ints = [0]" in found.nodes[0]
    assert sorted(found.op_types) == ["Add", "Neg", "Scan"]


def test_a_scan_of_unknown_length_keeps_what_may_fail() -> None:
    body = "w = Add(v, e)  u_ = Mul(u, e)  p = Exp(s)  q = Mul(p, e)"
    returned = "float[A] y, float[B] z, float[C,D] o"
    text = scan(body, "float[N] w, float[N] u_, float[N] q", "y, z, o", returned=returned, shape="M,N")
    untouched(text, PASS)


# Around


def test_a_loop_with_effects_stays() -> None:
    body = (
        "g (float[N] x, int64 n) => (float[A] y) { z = Loop(n, , x) <body = b (int64 i, bool go, float[N] v) => "
        "(bool on, float[N] w) { on = Identity(go)  w = Identity(v)  k = RandomNormalLike(v) }>  y = Neg(z) }"
    )
    graph = ir.load(model(body))
    passes.run(graph, PASS)
    assert [node.op for node in graph.nodes] == ["Loop", "Neg"]


def test_a_carried_sequence() -> None:
    text = (
        "g (float[N] x, int64 n) => (float[A] y) { s = SequenceConstruct(x)  t, r = Loop(n, , s, x) <"
        "body = b (int64 i, bool go, seq(float[N]) q, float[N] v) => (bool on, seq(float[N]) q_, float[N] w) "
        "{ on = Identity(go)  q_ = Identity(q)  z = SequenceAt(q, i0)  w = Add(v, z) }>  y = Neg(r) }"
    ).replace("=> (float[A] y) {", "=> (float[A] y) <int64 i0 = {0}> {")
    assert rewritten(text, EXACT, inputs=TRIPS).rules[0] == "unchanged-state"


def test_what_only_an_unread_output_was_made_of_goes_too() -> None:
    """So that a loop before it gives back less at once."""
    body = f"{GO}  w = Abs(v)  z = Neg(s)"
    before = (
        "f, r = Scan<num_scan_inputs = 1, body = c (float a, float p) => (float q, float t)"
        " { q = Add(a, p)  t = Abs(p) }>(zero, x)  s = Exp(f)"
    )
    found = rewritten(
        loop(body, "float[N] w, float z", "y, u", before=before, constants="float zero = {0}", carried="r"),
        f"fixpoint<8>({PASS})",
        inputs=Inputs(bindings=[{"N": 1}, {"N": 3}], values=TRIPS.values),
    )
    assert found.rules == ["unread-results", "unread-results"]
    assert found.op_types == ["Scan", "Abs", "Loop", "Identity", "Abs"]


def test_one_constant_under_two_names() -> None:
    """Both results are of their own, so that a second run finds nothing to do."""
    text = loop(
        f"{GO}  w = Neg(u)  u2 = Neg(v)", "float[N] w, float[N] u2", "y, z", trips="t", carried="c, c",
        constants="int64 t = {0}, float[2] c = {1, 2}", returned="float[2] y, float[2] z",
        inputs="float[N] v, float[N] u",
    )  # fmt: skip
    assert rewritten(text, EXACT).op_types == []
    rewritten(text, "simplify")
