"""Sequences that are put together and taken apart again give way to the tensors."""

import numpy as np
import pytest

from tests.equivalence import Inputs, Rewritten, model, rewritten, untouched

PASS = "simplify-sequences"
EXACT = f"{PASS},remove-dead-nodes"


def net(nodes: str, constants: str = "", shape: str = "4,3", returned: str = "float[A,B] y") -> str:
    held = ", ".join(filter(None, ["int64 zero = {0}, int64 one = {1}, int64 last = {-1}, int64 far = {7}", constants]))
    return (
        f"g (float[{shape}] x, float[{shape}] z, int64 i) => ({returned}) <{held}> "
        f"{{ a = Exp(x)  b = Neg(z)  {nodes} }}"
    )


def found(text: str, inputs: Inputs | None = None) -> Rewritten:
    return rewritten(model(text, 17), EXACT, inputs=inputs or Inputs(values={"i": [np.array(0)]}))


@pytest.mark.parametrize("shape", ["4,3", "N,3"])
@pytest.mark.parametrize(
    ("nodes", "after"),
    [
        ("s = SequenceConstruct(a, b)  y = SequenceAt(s, zero)", "y = Exp (x)"),
        ("s = SequenceConstruct(a, b)  y = SequenceAt(s, last)", "y = Neg (z)"),
        (
            "e = SequenceEmpty()  s = SequenceInsert(e, a)  t = SequenceInsert(s, b)  y = SequenceAt(t, one)",
            "y = Neg (z)",
        ),
        ("s = SequenceConstruct(a)  t = SequenceInsert(s, b, zero)  y = SequenceAt(t, zero)", "y = Neg (z)"),
        ("s = SequenceConstruct(a)  t = SequenceInsert(s, b, one)  y = SequenceAt(t, one)", "y = Neg (z)"),
        ("s = SequenceConstruct(a, b)  t = SequenceErase(s, zero)  y = SequenceAt(t, zero)", "y = Neg (z)"),
        ("s = SequenceConstruct(a, b)  t = SequenceErase(s)  y = SequenceAt(t, zero)", "y = Exp (x)"),
        ("s = SequenceConstruct(a, a, b)  t = SequenceErase(s, last)  y = SequenceAt(t, last)", "y = Exp (x)"),
    ],
)
def test_elements(nodes: str, after: str, shape: str) -> None:
    assert found(net(nodes, shape=shape)).nodes == [after]


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ("s = SequenceConstruct(a, b)  y = SequenceLength(s)", 2),
        ("e = SequenceEmpty()  y = SequenceLength(e)", 0),
        ("s = SequenceConstruct(a, b)  t = SequenceErase(s)  y = SequenceLength(t)", 1),
        ("s = SplitToSequence(a)  y = SequenceLength(s)", 4),
        ("s = SplitToSequence<keepdims = 0, axis = 1>(a)  y = SequenceLength(s)", 3),
        ("s = SplitToSequence<axis = -1>(a, two)  y = SequenceLength(s)", 2),
        ("s = SplitToSequence(a, parts)  y = SequenceLength(s)", 2),
    ],
)
def test_lengths(nodes: str, count: int) -> None:
    result = found(net(nodes, "int64 two = {2}, int64[2] parts = {1, 3}", returned="int64 y"))
    assert result.op_types == []
    assert result.initializers["y"].tolist() == count


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation(axis: int) -> None:
    result = found(net(f"s = SequenceConstruct(a, b, a)  y = ConcatFromSequence<axis = {axis}>(s)", shape="N,N"))
    assert result.nodes[-1] == f"y = Concat <axis: int = {axis}> (a, b, a)"


@pytest.mark.parametrize(
    ("attributes", "back"),
    [
        ("axis = 0", "axis = 0"),
        ("axis = 1, keepdims = 1", "axis = -1"),
        ("axis = -1, keepdims = 0", "axis = 1, new_axis = 1"),
    ],
)
def test_put_together_again(attributes: str, back: str) -> None:
    result = found(net(f"s = SplitToSequence<{attributes}>(a)  y = ConcatFromSequence<{back}>(s)"))
    assert result.nodes == ["y = Exp (x)"]


