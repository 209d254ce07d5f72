"""What a model costs by how many units each of its groups keeps, without making that model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir import Graph, Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.cost import Axis, extent, mac_axes, weights
from planish.ir.tensor import Tensor
from planish.passes.prune.dependency import Group, Member

Cost = Callable[[Mapping[str, int]], float]
"""From how many units each group keeps, by its key, to what the model costs: multiply-accumulates, bytes, time."""
Doubles = NDArray[np.float64]
_OPEN = -1


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
    """A sum of terms: a whole number."""

    terms: tuple[Term, ...]
    uncounted: tuple[Node, ...] = ()
    """Nodes of which it is not known what they cost."""

    def __call__(self, kept: Mapping[str, int]) -> float:
        t = self._tables
        gone = np.array([1 - kept.get(key, size) / size for key, size in t.groups])
        left = 1 - np.bincount(t.axes, t.parts * gone[t.places], t.starts[-1])
        return float(np.rint(t.amounts @ np.multiply.reduceat(np.append(left, 1.0), t.starts[:-1]) + t.fixed))

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


def mac_cost(graph: Graph, groups: Mapping[str, Group], extents: Mapping[str, int]) -> UnitCost:
    """Multiply-accumulates of a run in which symbols have those extents.

    Those of a nested graph count once. Nodes whose shapes stay open, and all that is no convolution, matrix product or
    recurrent layer, count nothing. graph: prepared, as the groups were found in.
    """
    shares = _shares(groups)
    found = {node: _mac_terms(node, shares, extents) for node in graph.walk()}
    terms = [term for each in found.values() for term in each or ()]
    return UnitCost(tuple(terms), tuple([node for node, each in found.items() if each is None]))


def _mac_terms(node: Node, shares: Mapping[Axis, Sequence[Share]], extents: Mapping[str, int]) -> Sequence[Term] | None:
    """None where an extent is open."""
    sets, terms = mac_axes(node), list[Term]()
    if sets is None:
        return None
    for axes in sets:
        counts = [extent((value.shape or ())[axis], extents, _OPEN) for value, axis in axes]
        if _OPEN in counts:
            return None
        moving = [tuple(shares[axis]) for axis in axes if axis in shares]
        terms.append(Term(float(math.prod(counts)), tuple(moving)))
    return terms


def parameter_cost(graph: Graph, groups: Mapping[str, Group]) -> UnitCost:
    """Elements of the constants of floats, or of codes of at most 8 bits.

    graph: prepared, as the groups were found in.
    """
    moving: dict[Value, list[tuple[Share, ...]]] = {}
    for (value, _), found in _shares(groups).items():
        moving.setdefault(value, []).append(tuple(found))
    fixed: dict[Tensor, Term] = {}
    terms: list[Term] = []
    for value, tensor in weights(graph).items():
        if value in moving:
            terms.append(Term(float(tensor.size), tuple(moving[value])))
        else:
            fixed[tensor] = Term(float(tensor.size), ())
    return UnitCost((*terms, *fixed.values()))


def _shares(groups: Mapping[str, Group]) -> dict[Axis, list[Share]]:
    found: dict[Axis, list[Share]] = {}
    for key, group in groups.items():
        for member in group.members:
            found.setdefault((member.value, member.axis), []).append(Share(key, group.size, _part(member)))
    return found


def _part(member: Member) -> float:
    return float((member.units >= 0).mean()) if member.units.size else 0.0
