"""Operators that pick, join and place parts of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.dim import Dim, ceil_div, is_nonnegative
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import Array, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_FAR = 2**31 - 1


def _first(node: Node) -> TensorType | None:
    operand = node.operands[0] if node.operands else None
    return operand.tensor_type if operand is not None else None


def _infer_concat(node: Node) -> Types:
    types = [operand.tensor_type for operand in node.operands if operand is not None]
    first = types[0]
    shapes = [type.shape for type in types if type is not None and type.shape is not None]
    if first is None or not shapes:
        return (first,)
    rank = len(shapes[0])
    axis = normalize_axis(node, node.get_int("axis"), rank)
    if any(len(shape) != rank for shape in shapes):
        raise GraphError(f"Concat of tensors of ranks {[len(shape) for shape in shapes]}", node)
    dims = [_agreed(node, [shape[i] for shape in shapes]) if i != axis else 0 for i in range(rank)]
    total: Dim = 0
    for shape in shapes:
        total = total + shape[axis]
    dims[axis] = total if len(shapes) == len(types) else unknown_dim(node)
    return (TensorType(first.dtype, tuple(dims)),)


def _agreed(node: Node, dims: Sequence[Dim]) -> Dim:
    """The one dim that all of these must be."""
    known = {dim for dim in dims if isinstance(dim, int)}
    if len(known) > 1:
        raise GraphError(f"{node.op} joins tensors whose other axes differ: {sorted(known)}", node)
    return known.pop() if known else dims[0]


def _elements_concat(node: Node) -> tuple[Dim, ...] | None:
    found: list[Dim] = []
    for operand in node.operands:
        if operand is None or operand.elements is None or operand.rank != 1:
            return None
        found += operand.elements
    return tuple(found)


def _fold_concat(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    present = [array for array in arrays if array is not None]
    return [np.concatenate(present, axis=node.get_int("axis"))]


def _split_sizes(node: Node, extent: Dim) -> Sequence[Dim] | None:
    """Sizes along the axis; the last is smaller when `num_outputs` does not divide the extent."""
    if node.operand(1) is not None:
        sizes = constant_ints(node.operand(1))
        return None if sizes is None or len(sizes) != len(node.results) else sizes
    count = len(node.results)
    if not isinstance(extent, int):
        return None
    step = -(-extent // count)
    return [min(step, max(extent - step * i, 0)) for i in range(count)]


def _infer_split(node: Node) -> Types:
    first = _first(node)
    if first is None or first.shape is None:
        return (None if first is None else TensorType(first.dtype),) * len(node.results)
    axis = normalize_axis(node, node.get_int("axis"), len(first.shape))
    sizes = _split_sizes(node, first.shape[axis]) or [unknown_dim(node) for _ in node.results]
    if node.operand(1) is not None and _sum(sizes) is not None and isinstance(first.shape[axis], int):
        if _sum(sizes) != first.shape[axis]:
            raise GraphError(f"Split of an axis of {first.shape[axis]} into {list(sizes)}", node)
    return [TensorType(first.dtype, (*first.shape[:axis], size, *first.shape[axis + 1 :])) for size in sizes]


def _sum(sizes: Sequence[Dim]) -> int | None:
    known = [size for size in sizes if isinstance(size, int)]
    return sum(known) if len(known) == len(sizes) else None


def _fold_split(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, axis = arrays[0], node.get_int("axis")
    if x is None:
        return None
    sizes = _split_sizes(node, x.shape[axis])
    ends = np.cumsum([size for size in sizes or () if isinstance(size, int)])
    return [np.ascontiguousarray(part) for part in np.split(x, ends[:-1], axis=axis)] if sizes else None


def _infer_gather(node: Node) -> Types:
    first, index = _first(node), node.operands[1]
    if first is None or first.shape is None or index is None or index.shape is None:
        return (None if first is None else TensorType(first.dtype),)
    axis = normalize_axis(node, node.get_int("axis"), len(first.shape))
    return (TensorType(first.dtype, (*first.shape[:axis], *index.shape, *first.shape[axis + 1 :])),)


def _elements_gather(node: Node) -> tuple[Dim, ...] | None:
    data, index = node.operands[0], node.operands[1]
    indices = constant_ints(index)
    if data is None or data.elements is None or data.rank != 1 or indices is None or index is None:
        return None
    if index.rank is None or index.rank > 1 or any(not -len(data.elements) <= i < len(data.elements) for i in indices):
        return None
    return tuple([data.elements[i] for i in indices])


def _fold_gather(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, indices = arrays
    if x is None or indices is None:
        return None
    axis = node.get_int("axis")
    extent = x.shape[axis]
    if np.any((indices < -extent) | (indices >= extent)):
        return None
    return [np.ascontiguousarray(np.take(x, indices.astype(np.int64), axis=axis))]


def _infer_gather_elements(node: Node) -> Types:
    first, index = _first(node), node.operands[1]
    return (None if first is None or index is None else TensorType(first.dtype, index.shape),)


def slice_bounds(node: Node, rank: int) -> list[tuple[int, int, int, int]] | None:
    """(axis, start, end, step) for each axis sliced, axes counted from the front; None unless all are constants."""
    starts, ends = constant_ints(node.operand(1)), constant_ints(node.operand(2))
    axes, steps = constant_ints(node.operand(3)), constant_ints(node.operand(4))
    if starts is None or ends is None or (axes is None and node.operand(3) is not None):
        return None
    if steps is None and node.operand(4) is not None:
        return None
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise GraphError("Slice has starts, ends, axes and steps of different lengths", node)
    if 0 in steps:
        raise GraphError("Slice has a step of 0", node)
    found = [normalize_axis(node, axis, rank) for axis in axes]
    if len(set(found)) != len(found):
        raise GraphError("Slice names one axis twice", node)
    return list(zip(found, starts, ends, steps, strict=True))


def _infer_slice(node: Node) -> Types:
    first = _first(node)
    if first is None or first.shape is None:
        return (first,)
    bounds = slice_bounds(node, len(first.shape))
    if bounds is None:
        axes = constant_ints(node.operand(3)) if node.operand(3) is not None else None
        touched = range(len(first.shape)) if axes is None else [normalize_axis(node, a, len(first.shape)) for a in axes]
        return (TensorType(first.dtype, tuple([unknown_dim(node) if i in touched else d for i, d in enumerate(first.shape)])),)
    dims = list(first.shape)
    for axis, start, end, step in bounds:
        dims[axis] = _sliced(node, dims[axis], start, end, step)
    return (TensorType(first.dtype, tuple(dims)),)


def _sliced(node: Node, extent: Dim, start: int, end: int, step: int) -> Dim:
    """How many elements a slice takes of an axis; symbolic where the bounds surely lie within it."""
    if isinstance(extent, int):
        return len(range(*window(extent, start, end, step).indices(extent)))
    if step < 0:
        return unknown_dim(node)
    if start == 0 and end >= _FAR:
        return ceil_div(extent, step)
    return unknown_dim(node)


def window(extent: int, start: int, end: int, step: int) -> slice:
    """What ONNX means by these bounds on an axis of `extent`, as a Python slice: both ends are clamped to the axis."""
    start = start + extent if start < 0 else start
    end = end + extent if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), extent), min(max(end, 0), extent), step)
    first, last = min(max(start, 0), extent - 1), min(max(end, -1), extent - 1)
    return slice(max(first, 0), None if last < 0 else last, step) if extent else slice(0, 0)


def _elements_slice(node: Node) -> tuple[Dim, ...] | None:
    data = node.operands[0]
    if data is None or data.elements is None or data.rank != 1:
        return None
    bounds = slice_bounds(node, 1)
    if bounds is None:
        return None
    found = data.elements
    for _, start, end, step in bounds:
        found = found[window(len(found), start, end, step)]
    return found


def _fold_slice(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x = arrays[0]
    bounds = slice_bounds(node, x.ndim) if x is not None else None
    if x is None or bounds is None:
        return None
    windows = [slice(None)] * x.ndim
    for axis, start, end, step in bounds:
        windows[axis] = window(x.shape[axis], start, end, step)
    return [np.ascontiguousarray(x[tuple(windows)])]


def _infer_pad(node: Node) -> Types:
    first, pads = _first(node), constant_ints(node.operand(1))
    if first is None or first.shape is None:
        return (first,)
    rank = len(first.shape)
    axes = constant_ints(node.operand(3)) if node.operand(3) is not None else tuple(range(rank))
    if pads is None or axes is None:
        return (TensorType(first.dtype, unknown_shape(node, rank)),)
    if len(pads) != 2 * len(axes):
        raise GraphError(f"Pad has {len(pads)} pads for {len(axes)} axes", node)
    dims = list(first.shape)
    for i, axis in enumerate(axes):
        dim = dims[normalize_axis(node, axis, rank)] + pads[i] + pads[i + len(axes)]
        dims[normalize_axis(node, axis, rank)] = dim if is_nonnegative(dim) else unknown_dim(node)
    return (TensorType(first.dtype, tuple(dims)),)


OPERATORS: dict[str, Operator] = {
    "Concat": Operator(_infer_concat, _elements_concat, _fold_concat, exact=True),
    "Split": Operator(_infer_split, fold=_fold_split, exact=True),
    "Gather": Operator(_infer_gather, _elements_gather, _fold_gather, exact=True),
    "GatherElements": Operator(_infer_gather_elements),
    "Slice": Operator(_infer_slice, _elements_slice, _fold_slice, exact=True),
    "Pad": Operator(_infer_pad),
}
