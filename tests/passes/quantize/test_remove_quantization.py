"""Quantized models as models of real numbers: near what they gave, clips where codes ended."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.runtime.session import Session
from tests.equivalence import PLAIN, model, op_types, untouched

PASS = "remove-quantization"
Array = NDArray[np.generic]
RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (3, 8)).astype(np.float32)
IMAGE = RNG.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)


def restored(proto: onnx.ModelProto, stage: str = PASS, *, checked: bool = True) -> tuple[onnx.ModelProto, list[str]]:
    """The model and its operators; a second run changes nothing."""
    graph = ir.load(proto)
    passes.run(graph, stage)
    after = ir.emit(graph)
    if checked:
        check_model(after, full_check=True)
    again = ir.load(after)
    assert not any(record.rewrites for record in passes.run(again, stage))
    return after, op_types(after.graph)


def results(proto: onnx.ModelProto, x: Array) -> NDArray[np.float64]:
    (found,) = Session(proto.SerializeToString(), PLAIN).run({"x": x})
    assert isinstance(found, np.ndarray)
    return found.astype(np.float64)


def built(
    nodes: list[onnx.NodeProto], constants: Mapping[str, Array], shape: list[int | str], rank: int | None = None
) -> onnx.ModelProto:
    """A model of one float input x and one float output y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"D{axis}" for axis in range(rank or len(shape))])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def node(op: str, inputs: str, outputs: str, **attributes: float | int | list[int]) -> onnx.NodeProto:
    domain = "com.microsoft" if op in CONTRIB else ""
    made = helper.make_node(op, inputs.split(), outputs.split(), domain=domain)
    made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return made


CONTRIB = (
    "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
    "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits",
)  # fmt: skip
PARAMETERS: Mapping[str, Array] = {
    "s": np.array(4 / 127, np.float32),
    "z": np.array(128, np.uint8),
    "t": np.array(8 / 127, np.float32),
    "one": np.array(1 / 255, np.float32),
    "zero": np.array(0, np.uint8),
}
Q, DQ = node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "r t z", "y")


def codes(shape: tuple[int, ...]) -> NDArray[np.int8]:
    return RNG.integers(-100, 100, shape, np.int8)


# Pairs


def pair(body: str, low: float = 0.0, zero: int = 0) -> onnx.ModelProto:
    scale = f"float s = {{0.0235294}}, uint8 z = {{{zero}}}"
    return model(f"g (float[N,8] x) => (float[N,8] y) <{scale}> {{ {body} }}")


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)", ["Clip"]),
        ("a = Relu(x)  q = QuantizeLinear(a, s, z)  y = DequantizeLinear(q, s, z)", ["Relu", "Clip"]),
        ("a = Sigmoid(x)  q = QuantizeLinear(a, s, z)  y = DequantizeLinear(q, s, z)", ["Sigmoid"]),
        (
            "a = Sigmoid(x)  b = Flatten(a)  q = QuantizeLinear(b, s, z)  y = DequantizeLinear(q, s, z)",
            ["Sigmoid", "Flatten"],
        ),
    ],
)
def test_a_pair_leaves_a_clip_where_it_clipped(body: str, left: list[str]) -> None:
    proto = pair(body)
    after, ops = restored(proto)
    assert ops == left
    for x in (X, X * np.float32(100)):
        assert np.abs(results(after, x) - results(proto, x)).max() <= 0.0235294 / 2 + 1e-6


def test_a_relu_in_the_zero_point_is_kept_unless_asked_otherwise() -> None:
    proto = pair("q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)")
    after, _ = restored(proto)
    assert np.allclose(results(after, X), np.clip(X, 0, 6), atol=1e-5)
    proto = pair("q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Neg(d)")
    after, ops = restored(proto, f"{PASS}{{keep-clips=false}}")
    assert ops == ["Neg"]
    assert np.array_equal(results(after, X).astype(np.float32), -X)


def test_codes_that_others_read_stay() -> None:
    text = "g (float[N,8] x) => (float[N,8] y, uint8[N,8] q) <float s = {0.1}, uint8 z = {3}>"
    proto = model(text + " { q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Neg(d) }")
    _, ops = restored(proto)
    assert sorted(ops) == ["Clip", "Neg", "QuantizeLinear"]


@pytest.mark.parametrize(
    "body",
    [
        "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, t, z)",
        "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, w)",
    ],
)
def test_a_requantization_is_no_pair(body: str) -> None:
    more = "float s = {0.1}, float t = {0.2}, uint8 z = {3}, uint8 w = {4}"
    untouched(model(f"g (float[N,8] x) => (float[N,8] y) <{more}> {{ {body} }}"), PASS)


