"""Two Pads in a row."""

import pytest

from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-pads"


def padded(
    first: str, second: str, *, mode: str = "constant", more: str = "", values: str = ", ", shape: str = "N,3"
) -> str:
    one, two = (value.strip() for value in values.split(","))
    pads = f"int64[4] p = {{{first}}}, int64[4] q = {{{second}}}{more}"
    modes = mode.split("|")
    return (
        f"g (float[{shape}] x) => (float[A,B] y) <{pads}> {{"
        f' a = Pad<mode = "{modes[0]}">(x, p{", " + one if one else ""})'
        f'  y = Pad<mode = "{modes[-1]}">(a, q{", " + two if two else ""}) }}'
    )


@pytest.mark.parametrize(
    ("first", "second", "sums"),
    [
        ("1,0,2,3", "0,1,0,1", [1, 1, 2, 4]),
        ("0,2,0,2", "0,-1,0,-2", [0, 1, 0, 0]),
        ("5,5,5,5", "-5,1,2,-5", [0, 6, 7, 0]),
    ],
)
def test_pads_add_up(first: str, second: str, sums: list[int]) -> None:
    found = rewritten(padded(first, second), PASS)
    assert found.op_types == ["Pad"]
    assert list(found.initializers.values())[-1].tolist() == sums


@pytest.mark.parametrize(
    ("values", "more"),
    [
        ("v, v", ", float v = {2.5}"),
        ("v, w", ", float v = {-1.5}, float[1] w = {-1.5}"),
        ("v, ", ", float v = {0.0}"),
        (", w", ", float w = {0.0}"),
        ("v, w", ", float v = {-0.0}, float w = {-0.0}"),
    ],
)
def test_pads_with_one_value(values: str, more: str) -> None:
    source = padded("1,0,2,3", "0,1,0,1", values=values, more=more)
    if "float[1]" in more:
        source = source.replace("float[1] w", "float w")
    assert rewritten(source, PASS).op_types == ["Pad"]


def test_pads_by_the_edge_add_up() -> None:
    source = padded("1,0,2,3", "2,1,0,1", mode="edge")
    assert rewritten(source, PASS, inputs=Inputs(({"N": 1}, {"N": 4}))).op_types == ["Pad"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(padded("1,0,2,3", "0,1,0,1", values="v, w", more=", float v={1}, float w={2}"), id="two values"),
        pytest.param(padded("1,0,2,3", "0,1,0,1", values="v, ", more=", float v={1}"), id="a value and none"),
        pytest.param(padded("1,0,2,3", "0,1,0,1", values="v, ", more=", float v={-0.0}"), id="zeros of two signs"),
        pytest.param(padded("1,0,1,0", "1,0,1,0", mode="reflect", shape="4,3"), id="reflection"),
        pytest.param(padded("1,0,1,0", "1,0,1,0", mode="constant|edge"), id="two modes"),
        pytest.param(padded("0,-1,0,0", "0,1,0,0"), id="crops first, then pads"),
        pytest.param(padded("0,1,0,0", "0,-2,0,0"), id="crops more than was padded"),
        pytest.param(padded("0,2,0,0", "0,-1,0,0", mode="edge"), id="crops the edge"),
        pytest.param(
            padded("1,0,2,3", "0,1,0,1").replace("x) =>", "x, float v) =>").replace("(x, p)", "(x, p, v)"), id="v"
        ),
        pytest.param(
            padded("1,0,2,3", "0,1,0,1").replace("(float[A,B] y)", "(float[A,B] y, float[C,D] a)"), id="read elsewhere"
        ),
    ],
)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_a_value_that_both_are_given() -> None:
    source = padded("1,0,2,3", "0,1,0,1").replace("x) =>", "x, float v) =>")
    found = rewritten(source.replace("(x, p)", "(x, p, v)").replace("(a, q)", "(a, q, v)"), PASS)
    assert found.op_types == ["Pad"]
    assert found.nodes[0].endswith(", v)")


def test_pads_of_named_axes() -> None:
    body = (
        "g (float[N,3,M] x) => (float[A,B,C] y) <int64[2] p={1,2}, int64[4] q={0,1,3,0}, int64[1] i={-1},"
        " int64[2] j={0,-1}> { a = Pad(x, p, , i)  y = Pad(a, q, , j) }"
    )
    found = rewritten(model(body, 18), PASS)
    assert list(found.initializers.values())[-1].tolist() == [0, 0, 2, 3, 0, 2]


def test_old_forms() -> None:
    nodes = "a = Pad<pads=[1,0,1,0], value=1.5>(x)  y = Pad<pads=[0,1,0,2], value=1.5>(a)"
    found = rewritten(model(f"g (float[N,3] x) => (float[A,B] y) {{ {nodes} }}", 10), PASS)
    assert found.op_types == ["Pad"]


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "uint8", "double"])
def test_every_element_type(dtype: str) -> None:
    assert rewritten(padded("1,0,2,3", "0,1,0,1").replace("float[", f"{dtype}["), PASS).op_types == ["Pad"]
