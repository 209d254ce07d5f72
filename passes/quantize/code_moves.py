"""Operators that stay float between DequantizeLinear and QuantizeLinear, written on the codes themselves.

What moves numbers about does the same to their codes where all share one scale. Times with ONNX Runtime 1.31 on x86
decide which: QLinearSoftmax, QLinearWhere and the maximum of codes over whole images take as long as the float
operator with its conversions, or longer.
"""

from __future__ import annotations

from planish.ir import Node
from planish.ir.graph import constant
from planish.ir.ops.shape import constant_ints
from planish.passes.quantize.codes import Codes


def moved(codes: Codes, node: Node) -> Node:
    return codes.moved(node, node.op, node.operands[1:], node.attributes)


def pad(codes: Codes, node: Node) -> Node:
    """The code of 0 is the zero point."""
    x, axes = node.operands[0], node.operand(3)
    if x is None:
        raise ValueError("a Pad without operand")
    if node.get_str("mode") != "constant":
        return moved(codes, node)
    zero = constant(codes.parameters(x).zero_point)
    operands = (node.operands[1], zero) if axes is None else (node.operands[1], zero, axes)
    return codes.moved(node, "Pad", operands, node.attributes)


def pad_obstacle(node: Node) -> str:
    value = node.operand(2)
    if node.get_str("mode") != "constant" or value is None:
        return ""
    known = value.constant is not None and value.constant.size == 1 and not value.constant.array().any()
    return "" if known else "it pads with another number than 0"


def extreme_obstacle(node: Node) -> str:
    x, axes = node.operands[0], constant_ints(node.operand(1))
    if x is None or x.rank is None or not axes:
        return "its axes are not known"
    last = any(axis % x.rank == x.rank - 1 for axis in axes)
    return "along the last axis it is faster in real numbers" if last else ""
