"""A Gather takes over the axis that is put back or taken off behind it, and of a Shape it is a shorter Shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.ir.ops.indexing import slice_bounds
from planish.ir.ops.shape import constant_ints
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.reshaping import axes_from_front

x, axes, index = Var("x"), Const("axes"), Const("index")
gather = Op("Gather", (x, index))
unsqueezed = Op("Unsqueeze", (gather, axes))
squeezed = Op("Squeeze", (gather, axes))
shape = Op("Shape", (x,), shared=True)
of_shape = Op("Gather", (shape, index))
_BOUNDS = (Var("starts"), Var("ends"), Maybe(Var("axes")), Maybe(Var("steps")))
sliced_shape = Op("Slice", (shape, *_BOUNDS))
_WINDOWS_SINCE = 15


@rule(unsqueezed, contract=Contract.EXACT)
def gather_unsqueeze(m: Match) -> Value | None:
    """Unsqueeze(Gather(x, i)) of the axis that the single index i took -> Gather(x, [i])"""
    return _with_index_of(m, (), (1,), m.root.result.rank)


@rule(squeezed, contract=Contract.EXACT)
def gather_squeeze(m: Match) -> Value | None:
    """Squeeze(Gather(x, [i])) of the axis that the one index i left -> Gather(x, i)"""
    return _with_index_of(m, (1,), (), m[gather].result.rank)


def _with_index_of(m: Match, before: tuple[int, ...], after: tuple[int, ...], rank: int | None) -> Value | None:
    """The Gather with its index in another shape, where the axis that comes or goes is its own; `rank` counts it."""
    node, tensor = m[gather], m[index].constant
    if tensor is None or tensor.shape != before or not tensor.in_memory:
        return None
    axis = node.get_int("axis")
    found = axes_from_front(m[axes], rank)
    if found is None or (axis < 0 and rank is None):
        return m.decline("an axis is counted from the back, and the rank is not known")
    if found != [axis % rank if rank else axis]:
        return None
    return m.add("Gather", (m[x], m.constant(tensor.array().reshape(after))), node.attributes)


@rule(of_shape, contract=Contract.EXACT)
def shape_gather(m: Match) -> Value | None:
    """Gather(Shape(x), [i, i + 1, ...]) -> Shape(x) from i on, so many"""
    found, tensor = constant_ints(m[index]), m[index].constant
    if not found or tensor is None or len(tensor.shape) != 1:
        return None
    window = _window(m[shape], m[x].rank)
    if window is None:
        return m.decline("the rank is not known, or the Shape is one of some axes already")
    places = [place + len(window) if place < 0 else place for place in found]
    if places != list(range(places[0], places[0] + len(places))) or places[0] < 0 or places[-1] >= len(window):
        return m.decline("the axes do not follow each other")
    return _shape_of(m, window[places[0] : places[-1] + 1])


@rule(sliced_shape, contract=Contract.EXACT)
def shape_slice(m: Match) -> Value | None:
    """Slice(Shape(x)) -> Shape(x) of those axes"""
    window = _window(m[shape], m[x].rank)
    bounds = slice_bounds(m.root, 1)
    if window is None or bounds is None or len(bounds) != 1:
        return m.decline("the rank or the bounds are not known")
    _, start, end, step = bounds[0]
    taken = window[slice(start, end)]
    if step != 1 or not taken:
        return None
    return _shape_of(m, taken)


def _window(node: Node, rank: int | None) -> range | None:
    """The axes whose extents a Shape gives."""
    if rank is None:
        return None
    start, end = node.attribute("start"), node.attribute("end")
    return range(rank)[slice(start if isinstance(start, int) else 0, end if isinstance(end, int) else rank)]


def _shape_of(m: Match, taken: range) -> Value | None:
    if m.graph.root.opset_imports.get("", 0) < _WINDOWS_SINCE:
        return m.decline(f"a Shape of some axes needs opset {_WINDOWS_SINCE}")
    if len(taken) == m[x].rank:
        return m[shape].result
    return m.add("Shape", (m[x],), {"start": taken[0], "end": taken[-1] + 1})


@dataclass(frozen=True)
class MergeGathers(RulePass):
    """Let a Gather by a constant give the axis that an Unsqueeze or Squeeze behind it gives, and shorten Shapes.

    Gather(x, 2) and Unsqueeze become Gather(x, [2]); Gather or Slice of Shape(x) becomes Shape(x, start, end).
    """

    name: ClassVar[str] = "merge-gathers"

    def rules(self) -> Sequence[Rule]:
        return (gather_unsqueeze, gather_squeeze, shape_gather, shape_slice)
