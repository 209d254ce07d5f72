"""Types of ONNX Runtime's own operators, beside what ONNX Runtime makes of them."""

import numpy as np
import pytest
from onnx import parser

from planish import ir
from planish.ir.types import Array
from planish.runtime.providers import Target
from planish.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
Q = "<float s = {0.1}, uint8 z = {7}>"
MATRICES = "<int8[4,6] w = {0}, float s = {0.1}, float t = {0.2}, int8 z = {0}>"


def results_of(text: str, feeds: dict[str, Array]) -> list[Array]:
    """What ONNX Runtime gives, whose types are those that were inferred without looking at the declared ones."""
    proto = parser.parse_model(f"{HEAD} {text}")
    for tensor in proto.graph.initializer:
        if tensor.name in ("w", "r"):
            shape = list(tensor.dims)
            tensor.raw_data = np.arange(np.prod(shape)).astype(np.int8).tobytes()
            del tensor.int32_data[:]
    graph = ir.load(proto)
    results = Session(proto.SerializeToString(), Target(threads=1)).run(feeds)
    names: dict[str, int] = {}
    for value in graph.inputs:
        names |= zip(map(str, value.shape or ()), feeds[value.name].shape, strict=True)
    found: list[Array] = []
    for output, result in zip(graph.outputs, results, strict=True):
        assert isinstance(result, np.ndarray)
        assert output.dtype is not None
        assert output.dtype.numpy == result.dtype
        assert output.shape is not None
        assert tuple([names.get(str(dim), dim) for dim in output.shape]) == result.shape
        found.append(result)
    return found


def draw(*shape: int) -> Array:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("op", ["Gelu(x)", "FastGelu(x)", "QuickGelu(x)", "BiasGelu(x, b)"])
def test_activations(op: str) -> None:
    results_of(f"g (float[N,4] x) => (y) <float[4] b = {{1,2,3,4}}> {{ y = com.microsoft.{op} }}", {"x": draw(3, 4)})


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"])
def test_activations_of_codes(op: str) -> None:
    more = "<axis = -1, opset = 13>" if op == "QLinearSoftmax" else ""
    text = f"g (uint8[N,4] x) => (y) {Q} {{ y = com.microsoft.{op}{more}(x, s, z, s, z) }}"
    results_of(text, {"x": np.arange(12, dtype=np.uint8).reshape(3, 4)})


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_arithmetic_of_codes(op: str) -> None:
    text = f"g (uint8[N,1,4] a, uint8[3,1] b) => (y) {Q} {{ y = com.microsoft.{op}(a, s, z, b, s, z, s, z) }}"
    results_of(text, {"a": np.ones((2, 1, 4), np.uint8), "b": np.ones((3, 1), np.uint8)})


def test_products() -> None:
    text = f"g (float[N,3,4] x) => (y) {MATRICES} {{ y = com.microsoft.DynamicQuantizeMatMul(x, w, s, z) }}"
    results_of(text, {"x": draw(2, 3, 4)})
    codes = text.replace("float[N,3,4] x", "uint8[N,3,4] x").replace(
        "DynamicQuantizeMatMul(x, w, s, z)", "MatMulIntegerToFloat(x, w, s, t)"
    )
    results_of(codes, {"x": np.ones((2, 3, 4), np.uint8)})


def lstm(directions: int) -> str:
    named = 'direction="bidirectional", ' if directions == 2 else ""
    scales = ", ".join(["0.01"] * directions)
    zeros = ", ".join(["0"] * directions)
    held = (
        f"<int8[{directions},2,12] w = {{0}}, int8[{directions},3,12] r = {{0}}, float[{directions}] s = {{{scales}}},"
        f" int8[{directions}] z = {{{zeros}}}>"
    )
    return (
        f"g (float[T,B,2] x) => (y, h, c) {held} {{"
        f" y, h, c = com.microsoft.DynamicQuantizeLSTM<{named}hidden_size=3>(x, w, r, , , , , , s, z, s, z) }}"
    )


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm(directions: int) -> None:
    results_of(lstm(directions), {"x": draw(5, 4, 2)})


@pytest.mark.parametrize(("bits", "columns"), [(8, 32), (4, 16)])
def test_rows_of_a_table_of_bytes(bits: int, columns: int) -> None:
    held = f"<uint8[5,{columns}] t = {{0}}, float[5,2] s = {{1}}>".replace(
        "{0}", "{" + ",".join(["0"] * 5 * columns) + "}"
    )
    held = held.replace("{1}", "{" + ",".join(["0.5"] * 10) + "}")
    attributes = f"<bits = {bits}, block_size = 16, gather_axis = 0, quantize_axis = 1>"
    text = f"g (int64[N,3] i) => (y) {held} {{ y = com.microsoft.GatherBlockQuantized{attributes}(t, i, s) }}"
    (found,) = results_of(text, {"i": np.array([[0, 1, -1]])})
    assert found.shape == (1, 3, 32)
