"""A rewrite adds no node that the target cannot run."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import ClassVar

import onnxruntime
import pytest

from planish import ir, passes
from planish.ir import DType, Node, Value
from planish.passes.explain import explain
from planish.passes.kernels import CONTRIB, Kernels, cpu, kernels_for
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, rewrite, rule
from planish.passes.run import Run
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


@pytest.mark.parametrize(
    ("op", "dtypes", "expected"),
    [
        ("BiasGelu", (DType.FLOAT, DType.FLOAT), True),
        ("BiasGelu", (DType.FLOAT16, DType.FLOAT16), False),
        ("FusedMatMul", (DType.DOUBLE, DType.DOUBLE), True),
        ("FusedMatMul", (DType.INT32, DType.INT32), False),
        ("QEmbedLayerNormalization", (DType.INT32,), True),
        ("NoSuchOperator", (DType.FLOAT,), False),
    ],
)
def test_kernels_of_an_allowed_domain(op: str, dtypes: tuple[DType, ...], expected: bool) -> None:
    builder = ir.Builder()
    values = [builder.input(f"x{place}", dtype, ("N", 4)) for place, dtype in enumerate(dtypes)]
    node = Node(f"{CONTRIB}::{op}", values)
    assert kernels_for("cpu", ("", CONTRIB)).runs(node, 17) is expected
    for refused in (cpu(), kernels_for("cpu", ("",)), kernels_for("cuda", ("", CONTRIB))):
        assert not refused.runs(node, 17)


def test_another_provider_runs_what_the_cpu_runs() -> None:
    builder = ir.Builder(opset=13)
    single, half = (builder.input(name, dtype, (2, 2)) for name, dtype in (("x", DType.FLOAT), ("h", DType.FLOAT16)))
    assert kernels_for("cuda").runs(Node("Gemm", (single, single)), 13)
    assert not kernels_for("cuda").runs(Node("Gemm", (half, half)), 13)


x = Var("x")


@rule(Op("Relu", (x,)), contract=Contract.EXACT)
def foreign(m: Match) -> Value | None:
    """Relu(x) -> com.microsoft::FusedMatMul(x, x)"""
    return m.add(f"{CONTRIB}::FusedMatMul", (m[x], m[x]))


@dataclass(frozen=True)
class MakeForeign(passes.Pass):
    name: ClassVar[str] = "make-foreign"

    def run(self, graph: ir.Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        rewrite(graph, (foreign,), run, start)


@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_a_domain_that_is_not_allowed_is_never_added(dtype: str) -> None:
    """Not even where the target could not run what stands there; and only what fires imports the domain."""
    allowed = kernels_for("cpu", (CONTRIB,))
    for kernels, fires in ((None, False), (allowed, dtype == "float")):
        graph = ir.load(model(f"g ({dtype}[4,4] x) => ({dtype}[4,4] y) {{ y = Relu(x) }}"))
        passes.run(graph, (MakeForeign(),), kernels=kernels)
        assert ("FusedMatMul" in op_types(ir.emit(graph).graph)) is fires
        assert graph.opset_imports == ({"": 17, CONTRIB: 1} if fires else {"": 17})


def test_explaining_imports_nothing() -> None:
    graph = ir.load(model("g (float[4,4] x) => (float[4,4] y) { y = Relu(x) }"))
    (refused,) = explain(graph, (foreign,), Run())
    assert refused.reason == "the target does not allow operators of com.microsoft"
    (attempt,) = explain(graph, (foreign,), Run(target=kernels_for("cpu", (CONTRIB,))))
    assert attempt.reason == ""
    assert graph.opset_imports == {"": 17}


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
