"""Reshapes in a row become one or none, for every extent that a dim may have, 0 among them."""

import numpy as np
import pytest

from planish import ir, passes
from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-reshapes"
FAILS = Inputs(refusals=True)


def chain(shape: str, nodes: str, result: str, constants: str = "", dtype: str = "float") -> str:
    held = f"<{constants}>" if constants else ""
    return f"g ({dtype}[{shape}] x) => ({dtype}[{result}] y) {held} {{ {nodes} }}"


@pytest.mark.parametrize(
    ("shape", "nodes", "result", "constants", "expected"),
    [
        pytest.param(
            "N,3,4",
            "a = Reshape(x, s)  y = Reshape(a, t)",
            "N,2,6",
            "int64[2] s={0,12}, int64[3] t={0,2,6}",
            "Reshape",
            id="copies from its operand, which is another one now",
        ),
        pytest.param(
            "N,M,4",
            "a = Reshape(x, s)  y = Reshape(a, t)",
            "K,2,2",
            "int64[2] s={-1,4}, int64[3] t={0,2,2}",
            "Reshape",
            id="a zero that copied what was worked out",
        ),
        pytest.param(
            "N,3,4", "a = Flatten(x)  y = Reshape(a, t)", "N,4,3", "int64[3] t={0,4,3}", "Reshape", id="of Flatten"
        ),
        pytest.param("N,3,4", "a = Unsqueeze(x, s)  y = Flatten(a)", "N,12", "int64[1] s={1}", "Reshape", id="Flatten"),
        pytest.param(
            "N,M,4",
            "a = Unsqueeze(x, s)  y = Flatten<axis=1>(a)",
            "N,K",
            "int64[1] s={1}",
            "Flatten",
            id="a Flatten that no Reshape can stand for on empty tensors",
        ),
        pytest.param(
            "N,1,M",
            "a = Squeeze(x, s)  y = Unsqueeze(a, t)",
            "N,M,1",
            "int64[1] s={1}, int64[1] t={2}",
            "",
            id="neither known nor copies",
        ),
        pytest.param(
            "N,M",
            "a = Unsqueeze(x, s)  y = Unsqueeze(a, t)",
            "N,1,1,M",
            "int64[1] s={1}, int64[1] t={2}",
            "Unsqueeze",
            id="only Unsqueeze can say it",
        ),
        pytest.param(
            "N,M",
            "a = Unsqueeze(x, s)  y = Unsqueeze(a, t)",
            "1,N,1,M,1",
            "int64[2] s={-1,0}, int64[1] t={-3}",
            "Unsqueeze",
            id="negative axes",
        ),
        pytest.param(
            "1,N,1,M,1",
            "a = Squeeze(x, s)  y = Squeeze(a, t)",
            "N,M",
            "int64[1] s={-3}, int64[2] t={-1,0}",
            "Squeeze",
            id="Squeeze of Squeeze",
        ),
        pytest.param(
            "2,1,3",
            "a = Squeeze(x)  y = Unsqueeze(a, t)",
            "2,3,1",
            "int64[1] t={2}",
            "Reshape",
            id="Squeeze without axes",
        ),
        pytest.param(
            "N,0,4",
            "a = Reshape<allowzero=1>(x, s)  y = Reshape<allowzero=1>(a, t)",
            "0,5",
            "int64[2] s={0,7}, int64[2] t={0,5}",
            "Reshape",
            id="a zero that is an extent",
        ),
        pytest.param(
            "N,4",
            "a = Reshape(x, s)  y = Unsqueeze(a, t)",
            "K,2,1",
            "int64[2] s={-1,2}, int64[1] t={-1}",
            "Reshape",
            id="worked out beside known extents",
        ),
    ],
)
def test_two_become_one(shape: str, nodes: str, result: str, constants: str, expected: str) -> None:
    source = model(chain(shape, nodes, result, constants), 18)
    if not expected:
        untouched(source, PASS)
        return
    assert rewritten(source, PASS).op_types == [expected]


