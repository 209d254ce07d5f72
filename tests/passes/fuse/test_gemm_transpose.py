"""A Gemm reads a matrix as it is instead of transposed; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Inputs, Terms, agree, model, rewritten, untouched
from tests.passes.fuse.nets import net, normal

PASS = "fuse-gemm-transpose"
TERMS = Terms(16)


def test_text() -> None:
    text = """g (float[K,N] x, float[M,K] z, float[M] b) => (float[N,M] y, float[M,M] v) {
        s = Transpose<perm = [1, 0]>(x)  t = Transpose(z)  y = Gemm<alpha = 2.0>(s, t, b)
        u = Transpose<perm = [1, 0]>(z)  v = MatMul(z, u) }"""
    found = rewritten(text, PASS, tolerance=TERMS)
    assert found.nodes == [
        "y = Gemm <alpha: float = 2, transA: int = 1, transB: int = 1> (x, z, b)",
        "v = Gemm <transB: int = 1> (z, z)",
    ]
    assert found.rules == ["transposed-left", "transposed-right", "transposed-right"]


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.DOUBLE, DType.FLOAT16])
def test_a_gemm_that_transposes_already(trans_a: int, trans_b: int, side: str, dtype: DType) -> None:
    operands, attributes = ("t, w", "transA") if side == "left" else ("w, t", "transB")
    body = f"t = Transpose(x)  y = Gemm<transA = {trans_a}, transB = {trans_b}, beta = 0.5>({operands}, b)"
    given = {"w": normal(4, 4), "b": normal(1, 4)}
    found = rewritten(net(body, given, "4,4", "4,4", dtype=dtype), PASS, tolerance=TERMS)
    assert found.op_types == ["Gemm"]
    turned = (trans_a if side == "left" else trans_b) == 0
    assert (f"{attributes}: int = 1" in found.nodes[0]) is turned


def test_a_gemm_of_one_transposed_matrix_twice() -> None:
    untouched(net("t = Transpose(x)  y = Gemm(t, t)", {}, "4,4", "4,4"), PASS)


@pytest.mark.parametrize(
    ("body", "given", "result", "outputs"),
    [
        pytest.param("t = Transpose(x)  y = MatMul(t, w)", "5,N", "N,3", ", float[N,5] t", id="an output"),
        pytest.param("t = Transpose(x)  y = MatMul(t, w)  z = Relu(t)", "5,N", "N,3", ", float[N,5] z", id="a reader"),
        pytest.param("t = Transpose<perm = [0, 2, 1]>(x)  y = MatMul(t, w)", "2,5,N", "2,N,3", "", id="rank 3"),
        pytest.param("t = Transpose<perm = [0, 1]>(x)  y = MatMul(t, w)", "N,5", "N,3", "", id="nothing is swapped"),
        pytest.param("t = Transpose(x)  y = MatMul(t, w)", "5", "3", "", id="a vector"),
        pytest.param("t = Transpose(x)  y = MatMul(t, v)", "5,N", "2,N,3", "", id="many weights"),
        pytest.param("t = Transpose(x)  u = Relu(t)  y = MatMul(u, w)", "5,N", "N,3", "", id="something between"),
        pytest.param("t = Transpose(b)  y = Gemm(x, w, t)", "3,5", "3,3", "", id="the addend"),
    ],
)
def test_what_stays(body: str, given: str, result: str, outputs: str) -> None:
    weights = {"w": normal(5, 3), "v": normal(2, 5, 3), "b": normal(3, 3)}
    untouched(net(body, weights, given, result, outputs=outputs), PASS)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.INT32])
def test_types_without_a_gemm(dtype: DType) -> None:
    untouched(net("t = Transpose(x)  y = MatMul(t, w)", {"w": normal(5, 3)}, "5,N", "N,3", dtype=dtype), PASS)


def test_an_unknown_rank() -> None:
    text = """g (float[N,5] x, int64[K] s, float[5,3] w) => (float[A,B] y) {
        r = Reshape(x, s)  t = Transpose(r)  y = MatMul(t, w) }"""
    untouched(text, PASS)


def test_a_weight_that_the_caller_may_choose() -> None:
    body = "t = Transpose(w)  y = MatMul(x, t)"
    found = rewritten(net(body, {"w": normal(3, 5)}, "N,5", "N,3", overridable="w"), PASS, tolerance=TERMS)
    assert found.op_types == ["Gemm"]


def test_a_gemm_in_a_branch_and_what_it_transposes_outside() -> None:
    """The Transpose is made whichever way the branch goes, and stays."""
    text = """g (float[5,N] x, bool[1] p) => (float[N,N] y) { t = Transpose(x)
        y = If(p) <then_branch = a () => (float[N,N] r) { r = MatMul(t, x) },
                   else_branch = b () => (float[N,N] s) { u = Transpose(x)  s = MatMul(u, x) }> }"""
    inputs = Inputs(values={"p": [np.array([True]), np.array([False])]})
    assert rewritten(text, PASS, inputs=inputs, tolerance=TERMS).op_types == ["Transpose", "If", "MatMul", "Gemm"]


@pytest.mark.parametrize("opset", [11, 13, 21])
def test_old_forms(opset: int) -> None:
    source = net("t = Transpose(x)  y = MatMul(t, w)", {"w": normal(5, 3)}, "5,N", "N,3", opset=opset)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


@pytest.mark.parametrize("opset", [1, 7, 9])
def test_a_gemm_must_add_something_before_opset_11(opset: int) -> None:
    before = net("t = Transpose(x)  y = MatMul(t, w)", {"w": normal(5, 3)}, "5,N", "N,3", opset=opset)
    graph = ir.load(before)
    passes.run(graph, PASS)
    after = ir.emit(graph)
    assert ([node.op_type for node in after.graph.node], after.opset_import[0].version) == (["Gemm"], 11)
    assert agree(before, after, Inputs(), TERMS)


def test_no_gemm_where_the_opset_cannot_be_raised() -> None:
    """Upsample is gone in opset 10."""
    text = """g (float[5,N] x, float[5,3] w, float[1,1,2,2] z) => (float[N,3] y, float[1,1,4,4] v)
        <float[4] s = {1, 1, 2, 2}> { t = Transpose(x)  y = MatMul(t, w)  v = Upsample(z, s) }"""
    untouched(model(text, opset=9), PASS)
