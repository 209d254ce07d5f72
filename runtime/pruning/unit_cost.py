"""What a model costs by how many units each of its groups keeps, without making that model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir import Expr, Graph, Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.passes.prune.dependency import Group, Member
from planish.runtime.bindings import Binding, Symbols
from planish.runtime.cost import macs

Cost = Callable[[Mapping[str, int]], float]
"""From how many units each group keeps, by its key, to what the model costs: multiply-accumulates, bytes, time."""
Doubles = NDArray[np.float64]
_MATRIX = 2


class Share(NamedTuple):
    """Of an axis: the part of it that is gone once all units of a group are."""

    key: str
    size: int
    part: float


class Term(NamedTuple):
    """An amount, times what is left of each of its axes, which groups share."""

    amount: float
    axes: tuple[tuple[Share, ...], ...]


@dataclass(frozen=True)
class UnitCost:
    """A sum of terms."""

    terms: tuple[Term, ...]

    def __call__(self, kept: Mapping[str, int]) -> float:
        t = self._tables
        gone = np.array([1 - kept.get(key, size) / size for key, size in t.groups])
        left = 1 - np.bincount(t.axes, t.parts * gone[t.places], t.starts[-1])
        return float(t.amounts @ np.multiply.reduceat(np.append(left, 1.0), t.starts[:-1]) + t.fixed)

    @cached_property
    def _tables(self) -> _Tables:
        moving = [term for term in self.terms if term.axes]
        shares = [
            (place, share) for place, axis in enumerate(a for term in moving for a in term.axes) for share in axis
        ]
        groups = list(dict.fromkeys((share.key, share.size) for _, share in shares))
        return _Tables(
            groups,
            np.array([term.amount for term in moving]),
            np.cumsum([0, *[len(term.axes) for term in moving]]),
            np.array([place for place, _ in shares], np.int64),
            np.array([share.part for _, share in shares]),
            np.array([groups.index((share.key, share.size)) for _, share in shares], np.int64),
            sum(term.amount for term in self.terms if not term.axes),
        )


class _Tables(NamedTuple):
    """The same as vectors."""

    groups: list[tuple[str, int]]
    amounts: Doubles
    """Of the terms that groups move."""
    starts: Ids
    """Where the axes of each begin, and where the last ends."""
    axes: Ids
    """Of each share."""
    parts: Doubles
    places: Ids
    """Of each share's group."""
    fixed: float


def mac_cost(graph: Graph, groups: Mapping[str, Group], shapes: Mapping[str, tuple[int, ...]]) -> UnitCost:
    """Multiply-accumulates of a run on inputs of those shapes; nodes of which they are not known count nothing.

    graph: prepared, as the groups were found in.
    """
    extents, shares, terms = Symbols(graph).of(Binding(shapes)), _shares(groups), list[Term]()
    for node in graph.walk():
        count = macs(node)
        if isinstance(count, Expr):
            count = count.substitute(extents)
        if isinstance(count, int) and count:
            axes = [shares[place] for place in _axes(node) if place in shares]
            terms.append(Term(float(count), tuple([tuple(axis) for axis in axes])))
    return UnitCost(tuple(terms))


def parameter_cost(graph: Graph, groups: Mapping[str, Group]) -> UnitCost:
    """Elements of the constants that groups lie on; the others do not change."""
    shares = _shares(groups)
    values = dict.fromkeys(value for value, _ in shares if value.constant is not None)
    terms = [
        Term(
            float(math.prod(value.constant.shape)),
            tuple([tuple(shares[place]) for place in shares if place[0] is value]),
        )
        for value in values
        if value.constant is not None
    ]
    return UnitCost(tuple(terms))


def _shares(groups: Mapping[str, Group]) -> dict[tuple[Value, int], list[Share]]:
    found: dict[tuple[Value, int], list[Share]] = {}
    for key, group in groups.items():
        for member in group.members:
            found.setdefault((member.value, member.axis), []).append(Share(key, group.size, _part(member)))
    return found


def _part(member: Member) -> float:
    return float((member.units >= 0).mean()) if member.units.size else 0.0


def _axes(node: Node) -> Iterator[tuple[Value, int]]:
    """The axes that multiply-accumulates grow with: those of constant weights; else of the result and the sum."""
    weights = [
        v for v in node.operands if v is not None and v.constant is not None and len(v.constant.shape) >= _MATRIX
    ]
    if weights:
        for value in weights[:1]:
            yield from ((value, axis) for axis in range(value.rank or 0))
        return
    first: Sequence[Value | None] = node.operands[:1]
    for value in first:
        if value is not None and value.rank:
            yield value, value.rank - 1
    for value in node.results[:1]:
        yield from ((value, axis) for axis in range(value.rank or 0))
