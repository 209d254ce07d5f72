"""Products that stay float between tensors of codes, spelled so that ONNX Runtime leaves their weights float, too."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.passes.quantize.codes import floats
from planish.passes.quantize.forms import CLIPS
from planish.passes.replacing import merge_origins, replace_node
from planish.passes.run import Run

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm")
_BIAS_CODES = 2.0**30
_LEAST = float(np.finfo(np.float32).tiny)


def hold_floats(graph: Graph, run: Run) -> None:
    """Give float products that stand between DequantizeLinear and QuantizeLinear what ONNX Runtime does not take up.

    Its WeightBiasQuantization (onnxruntime/core/optimizer/qdq_transformer, seen in 1.31) rounds the float weights of
    such a Conv, ConvTranspose or Gemm to 8 bits with one scale for all channels, when a session opens: a depthwise
    convolution that was left float for the sake of accuracy has lost 12 dB by it. It does so only behind a
    DequantizeLinear of one scale, so such a product gets one of its own that says the same by channel. Exact, but for
    a product of one channel: there the bias is written as codes instead, which may move it by a unit in its last place.
    """
    for node in graph.nodes:
        if run.exhausted:
            return
        reals = node.operands[0].producer if node.op in _PRODUCTS and node.operands[0] is not None else None
        if reals is None or not _is_taken_up(node, reals):
            continue
        width, axis = _channels(node)
        held = _by_channel(reals, width, axis) if width > 1 else _with_coded_bias(node)
        graph.insert(held, before=node)
        infer(held)
        held.origin = merge_origins((node, reals))
        real = held.result
        operands = (real, *node.operands[1:]) if width > 1 else (*node.operands[:2], real)
        product = Node(node.op, operands, node.attributes, 1, node.name)
        replace_node(node, product)
        run.log.extend((held, product))
        run.record("hold-float", held.origin, product.result.name)


def _is_taken_up(node: Node, reals: Node) -> bool:
    if reals.op != "DequantizeLinear" or not _is_one(reals.operand(1)) or not _leads_to_codes(node):
        return False
    weight, bias = node.operands[1], node.operand(2)
    if weight is None or weight.constant is None or weight.dtype is not DType.FLOAT:
        return False
    return bias is None or (bias.constant is not None and bias.rank == 1 and bool(np.isfinite(floats(bias)).all()))


def _leads_to_codes(node: Node) -> bool:
    """Whether QuantizeLinear alone reads the result, perhaps behind clips."""
    while node.result.has_one_use:
        reader = node.result.users[0]
        if reader.op == "QuantizeLinear":
            return True
        if reader.op not in CLIPS:
            return False
        node = reader
    return False


def _is_one(scale: Value | None) -> bool:
    return scale is not None and scale.constant is not None and scale.constant.array().size == 1


def _channels(node: Node) -> tuple[int, int]:
    """How many channels a product with a constant weight reads, and along which axis."""
    shape = _shape(node)
    if node.op == "Conv":
        return shape[1] * node.get_int("group"), 1
    if node.op == "ConvTranspose":
        return shape[0], 1
    return shape[1 if node.get_int("transB") else 0], 0 if node.get_int("transA") else 1


def _by_channel(reals: Node, width: int, axis: int) -> Node:
    """DequantizeLinear with the one scale and zero point for each channel."""
    repeated: list[Value | None] = [reals.operands[0]]
    for value in reals.operands[1:]:
        tensor = None if value is None else value.constant
        repeated.append(None if tensor is None else constant(np.full(width, tensor.array().reshape(()))))
    return Node("DequantizeLinear", repeated, {**reals.attributes, "axis": axis})


def _with_coded_bias(node: Node) -> Node:
    """The bias as int32 codes of a scale each, for one channel has no scale of its own to tell it apart by."""
    bias, columns = node.operand(2), _columns(node)
    array = np.zeros(columns) if bias is None else floats(bias)
    scale = np.maximum(np.abs(array) / _BIAS_CODES, _LEAST).astype(np.float32)
    codes = np.rint(array / scale.astype(np.float64)).astype(np.int32)
    return Node("DequantizeLinear", (constant(codes), constant(scale)), {"axis": 0})


def _columns(node: Node) -> int:
    """How many channels a product with a constant weight makes."""
    shape = _shape(node)
    if node.op == "ConvTranspose":
        return shape[1] * node.get_int("group")
    return shape[0 if node.op == "Conv" or node.get_int("transB") else 1]


def _shape(node: Node) -> tuple[int, ...]:
    weight = node.operands[1]
    if weight is None or weight.constant is None:
        raise ValueError("a product without a constant weight is not taken up")
    return weight.constant.shape
