"""Operators that place elements into a tensor: padding, scattering, and tensors of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planish.ir.dim import Dim, is_nonnegative
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.elementwise import element_type, infer_same
from planish.ir.ops.indexing import inside
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_MODES = ("edge", "reflect", "wrap")


# Pad


def _infer_pad(node: Node) -> Types:
    x, pads = node.operands[0], node.operand(1)
    type = None if x is None else x.tensor_type
    if type is None or type.shape is None:
        return (type,)
    rank = len(type.shape)
    axes = tuple(range(rank)) if node.operand(3) is None else constant_ints(node.operand(3))
    if pads is None or axes is None:
        return (TensorType(type.dtype, unknown_shape(node, rank)),)
    widths = pads.elements
    if widths is not None and len(widths) != 2 * len(axes):
        raise GraphError(f"Pad has {len(widths)} pads for {len(axes)} axes", node)
    dims = list(type.shape)
    for i, axis in enumerate(axes):
        at = normalize_axis(node, axis, rank)
        dim = dims[at] if widths is None else dims[at] + widths[i] + widths[i + len(axes)]
        dims[at] = dim if widths is not None and is_nonnegative(dim) else unknown_dim(node)
    return (TensorType(type.dtype, tuple(dims)),)


def _fold_pad(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """Negative pads crop; with the modes that repeat elements they decline, and so does what would repeat twice."""
    x, pads, value, axes = (*arrays, None, None)[:4]
    if x is None or pads is None or x.dtype.kind == "O":
        return None
    named = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes.tolist()]
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(named):
        widths[axis] = (int(pads[i]), int(pads[i + len(named)]))
    mode = node.get_str("mode")
    if mode == "constant":
        fill = np.zeros((), x.dtype) if value is None else value.reshape(())
        return _pad_constant(x, widths, fill)
    limits = [extent - 1 if mode == "reflect" else extent for extent in x.shape]
    if (
        mode not in _MODES
        or not x.size
        or any(min(pair) < 0 or max(pair) > limit for pair, limit in zip(widths, limits, strict=True))
    ):
        return None
    rows = [_sources(extent, pair, mode) for extent, pair in zip(x.shape, widths, strict=True)]
    return [np.asarray(x[np.ix_(*rows)], order="C")]


def _pad_constant(x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Sequence[Array] | None:
    if any(extent + min(pair[0], 0) + min(pair[1], 0) < 0 for extent, pair in zip(x.shape, widths, strict=True)):
        return None
    kept = x[tuple([slice(max(-a, 0), extent - max(-b, 0)) for extent, (a, b) in zip(x.shape, widths, strict=True)])]
    result = np.full([n + max(a, 0) + max(b, 0) for n, (a, b) in zip(kept.shape, widths, strict=True)], fill, x.dtype)
    result[tuple([slice(max(a, 0), max(a, 0) + n) for n, (a, _) in zip(kept.shape, widths, strict=True)])] = kept
    return [result]


def _sources(extent: int, pair: tuple[int, int], mode: str) -> NDArray[np.int64]:
    """For each index of a padded axis, the index of the element that stands there."""
    places = np.arange(-pair[0], extent + pair[1])
    if mode == "edge":
        return np.clip(places, 0, extent - 1)
    if mode == "wrap":
        return places % extent
    return extent - 1 - np.abs(extent - 1 - np.abs(places))


# Scatter


def _fold_scatter_elements(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, indices, updates = arrays
    if x is None or indices is None or updates is None or node.get_str("reduction") != "none" or not x.ndim:
        return None
    axis = node.get_int("axis") % x.ndim
    where = inside(indices, x.shape[axis])
    if where is None or indices.shape != updates.shape or _exceeds(indices.shape, x.shape, axis):
        return None
    places = list(np.unravel_index(np.arange(indices.size).reshape(indices.shape), indices.shape))
    places[axis] = where
    return _scattered(x, places, updates)


def _fold_scatter_nd(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, indices, updates = arrays
    if x is None or indices is None or updates is None or node.get_str("reduction") != "none" or not indices.ndim:
        return None
    depth = indices.shape[-1]
    if depth > x.ndim or updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
        return None
    places = [inside(indices[..., i], x.shape[i]) for i in range(depth)]
    known = [place for place in places if place is not None]
    return None if len(known) != depth or not known else _scattered(x, known, updates)


def _exceeds(shape: tuple[int, ...], limit: tuple[int, ...], axis: int) -> bool:
    if len(shape) != len(limit):
        return True
    return any(a > b for i, (a, b) in enumerate(zip(shape, limit, strict=True)) if i != axis)


def _scattered(x: Array, places: Sequence[NDArray[np.int64]], updates: Array) -> Sequence[Array] | None:
    """None where two updates meet at one place: which of them stays is not defined."""
    flat = np.ravel_multi_index([place.ravel() for place in places], x.shape[: len(places)]) if updates.size else None
    if flat is not None and np.unique(flat).size != flat.size:
        return None
    result = x.copy()
    if flat is not None:
        result[tuple(places)] = updates
    return [result]


# Zeros and ones


def _infer_one_hot(node: Node) -> Types:
    indices, depth, values = node.operands
    if values is None or values.dtype is None:
        return (None,)
    if indices is None or indices.shape is None:
        return (TensorType(values.dtype),)
    axis = normalize_axis(node, node.get_int("axis"), len(indices.shape) + 1)
    count: Dim = depth.elements[0] if depth is not None and depth.elements else unknown_dim(node)
    return (TensorType(values.dtype, (*indices.shape[:axis], count, *indices.shape[axis:])),)


def _fold_one_hot(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """An index outside gives a row of off values."""
    indices, depth, values = arrays
    if indices is None or depth is None or values is None or depth.dtype.kind not in "iu":
        return None
    if indices.dtype.kind not in "iu" or not indices.ndim:
        return None
    count = int(depth.reshape(-1)[0])
    axis = node.get_int("axis") % (indices.ndim + 1)
    wide = indices.astype(np.int64)
    hot = np.expand_dims(np.where(wide < 0, wide + count, wide), axis)
    steps = np.arange(count).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    return [np.where(hot == steps, values[1:], values[:1]).astype(values.dtype)]


def _fold_triangle(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, k = (*arrays, None)[:2]
    if x is None or x.ndim < 2 or x.dtype.kind == "O":
        return None
    rows, columns = x.shape[-2:]
    diagonal = 0 if k is None else min(max(int(k.reshape(-1)[0]), -rows - 1), columns + 1)
    upper = bool(node.get_int("upper"))
    kept = np.tri(rows, columns, diagonal - upper, dtype=np.bool_) ^ upper
    return [np.where(kept, x, np.zeros((), x.dtype))]


def _infer_eye(node: Node) -> Types:
    like = node.operands[0]
    dtype = None if like is None else like.dtype
    if "dtype" in node.attributes:
        dtype = element_type(node, "dtype")
    if dtype is None:
        return (None,)
    return (TensorType(dtype, unknown_shape(node, 2) if like is None or like.shape is None else like.shape),)


def _fold_eye(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    like, dtype = arrays[0], node.results[0].dtype
    if like is None or like.ndim != 2 or dtype is None or dtype is DType.STRING:
        return None
    return [np.eye(*like.shape, k=node.get_int("k")).astype(dtype.numpy)]


OPERATORS: dict[str, Operator] = {
    "Pad": Operator(_infer_pad, fold=_fold_pad, exact=True),
    "ScatterElements": Operator(infer_same, fold=_fold_scatter_elements, exact=True),
    "ScatterND": Operator(infer_same, fold=_fold_scatter_nd, exact=True),
    "OneHot": Operator(_infer_one_hot, fold=_fold_one_hot, exact=True),
    "Trilu": Operator(infer_same, fold=_fold_triangle, exact=True),
    "EyeLike": Operator(_infer_eye, fold=_fold_eye, exact=True),
}
