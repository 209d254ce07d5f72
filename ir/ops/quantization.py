"""Operators between real numbers and integers with a scale and a zero point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.graph import Node
from planish.ir.ops.elementwise import element_type, integer_limits
from planish.ir.ops.operator import Operator
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_CODES = (DType.UINT8, DType.INT8, DType.UINT16, DType.INT16)


def _infer_quantize(node: Node) -> Types:
    """The element type is the zero point's, else the one asked for, else uint8."""
    x, zero_point = node.operands[0], node.operand(2)
    wanted = element_type(node, "output_dtype") if node.get_int("output_dtype") else DType.UINT8
    dtype = wanted if zero_point is None else zero_point.dtype
    return (None if dtype is None else TensorType(dtype, None if x is None else x.shape),)


def _infer_dequantize(node: Node) -> Types:
    x, scale = node.operands[0], node.operands[1]
    dtype = None if scale is None else scale.dtype
    if node.get_int("output_dtype"):
        dtype = element_type(node, "output_dtype")
    return (None if dtype is None else TensorType(dtype, None if x is None else x.shape),)


def _infer_dynamic_quantize(node: Node) -> Types:
    x = node.operands[0]
    codes = TensorType(DType.UINT8, None if x is None else x.shape)
    return (codes, TensorType(DType.FLOAT, ()), TensorType(DType.UINT8, ()))[: len(node.results)]


def _spread(node: Node, parameter: Array, x: Array) -> Array | None:
    """A scale or zero point shaped to meet x: one for all, or one for each index of `axis`. None for blocks."""
    if parameter.size == 1 and parameter.ndim < 2:
        return parameter.reshape(())
    axis = node.get_int("axis")
    if node.get_int("block_size") or parameter.ndim != 1 or not -x.ndim <= axis < x.ndim:
        return None
    if x.shape[axis] != parameter.size:
        return None
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _fold_quantize(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """Half to even, then saturated; in single precision alone, where every runtime divides alike."""
    x, scale, zero_point = (*arrays, None)[:3]
    target = node.results[0].dtype
    if x is None or scale is None or target is None or target not in _CODES or node.get_int("precision"):
        return None
    if x.dtype != np.float32 or scale.dtype != np.float32 or np.isnan(x).any():
        return None
    if not (np.all(np.isfinite(scale)) and np.all(scale >= np.finfo(np.float32).tiny)):
        return None
    factor = _spread(node, scale, x)
    offset = _spread(node, np.zeros((), target.numpy) if zero_point is None else zero_point, x)
    if factor is None or offset is None:
        return None
    least, largest = integer_limits(target.numpy)
    with np.errstate(all="ignore"):
        codes = np.rint(np.divide(x, factor)).astype(np.float64) + offset.astype(np.float64)
    return [np.clip(codes, least, largest).astype(target.numpy)]


def _fold_dequantize(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """The difference is exact in single precision, so one rounding is all there is."""
    x, scale, zero_point = (*arrays, None)[:3]
    if x is None or scale is None or DType.of(x) not in _CODES or scale.dtype != np.float32:
        return None
    if node.results[0].dtype is not DType.FLOAT:
        return None
    factor = _spread(node, scale, x)
    offset = _spread(node, np.zeros((), x.dtype) if zero_point is None else zero_point, x)
    if factor is None or offset is None:
        return None
    with np.errstate(all="ignore"):
        return [(x.astype(np.int32) - offset.astype(np.int32)).astype(np.float32) * factor.astype(np.float32)]


OPERATORS: dict[str, Operator] = {
    "QuantizeLinear": Operator(_infer_quantize, fold=_fold_quantize, exact=True),
    "DequantizeLinear": Operator(_infer_dequantize, fold=_fold_dequantize, exact=True, kept=True),
    "DynamicQuantizeLinear": Operator(_infer_dynamic_quantize),
}
