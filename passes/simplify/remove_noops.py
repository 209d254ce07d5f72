"""Nodes that give back one of their operands unchanged are removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.dim import Dim, is_positive
from planish.ir.ops.broadcast import broadcasts_to
from planish.ir.ops.indexing import slice_bounds
from planish.ir.ops.shape import constant_ints
from planish.ir.ops.table import is_pure
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, c = Var("x"), Const("c")
_FAR = 2**31 - 1
_EXACT_IN_DOUBLE = 32


def _first(m: Match) -> Value | None:
    return m.root.operand(0)


def _same_shape(node: Node) -> bool:
    """Whether the result surely has the first operand's shape, for every binding of the symbols."""
    first = node.operand(0)
    return first is not None and first.shape is not None and first.shape == node.result.shape


@rule(Op("Identity"), contract=Contract.EXACT)
def identity(m: Match) -> Value | None:
    """Identity(x) -> x"""
    return _first(m)


@rule(Op("Dropout"), contract=Contract.EXACT)
def dropout(m: Match) -> Value | None:
    """Dropout(x) in inference mode, its mask unread -> x"""
    if not is_pure(m.root) or any(mask.is_used for mask in m.root.results[1:]):
        return None
    return _first(m)


@rule(Op(("Cast", "CastLike")), contract=Contract.EXACT)
def cast(m: Match) -> Value | None:
    """Cast(x) to the type that x has -> x"""
    first = _first(m)
    return first if first is not None and first.dtype is not None and first.dtype is m.root.result.dtype else None


@rule(Op(("Reshape", "Expand", "Tile", "Flatten", "Squeeze", "Unsqueeze")), contract=Contract.EXACT)
def same_shape(m: Match) -> Value | None:
    """Reshape, Expand, Tile, Flatten, Squeeze or Unsqueeze of x to the shape that x has -> x"""
    if m.root.op == "Tile" and not _is_all(constant_ints(m.root.operand(1)), 1):
        return None
    return _first(m) if _same_shape(m.root) else None


@rule(Op("Transpose", (x,)), contract=Contract.EXACT)
def transpose(m: Match) -> Value | None:
    """Transpose(x) that leaves the axes in order, or moves only axes of one element past each other -> x"""
    shape, order = m[x].shape, m.root.get_ints("perm")
    if shape is not None:
        order = order or tuple(reversed(range(len(shape))))
        order = [axis for axis in order if shape[axis] != 1] if _same_shape(m.root) else order
    return None if order is None or list(order) != sorted(order) else m[x]


@rule(Op("Slice"), contract=Contract.EXACT)
def slice_all(m: Match) -> Value | None:
    """Slice(x) of everything -> x"""
    first = _first(m)
    if first is None or first.shape is None:
        return None
    bounds = slice_bounds(m.root, len(first.shape))
    if bounds is None or not all(_takes_all(first.shape[axis], *rest) for axis, *rest in bounds):
        return None
    return first


def _takes_all(extent: Dim, start: int, end: int, step: int) -> bool:
    if step != 1:
        return False
    if isinstance(extent, int):
        return (start == 0 or start <= -extent) and end >= extent
    return start == 0 and end >= _FAR


@rule(Op("Pad"), contract=Contract.EXACT)
def pad_nothing(m: Match) -> Value | None:
    """Pad(x) by nothing, in any mode -> x"""
    return _first(m) if _is_all(constant_ints(m.root.operand(1)), 0) else None


@rule(Op(("Concat", "Sum", "Max", "Min", "Mean"), (x,)), contract=Contract.EXACT)
def of_one(m: Match) -> Value | None:
    """Concat, Sum, Max, Min or Mean of x alone -> x"""
    return m[x]


@rule(Op("Split"), contract=Contract.EXACT)
def split_into_one(m: Match) -> Value | None:
    """Split(x) into one part -> x"""
    return _first(m) if len(m.root.results) == 1 and _same_shape(m.root) else None


@rule(Op("Resize", where=_same_shape), contract=Contract.EXACT)
def resize_nothing(m: Match) -> Value | None:
    """Resize(x) by scales of 1, or to the size that x has, nearest or linear -> x"""
    node = m.root
    scales = node.operand(2)
    if node.get_str("mode") == "cubic" or node.get_int("antialias"):
        return m.decline("cubic and antialiasing filters may mix neighbours in even where they need not")
    if node.get_str("coordinate_transformation_mode") == "tf_crop_and_resize":
        return m.decline("it may crop, too")
    if scales is not None and scales.shape != (0,) and not _are_ones(scales):
        return m.decline("the scales are not 1, though the size stays")
    return _first(m)


