"""A reduction drops or keeps its axes itself, two of one kind become one, and one of a stack needs no stack."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Shape
from planish.ir.infer import inferred
from planish.ir.ops import schema
from planish.ir.ops.shape import constant_ints
from planish.ir.ops.table import OPERATORS
from planish.ir.types import TensorType
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.reshaping import RESHAPES

REDUCTIONS = tuple(op for op in OPERATORS if schema.default(op, "keepdims") is not None)
x, s, t = Var("x"), Var("s"), Var("t")
reduction = Op(REDUCTIONS, (x, Maybe(s)))
reshape = Op(RESHAPES, (reduction, Maybe(t)))
_FAST_GROUPS = 3
_STACKED = {"ReduceMax": "Max", "ReduceMean": "Mean", "ReduceMin": "Min", "ReduceSum": "Sum"}
_PARTS = 16


def reduced_axes(node: Node) -> list[int] | None:
    """The axes that a reduction takes away or makes 1, ascending; None where they or the rank are not known."""
    operand, named = node.operand(0), node.operand(1)
    rank = None if operand is None else operand.rank
    if rank is None:
        return None
    if "axis" in node.attributes or schema.default(node.op, "axis") is not None:
        return [node.get_int("axis") % rank] if rank else None
    axes = () if named is None else constant_ints(named)
    if axes == () and node.get_int("noop_with_empty_axes"):
        return None
    return None if axes is None else sorted({axis % rank for axis in axes} if axes else range(rank))


def shape_without(shape: Shape, axes: Collection[int], *, keep: bool) -> Shape:
    """The shape of a reduction's result."""
    return tuple([1 if axis in axes else dim for axis, dim in enumerate(shape) if keep or axis not in axes])


def _brought_back(shape: Shape, axes: Collection[int]) -> Shape:
    """The shape with extents of 1 on these axes, counted in the result."""
    left = iter(shape)
    return tuple([1 if axis in axes else next(left) for axis in range(len(shape) + len(axes))])


def _inferred_shape(node: Node) -> Shape | None:
    """By the operands alone: the model may have its own names for the extents of the result."""
    type = inferred(node)[0]
    return type.shape if isinstance(type, TensorType) else None


def _reduce(m: Match, node: Node, axes: Sequence[int], *, keep: bool) -> Value:
    """Of an axis counted from the back, ONNX Runtime forgets to drop it where the tensor is empty."""
    attributes = {**node.attributes, "keepdims": int(keep)}
    if "axis" in attributes or schema.default(node.op, "axis") is not None:
        return m.add(node.op, (m[x],), {**attributes, "axis": axes[0]})
    return m.add(node.op, (m[x], m.constant(np.array(axes, np.int64))) if axes else (m[x],), attributes)


@rule(reshape, contract=Contract.EXACT)
def reduce_reshape(m: Match) -> Value | None:
    """Squeeze(Reduce(x, keepdims=1)) -> Reduce(x, keepdims=0) and back, by Reshape, Flatten and Unsqueeze too"""
    node, result = m[reduction], m.root.result.shape
    axes, shape = reduced_axes(node), node.result.shape
    if axes is None or shape is None or result is None:
        return m.decline("the axes or the rank are not known")
    keep = not node.get_int("keepdims")
    expected = _brought_back(shape, axes) if keep else shape_without(shape, axes, keep=False)
    if expected not in (result, _inferred_shape(m.root)):
        return m.decline("it brings other axes back, or drops others, than those that were reduced")
    return _reduce(m, node, axes, keep=keep)


def _pair(*ops: str) -> tuple[Op, Op]:
    inner = Op(ops, (x, Maybe(s)))
    return inner, Op(ops, (inner, Maybe(t)))


first_extreme, last_extreme = _pair("ReduceMax", "ReduceMin")
first_sum, last_sum = _pair("ReduceMean", "ReduceSum")


@rule(last_extreme, contract=Contract.EXACT)
def extreme_of_integers(m: Match) -> Value | None:
    """ReduceMax(ReduceMax(x)) of integers -> ReduceMax(x) over the axes of both; ReduceMin likewise"""
    dtype = m[x].dtype
    return _merged(m, first_extreme) if dtype is not None and not dtype.is_float else None


