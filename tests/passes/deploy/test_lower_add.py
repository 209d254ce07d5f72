"""Sums that ONNX Runtime must not fuse: the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import onnx
import onnxruntime
import pytest

from planish import ir, passes
from planish.passes.kernels import kernels_for
from tests.equivalence import model, op_types, rewritten, untouched

PASS = "lower-add"
GELU = "g (float[N,S,4] x) => (float[N,S,4] y) <float[4] b = {1, -2, 5, 3}> { c = Add(x, b)  y = Gelu(c) }"
NORM = """g (float[N,S,4] x, float[N,S,4] z) => (float[N,S,4] y)
    <float[4] w = {1, -2, 5, 3}, float[4] b = {1, 2, 3, 4}>
    { c = Add(x, z)  y = LayerNormalization(c, w, b) }"""


@pytest.mark.parametrize(("text", "root"), [(GELU, "Gelu"), (NORM, "LayerNormalization")])
def test_text(text: str, root: str) -> None:
    found = rewritten(model(text, 20), PASS)
    assert found.op_types == ["Sum", root]
    assert found.nodes[0].startswith("c = Sum (x, ")


def test_a_bias_in_front() -> None:
    assert rewritten(model(GELU.replace("Add(x, b)", "Add(b, x)"), 20), PASS).op_types == ["Sum", "Gelu"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GELU.replace("Gelu(c)", 'Gelu<approximate = "tanh">(c)'), id="tanh"),
        pytest.param(GELU.replace("[4] b = {1, -2, 5, 3}", "[1, 4] b = {1, -2, 5, 3}"), id="a bias of two axes"),
        pytest.param(GELU.replace("float[", "float16["), id="half precision"),
        pytest.param(GELU.replace("y)", "y, float[N,S,4] c)"), id="the sum is a result"),
        pytest.param(GELU.replace("Add", "Mul"), id="a product"),
        pytest.param(NORM.replace("float[N,S,4] z", "float[4] z"), id="an addend of another rank"),
        pytest.param(NORM.replace("float[", "double["), id="double precision"),
        pytest.param(NORM.replace("y = L", "y, mean = L").replace("4] y)", "4] y, float[N,S,1] mean)"), id="mean"),
        pytest.param(NORM.replace("(c, w, b)", "(w, c, b)").replace("float[N,S,4]", "float[4]"), id="scale"),
    ],
)  # fmt: skip
def test_what_stays(text: str) -> None:
    untouched(model(text, 20), PASS)


def test_a_sum_with_a_second_reader_stays() -> None:
    untouched(model(NORM.replace("y = L", "d = L").replace(" }", "  y = Add(c, d) }"), 20), PASS)


def test_other_providers_keep_what_they_fuse() -> None:
    untouched(model(GELU, 20), PASS, kernels=kernels_for("cuda"))


@pytest.mark.parametrize(("text", "slow"), [(GELU, "BiasGelu"), (NORM, "SkipLayerNormalization")])
def test_onnx_runtime_fuses_the_one_and_not_the_other(text: str, slow: str, tmp_path: Path) -> None:
    if not onnxruntime.__version__.startswith("1.31."):
        pytest.skip(f"what ONNX Runtime 1.31 fuses is known, and {onnxruntime.__version__} is installed")
    before = model(text.replace("N,S", "2,3"), 20)
    graph = ir.load(before)
    passes.run(graph, "deploy")
    assert slow in optimized(before, tmp_path / "before.onnx")
    assert optimized(ir.emit(graph), tmp_path / "after.onnx")[0] == "Sum"


class SavingOptions(Protocol):
    """What is used of ONNX Runtime's options, which have no types."""

    log_severity_level: int
    optimized_model_filepath: str


def optimized(proto: onnx.ModelProto, path: Path) -> list[str]:
    """The operators that ONNX Runtime makes of a model."""
    options = cast("Callable[[], SavingOptions]", vars(onnxruntime)["SessionOptions"])()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    open_session = cast("Callable[..., object]", onnxruntime.InferenceSession)
    open_session(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return op_types(onnx.load_from_string(path.read_bytes()).graph)
