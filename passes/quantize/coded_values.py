"""Codes in a quantized graph: which values hold them, and the scale and zero point that say what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.types import Array

_CODES = (DType.UINT8, DType.INT8, DType.UINT16, DType.INT16, DType.UINT4, DType.INT4, DType.UINT2, DType.INT2)
_SUFFIXES = ("_quantized", "_codes", "_QuantizeLinear_Output")
_CONTRIB = "com.microsoft::"
_RESULTS = {
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    f"{_CONTRIB}QGemm": (7, 8),
    f"{_CONTRIB}QLinearConcat": (0, 1),
    f"{_CONTRIB}QLinearWhere": (7, 8),
    **dict.fromkeys((f"{_CONTRIB}QLinearAdd", f"{_CONTRIB}QLinearMul"), (6, 7)),
    **{
        f"{_CONTRIB}QLinear{name}": (3, 4)
        for name in ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
    },
}
"""By operator, the operands that are scale and zero point of its result."""
_WEIGHTS = {"QLinearConv": (3, 0), "QLinearMatMul": (3, -1), f"{_CONTRIB}QGemm": (3, -1)}
"""By operator, the operand that is a weight, followed by its scale and zero point, and its axis of channels."""


class CodedValue(NamedTuple):
    """codes: of a tensor that is computed, or constant. names: what the real numbers may be called in a float model."""

    codes: Value
    scale: Array
    zero_point: Array
    axis: int
    block: int
    names: tuple[str, ...]


def activations(graph: Graph) -> Iterator[CodedValue]:
    """Each tensor of codes that is computed, in the graph's order, nested graphs left out."""
    for node in graph.nodes:
        for value in node.results:
            if value.dtype in _CODES and value.constant is None:
                found = _made(node, value) or _read(value)
                if found is not None:
                    yield found


def weights(graph: Graph) -> Iterator[CodedValue]:
    """Each constant tensor of codes, once."""
    seen: set[Value] = set()
    for node in graph.walk():
        found = _weight(node)
        if found is not None and found.codes not in seen and found.codes.dtype in _CODES:
            seen.add(found.codes)
            yield found


def _made(node: Node, value: Value) -> CodedValue | None:
    if node.op == "QuantizeLinear":
        return _coded(node, value, (1, 2), (node.operands[0],))
    return _coded(node, value, _RESULTS[node.op], ()) if node.op in _RESULTS else None


def _read(value: Value) -> CodedValue | None:
    """By what makes real numbers of it."""
    for user in value.users:
        if user.op == "DequantizeLinear" and user.operands[0] is value:
            return _coded(user, value, (1, 2), (user.result,))
    return None


def _weight(node: Node) -> CodedValue | None:
    place, axis = (0, node.get_int("axis")) if node.op == "DequantizeLinear" else _WEIGHTS.get(node.op, (0, 0))
    codes = node.operand(place)
    if (node.op != "DequantizeLinear" and node.op not in _WEIGHTS) or codes is None or codes.constant is None:
        return None
    axis = 0 if node.attributes.get("transB") else axis
    return _coded(node, codes, (place + 1, place + 2), (), axis)


def _coded(
    node: Node, codes: Value, places: tuple[int, int], real: tuple[Value | None, ...], axis: int = 1
) -> CodedValue | None:
    scale, zero = (node.operand(place) for place in places)
    if scale is None or scale.constant is None or (zero is not None and zero.constant is None):
        return None
    array = scale.constant.array()
    offset = np.zeros(array.shape, np.int64) if zero is None or zero.constant is None else zero.constant.array()
    stems = [codes.name.removesuffix(suffix) for suffix in _SUFFIXES if codes.name.endswith(suffix)]
    names = [*stems, *(value.name for value in real if value is not None and value.name)]
    block = node.get_int("block_size") if node.op in ("QuantizeLinear", "DequantizeLinear") else 0
    return CodedValue(codes, array, offset, axis, block, tuple(dict.fromkeys(names)))