@rule(last_extreme, contract=Contract.REASSOCIATES, needs="no NaN; which of two zeros is the larger one is not defined")
def extreme_of_floats(m: Match) -> Value | None:
    """ReduceMax(ReduceMax(x)) -> ReduceMax(x) over the axes of both; ReduceMin likewise"""
    dtype = m[x].dtype
    return _merged(m, first_extreme) if dtype is not None and dtype.is_float else None


@rule(last_sum, contract=Contract.REASSOCIATES, needs="sums that do not overflow")
def sum_of_sums(m: Match) -> Value | None:
    """ReduceSum(ReduceSum(x)) -> ReduceSum(x) over the axes of both; ReduceMean likewise, as all parts are equal"""
    dtype = m[x].dtype
    if dtype is None or not dtype.is_float:
        return m.decline("a runtime may saturate the sums of integers between, and rounds their means")
    return _merged(m, first_sum)


def _merged(m: Match, first: Op) -> Value | None:
    inner, outer, shape = m[first], m.root, m[x].shape
    if inner.op != outer.op:
        return None
    before, behind = reduced_axes(inner), reduced_axes(outer)
    if before is None or behind is None or shape is None:
        return m.decline("the axes or the rank are not known")
    left = [axis for axis in range(len(shape)) if inner.get_int("keepdims") or axis not in before]
    axes = sorted({*before, *(left[axis] for axis in behind)})
    keep = bool(outer.get_int("keepdims"))
    if shape_without(shape, axes, keep=keep) != outer.result.shape:
        return m.decline("one of the two keeps its axes and the other drops them")
    if not _is_fast(shape, axes):
        return m.decline("the axes of both do not lie together, and one pass over them would be slower than two")
    return _reduce(m, outer, axes, keep=keep)


concat = Op("Concat")
of_stack = Op(tuple(_STACKED), (concat, Maybe(s)))


@rule(of_stack, contract=Contract.REASSOCIATES, needs="no NaN; which of two zeros is the larger one is not defined")
def reduce_stack(m: Match) -> Value | None:
    """ReduceMax(Concat(Unsqueeze(a), Unsqueeze(b), ...)) over the axis of a stack -> Max(a, b, ...)

    ReduceMin, ReduceSum and ReduceMean of floats likewise.
    """
    node, rank = m[concat], m[concat].result.rank
    axes, dtype = reduced_axes(m.root), m.root.result.dtype
    if not rank or axes is None or axes != [node.get_int("axis") % rank] or len(node.operands) > _PARTS:
        return m.decline("it goes over other axes than the parts are stacked along, or there are many parts")
    if dtype is None or not (dtype.is_float or m.root.op in ("ReduceMax", "ReduceMin")):
        return m.decline("sums of integers are taken of pairs alone")
    parts = [_unstacked(operand, axes[0]) for operand in node.operands]
    shapes = {part.shape for part in parts if part is not None}
    if None in parts or len(shapes) != 1:
        return m.decline("a part is more than one of the stack, or the parts may differ in shape")
    made = m.add(_STACKED[m.root.op], parts)
    return m.add("Unsqueeze", (made, m.constant(np.array(axes, np.int64)))) if m.root.get_int("keepdims") else made


def _unstacked(value: Value | None, axis: int) -> Value | None:
    """What an Unsqueeze of that axis made the value of."""
    node = None if value is None else value.producer
    if node is None or node.op not in RESHAPES or value is None or value.shape is None:
        return None
    source, shape = node.operands[0], value.shape
    return source if source is not None and source.shape == shape[:axis] + shape[axis + 1 :] else None


def _is_fast(shape: Shape, axes: Collection[int]) -> bool:
    """Whether the axes form at most three groups, kept and reduced in turn: runtimes have loops for those."""
    return len(list(groupby(axis in axes for axis, dim in enumerate(shape) if dim != 1))) <= _FAST_GROUPS


@dataclass(frozen=True)
class MergeReductions(RulePass):
    """Let a reduction drop or keep its axes instead of a Squeeze or Unsqueeze, and make one of two of a kind.

    ReduceMax, ReduceMin, ReduceSum and ReduceMean merge with their own kind; sums and means where they are floats. Over
    the axis of a stack they are Max, Min, Sum and Mean of its parts.
    """

    name: ClassVar[str] = "merge-reductions"

    def rules(self) -> Sequence[Rule]:
        return (reduce_reshape, extreme_of_integers, extreme_of_floats, sum_of_sums, reduce_stack)
