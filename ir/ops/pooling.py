"""Poolings, which reduce windows over the spatial axes, and Resize, which makes axes longer or shorter."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from planish.ir.dim import Dim, floor_div, is_nonnegative
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.shape import normalize_axis
from planish.ir.ops.sliding import pooled
from planish.ir.types import DType, TensorType, Type

Types = Sequence[Type | None]
_EXACT_IN_FLOAT = 2**24
_SHORT = 16


def _infer_pool(node: Node) -> Types:
    """x [N, C, spatial...] gives [N, C, windows...]; MaxPool also gives where it found its maxima."""
    x = node.operands[0]
    type = None if x is None else x.tensor_type
    if type is None:
        return (None,) * len(node.results)
    kernel = node.get_ints("kernel_shape") or ()
    if type.shape is None:
        shape = unknown_shape(node, len(kernel) + 2)
    elif len(type.shape) == len(kernel) + 2:
        shape = (*type.shape[:2], *pooled(node, type.shape[2:], kernel))
    else:
        raise GraphError(f"{node.op} of a tensor of rank {len(type.shape)} has kernel_shape={list(kernel)}", node)
    return (TensorType(type.dtype, shape), TensorType(DType.INT64, shape))[: len(node.results)]


def _infer_global_pool(node: Node) -> Types:
    x = node.operands[0]
    if x is None or x.shape is None:
        return (None if x is None else x.type,)
    return (TensorType(x.dtype or DType.UNDEFINED, (*x.shape[:2], *(1,) * (len(x.shape) - 2))),)


def _infer_resize(node: Node) -> Types:
    x = node.operands[0]
    type = None if x is None else x.tensor_type
    if type is None or type.shape is None:
        return (type,)
    rank = len(type.shape)
    axes = [normalize_axis(node, axis, rank) for axis in node.get_ints("axes") or range(rank)]
    extents = [type.shape[axis] for axis in axes]
    dims = list(type.shape)
    for axis, dim in zip(axes, _resized(node, extents), strict=True):
        dims[axis] = dim
    return (TensorType(type.dtype, tuple(dims)),)


def _resized(node: Node, extents: Sequence[Dim]) -> Sequence[Dim]:
    """The new extents of the axes that are resized."""
    scales, sizes = node.operand(2), node.operand(3)
    if sizes is not None and sizes.elements is not None:
        if len(sizes.elements) != len(extents):
            raise GraphError(f"Resize has {len(sizes.elements)} sizes for {len(extents)} axes", node)
        if node.get_str("keep_aspect_ratio_policy") == "stretch":
            return [size if is_nonnegative(size) else unknown_dim(node) for size in sizes.elements]
    elif sizes is None and scales is not None and scales.constant is not None and scales.constant.in_memory:
        factors: list[float] = scales.constant.array().reshape(-1).tolist()
        if len(factors) != len(extents):
            raise GraphError(f"Resize has {len(factors)} scales for {len(extents)} axes", node)
        return [_scaled(node, extent, factor) for extent, factor in zip(extents, factors, strict=True)]
    return unknown_shape(node, len(extents))


def _scaled(node: Node, extent: Dim, factor: float) -> Dim:
    """floor(extent * factor), the product rounded to single precision, which leaves a short fraction exact."""
    if isinstance(extent, int) and 0 <= extent < _EXACT_IN_FLOAT and factor > 0:
        return int(struct.unpack("f", struct.pack("f", extent * factor))[0])
    numerator, denominator = factor.as_integer_ratio()
    return floor_div(extent * numerator, denominator) if 0 < numerator < _SHORT else unknown_dim(node)


OPERATORS: dict[str, Operator] = {
    "MaxPool": Operator(_infer_pool),
    "AveragePool": Operator(_infer_pool),
    "LpPool": Operator(_infer_pool),
    "GlobalAveragePool": Operator(_infer_global_pool),
    "GlobalMaxPool": Operator(_infer_global_pool),
    "GlobalLpPool": Operator(_infer_global_pool),
    "Resize": Operator(_infer_resize),
}