@pytest.mark.parametrize(
    ("shape", "nodes", "constants"),
    [
        ("N,3,4", "b = Reshape(a, s)  c = Reshape(b, t)", "int64[2] s={0,12}, int64[3] t={0,3,4}"),
        ("N,3,4", "b = Reshape(a, s)  c = Reshape(b, t)", "int64[2] s={-1,4}, int64[3] t={-1,3,4}"),
        ("N,M", "b = Unsqueeze(a, s)  c = Squeeze(b, t)", "int64[1] s={1}, int64[1] t={-2}"),
        ("N,M,K", "b = Unsqueeze(a, s)  c = Squeeze(b, s)", "int64[2] s={-1,0}"),
        ("N,1,M", "b = Squeeze(a, s)  c = Unsqueeze(b, s)", "int64[1] s={1}"),
        ("N,1,4", "b = Flatten<axis=2>(a)  c = Unsqueeze(b, s)", "int64[1] s={1}"),
        ("2,3", "b = Flatten<axis=0>(a)  c = Reshape(b, s)", "int64[2] s={2,3}"),
    ],
)
def test_what_comes_back_goes(shape: str, nodes: str, constants: str) -> None:
    text = f"g (float[{shape}] x) => (float[{shape}] y) <{constants}> {{ a = Neg(x)  {nodes}  y = Neg(c) }}"
    assert rewritten(model(text, 18), PASS).nodes == ["a = Neg (x)", "y = Neg (a)"]


def test_the_spelling_that_stays() -> None:
    text = chain("N,3,4", "a = Flatten(x)  y = Reshape(a, t)", "N,6,2", "int64[3] t={0,-1,2}")
    found = rewritten(text, PASS, inputs=FAILS)
    assert found.rules == ["reshape-reshape"]
    assert list(found.initializers.values())[-1].tolist() == [0, 6, 2]


def test_empty_tensors_that_the_second_one_takes() -> None:
    """The first works out 4*N / 4, which 0 does not stop; a -1 beside a copied 0 in its place would fail."""
    nodes = "a = Reshape(x, s)  y = Flatten<axis=1>(a)"
    found = rewritten(chain("N,M,2,2", nodes, "N,K", "int64[3] s={0,0,4}"), PASS)
    assert found.op_types == ["Flatten"]


def test_empty_tensors_that_the_second_one_refuses() -> None:
    nodes = "n = Neg(x)  a = Unsqueeze(n, s)  y = Reshape(a, t)"
    found = rewritten(chain("N,M", nodes, "N,K", "int64[1] s={2}, int64[2] t={0,-1}"), PASS, inputs=FAILS)
    assert found.op_types == ["Neg"]
    nodes = "a = Reshape(x, s)  y = Unsqueeze(a, t)"
    found = rewritten(chain("N,M,3", nodes, "N,K,1", "int64[2] s={0,-1}, int64[1] t={2}"), PASS, inputs=FAILS)
    assert found.op_types == ["Reshape"]


def test_a_copy_of_a_dim_of_the_first_one_that_the_operand_lacks() -> None:
    """0 would copy another axis: 3 instead of 6."""
    nodes = "a = Reshape(x, s)  y = Reshape(a, t)"
    found = rewritten(chain("3,2,N", nodes, "6,N,1", "int64[2] s={6,-1}, int64[3] t={0,-1,1}"), PASS)
    assert list(found.initializers.values())[-1].tolist() == [6, -1, 1]


def test_two_dims_that_are_only_known_in_the_run() -> None:
    nodes = "a = Unsqueeze(x, s)  b = Transpose<perm=[2,1,0]>(a)  c = Squeeze(b, s)  y = Unsqueeze(c, t)"
    untouched(chain("N,M", nodes, "M,N,1", "int64[1] s={1}, int64[1] t={2}"), PASS)


def test_dims_that_may_be_equal_by_chance() -> None:
    text = "g (float[N,M] x, int64[2] s) => (float[A,B] y) <int64[1] z={0}> { a = Unsqueeze(x, z)  y = Reshape(a, s) }"
    untouched(text, PASS)


def test_a_first_one_that_others_read_stays_for_them() -> None:
    text = (
        "g (float[N,3,4] x) => (float[N,2,6] y, float[N,12] z) <int64[3] t={0,2,6}> {"
        " a = Flatten(x)  y = Reshape(a, t)  z = Relu(a) }"
    )
    found = rewritten(text, PASS)
    assert found.op_types == ["Flatten", "Reshape", "Relu"]
    assert any("Reshape (x," in node for node in found.nodes)