def _are_ones(value: Value) -> bool:
    return value.constant is not None and value.constant.in_memory and value.constant.uniform() == 1


@rule(Op("Gather", (x, c)), contract=Contract.EXACT)
def gather_all(m: Match) -> Value | None:
    """Gather(x) of every index of an axis, in order -> x"""
    shape, index = m[x].shape, m[c].constant
    if shape is None or index is None or len(index.shape) != 1 or not index.in_memory:
        return None
    axis = m.root.get_int("axis")
    if axis >= len(shape) or shape[axis] != index.shape[0]:
        return None
    extent = index.shape[0]
    return m[x] if [i + extent if i < 0 else i for i in index.ints()] == list(range(extent)) else None


def _has_empty_part(node: Node) -> bool:
    axis = node.get_int("axis")
    return len(node.operands) > 1 and any(_is_empty(part, axis) for part in node.operands)


def _is_empty(part: Value | None, axis: int) -> bool:
    shape = None if part is None else part.shape
    return shape is not None and -len(shape) <= axis < len(shape) and shape[axis] == 0


@rule(Op("Concat", where=_has_empty_part), contract=Contract.EXACT)
def concat_nothing(m: Match) -> Value | None:
    """Concat(x, y, z), y without elements along the axis -> Concat(x, z)"""
    kept = [part for part in m.root.operands if not _is_empty(part, m.root.get_int("axis"))]
    kept = kept or list(m.root.operands[:1])
    return kept[0] if len(kept) == 1 else m.add("Concat", kept, m.root.attributes)


_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


@rule(Op(_REDUCTIONS), contract=Contract.EXACT)
def reduce_nothing(m: Match) -> Value | None:
    """Reduce(x) over no axis, which `noop_with_empty_axes` asks for -> x"""
    axes = m.root.operand(1)
    empty = axes is None or constant_ints(axes) == ()
    return _first(m) if empty and m.root.get_int("noop_with_empty_axes") else None


def _over_ones(node: Node) -> bool:
    """Whether a reduction is over axes of one element alone, of which there is one at least."""
    data = node.operand(0)
    shape = None if data is None else data.shape
    if shape is None or node.op not in _REDUCTIONS:
        return False
    named = constant_ints(node.operand(1))
    if node.operand(1) is None or named == ():
        return not node.get_int("noop_with_empty_axes") and all(dim == 1 for dim in shape)
    return named is not None and all(-len(shape) <= axis < len(shape) and shape[axis] == 1 for axis in named)


@rule(Op(_REDUCTIONS, where=_over_ones), contract=Contract.EXACT)
def reduce_one(m: Match) -> Value | None:
    """ReduceMax, ReduceMin or ReduceProd(x) over axes of one element -> x, or Squeeze(x); of integers the others too"""
    dtype = m.root.result.dtype
    if dtype is None or (m.root.op not in ("ReduceMax", "ReduceMin") and not _keeps_one(dtype, m.root.op)):
        return None
    return m.decline(_MENDS) if _mends(m.root) else _without_axes(m)


_MENDS = "it mends the reduction before it: ONNX Runtime forgets one of an empty tensor along an axis from behind"


def _mends(node: Node) -> bool:
    """Whether the operand may be such a reduction's, of the extents that were there before."""
    before = None if node.operands[0] is None else node.operands[0].producer
    if before is None or not before.op.startswith("Reduce") or before.operands[0] is None:
        return False
    axes, shape = constant_ints(before.operand(1)), before.operands[0].shape
    from_behind = axes is None or any(axis < 0 for axis in axes)
    return from_behind and (shape is None or not all(is_positive(dim) for dim in shape))


def _keeps_one(dtype: DType, op: str) -> bool:
    """Whether a sum, mean or product of one number is that number.

    A zero of negative sign becomes positive in sums, and ONNX Runtime works the longest integers out in double.
    """
    if dtype.is_float:
        return op == "ReduceProd"
    return dtype.is_integer and dtype.bits <= _EXACT_IN_DOUBLE


@rule(Op(("ReduceMean", "ReduceSum"), where=_over_ones), contract=Contract.REASSOCIATES)
def sum_of_one(m: Match) -> Value | None:
    """ReduceSum or ReduceMean(x) of floats over axes of one element -> x, or Squeeze(x); -0.0 stays negative"""
    dtype = m.root.result.dtype
    if dtype is None or not dtype.is_float:
        return m.decline("a runtime may work long integers out in double")
    return m.decline(_MENDS) if _mends(m.root) else _without_axes(m)


