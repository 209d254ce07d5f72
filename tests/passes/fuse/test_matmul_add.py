"""What is added to a product of matrices goes into a Gemm; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Inputs, Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-matmul-add"
TERMS = Terms(5 + 6)
ADDENDS = {"a number": (), "one": (1,), "columns": (3,), "a row": (1, 3), "one by one": (1, 1)}
FORMS = {
    "Add(c, d)": "matmul-add",
    "Add(d, c)": "matmul-add",
    "Sub(c, d)": "matmul-sub",
    "Sub(d, c)": "sub-matmul",
}


def weights(**others: Weights) -> dict[str, Weights]:
    return {"w": normal(5, 3), "b": normal(3, seed=1), "d": normal(3), **others}


def test_text() -> None:
    text = """g (float[N,2] x, float[N,2] z) => (float[N,2] y) <
        float[2,2] w = {1, 2, 3, 4}, float[2] b = {3, 4}, float[1,2] d = {5, 6}
    > { c = MatMul(x, w)  e = Add(b, c)  f = Sub(d, e)  h = Gemm(f, w)  y = Sub(h, z) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(16))
    assert found.nodes == [
        "f = Gemm <alpha: float = -1> (x, w, b)",
        "y = Gemm <beta: float = -1> (f, w, z)",
    ]
    assert found.rules[:3] == ["matmul-add", "sub-matmul", "matmul-sub"]
    np.testing.assert_array_equal(found.initializers["b"], np.array([[2, 2]], np.float32))


@pytest.mark.parametrize(("form", "rule"), FORMS.items(), ids=FORMS)
@pytest.mark.parametrize("addend", ADDENDS.values(), ids=ADDENDS)
@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.DOUBLE])
def test_addends_of_a_matmul(form: str, rule: str, addend: tuple[int, ...], dtype: DType) -> None:
    source = net(f"c = MatMul(x, w)  y = {form}", weights(d=normal(*addend)), "N,5", "N,3", dtype=dtype)
    found = rewritten(source, PASS, tolerance=TERMS)
    assert (found.op_types, found.rules) == (["Gemm"], [rule])


@pytest.mark.parametrize(("form", "rule"), FORMS.items(), ids=FORMS)
@pytest.mark.parametrize("attributes", ["", "<alpha = -0.5, beta = 2.0>", "<transB = 1>", "<beta = 0.0>"])
@pytest.mark.parametrize("operands", ["x, w", "x, w, b"])
def test_addends_of_a_gemm(form: str, rule: str, attributes: str, operands: str) -> None:
    given = weights(w=normal(3, 5) if "transB" in attributes else normal(5, 3), d=normal(1, 3))
    found = rewritten(net(f"c = Gemm{attributes}({operands})  y = {form}", given, "N,5", "N,3"), PASS, tolerance=TERMS)
    assert (found.op_types, found.rules) == (["Gemm"], [rule])


def test_what_is_added_may_be_computed() -> None:
    text = """g (float[N,K] x, float[K,M] w, float[N,M] d, float[N,1] e) => (float[N,M] y, float[N,M] z) {
        c = MatMul(x, w)  y = Sub(d, c)  f = MatMul(x, w)  z = Add(f, e) }"""
    assert rewritten(text, PASS, tolerance=Terms(12)).op_types == ["Gemm", "Gemm"]


def test_sums_of_nothing() -> None:
    """ONNX Runtime forgets beta where the inner axis is empty."""
    text = "g (float[N,K] x, float[K,M] w, float[M] b) => (float[N,M] y) { c = MatMul(x, w)  y = Sub(c, b) }"
    untouched(text, PASS)
    assert rewritten(text.replace("(c, b)", "(b, c)"), PASS, tolerance=Terms(12)).rules == ["sub-matmul"]
    untouched(
        """g (float[N,K] x, float[K,3] w) => (float[N,3] y) <float[3] b = {1, 2, 3}> {
        c = Gemm<beta = 2.0>(x, w, b)  y = Add(c, b) }""",
        PASS,
    )


def test_a_product_with_a_product() -> None:
    found = rewritten(
        net("c = MatMul(x, w)  e = MatMul(x, w)  y = Add(c, e)", weights(), "N,5", "N,3"), PASS, tolerance=Terms(16)
    )
    assert found.op_types == ["MatMul", "Gemm"]


def test_an_addend_of_nan_that_beta_keeps_out() -> None:
    """ONNX Runtime does not read it, and neither may the new addend."""
    source = net("c = Gemm<beta = 0.0>(x, w, b)  y = Add(c, d)", weights(b=np.full(3, np.nan)), "N,5", "N,3")
    found = rewritten(source, f"{PASS},remove-dead-nodes", tolerance=TERMS)
    assert found.nodes == ["y = Gemm (x, w, d)"]


def test_an_addend_that_is_not_finite_is_added_all_the_same() -> None:
    given = weights(d=np.array([np.nan, np.inf, -np.inf]))
    assert rewritten(net("c = MatMul(x, w)  y = Sub(c, d)", given, "N,5", "N,3"), PASS, tolerance=TERMS).rules


