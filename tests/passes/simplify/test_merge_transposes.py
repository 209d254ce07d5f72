"""Transposes in a row become one or none; where a dim may be 1 in one run and more in another, it counts as more."""

import numpy as np
import pytest

from tests.equivalence import Inputs, rewritten, untouched

PASS = "merge-transposes"


def chain(shape: str, nodes: str, result: str, constants: str = "", dtype: str = "float") -> str:
    held = f"<{constants}>" if constants else ""
    return f"g ({dtype}[{shape}] x) => ({dtype}[{result}] y) {held} {{ {nodes} }}"


@pytest.mark.parametrize(
    ("first", "second", "perm"),
    [
        ("<perm=[0,2,1,3]>", "<perm=[0,2,3,1]>", "[0, 1, 3, 2]"),
        ("<perm=[1,2,3,0]>", "<perm=[1,2,3,0]>", "[2, 3, 0, 1]"),
        ("", "<perm=[1,0,2,3]>", "[2, 3, 1, 0]"),
        ("<perm=[1,0,2,3]>", "", "[3, 2, 0, 1]"),
    ],
)
def test_two_become_one(first: str, second: str, perm: str) -> None:
    nodes = f"a = Transpose{first}(x)  y = Transpose{second}(a)"
    found = rewritten(chain("N,3,M,5", nodes, "A,B,C,D"), PASS)
    assert found.nodes == [f"y = Transpose <perm: ints = {perm}> (x)"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("", ""), ("<perm=[1,2,0]>", "<perm=[2,0,1]>"), ("<perm=[2,1,0]>", ""), ("<perm=[0,2,1]>", "<perm=[0,2,1]>")],
)
def test_two_that_undo_each_other_go(first: str, second: str) -> None:
    nodes = f"a = Neg(x)  b = Transpose{first}(a)  c = Transpose{second}(b)  y = Neg(c)"
    assert rewritten(chain("N,3,M", nodes, "N,3,M"), PASS).nodes == ["a = Neg (x)", "y = Neg (a)"]


def test_two_reversals_of_unknown_rank_go() -> None:
    nodes = "a = Reshape(x, s)  b = Transpose(a)  c = Transpose(b)  y = Reshape(c, t)"
    text = f"g (float[N,4] x, int64[R] s) => (float[N,4] y) <int64[2] t={{-1,4}}> {{ {nodes} }}"
    bindings = ({"N": 2, "R": 2}, {"N": 0, "R": 2})
    shapes = [np.array([4, -1], np.int64)]
    found = rewritten(text, PASS, inputs=Inputs(bindings, {"s": shapes}))
    assert found.op_types == ["Reshape", "Reshape"]
    known = text.replace("Transpose(b)", "Transpose<perm=[1,0]>(b)")
    untouched(known, PASS)


@pytest.mark.parametrize(
    ("shape", "perm", "result", "stays"),
    [
        ("1,N,4", "1,0,2", "N,1,4", "Reshape"),
        ("2,1,3", "1,0,2", "1,2,3", "Reshape"),
        ("N,4,1,1", "0,2,3,1", "N,1,1,4", "Reshape"),
        ("N,1", "1,0", "1,N", "Reshape"),
        ("N,0,1", "0,2,1", "N,1,0", "Transpose"),
        ("1,N,M", "1,0,2", "N,1,M", "Transpose"),
        ("N,3,4", "1,0,2", "3,N,4", "Transpose"),
        ("1,3,1,4", "0,3,2,1", "1,4,1,3", "Transpose"),
    ],
)
def test_one_that_moves_only_axes_of_one_element(shape: str, perm: str, result: str, stays: str) -> None:
    text = chain(shape, f"y = Transpose<perm=[{perm}]>(x)", result)
    if stays == "Transpose":
        untouched(text, PASS)
        return
    assert rewritten(text, PASS).op_types == [stays]


@pytest.mark.parametrize("count", ["N,4,1,1", "2,1,3,1"])
def test_a_reshape_behind_one_that_moves_nothing(count: str) -> None:
    nodes = "a = Transpose<perm=[0,2,3,1]>(x)  y = Flatten(a)"
    assert rewritten(chain(count, nodes, "A,B"), f"{PASS},merge-reshapes").op_types == ["Reshape"]


def test_a_reshape_that_can_say_what_the_transpose_could_not() -> None:
    nodes = "a = Transpose<perm=[1,0,2]>(x)  y = Squeeze(a, s)"
    found = rewritten(chain("1,N,M", nodes, "N,M", "int64[1] s={1}"), PASS)
    assert found.op_types == ["Squeeze"]
    nodes = "a = Transpose<perm=[0,2,1,3]>(x)  y = Reshape(a, s)"
    found = rewritten(chain("N,1,M,4", nodes, "K,4", "int64[2] s={-1,4}"), PASS)
    assert found.op_types == ["Reshape"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            chain("N,M,4", "a = Transpose<perm=[1,0,2]>(x)  y = Reshape(a, s)", "K,4", "int64[2] s={-1,4}"),
            id="a dim that is 1 in one run",
        ),
        pytest.param(
            chain("N,3,4", "a = Transpose<perm=[0,2,1]>(x)  b = Neg(a)  y = Transpose<perm=[0,2,1]>(b)", "N,3,4"),
            id="something between them",
        ),
        pytest.param(
            "g (float[N,3] x) => (float[3,N] z, float[N,3] y) { z = Transpose(x)  y = Relu(x) }", id="one alone"
        ),
        pytest.param(
            "g (float[A,B,C] x) => (float[B,A,C] z, float[B,C,A] y) {"
            " z = Transpose<perm=[1,0,2]>(x)  y = Transpose<perm=[0,2,1]>(z) }",
            id="the first is an output, so none would be saved",
        ),
        pytest.param(chain("N,3", "a = Transpose(x)  y = Transpose(a)", "N,3"), id="an output that would be an input"),
    ],
)
def test_what_stays(text: str) -> None:
    untouched(text, PASS)


def test_one_that_is_undone_though_the_first_is_an_output() -> None:
    text = "g (float[N,3] x) => (float[3,N] z, float[N,3] y) { z = Transpose(x)  a = Transpose(z)  y = Neg(a) }"
    assert rewritten(text, PASS).op_types == ["Transpose", "Neg"]


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "string"])
def test_every_element_type(dtype: str) -> None:
    nodes = "a = Transpose<perm=[1,2,0]>(x)  y = Transpose(a)"
    assert rewritten(chain("N,2,3", nodes, "N,3,2", dtype=dtype), PASS).op_types == ["Transpose"]


def test_five_in_a_row() -> None:
    nodes = "".join(f"{b} = Transpose<perm=[1,2,0]>({a})  " for a, b in zip("xabcd", "abcdy", strict=True))
    found = rewritten(chain("N,M,3", nodes, "A,B,C"), PASS)
    assert found.nodes == ["y = Transpose <perm: ints = [2, 0, 1]> (x)"]


def test_nested_graphs() -> None:
    found = rewritten(
        """g (float[N,3] x, bool c) => (float[A,B] y) {
            y = If(c) <
                then_branch = t () => (float[D,E] p) { d = Transpose(x)  e = Transpose(d)  p = Neg(e) },
                else_branch = f () => (float[F,G] q) { h = Transpose(x)  q = Transpose(h) }
            >
        }""",
        PASS,
    )
    assert found.op_types == ["If", "Neg", "Transpose", "Transpose"]
