"""Slices of slices become one, a slice of a Concat leaves out what it does not take, and slices that share an axis out
become a Split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.dim import Dim, Shape
from planish.ir.graph import RETURN
from planish.ir.ops.indexing import slice_bounds
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rewrite, rule
from planish.passes.run import Run
from planish.passes.simplify.slicing import END, WHOLE, Bounds, composed, of_range, taken_of

x = Var("x")
_OPERANDS = (Var("starts"), Var("ends"), Maybe(Var("axes")), Maybe(Var("steps")))
_LAST_OPERANDS = (Var("starts"), Var("ends"), Maybe(Var("axes")), Maybe(Var("steps")))
first = Op("Slice", (x, *_OPERANDS), shared=True)
last = Op("Slice", (first, *_LAST_OPERANDS))
concat = Op("Concat", shared=True)
of_concat = Op("Slice", (concat, *_OPERANDS))
alone = Op("Slice", (x, *_OPERANDS))
_READERS = 32
_PARTS = 256


def bounds_of(node: Node) -> dict[int, Bounds] | None:
    """The bounds of a Slice by axis, counted from the front; None where they or the rank are not known."""
    operand = node.operand(0)
    if operand is None or operand.rank is None:
        return None
    found = slice_bounds(node, operand.rank)
    return None if found is None else {axis: Bounds(*bounds) for axis, *bounds in found}


def make_slice(m: Match, value: Value, bounds: Mapping[int, Bounds]) -> Value:
    """A Slice of a value, or the value itself where nothing is cut off."""
    kept = {axis: bound for axis, bound in sorted(bounds.items()) if bound != WHOLE}
    if not kept:
        return value
    columns = [[bound.start for bound in kept.values()], [bound.end for bound in kept.values()], list(kept)]
    if any(bound.step != 1 for bound in kept.values()):
        columns.append([bound.step for bound in kept.values()])
    return m.add("Slice", (value, *[m.constant(np.array(column, np.int64)) for column in columns]))


@rule(last, contract=Contract.EXACT)
def slice_slice(m: Match) -> Value | None:
    """Slice(Slice(x)) -> Slice(x), or x"""
    inner, outer, shape = bounds_of(m[first]), bounds_of(m.root), m[x].shape
    if inner is None or outer is None or shape is None:
        return m.decline("the bounds are not constant, or the rank is not known")
    if not _only_sliced(m[first].result):
        return m.decline("the first Slice has other readers, so none would be saved")
    bounds = {**inner, **outer}
    for axis in inner.keys() & outer.keys():
        both = composed(inner[axis], outer[axis], shape[axis])
        if both is None:
            return m.decline(f"what is left of axis {axis} depends on its extent, which is not known")
        bounds[axis] = both
    return make_slice(m, m[x], bounds)


def _only_sliced(value: Value) -> bool:
    return len(value.readers) <= _READERS and all(user.op == "Slice" for user in value.readers)


@rule(of_concat, contract=Contract.EXACT)
def slice_concat(m: Match) -> Value | None:
    """Slice(Concat(a, b)) that takes some of b alone -> Slice(b), or b"""
    joined, outer = m[concat], bounds_of(m.root)
    rank = joined.result.rank
    if outer is None or rank is None:
        return m.decline("the bounds are not constant, or the rank is not known")
    axis = joined.get_int("axis") % rank
    parts = [part for part in joined.operands if part is not None and part.shape is not None]
    if axis not in outer or len(parts) != len(joined.operands) or len(parts) > _PARTS:
        return None
    extents = [part.shape[axis] for part in parts if part.shape is not None]
    before, behind = _running(extents), _running(extents[::-1])[::-1]
    for index, part in enumerate(parts):
        place = _Place(extents[index], before[index], before[index + 1], behind[index], behind[index + 1])
        within = place.within(outer[axis], last=index == len(parts) - 1)
        if within is not None:
            return make_slice(m, part, {**outer, axis: within})
    return m.decline("it takes some of more than one part, or where a part begins is not known")


class _Place(NamedTuple):
    """Where a part of a Concat lies, from the front and from the back: None behind an extent that is not known."""

    extent: Dim
    start: int | None
    end: int | None
    start_from_back: int | None
    end_from_back: int | None

    def within(self, taken: Bounds, *, last: bool) -> Bounds | None:
        """The same bounds counted within the part; None unless they surely lie inside of it."""
        start, end = self._start(taken.start), END if taken.reaches_end and last else self._end(taken.end)
        if start is None or end is None or taken.step < 1:
            return None
        found = Bounds(start, end, taken.step)
        return of_range(taken_of(found, self.extent), self.extent) if isinstance(self.extent, int) else found

    def _start(self, start: int) -> int | None:
        if start >= 0:
            return start - self.start if self.start is not None and start >= self.start else None
        if self.start_from_back is None or self.end_from_back is None:
            return None
        return start + self.end_from_back if -self.start_from_back <= start < -self.end_from_back else None

    def _end(self, end: int) -> int | None:
        if end < 0:
            inside = self.end_from_back is not None and end <= -self.end_from_back
            return end + (self.end_from_back or 0) or END if inside else None
        if self.start is None or self.end is None:
            return None
        return end - self.start if self.start < end <= self.end else None


def _running(extents: Sequence[Dim]) -> list[int | None]:
    """The sums of the first so many extents, from none to all of them, as far as they are known."""
    found: list[int | None] = [0]
    for extent in extents:
        total = found[-1]
        found.append(total + extent if isinstance(extent, int) and total is not None else None)
    return found


@rule(alone, contract=Contract.EXACT)
def slice_split(m: Match) -> Value | None:
    """Slice(x) beside a Split of x that gives that part -> the part"""
    taken = _part_of(m.root, m[x].shape)
    if taken is None:
        return None
    for split in _beside(m.root, "Split"):
        for part, place in zip(split.results, _places(split), strict=False):
            if place == taken and _may_stand_first(split, part):
                m.graph.insert(split, before=_behind(m[x], m.graph))
                return part
    return None


def _may_stand_first(split: Node, part: Value) -> bool:
    """Whether a Split can move to where its operand is made, and gives no output that the Slice may give too."""
    sizes = split.operand(1)
    return (sizes is None or sizes.producer is None) and all(user.op != RETURN for user in part.readers)


@rule(alone, contract=Contract.EXACT)
def slices_to_split(m: Match) -> Value | None:
    """Slice(x), Slice(x), ... that share one axis out between them -> Split(x), whose part stands for each in turn"""
    shape = m[x].shape
    taken = _part_of(m.root, shape)
    if taken is None or shape is None:
        return None
    axis, extent = taken[0], shape[taken[0]]
    parts = [part for node in _beside(m.root, "Slice") if (part := _part_of(node, shape)) is not None]
    ends = {start: end for along, start, end in sorted(parts) if along == axis}
    if len(ends) < 2 or m.graph.root.opset_imports.get("", 0) < 2:
        return None
    cuts = [0]
    while cuts[-1] in ends:
        cuts.append(ends[cuts[-1]])
    if cuts[-1] != extent or taken[1:] not in pairwise(cuts):
        return m.decline("the slices of the value leave gaps, or overlap")
    sizes = m.constant(np.diff(np.array(cuts, np.int64)))
    split = Node("Split", (m[x], sizes), {"axis": axis}, results=len(cuts) - 1)
    m.add_node(split)
    m.graph.insert(split, before=_behind(m[x], m.graph))
    return split.results[cuts.index(taken[1])]


def _behind(value: Value, graph: Graph) -> Node:
    """The node before which a reader of the value may stand that other nodes read."""
    return value.producer.after if value.producer is not None and value.graph is graph else graph.returns.after


def _beside(node: Node, op: str) -> list[Node]:
    """Other nodes of an operator, and this one, that read the same first operand in one graph; none if too many do."""
    value = node.operands[0]
    if value is None or len(value.readers) > _READERS:
        return []
    return [user for user in value.readers if user.op == op and user.graph is node.graph and user.operands[0] is value]


def _part_of(node: Node, shape: Shape | None) -> tuple[int, int, int] | None:
    """(axis, first, behind the last) of a Slice that cuts one axis of a known extent, every element of it in turn."""
    bounds = bounds_of(node)
    if shape is None or bounds is None or len(bounds) != 1:
        return None
    ((axis, bound),) = bounds.items()
    extent = shape[axis]
    if not isinstance(extent, int) or bound.step != 1:
        return None
    taken = taken_of(bound, extent)
    return (axis, taken.start, taken.stop) if taken else None


def _places(split: Node) -> list[tuple[int, int, int]]:
    """(axis, first, behind the last) of each part of a Split, as far as their extents are known."""
    rank = split.result.rank
    found: list[tuple[int, int, int]] = []
    start = 0
    for part in split.results:
        axis = split.get_int("axis") % rank if rank else 0
        extent = None if part.shape is None else part.shape[axis]
        if not isinstance(extent, int):
            break
        found.append((axis, start, start + extent))
        start += extent
    return found


@dataclass(frozen=True)
class MergeSlices(RulePass):
    """Make one Slice of two, take slices of a Concat from its parts, and make a Split of slices that leave nothing out.

    Holds for every binding of the dynamic dims. A Split is made where every extent is known.
    """

    name: ClassVar[str] = "merge-slices"

    def rules(self) -> Sequence[Rule]:
        return (slice_slice, slice_concat, slice_split, slices_to_split)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """After each Split that was made, the slices beside it are looked at again, wherever they stand."""
        done = len(run.log)
        rewrite(graph, self.rules(), run, start)
        while made := [node for node in run.log[done:] if node.op == "Split" and node.graph is not None]:
            done = len(run.log)
            rewrite(graph, self.rules(), run, [slice for node in made for slice in _beside(node, "Slice")])