def test_a_pair_with_a_scale_for_each_channel() -> None:
    more = "float[8] s = {0.1,0.2,0.1,0.2,0.1,0.2,0.1,0.2}, int8[8] z = {0,0,0,0,0,0,0,0}"
    body = "q = QuantizeLinear<axis = 1>(x, s, z)  y = DequantizeLinear<axis = 1>(q, s, z)"
    proto = model(f"g (float[N,8] x) => (float[N,8] y) <{more}> {{ {body} }}")
    after, ops = restored(proto)
    assert ops == ["Max", "Min"]
    for x in (X, X * np.float32(30)):
        assert np.abs(results(after, x) - results(proto, x)).max() <= 0.1 + 1e-6


# Weights


def test_weights_become_real_numbers() -> None:
    w = codes((8, 4))
    scales = np.abs(RNG.normal(0.02, 0.01, 4)).astype(np.float32)
    proto = built(
        [node("DequantizeLinear", "w ws", "d", axis=1), node("MatMul", "x d", "y")], {"w": w, "ws": scales}, ["N", 8]
    )
    after, ops = restored(proto, f"{PASS},remove-dead-nodes")
    assert ops == ["MatMul"]
    assert np.allclose(results(after, X), results(proto, X), rtol=1e-5, atol=1e-6)
    (tensor,) = after.graph.initializer
    assert np.array_equal(numpy_helper.to_array(tensor), w.astype(np.float32) * scales)


def test_a_bias_of_32_bits() -> None:
    b = np.array([100_000, -7, 0, 2_000_000_000], np.int32)
    scale = np.array(1e-5, np.float32)
    nodes = [node("DequantizeLinear", "b bs", "d"), node("Add", "x d", "y")]
    after, ops = restored(built(nodes, {"b": b, "bs": scale}, ["N", 4]))
    assert ops == ["Add"]
    assert np.allclose(results(after, np.zeros((1, 4), np.float32)), b.astype(np.float64) * 1e-5)


# Operators


def near(proto: onnx.ModelProto, x: Array, steps: float, *, checked: bool = True) -> list[str]:
    """What is left; the results are so many steps of the output's scale away."""
    after, ops = restored(proto, checked=checked)
    assert np.abs(results(after, x) - results(proto, x)).max() <= steps * 8 / 127
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(ops)
    assert not {entry.domain for entry in after.graph.node} - {""}
    return ops


def test_a_convolution() -> None:
    constants = {
        **PARAMETERS, "w": codes((4, 3, 3, 3)), "ws": np.array([0.002, 0.001, 0.003, 0.002], np.float32),
        "wz": np.zeros(4, np.int8), "b": np.array([100, -200, 3000, 0], np.int32),
    }  # fmt: skip
    conv = node("QLinearConv", "q s z w ws wz t z b", "r", pads=[1, 1, 1, 1])
    assert near(built([Q, conv, DQ], constants, ["N", 3, 6, 6]), IMAGE, 2) == ["Clip", "Conv", "Clip"]


