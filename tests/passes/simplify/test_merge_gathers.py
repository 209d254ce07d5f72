"""A Gather by a constant and the axis behind it; windows of shapes."""

import pytest

from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-gathers"


def after(gather: str, node: str, constants: str, result: str, *, shape: str = "N,3,4") -> str:
    return f"g (float[{shape}] x) => (float[{result}] y) <{constants}> {{ a = {gather}  b = {node}  y = Neg(b) }}"


@pytest.mark.parametrize(
    ("gather", "axes", "result"),
    [
        ("Gather<axis = 1>(x, i)", "1", "N,1,4"),
        ("Gather<axis = -2>(x, i)", "1", "N,1,4"),
        ("Gather<axis = 1>(x, i)", "-2", "N,1,4"),
        ("Gather<axis = -1>(x, i)", "-1", "N,3,1"),
    ],
)
@pytest.mark.parametrize("index", ["int64 i = {2}", "int64 i = {-1}", "int32 i = {0}"])
def test_an_axis_is_put_back(gather: str, axes: str, result: str, index: str) -> None:
    text = after(gather, "Unsqueeze(a, u)", f"{index}, int64[1] u = {{{axes}}}", result)
    assert rewritten(text, PASS).op_types == ["Gather", "Neg"]


@pytest.mark.parametrize(("axis", "axes", "result"), [(0, "0", "3,4"), (-1, "2", "N,3"), (1, "-2", "N,4")])
def test_an_axis_is_taken_off(axis: int, axes: str, result: str) -> None:
    text = after(
        f"Gather<axis = {axis}>(x, i)", "Squeeze(a, u)", f"int64[1] i = {{-1}}, int64[1] u = {{{axes}}}", result
    )
    shape = "2,3,4" if axis == 0 else "N,3,4"
    assert rewritten(text.replace("float[N,3,4] x", f"float[{shape}] x"), PASS).op_types == ["Gather", "Neg"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            after("Gather<axis = 1>(x, i)", "Unsqueeze(a, u)", "int64 i={2}, int64[1] u={2}", "N,4,1"),
            id="another axis",
        ),
        pytest.param(
            after("Gather<axis = 1>(x, i)", "Unsqueeze(a, u)", "int64 i={2}, int64[2] u={0,2}", "1,N,1,4"),
            id="two axes",
        ),
        pytest.param(
            after("Gather<axis = 1>(x, i)", "Unsqueeze(a, u)", "int64[1] i={2}, int64[1] u={1}", "N,1,1,4"),
            id="an index that is a vector",
        ),
        pytest.param(
            after("Gather<axis = 1>(x, i)", "Squeeze(a, u)", "int64[1] i={2}, int64[1] u={0}", "3,4", shape="1,3,3,4")
            .replace("=> (float[3,4]", "=> (float[1,3,4]")
            .replace("float[1,3,4]", "float[A,B,C]"),
            id="a Squeeze of another axis",
        ),
        pytest.param(
            "g (float[N,3] x, int64 i) => (float[N,1] y) <int64[1] u={1}> {"
            " a = Gather<axis = 1>(x, i)  b = Unsqueeze(a, u)  y = Neg(b) }",
            id="an index that is computed",
        ),
        pytest.param(
            "g (float[N,3] x) => (float[N] a, float[N,1] y) <int64 i={1}, int64[1] u={1}> {"
            " a = Gather<axis = 1>(x, i)  b = Unsqueeze(a, u)  y = Neg(b) }",
            id="a Gather that is an output",
        ),
    ],
)
def test_what_stays(text: str) -> None:
    untouched(text, PASS)