def test_a_first_one_that_is_an_output_stays() -> None:
    interface = "g (float[N,3] x) => (float[N,1,3] z, float[N,3] y) <int64[1] t={1}>"
    text = f"{interface} {{ z = Unsqueeze(x, t)  a = Squeeze(z, t)  y = Neg(a) }}"
    assert rewritten(text, PASS).op_types == ["Unsqueeze", "Neg"]


def test_an_output_that_would_be_an_input_stays() -> None:
    text = "g (float[N,3] x) => (float[N,3] y) <int64[1] t={1}> { a = Unsqueeze(x, t)  y = Squeeze(a, t) }"
    untouched(text, PASS)


def test_a_dim_that_must_be_one_is_still_checked() -> None:
    text = chain("N,4", "a = Squeeze(x, s)  y = Unsqueeze(a, t)", "4,1", "int64[1] s={0}, int64[1] t={1}")
    assert rewritten(text, PASS, inputs=FAILS).op_types == ["Reshape"]


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "string", "uint8"])
def test_every_element_type(dtype: str) -> None:
    text = chain("N,2", "a = Unsqueeze(x, s)  y = Flatten(a)", "N,2", "int64[1] s={0}", dtype).replace(
        "[N,2] y", "[1,K] y"
    )
    assert rewritten(model(text, 18), PASS).op_types == ["Reshape"]


def test_old_forms() -> None:
    nodes = "a = Unsqueeze<axes=[1]>(x)  b = Unsqueeze<axes=[3]>(a)  c = Squeeze<axes=[1]>(b)  y = Reshape(c, t)"
    found = rewritten(model(chain("N,4", nodes, "N,2,2", "int64[3] t={0,2,2}"), 11), PASS)
    assert found.op_types == ["Reshape"]


def test_three_in_a_row() -> None:
    nodes = "a = Flatten(x)  b = Unsqueeze(a, s)  c = Reshape(b, t)  y = Squeeze(c, s)"
    found = rewritten(chain("N,3,4", nodes, "K,6", "int64[1] s={1}, int64[3] t={-1,1,6}"), PASS)
    assert len(found.op_types) == 1


def test_nested_graphs_merge_their_own() -> None:
    """One in a branch does not merge with one outside of it, which runs anyway."""
    found = rewritten(
        """g (float[N,3] x, bool c) => (float[A,B] y) <int64[1] z={0}, int64[1] o={2}> {
            a = Unsqueeze(x, z)
            y = If(c) <
                then_branch = t () => (float[D,E] p) { d = Unsqueeze(a, o)  e = Squeeze(d, o)  p = Squeeze(e, z) },
                else_branch = f () => (float[F,G] q) { q = Flatten(a) }
            >
        }""",
        PASS,
    )
    assert found.op_types == ["Unsqueeze", "If", "Squeeze", "Flatten"]


def test_operands_of_unknown_rank() -> None:
    graph = "g (float[N,4] x, int64[R] s) => (float[N,4] y) <int64[2] u={-1,0}, int64[1] z={0}> {"
    nodes = " a = Reshape(x, s)  b = Unsqueeze(a, u)  c = Squeeze(b, u)  y = Reshape(c, t) }"
    source = model(graph.replace("z={0}", "z={0}, int64[2] t={-1,4}") + nodes)
    shapes = [np.array([-1, 2, 2], np.int64), np.array([2, 2, -1], np.int64)]
    found = rewritten(source, PASS, inputs=Inputs(({"N": 3, "R": 3}, {"N": 1, "R": 3}), {"s": shapes}))
    assert found.op_types == ["Reshape"]


def test_the_reason_is_told() -> None:
    """Nothing is rewritten, and nothing is left behind, where it takes a computed shape."""
    source = model(chain("N,1,M", "a = Squeeze(x, s)  y = Unsqueeze(a, t)", "N,M,1", "int64[1] s={1}, int64[1] t={2}"))
    graph = ir.load(source)
    (record,) = passes.run(graph, PASS)
    assert not record.rewrites
    assert len(graph) == 2