def _without_axes(m: Match) -> Value | None:
    """x where its shape stays, else a Squeeze of it, which copies nothing."""
    data, axes = m.root.operands[0], m.root.operand(1)
    if data is None or _same_shape(m.root):
        return data
    rank = data.rank or 0
    gone = {axis % rank for axis in constant_ints(axes) or range(rank)}
    return m.add("Squeeze", (data, m.constant(np.array(sorted(gone), np.int64))))


@rule(Op(("Mul",), (x, c), commutes=True), contract=Contract.EXACT)
def times_one(m: Match) -> Value | None:
    """Mul(x, 1) -> x, where the constant cannot broadcast x"""
    return _if_unit(m, 1)


@rule(Op(("Div", "Pow"), (x, c)), contract=Contract.EXACT)
def by_one(m: Match) -> Value | None:
    """Div(x, 1) or Pow(x, 1) -> x, where the constant cannot broadcast x

    A runtime may work out a power of integers in double, which does not hold the longest.
    """
    dtype = m[x].dtype
    if m.root.op == "Pow" and (dtype is None or (dtype.is_integer and dtype.bits > _EXACT_IN_DOUBLE)):
        return None
    return _if_unit(m, 1)


@rule(Op("Add", (x, c), commutes=True), contract=Contract.EXACT)
def plus_negative_zero(m: Match) -> Value | None:
    """Add(x, 0) of integers, or Add(x, -0.0) -> x, where the constant cannot broadcast x"""
    return _if_unit(m, -0.0) if _is_float(m) else _if_unit(m, 0)


@rule(Op("Sub", (x, c)), contract=Contract.EXACT)
def minus_zero(m: Match) -> Value | None:
    """Sub(x, 0) of integers, or Sub(x, +0.0) -> x, where the constant cannot broadcast x"""
    return _if_unit(m, 0.0)


@rule(Op("Add", (x, c), commutes=True), contract=Contract.REASSOCIATES)
def plus_zero(m: Match) -> Value | None:
    """Add(x, +0.0) -> x, where the constant cannot broadcast x; -0.0 stays negative"""
    return _if_unit(m, 0.0)


@rule(Op("Sub", (x, c)), contract=Contract.REASSOCIATES)
def minus_negative_zero(m: Match) -> Value | None:
    """Sub(x, -0.0) -> x, where the constant cannot broadcast x; -0.0 stays negative"""
    return _if_unit(m, -0.0)


@rule(Op("And", (x, c), commutes=True), contract=Contract.EXACT)
def and_true(m: Match) -> Value | None:
    """And(x, true) -> x, where the constant cannot broadcast x"""
    return _if_unit(m, 1)


@rule(Op(("Or", "Xor"), (x, c), commutes=True), contract=Contract.EXACT)
def or_false(m: Match) -> Value | None:
    """Or(x, false) or Xor(x, false) -> x, where the constant cannot broadcast x"""
    return _if_unit(m, 0)


def _if_unit(m: Match, unit: float) -> Value | None:
    """x, where every element of the constant is `unit`, zeros with its sign, and cannot change the shape of x."""
    tensor, shape = m[c].constant, m[x].shape
    if tensor is None or not tensor.in_memory or shape is None:
        return None
    found = tensor.uniform()
    if found is None or found != unit or copysign(1, found) != copysign(1, unit):
        return None
    return m[x] if broadcasts_to(tensor.shape, shape) else None


def _is_float(m: Match) -> bool:
    dtype = m[c].dtype
    return dtype is None or dtype.is_float


def _is_all(found: tuple[int, ...] | None, expected: int) -> bool:
    return found is not None and all(element == expected for element in found)


@dataclass(frozen=True)
class RemoveNoops(RulePass):
    """Remove nodes that give back an operand unchanged, for every binding of the dynamic dims."""

    name: ClassVar[str] = "remove-noops"

    def rules(self) -> Sequence[Rule]:
        return (
            identity, dropout, cast, same_shape, transpose, slice_all, pad_nothing, of_one, split_into_one,
            reduce_nothing, reduce_one, sum_of_one, resize_nothing, gather_all, concat_nothing,
            times_one, by_one, plus_negative_zero, minus_zero, plus_zero, minus_negative_zero, and_true, or_false,
        )  # fmt: skip
