"""A rewrite adds no node that the target cannot run."""

from importlib.resources import files

import onnxruntime
import pytest

from planish import ir, passes
from planish.ir import DType, Node
from planish.passes.kernels import Kernels, cpu
from tests.equivalence import model, op_types, untouched
from tests.passes.registered_kernels import registered

MATMUL_ADD = "g ({0}[N,4] x, {0}[4,3] w, {0}[3] b) => ({0}[N,3] y) {{ c = MatMul(x, w)  y = Add(c, b) }}"


def runs(op: str, opset: int, *dtypes: DType) -> bool:
    builder = ir.Builder(opset=opset)
    values = [builder.input(f"x{place}", dtype, ("N", 4)) for place, dtype in enumerate(dtypes)]
    return cpu().runs(Node(op, values), opset)


def test_what_ships_is_what_onnx_runtime_registers() -> None:
    if not onnxruntime.__version__.startswith("1.31."):
        pytest.skip(f"the table is of ONNX Runtime 1.31, and {onnxruntime.__version__} is installed")
    assert len(cpu().table) > 150
    assert (files("planish.passes") / "kernels_cpu.txt").read_text() == registered()


@pytest.mark.parametrize(
    ("op", "opset", "dtypes", "expected"),
    [
        ("Gemm", 13, (DType.FLOAT, DType.FLOAT), True),
        ("Gemm", 13, (DType.INT32, DType.INT32), False),
        ("Gemm", 13, (DType.FLOAT16, DType.FLOAT16), False),
        ("MatMul", 13, (DType.INT32, DType.INT32), True),
        ("Gelu", 20, (DType.FLOAT,), True),
        ("Gelu", 19, (DType.FLOAT,), False),
        ("HardSwish", 14, (DType.FLOAT,), True),
        ("HardSwish", 14, (DType.DOUBLE,), False),
        ("Attention", 23, (DType.DOUBLE,) * 3, False),
        ("com.microsoft::Gelu", 20, (DType.FLOAT,), False),
    ],
)
def test_versions_and_types(op: str, opset: int, dtypes: tuple[DType, ...], expected: bool) -> None:
    assert runs(op, opset, *dtypes) is expected


def test_a_type_without_a_kernel_stays() -> None:
    untouched(model(MATMUL_ADD.format("int32")), "fuse")


def test_another_target_decides_otherwise() -> None:
    none = Kernels("nothing but products", {name: cpu().table[name] for name in ("MatMul", "Add")})
    for kernels, expected in ((None, ["Gemm"]), (none, ["MatMul", "Add"])):
        graph = ir.load(model(MATMUL_ADD.format("float")))
        passes.run(graph, "fuse-matmul-add", kernels=kernels)
        assert op_types(ir.emit(graph).graph) == expected


def test_a_model_that_the_target_could_not_run_is_still_rewritten() -> None:
    """A convolution of half precision has no kernel on a CPU; what it becomes has none either."""
    text = """g (float16[N,2,3,3] x) => (float16[N,1,3,3] y) <float16[1,2,1,1] w = {1, 2}, float16 k = {2}>
        { c = Conv(x, w)  y = Mul(c, k) }"""
    graph = ir.load(model(text))
    passes.run(graph, "fuse-conv-affine")
    assert op_types(ir.emit(graph).graph) == ["Conv"]


def test_a_function_of_a_type_without_a_kernel_stays_in_its_opset() -> None:
    """ONNX Runtime runs a Relu of integers by its body in opset 18, and not in 20, where that has other operators."""
    text = """g (float[2,3] x, int64[2] i) => (float[2,3] y, int64[2] j)
        <float r = {1.41421356}, float one = {1}, float half = {0.5}> {
        j = Relu(i)  d = Div(x, r)  e = Erf(d)  p = Add(e, one)  q = Mul(x, p)  y = Mul(q, half)
    }"""
    untouched(model(text, opset=18), "fuse-gelu")
    graph = ir.load(model(text.replace("Relu(i)", "Abs(i)"), opset=18))
    passes.run(graph, "fuse-gelu")
    assert op_types(ir.emit(graph).graph) == ["Abs", "Gelu"]
