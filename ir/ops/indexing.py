"""Operators that pick, join and place parts of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planish.ir.dim import Dim, ceil_div, is_nonnegative, minimum
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.dims import total
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import Array, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_FAR = 2**31 - 1
_TO_THE_END = (2**31 - 1, 2**63 - 1)


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
    """Sizes along the axis; the last is what `num_outputs` leaves, and must be something."""
    count, sizes = len(node.results), node.operand(1)
    if sizes is not None:
        return None if sizes.elements is None or len(sizes.elements) != count else sizes.elements
    step = ceil_div(extent, count)
    last = extent - step * (count - 1)
    return None if isinstance(last, int) and last < 1 else (*(step,) * (count - 1), last)


def _infer_split(node: Node) -> Types:
    first = _first(node)
    if first is None or first.shape is None:
        return (None if first is None else TensorType(first.dtype),) * len(node.results)
    axis = normalize_axis(node, node.get_int("axis"), len(first.shape))
    sizes = _split_sizes(node, first.shape[axis]) or unknown_shape(node, len(node.results))
    surplus = total(sizes) - first.shape[axis]
    if node.operand(1) is not None and isinstance(surplus, int) and surplus:
        raise GraphError(f"Split of an axis of {first.shape[axis]} into {list(sizes)}", node)
    return [TensorType(first.dtype, (*first.shape[:axis], size, *first.shape[axis + 1 :])) for size in sizes]


def _elements_split(node: Node) -> tuple[Dim, ...] | None:
    data, first = node.operands[0], node.results[0]
    if data is None or data.elements is None or first.shape is None or data.rank != 1:
        return None
    return data.elements[: first.shape[0]] if isinstance(first.shape[0], int) else None


def _fold_split(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, axis = arrays[0], node.get_int("axis")
    sizes = None if x is None else _split_sizes(node, x.shape[axis])
    ends = np.cumsum([size for size in sizes or () if isinstance(size, int)])
    if x is None or sizes is None or len(ends) != len(sizes) or ends[-1] != x.shape[axis]:
        return None
    return [np.asarray(part, order="C") for part in np.split(x, ends[:-1], axis=axis)]


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
    return [np.asarray(np.take(x, indices.astype(np.int64), axis=axis), order="C")]


def _infer_gather_elements(node: Node) -> Types:
    first, index = _first(node), node.operands[1]
    return (None if first is None or index is None else TensorType(first.dtype, index.shape),)


def _fold_gather_elements(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, indices = arrays
    if x is None or indices is None or not x.ndim or x.ndim != indices.ndim:
        return None
    axis = node.get_int("axis") % x.ndim
    where = inside(indices, x.shape[axis])
    if where is None or any(a > b for i, (a, b) in enumerate(zip(where.shape, x.shape, strict=True)) if i != axis):
        return None
    return [np.take_along_axis(x[tuple(_corner(where.shape, axis))], where, axis)]


def _corner(shape: tuple[int, ...], axis: int) -> list[slice]:
    """What lies under a smaller tensor that is aligned at index 0 of every axis but one."""
    return [slice(None) if i == axis else slice(0, extent) for i, extent in enumerate(shape)]


def inside(indices: Array, extent: int) -> NDArray[np.int64] | None:
    """Indices counted from the front; None when one lies outside."""
    wide = indices.astype(np.int64)
    return np.where(wide < 0, wide + extent, wide) if np.all((wide >= -extent) & (wide < extent)) else None


def _infer_gather_nd(node: Node) -> Types:
    """indices [batch..., places..., depth] gives [batch..., places..., what is left of the data's axes]."""
    first, index = _first(node), node.operands[1]
    if first is None or first.shape is None or index is None or index.shape is None:
        return (None if first is None else TensorType(first.dtype),)
    depth, batch = index.shape[-1:], node.get_int("batch_dims")
    if not depth or not 0 <= batch < min(len(first.shape), len(index.shape)):
        raise GraphError(f"GatherND with indices of rank {len(index.shape)} and batch_dims={batch}", node)
    if not isinstance(depth[0], int):
        return (TensorType(first.dtype),)
    if not 0 < depth[0] <= len(first.shape) - batch:
        raise GraphError(f"GatherND by {depth[0]} indices into a tensor of rank {len(first.shape)}", node)
    return (TensorType(first.dtype, (*index.shape[:-1], *first.shape[batch + depth[0] :])),)


def _fold_gather_nd(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    x, indices = arrays
    batch = node.get_int("batch_dims")
    if x is None or indices is None or not indices.ndim or x.shape[:batch] != indices.shape[:batch]:
        return None
    lead = np.indices(indices.shape[:-1])[:batch]
    places = [inside(indices[..., i], x.shape[batch + i]) for i in range(indices.shape[-1])]
    known = [place for place in places if place is not None]
    return [np.asarray(x[(*lead, *known)], order="C")] if len(known) == len(places) else None


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
        rank = len(first.shape)
        touched = range(rank) if axes is None else [normalize_axis(node, axis, rank) for axis in axes]
        taken = {axis: _taken(node, first.shape[axis], place) for place, axis in enumerate(touched)}
        return (TensorType(first.dtype, tuple([taken.get(i, dim) for i, dim in enumerate(first.shape)])),)
    dims = list(first.shape)
    for axis, start, end, step in bounds:
        dims[axis] = _sliced(node, dims[axis], start, end, step)
    return (TensorType(first.dtype, tuple(dims)),)


def _taken(node: Node, extent: Dim, place: int) -> Dim:
    """How many elements a slice to a computed end takes: up to that end, if it starts at 0 and goes in ones."""
    (start, end), steps = ((None if v is None else v.elements for v in node.operands[1:3]), node.operand(4))
    in_ones = steps is None or set(constant_ints(steps) or (0,)) == {1}
    if not start or not end or place >= min(len(start), len(end)) or start[place] != 0 or not in_ones:
        return unknown_dim(node)
    last = end[place]
    if isinstance(last, int) and last >= _FAR:
        return extent
    return minimum(extent, last) if is_nonnegative(last) else unknown_dim(node)


def _sliced(node: Node, extent: Dim, start: int, end: int, step: int) -> Dim:
    """How many elements a slice takes of an axis; symbolic where the bounds surely lie within it."""
    if isinstance(extent, int):
        return len(range(*window(extent, start, end, step).indices(extent)))
    if step < 0:
        whole = start == -1 and (end <= -_FAR or end in _TO_THE_END)
        return ceil_div(extent, -step) if whole else unknown_dim(node)
    first = extent + start if start < 0 else start
    last = extent if end >= _FAR else extent + end if end < 0 else end
    if is_nonnegative(first) and is_nonnegative(extent - last) and is_nonnegative(last - first):
        return ceil_div(last - first, step)
    return unknown_dim(node)


def window(extent: int, start: int, end: int, step: int) -> slice:
    """What ONNX means by these bounds on an axis of `extent`, as a Python slice: both ends are clamped to the axis.

    The largest int32 and int64 mean "to the end" to ONNX Runtime, which backwards is the beginning of the axis.
    """
    if step < 0 and end in _TO_THE_END:
        end = -extent - 1
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
    return [np.asarray(x[tuple(windows)], order="C")]


OPERATORS: dict[str, Operator] = {
    "Concat": Operator(_infer_concat, _elements_concat, _fold_concat, exact=True),
    "Split": Operator(_infer_split, _elements_split, _fold_split, exact=True),
    "Gather": Operator(_infer_gather, _elements_gather, _fold_gather, exact=True),
    "GatherElements": Operator(_infer_gather_elements, fold=_fold_gather_elements, exact=True),
    "GatherND": Operator(_infer_gather_nd, fold=_fold_gather_nd, exact=True),
    "Slice": Operator(_infer_slice, _elements_slice, _fold_slice, exact=True),
}
