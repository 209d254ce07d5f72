"""Operators that reduce axes: sums and their kin, the place of an extreme element, the largest elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir.dim import Dim, product
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops import dims
from planish.ir.ops.elementwise import infer_same
from planish.ir.ops.linear import sums_fit
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
_EMPTY = (0,)
_ADDED = (DType.FLOAT, DType.DOUBLE, DType.INT32, DType.INT64)


# Types


def _has_axes(node: Node) -> bool | None:
    """Whether axes are named; None when that depends on the run."""
    axes = node.operand(1)
    if axes is None or axes.shape == _EMPTY:
        return False
    return True if axes.shape is not None and axes.shape and isinstance(axes.shape[0], int) else None


def _infer_reduce(node: Node) -> Types:
    """No axes, or an empty list of them, means all, or none where `noop_with_empty_axes` says so."""
    x = node.operands[0]
    type = None if x is None else x.tensor_type
    if type is None or type.shape is None:
        scalar = type is not None and _has_axes(node) is False and not _keeps(node)
        return (TensorType(type.dtype, ()) if type is not None and scalar else type,)
    rank, named = len(type.shape), _has_axes(node)
    if named is False:
        if node.get_int("noop_with_empty_axes"):
            return (type,)
        return (TensorType(type.dtype, (1,) * rank if node.get_int("keepdims") else ()),)
    axes = constant_ints(node.operand(1))
    if axes is None:
        return (TensorType(type.dtype, unknown_shape(node, rank) if node.get_int("keepdims") else None),)
    gone = {normalize_axis(node, axis, rank) for axis in axes}
    return (TensorType(type.dtype, _without(type.shape, gone, keep=bool(node.get_int("keepdims")))),)


def _keeps(node: Node) -> bool:
    return bool(node.get_int("keepdims") or node.get_int("noop_with_empty_axes"))


def _without(shape: Sequence[Dim], gone: set[int], *, keep: bool) -> tuple[Dim, ...]:
    if keep:
        return tuple([1 if axis in gone else dim for axis, dim in enumerate(shape)])
    return tuple([dim for axis, dim in enumerate(shape) if axis not in gone])


def _infer_arg(node: Node) -> Types:
    x = node.operands[0]
    if x is None or x.shape is None:
        return (TensorType(DType.INT64),)
    axis = normalize_axis(node, node.get_int("axis"), len(x.shape))
    return (TensorType(DType.INT64, _without(x.shape, {axis}, keep=bool(node.get_int("keepdims")))),)


def _infer_top_k(node: Node) -> Types:
    x, k = node.operands
    type = None if x is None else x.tensor_type
    if type is None or type.shape is None:
        return (type, TensorType(DType.INT64))
    axis = normalize_axis(node, node.get_int("axis"), len(type.shape))
    count = k.elements[0] if k is not None and k.elements else unknown_dim(node)
    extent = type.shape[axis]
    if isinstance(count, int) and (count < 0 or (isinstance(extent, int) and count > extent)):
        raise GraphError(f"TopK of {count} out of {extent} elements", node)
    shape = (*type.shape[:axis], count, *type.shape[axis + 1 :])
    return (TensorType(type.dtype, shape), TensorType(DType.INT64, shape))


# Elements


def _reduced_elements(total: Callable[[Sequence[Dim]], Dim | None]) -> Callable[[Node], tuple[Dim, ...] | None]:
    """A vector of dims reduced to one."""

    def elements(node: Node) -> tuple[Dim, ...] | None:
        x = node.operands[0]
        if x is None or x.elements is None:
            return None
        named = _has_axes(node)
        if named is None or (named is False and node.get_int("noop_with_empty_axes")):
            return x.elements if named is False else None
        found = total(x.elements)
        return None if found is None else (found,)

    return elements


def _extreme(choose: Callable[[Dim, Dim], Dim | None]) -> Callable[[Sequence[Dim]], Dim | None]:
    def extreme(parts: Sequence[Dim]) -> Dim | None:
        found: Dim | None = parts[0] if parts else None
        for dim in parts[1:]:
            found = None if found is None else choose(found, dim)
        return found

    return extreme


# Values on constants


def _axes_of(node: Node, arrays: Arrays) -> tuple[int, ...] | None:
    """The axes to reduce, counted from the front; None when nothing is to be reduced."""
    x, axes = (*arrays, None)[:2]
    rank = 0 if x is None else x.ndim
    named = [] if axes is None else axes.ravel().tolist()
    if not named and node.get_int("noop_with_empty_axes"):
        return None
    return tuple(sorted({int(axis) % rank for axis in named})) if named else tuple(range(rank))


def _fold_reduce(function: Callable[..., Array | None]) -> Callable[[Node, Arrays], Sequence[Array] | None]:
    def fold(node: Node, arrays: Arrays) -> Sequence[Array] | None:
        x, axes = arrays[0], _axes_of(node, arrays)
        if x is None or axes is None or x.dtype.kind not in "iuf" or (x.ndim and not x.size):
            return None
        with np.errstate(all="ignore"):
            result = function(x, axis=axes, keepdims=bool(node.get_int("keepdims")))
            return None if result is None else [np.asarray(result).astype(x.dtype)]

    return fold


def _summing(function: Callable[..., Array], *, integers: bool, power: int = 1) -> Callable[..., Array | None]:
    """A sum of |x| ** power, floats in double; None where one could overflow, integers too: ONNX Runtime saturates."""

    def total(x: Array, axis: tuple[int, ...], *, keepdims: bool) -> Array | None:
        wide = x.astype(np.float64)
        if x.dtype.kind in "iu":
            fits = integers and np.sum(np.abs(wide) ** power) < _largest_sum(x.dtype)
            return function(x, axis=axis, keepdims=keepdims) if fits else None
        if not sums_fit(wide**power, np.ones(1), x.size, x.dtype):
            return None
        return function(wide, axis=axis, keepdims=keepdims)

    return total


def _largest_sum(dtype: np.dtype[np.generic]) -> int:
    """Up to where integers neither saturate nor lose bits in a double."""
    return min(1 << (dtype.itemsize * 8 - 1), 1 << 53)


def _sum_of(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.add.reduce(x, axis=axis, dtype=x.dtype, keepdims=keepdims)


def _sum_of_squares(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return _sum_of(np.multiply(x, x), axis=axis, keepdims=keepdims)


def _norm_of(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.sqrt(_sum_of_squares(x, axis=axis, keepdims=keepdims))


def _sum_of_magnitudes(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return _sum_of(np.abs(x), axis=axis, keepdims=keepdims)


def _product_of(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array | None:
    """None where a partial product could leave the range of normal numbers in some order."""
    wide = x.astype(np.float64)
    spread = np.exp(np.add.reduce(np.abs(np.log(np.abs(np.where(wide == 0, 1, wide)))), axis=axis, initial=0))
    limit = float(np.finfo(np.float32).max) if x.dtype.kind == "f" else _largest_sum(x.dtype)
    if not np.all(spread * (1 + 1e-9) < limit) or not np.all(np.isfinite(wide)):
        return None
    return np.multiply.reduce(wide if x.dtype.kind == "f" else x, axis=axis, dtype=None, keepdims=keepdims)


def _extreme_of(function: Callable[..., Array]) -> Callable[..., Array | None]:
    """None where the order could show: NaN, and zeros of both signs."""

    def extreme(x: Array, axis: tuple[int, ...], *, keepdims: bool) -> Array | None:
        if x.dtype.kind not in "iu" and (np.isnan(x).any() or np.signbit(x[x == 0]).any()):
            return None
        return function(x, axis=axis, keepdims=keepdims)

    return extreme


def _fold_arg(node: Node, arrays: Arrays, sign: int) -> Sequence[Array] | None:
    """The first place of the extreme, or the last under `select_last_index`; NaN declines."""
    x = arrays[0]
    if x is None or not x.ndim or not x.size or _unordered(x):
        return None
    axis, last = node.get_int("axis"), node.get_int("select_last_index")
    found = (np.argmax if sign > 0 else np.argmin)(np.flip(x, axis) if last else x, axis=axis, keepdims=True)
    found = x.shape[axis] - 1 - found if last else found
    return [(found if node.get_int("keepdims") else found.squeeze(axis)).astype(np.int64)]


def _unordered(x: Array) -> bool:
    return x.dtype.kind not in "iuf" or (x.dtype.kind == "f" and bool(np.isnan(x).any()))


def _fold_top_k(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """Of equal elements the earlier one comes first; NaN declines, and so does a result in no order."""
    x, k = arrays
    if x is None or k is None or not x.ndim or not node.get_int("sorted") or _unordered(x):
        return None
    axis, count = node.get_int("axis"), int(k.ravel()[0])
    if not 0 <= count <= x.shape[axis]:
        return None
    if node.get_int("largest"):
        backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = np.flip(x.shape[axis] - 1 - backwards, axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    indices = np.take(order, np.arange(count), axis=axis)
    return [np.take_along_axis(x, indices, axis), indices.astype(np.int64)]


def _fold_running_sum(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """Every runtime adds from one end to the other; None where ONNX Runtime has no kernel that would."""
    x, at = arrays
    if x is None or at is None or not x.ndim or DType.of(x) not in _ADDED:
        return None
    axis = int(at.reshape(-1)[0]) % x.ndim
    parts = np.flip(x, axis) if node.get_int("reverse") else x
    if node.get_int("exclusive"):
        kept = [slice(None)] * x.ndim
        kept[axis] = slice(0, -1)
        first = np.zeros([min(n, 1) if i == axis else n for i, n in enumerate(x.shape)], x.dtype)
        parts = np.concatenate([first, parts[tuple(kept)]], axis)
    with np.errstate(all="ignore"):
        sums = np.add.accumulate(parts, axis=axis, dtype=x.dtype)
    return [np.asarray(np.flip(sums, axis) if node.get_int("reverse") else sums, order="C")]


def _reduction(
    fold: Callable[..., Array | None] | None = None,
    elements: Callable[[Sequence[Dim]], Dim | None] | None = None,
    *,
    exact: bool = False,
) -> Operator:
    return Operator(
        _infer_reduce,
        None if elements is None else _reduced_elements(elements),
        None if fold is None else _fold_reduce(fold),
        exact=exact,
    )


OPERATORS: dict[str, Operator] = {
    "ReduceSum": _reduction(_summing(_sum_of, integers=True), dims.total),
    "ReduceMean": _reduction(_summing(np.mean, integers=False)),
    "ReduceProd": _reduction(_product_of, product),
    "ReduceMax": _reduction(_extreme_of(np.max), _extreme(dims.largest), exact=True),
    "ReduceMin": _reduction(_extreme_of(np.min), _extreme(dims.smallest), exact=True),
    "ReduceL1": _reduction(_summing(_sum_of_magnitudes, integers=True)),
    "ReduceL2": _reduction(_summing(_norm_of, integers=False, power=2)),
    "ReduceSumSquare": _reduction(_summing(_sum_of_squares, integers=True, power=2)),
    "ReduceLogSum": _reduction(),
    "ReduceLogSumExp": _reduction(),
    "CumSum": Operator(infer_same, fold=_fold_running_sum, exact=True),
    "ArgMax": Operator(_infer_arg, fold=lambda node, arrays: _fold_arg(node, arrays, 1), exact=True),
    "ArgMin": Operator(_infer_arg, fold=lambda node, arrays: _fold_arg(node, arrays, -1), exact=True),
    "TopK": Operator(_infer_top_k, fold=_fold_top_k, exact=True),
}