@pytest.mark.parametrize(
    ("given", "result", "addend"),
    [
        pytest.param("1,5", "4,3", (4, 1), id="rows from the addend"),
        pytest.param("1,5", "4,3", (4, 3), id="rows from the whole addend"),
        pytest.param("N,5", "1,N,3", (1, 1), id="a rank more"),
        pytest.param("N,5", "1,N,3", (1, 1, 3), id="a rank more, one a column"),
        pytest.param("N,5", "2,N,3", (2, 1, 1), id="two matrices"),
        pytest.param("N,5", "2,3", (2, 1), id="a dim that may be one"),
    ],
)
def test_what_broadcasts_the_product(given: str, result: str, addend: tuple[int, ...]) -> None:
    shape = addend if len(addend) < 3 or given == "N,5" else (1, *addend)
    values = weights(d=normal(*shape))
    if result == "1,N,3" and len(addend) == 2:
        values["d"] = normal(1, 1, 1)
    for form in FORMS:
        untouched(net(f"c = MatMul(x, w)  y = {form}", values, given, result), PASS)


def test_one_column_becomes_three() -> None:
    given = {"w": normal(5, 1), "d": normal(3)}
    untouched(net("c = MatMul(x, w)  y = Add(c, d)", given, "N,5", "N,3"), PASS)


def test_columns_and_rows_are_not_multiplied_out() -> None:
    given = weights(d=normal(4, 1))
    untouched(net("c = Gemm(x, w, b)  y = Add(c, d)", given, "4,5", "4,3"), PASS)


def test_sums_that_overflow() -> None:
    given = weights(b=np.full(3, 3e38), d=np.full(3, 3e38))
    untouched(net("c = Gemm(x, w, b)  y = Add(c, d)", given, "N,5", "N,3"), PASS)
    untouched(net("c = Gemm<beta = -1.0>(x, w, b)  y = Sub(c, d)", given, "N,5", "N,3"), PASS)


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        pytest.param("c = MatMul(x, w)  y = Add(c, d)", ", float[N,3] c", id="an output"),
        pytest.param("c = MatMul(x, w)  y = Add(c, d)  z = Relu(c)", ", float[N,3] z", id="a second reader"),
        pytest.param("c = MatMul(x, w)  y = Add(c, c)", "", id="twice itself"),
        pytest.param("e = Relu(d)  c = Gemm(x, w, b)  y = Add(c, e)", "", id="two addends, one of them computed"),
        pytest.param("e = Relu(b)  c = Gemm(x, w, e)  y = Add(c, d)", "", id="two addends, the first one computed"),
        pytest.param("c = MatMul(x, w)  y = Mul(c, d)", "", id="a factor"),
    ],
)
def test_what_stays(text: str, outputs: str) -> None:
    untouched(net(text, weights(), "N,5", "N,3", outputs=outputs), PASS)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.INT32])
def test_types_without_a_gemm(dtype: DType) -> None:
    untouched(net("c = MatMul(x, w)  y = Add(c, d)", weights(), "N,5", "N,3", dtype=dtype), PASS)


def test_a_gemm_in_half_precision() -> None:
    source = net("c = Gemm(x, w)  y = Add(c, d)", weights(), "N,5", "N,3", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


@pytest.mark.parametrize(
    ("given", "weight", "result"),
    [("2,N,5", (5, 3), "2,N,3"), ("N,5", (2, 5, 3), "2,N,3"), ("N,5", (5,), "N"), ("5", (5, 3), "3")],
)
def test_more_or_less_than_matrices(given: str, weight: tuple[int, ...], result: str) -> None:
    untouched(net("c = MatMul(x, w)  y = Add(c, d)", {"w": normal(*weight), "d": normal(1)}, given, result), PASS)


def test_an_unknown_rank() -> None:
    untouched(
        """g (float[N,5] x, int64[K] s, float[3] d) => (float[A,B] y) <float[5,3] w = {1,2,3,4,5,6,7,8,9,0,1,2,3,4,5}> {
        r = Reshape(x, s)  c = MatMul(r, w)  y = Add(c, d) }""",
        PASS,
    )


def test_a_constant_that_the_caller_may_choose_is_no_less_an_addend() -> None:
    source = net("c = MatMul(x, w)  y = Add(c, d)", weights(), "N,5", "N,3", overridable=("d", "w"))
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]
    untouched(net("c = Gemm(x, w, b)  y = Add(c, d)", weights(), "N,5", "N,3", overridable="d"), PASS)


def test_a_product_in_a_branch() -> None:
    text = """g (float[N,5] x, bool[1] p) => (float[N,3] y) <float[3] d = {1, 2, 3}, float[5,3] w = {
        1,2,3,4,5,6,7,8,9,0,1,2,3,4,5}> {
        y = If(p) <then_branch = t () => (float[N,3] r) { c = MatMul(x, w)  r = Add(c, d) },
                   else_branch = e () => (float[N,3] s) { f = MatMul(x, w)  s = Sub(f, d) }> }"""
    inputs = Inputs(values={"p": [np.array([True]), np.array([False])]})
    assert rewritten(text, PASS, inputs=inputs, tolerance=TERMS).op_types == ["If", "Gemm", "Gemm"]


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_old_forms(opset: int) -> None:
    source = net("c = MatMul(x, w)  y = Add(c, d)", weights(), "N,5", "N,3", opset=opset)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


def test_broadcasts_of_opset_6_are_another_attribute() -> None:
    body = "c = MatMul(x, w)  y = Add<broadcast = 1>(c, d)"
    untouched(net(body, weights(), "N,5", "N,3", opset=6), PASS)