@pytest.mark.parametrize(
    ("node", "constants", "extents"),
    [
        ("b = Gather(a, i)", "int64[1] i = {0}", "start: int = 0, end: int = 1"),
        ("b = Gather(a, i)", "int64[2] i = {1, 2}", "start: int = 1, end: int = 3"),
        ("b = Gather(a, i)", "int32[2] i = {-2, -1}", "start: int = 1, end: int = 3"),
        ("b = Slice(a, s, e)", "int64[1] s = {1}, int64[1] e = {9223372036854775807}", "start: int = 1, end: int = 3"),
        ("b = Slice(a, s, e)", "int64[1] s = {-9}, int64[1] e = {-1}", "start: int = 0, end: int = 2"),
    ],
)
def test_a_window_of_a_shape(node: str, constants: str, extents: str) -> None:
    text = f"g (float[N,M,4] x) => (int64[K] y) <{constants}> {{ a = Shape(x)  {node}  y = Neg(b) }}"
    found = rewritten(text, PASS)
    assert found.op_types == ["Shape", "Neg"]
    parts = sorted(found.nodes[0].split("<")[1].split(">")[0].split(", "))
    assert parts == sorted(extents.split(", "))


def test_an_index_of_a_shape_that_becomes_a_vector() -> None:
    text = (
        "g (float[N,M,4] x) => (int64[3] y) <int64 i={1}, int64[1] u={0}, int64[2] r={2,3}> {"
        " a = Shape(x)  b = Gather(a, i)  c = Unsqueeze(b, u)  y = Concat<axis = 0>(c, r) }"
    )
    assert rewritten(text, PASS).op_types == ["Shape", "Concat"]


def test_a_window_of_a_window() -> None:
    text = (
        "g (float[N,M,4,5] x) => (int64[1] y) <int64[1] i={1}> { a = Shape<start = 1, end = -1>(x)  y = Gather(a, i) }"
    )
    assert rewritten(text, PASS).nodes[0].startswith("y = Shape")
    assert "start: int = 2" in rewritten(text, PASS).nodes[0]


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        ("b = Gather(a, i)", "int64[2] i = {0, 2}"),
        ("b = Gather(a, i)", "int64[2] i = {1, 0}"),
        ("b = Gather(a, i)", "int64[2] i = {1, 1}"),
        ("b = Gather(a, i)", "int64[1,1] i = {1}"),
        ("b = Slice(a, s, e, ax, st)", "int64[1] s={0}, int64[1] e={3}, int64[1] ax={0}, int64[1] st={2}"),
        ("b = Slice(a, s, e)", "int64[1] s={2}, int64[1] e={1}"),
    ],
)
def test_what_is_no_window_stays(node: str, constants: str) -> None:
    out = "[A,B]" if "[1,1]" in constants else "[A]"
    untouched(f"g (float[N,M,4] x) => (int64{out} y) <{constants}> {{ a = Shape(x)  {node}  y = Neg(b) }}", PASS)


def test_the_opset_is_not_raised_for_it() -> None:
    text = "g (float[N,M] x) => (int64[1] y) <int64[1] i={1}> { a = Shape(x)  b = Gather(a, i)  y = Neg(b) }"
    untouched(model(text, 14), PASS)
    assert rewritten(model(text, 15), PASS).op_types == ["Shape", "Neg"]


def test_a_shape_that_others_read_stays_for_them() -> None:
    text = (
        "g (float[N,M] x) => (int64[1] y, int64[2] a) <int64[1] i={1}> { a = Shape(x)  b = Gather(a, i)  y = Neg(b) }"
    )
    assert rewritten(text, PASS).op_types == ["Shape", "Shape", "Neg"]


def test_an_index_out_of_bounds_of_the_shape_stays() -> None:
    """It fails in the run, and must not give something instead."""
    text = "g (float[N,M] x, int64[1] i) => (int64[K] y) { a = Shape(x)  b = Gather(a, i)  y = Neg(b) }"
    untouched(text, PASS)


def test_ranks_of_any_kind() -> None:
    text = "g (float[N,2] x) => (int64[1] y) <int64[1] i={1}> { a = Shape(x)  y = Gather(a, i) }"
    assert rewritten(text, PASS, inputs=Inputs(({"N": 0}, {"N": 3}))).op_types == ["Shape"]