def test_a_product() -> None:
    constants = {**PARAMETERS, "w": codes((8, 5)), "ws": np.full(5, 0.003, np.float32), "wz": np.zeros(5, np.int8)}
    product = node("QLinearMatMul", "q s z w ws wz t z", "r")
    assert near(built([Q, product, DQ], constants, ["N", 8]), X, 2) == ["Clip", "MatMul", "Clip"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_of_onnx_runtime(transposed: int) -> None:
    shape = (5, 8) if transposed else (8, 5)
    constants = {
        **PARAMETERS, "w": codes(shape), "ws": np.full(5, 0.003, np.float32), "wz": np.zeros(5, np.int8),
        "b": np.array([100, -200, 3000, 0, 1], np.int32),
    }  # fmt: skip
    gemm = node("QGemm", "q s z w ws wz b t z", "r", alpha=1.0, transB=transposed)
    assert near(built([Q, gemm, DQ], constants, ["N", 8]), X, 2) == ["Clip", "Gemm", "Clip"]


@pytest.mark.parametrize(
    ("quantized", "left"),
    [
        (node("QLinearAdd", "q s z q s z t z", "r"), ["Clip", "Clip", "Add"]),
        (node("QLinearMul", "q s z q s z t z", "r"), ["Clip", "Clip", "Mul", "Clip"]),
        (node("QLinearSigmoid", "q s z t z", "r"), ["Clip", "Sigmoid"]),
        (node("QLinearLeakyRelu", "q s z t z", "r", alpha=0.1), ["Clip", "LeakyRelu"]),
        (node("QLinearSoftmax", "q s z t z", "r", axis=-1, opset=17), ["Clip", "Softmax"]),
        (node("QLinearConcat", "t z q s z q s z", "r", axis=1), ["Clip", "Clip", "Concat"]),
        (node("QLinearGlobalAveragePool", "q s z t z", "r", channels_last=0), ["Clip", "GlobalAveragePool"]),
        (node("QLinearAveragePool", "q s z t z", "r", kernel_shape=[2, 2]), ["Clip", "AveragePool"]),
    ],
)  # fmt: skip
def test_operators_of_onnx_runtime(quantized: onnx.NodeProto, left: list[str]) -> None:
    found = near(built([Q, quantized, DQ], PARAMETERS, ["N", 3, 6, 6]), IMAGE, 2)
    assert found[: len(left)] == left


def test_codes_that_are_moved() -> None:
    nodes = [Q, node("MaxPool", "q", "p", kernel_shape=[2, 2]), node("Flatten", "p", "r"), DQ]
    nodes[-1] = node("DequantizeLinear", "r s z", "y")
    assert near(built(nodes, PARAMETERS, ["N", 3, 6, 6], 2), IMAGE, 1) == ["Clip", "MaxPool", "Flatten"]


def test_a_dynamic_product() -> None:
    w, scales = codes((8, 5)), np.full(5, 0.003, np.float32)
    nodes = [
        node("DynamicQuantizeLinear", "x", "q qs qz"),
        node("MatMulInteger", "q w qz wz", "i"),
        node("Cast", "i", "c", to=1),
        node("Mul", "qs ws", "f"),
        node("Mul", "c f", "y"),
    ]
    assert near(built(nodes, {"w": w, "ws": scales, "wz": np.zeros(5, np.int8)}, ["N", 8]), X, 1) == ["MatMul"]


def test_a_dynamic_convolution_whose_weights_are_quantized_as_it_runs() -> None:
    nodes = [
        node("DynamicQuantizeLinear", "x", "q qs qz"),
        node("DynamicQuantizeLinear", "w", "u us uz"),
        node("ConvInteger", "q u qz uz", "i"),
        node("Cast", "i", "c", to=1),
        node("Mul", "us qs", "f"),
        node("Mul", "f c", "y"),
    ]
    w = RNG.normal(0, 0.2, (4, 3, 3, 3)).astype(np.float32)
    assert near(built(nodes, {"w": w}, ["N", 3, 6, 6]), IMAGE, 2) == ["Conv"]


def test_a_dynamic_product_with_another_scale_stays() -> None:
    constants = {"w": codes((8, 5)), "s": np.array(0.01, np.float32), "wz": np.zeros((), np.int8)}
    nodes = [
        node("DynamicQuantizeLinear", "x", "q qs qz"),
        node("MatMulInteger", "q w qz wz", "i"),
        node("Cast", "i", "c", to=1),
        node("Mul", "c s", "y"),
    ]
    assert "MatMulInteger" in restored(built(nodes, constants, ["N", 8]))[1]


def test_dynamic_products_of_onnx_runtime() -> None:
    constants = {
        "w": codes((8, 5)),
        "ws": np.full(5, 0.003, np.float32),
        "wz": np.zeros(5, np.int8),
        "b": np.ones(5, np.float32),
    }
    single = node("DynamicQuantizeMatMul", "x w ws wz b", "y")
    assert near(built([single], constants, ["N", 8]), X, 1) == ["MatMul", "Add"]
    nodes = [node("DynamicQuantizeLinear", "x", "q qs qz"), node("MatMulIntegerToFloat", "q w qs ws qz wz b", "y")]
    assert near(built(nodes, constants, ["N", 8]), X, 1) == ["MatMul", "Add"]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("rows", [32, 40])
def test_packed_weights(zeros: bool, rows: int) -> None:
    blocks = -(-rows // 16)
    constants: dict[str, Array] = {
        "w": RNG.integers(0, 256, (5, blocks, 8), np.uint8),
        "ws": RNG.normal(0.1, 0.02, 5 * blocks).astype(np.float32),
    }
    if zeros:
        constants["wz"] = RNG.integers(0, 256, 5 * -(-blocks // 2), np.uint8)
    packed = node("MatMulNBits", "x w ws wz" if zeros else "x w ws", "y", K=rows, N=5, bits=4, block_size=16)
    proto = built([packed], constants, ["N", rows])
    x = RNG.normal(0, 1, (3, rows)).astype(np.float32)
    after, ops = restored(proto)
    assert ops == ["MatMul"]
    assert np.allclose(results(after, x), results(proto, x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "nodes",
    [
        [Q, node("QLinearGlobalAveragePool", "q s z t z", "r", channels_last=1), DQ],
        [Q, node("QLinearSoftmax", "q s z t z", "r", axis=1, opset=12), DQ],
    ],
)
def test_what_has_no_standard_operator_stays(nodes: list[onnx.NodeProto]) -> None:
    proto = built(nodes, PARAMETERS, ["N", 3, 6, 6])
    assert [entry.op_type for entry in restored(proto)[0].graph.node] == [entry.op_type for entry in proto.graph.node]