@pytest.mark.parametrize(
    ("nodes", "constants", "after"),
    [
        ("s = SplitToSequence(a, parts)  y = SequenceAt(s, one)", "int64[2] parts = {1, 3}", "Split"),
        ("s = SplitToSequence<axis = -1>(a, two)  y = SequenceAt(s, last)", "int64 two = {2}", "Split"),
        ("s = SplitToSequence<axis = 1>(a)  y = SequenceAt(s, one)", "", "Split"),
        ("s = SplitToSequence<axis = 1, keepdims = 0>(a)  y = SequenceAt(s, last)", "", "Gather"),
    ],
)
def test_parts(nodes: str, constants: str, after: str) -> None:
    returned = "float[A] y" if "keepdims" in nodes else "float[A,B] y"
    assert found(net(nodes, constants, returned=returned)).op_types == ["Exp", after]


def test_parts_of_one_split() -> None:
    nodes = "s = SplitToSequence(a, two)  p = SequenceAt(s, zero)  q = SequenceAt(s, one)  y = Sub(p, q)"
    text = net(nodes, "int64 two = {2}")
    pipeline = f"fixpoint<4>(merge-duplicate-constants,{PASS},merge-common-subexpressions),remove-dead-nodes"
    result = rewritten(model(text, 17), pipeline, inputs=Inputs(values={"i": [np.array(0)]}))
    assert result.op_types == ["Exp", "Split", "Sub"]


def test_sequences_that_grow() -> None:
    nodes = "s = SequenceConstruct(a)  t = SequenceInsert(s, b)  u = SequenceInsert(t, a, zero)  y = SequenceAt(u, i)"
    assert found(net(nodes)).nodes[-2:] == ["u = SequenceConstruct (a, a, b)", "y = SequenceAt (u, i)"]


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        pytest.param("s = SequenceConstruct(a, b)  y = SequenceAt(s, i)", "4,3", id="a position that the caller gives"),
        pytest.param("s = SequenceConstruct(a, b)  y = SequenceAt(s, far)", "4,3", id="a position outside"),
        pytest.param(
            "s = SequenceConstruct(a, b)  y = ConcatFromSequence<axis = 0, new_axis = 1>(s)", "4,3", id="a new axis"
        ),
        pytest.param("s = SplitToSequence(a)  y = SequenceAt(s, zero)", "N,3", id="an unknown number of parts"),
        pytest.param("s = SplitToSequence(a)  y = SequenceAt(s, far)", "4,3", id="a part outside"),
        pytest.param(
            "s = SplitToSequence<axis = 0>(a)  y = ConcatFromSequence<axis = 1>(s)", "4,3", id="along another axis"
        ),
        pytest.param(
            "s = SplitToSequence<axis = 0>(a)  y = ConcatFromSequence<axis = 0, new_axis = 1>(s)",
            "4,3",
            id="along a new axis",
        ),
    ],
)
def test_what_must_stay(nodes: str, shape: str) -> None:
    returned = "float[A,B,C] y" if "new_axis" in nodes else "float[A,B] y"
    untouched(net(nodes, shape=shape, returned=returned), PASS)


def test_a_sequence_that_a_branch_may_change() -> None:
    branches = (
        "then_branch = t () => (seq(float[4,3]) p) { p = SequenceInsert(s, b) }, "
        "else_branch = e () => (seq(float[4,3]) q) { q = Identity(s) }"
    )
    text = net(f"s = SequenceConstruct(a)  t = If(c) <{branches}>  y = SequenceAt(t, last)").replace(
        "int64 i)", "int64 i, bool c)"
    )
    inputs = Inputs(values={"i": [np.array(0)], "c": [np.array(True), np.array(False)]})
    assert "SequenceAt" in found(text, inputs).op_types


def test_a_sequence_that_a_loop_reads() -> None:
    body = "on = Identity(go)  e = SequenceAt(s, one)  w = Add(v, e)"
    loop = f"Loop(i, , a) <body = l (int64 k, bool go, float[4,3] v) => (bool on, float[4,3] w) {{ {body} }}>"
    result = found(net(f"s = SequenceConstruct(a, b)  y = {loop}"), Inputs(values={"i": [np.array(0), np.array(3)]}))
    assert result.op_types == ["Exp", "Neg", "Loop", "Identity", "Add"]
