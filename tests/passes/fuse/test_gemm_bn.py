"""BatchNormalization goes into the Gemm before it; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal, statistics

PASS = "fuse-gemm-bn"
BN = "BatchNormalization(c, s, o, m, v)"
TERMS = Terms(5 + 8)
ADDENDS = {"none": None, "scalar": (), "one": (1,), "columns": (3,), "a row": (1, 3), "one by one": (1, 1)}


def gemm(attributes: str = "", operands: str = "x, w") -> str:
    return f"c = Gemm{f'<{attributes}>' if attributes else ''}({operands})  y = {BN}"


def weights(**others: Weights) -> dict[str, Weights]:
    return {"w": normal(5, 3), **statistics(3), **others}


def test_text() -> None:
    text = """g (float[N,1] x) => (float[N,2] y) <
        float[1,2] w = {1, 2}, float[2] b = {3, 4}, float[2] s = {2, -4}, float[2] o = {5, 6}, float[2] m = {7, 8},
        float[2] v = {3, 15}
    > { c = Gemm<alpha = 0.5, beta = 2.0>(x, w, b)  y = BatchNormalization<epsilon = 1.0>(c, s, o, m, v) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(8))
    assert found.nodes == ["y = Gemm <alpha: float = 0.5, beta: float = 1> (x, w, w_bias)"]
    np.testing.assert_array_equal(found.initializers["w"], np.array([[1, -2]], np.float32))
    np.testing.assert_array_equal(found.initializers["w_bias"], np.array([6 + 5 - 7, 6 + 8 - 8], np.float32))


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("addend", ADDENDS.values(), ids=ADDENDS)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (-0.5, 0.25), (2.0, 0.0)])
def test_transpositions_and_addends(
    trans_a: int, trans_b: int, addend: tuple[int, ...] | None, alpha: float, beta: float
) -> None:
    attributes = f"transA = {trans_a}, transB = {trans_b}, alpha = {alpha}, beta = {beta}"
    operands = "x, w" if addend is None else "x, w, b"
    given = weights(w=normal(3, 5) if trans_b else normal(5, 3), b=normal(*(addend or ())))
    source = net(gemm(attributes, operands), given, "5,N" if trans_a else "N,5", "N,3")
    found = rewritten(source, PASS, tolerance=TERMS)
    assert found.op_types == ["Gemm"]


@pytest.mark.parametrize("rows", [(2, 1), (2, 3)])
def test_an_addend_that_differs_from_row_to_row_stays(rows: tuple[int, int]) -> None:
    untouched(net(gemm("", "x, w, b"), weights(b=normal(*rows)), "2,5", "2,3"), PASS)


def test_an_addend_that_makes_the_rows() -> None:
    """One row of input and two of the addend: the result has the rows of the input, and ONNX refuses more."""
    untouched(net(gemm("", "x, w, b"), weights(b=normal(4, 3)), "4,5", "4,3"), PASS)


def test_an_addend_of_nan_that_beta_keeps_out() -> None:
    """ONNX Runtime does not read it, and neither may the fused bias."""
    given = weights(b=np.full(3, np.nan))
    source = net(gemm("beta = 0.0", "x, w, b"), given, "N,5", "N,3")
    untouched(source, PASS)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"v": -np.ones(3)}, id="a negative variance"),
        pytest.param({"s": np.full(3, 1e37), "v": np.full(3, 1e-6)}, id="weights that overflow"),
        pytest.param({"s": np.full(3, 1e-42)}, id="weights that vanish"),
        pytest.param({"b": np.full(3, 3e38)}, id="a bias that overflows"),
    ],
)
def test_numbers_that_would_not_come_through(others: dict[str, Weights]) -> None:
    untouched(net(gemm("beta = 4.0", "x, w, b"), weights(**{"b": normal(3), **others}), "N,5", "N,3"), PASS)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param(gemm(), ", float[N,3] c", id="an output"),
        pytest.param(f"{gemm()}  z = Relu(c)", ", float[N,3] z", id="a second reader"),
        pytest.param(
            "c = Gemm(x, w)  y, p, q = BatchNormalization<training_mode = 1>(c, s, o, m, v)", "", id="training"
        ),
        pytest.param(f"c = Gemm(w, t)  y = {BN}", "", id="a weight on the left, and none on the right"),
    ],
)
def test_what_stays(body: str, outputs: str) -> None:
    text = f"t = Transpose(x)  {body}" if "t)" in body else body
    shapes = ("3,5", "5,3") if "t)" in body else ("N,5", "N,3")
    given = weights(w=normal(5, 5)) if "t)" in body else weights()
    untouched(net(text, given, *shapes, outputs=outputs), PASS)


@pytest.mark.parametrize("name", ["w", "b", "s", "o", "m", "v"])
def test_parameters_that_the_caller_may_choose(name: str) -> None:
    untouched(net(gemm("", "x, w, b"), weights(b=normal(3)), "N,5", "N,3", overridable=name), PASS)


def test_a_shared_weight_stays_for_the_other() -> None:
    body = f"{gemm().replace('y =', 'd =')}  e = Gemm(x, w)  y = Add(d, e)"
    found = rewritten(net(body, weights(), "N,5", "N,3"), PASS, tolerance=TERMS)
    assert found.op_types == ["Gemm", "Gemm", "Add"]


@pytest.mark.parametrize("opset", [7, 9, 11])
def test_old_forms(opset: int) -> None:
    source = net(gemm("", "x, w, b"), weights(b=normal(3)), "N,5", "N,3", opset=opset)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


def test_broadcasting_of_opset_6_is_another_attribute() -> None:
    body = "c = Gemm<broadcast = 1>(x, w, b)  y = BatchNormalization<is_test = 1>(c, s, o, m, v)"
    untouched(net(body, weights(b=normal(3)), "N,5", "N,3", opset=6), PASS)


def test_double_precision() -> None:
    source = net(gemm("", "x, w, b"), weights(b=normal(3)), "N,5", "N,3", dtype=DType.DOUBLE)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]
