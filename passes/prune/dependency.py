"""What must vanish together when a channel does (union-find over the indices of all axes of all tensors).

Fang et al. 2023 (DepGraph, arXiv 2301.12900) group parameters so by layers; here it is by single indices, which follow
concatenations, splits and permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from planish.ir import Graph, Value
from planish.ir.ops.channels.atoms import Flags, Ids
from planish.ir.ops.channels.tracker import Reason, Tracker
from planish.passes.prune.walk import readers, track

_NONE = -1


@dataclass(frozen=True)
class Slice:
    """Indices of an axis of a value; with `block`, only those of that block of the value's first axis."""

    value: Value
    axis: int
    indices: Ids
    block: int | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """An axis that a group's units lie on.

    units: which unit each index belongs to, -1 for one of another group or none. Of a weight whose blocks shrink each
    in its own way (a grouped convolution), [blocks, extent]: the blocks divide its first axis.
    """

    value: Value
    axis: int
    units: Ids

    @property
    def is_constant(self) -> bool:
        return self.value.constant is not None

    def slices(self, unit: int) -> Iterator[Slice]:
        """Where a unit lies on the axis."""
        if self.units.ndim == 1:
            yield Slice(self.value, self.axis, np.flatnonzero(self.units == unit))
            return
        for block, row in enumerate(self.units):
            found = np.flatnonzero(row == unit)
            if found.size:
                yield Slice(self.value, self.axis, found, block)


@dataclass(frozen=True, eq=False)
class Group:
    """Units that lie on the same axes, each of which may vanish by itself.

    blocks: a label for each unit; as many units must stay of each label. rough: why removal changes more than what the
    channels contribute; empty where it is exact.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    blocks: Ids
    rough: tuple[Reason, ...] = ()

    @property
    def block_count(self) -> int:
        return int(self.blocks.max(initial=0)) + 1

    @cached_property
    def constants(self) -> tuple[Member, ...]:
        return tuple([member for member in self.members if member.is_constant])

    def unit(self, index: int) -> tuple[Slice, ...]:
        """All slices that vanish with a unit."""
        return tuple([part for member in self.members for part in member.slices(index)])


@dataclass(frozen=True, eq=False)
class Frozen:
    """An axis of a constant that stays, or of which some indices do, and why."""

    value: Value
    axis: int
    count: int
    reason: Reason


@dataclass(frozen=True, eq=False)
class Dependencies:
    """The groups of a graph, in the order of their first nodes, and what is frozen."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]

    def view(self) -> nx.Graph[object]:
        """Groups and the values that they lie on, joined where they do; the edge says on which axis."""
        view: nx.Graph[object] = nx.Graph()
        for group in self.groups:
            view.add_node(group, units=group.size)
            for member in group.members:
                view.add_edge(group, member.value, axis=member.axis)
        return view


def dependencies(graph: Graph, *, inexact: bool = False) -> Dependencies:
    """Find the groups of a graph whose shape arithmetic is folded (pass fold-shapes); computed shapes stay.

    inexact: also those over which a mean, a variance or a softmax is taken.
    """
    return _Gathering(track(graph, inexact=inexact)).gather()


@dataclass(frozen=True, eq=False)
class _Axis:
    value: Value
    axis: int
    roots: Ids
    free: Flags


class _Gathering:
    """Sorts the sets of atoms into groups: those that lie on the same axes, equally often on each."""

    def __init__(self, tracker: Tracker) -> None:
        self.t = tracker
        self.random = np.random.default_rng(0)
        count = tracker.atoms.count
        self.signs: NDArray[np.uint64] = np.zeros(count, np.uint64)
        self.group_of: Ids = np.full(count, _NONE)
        self.unit_of: Ids = np.full(count, _NONE)
        self.axes: list[_Axis] = []

    def gather(self) -> Dependencies:
        self.axes = list(self.find_axes())
        self.unbalanced()
        self.classify()
        members: dict[int, list[Member]] = {}
        known: dict[int, list[tuple[int, Ids]]] = {}
        for found in self.axes:
            key = id(found.roots)
            if key not in known:
                known[key] = list(self.units(found))
            for group, units in known[key]:
                members.setdefault(group, []).append(Member(found.value, found.axis, units))
        groups = [self.group(group, members[group]) for group in sorted(members)]
        return Dependencies(tuple(groups), tuple(self.find_frozen()))

    def find_axes(self) -> Iterator[_Axis]:
        """Every axis that has atoms which may vanish, each with its weight in the signatures of its sets."""
        known: dict[int, tuple[Ids, Flags]] = {}
        for value, axis, ids in self.vectors():
            if id(ids) not in known:
                roots = self.t.atoms.roots(ids)
                free = ~self.t.atoms.frozen(roots)
                known[id(ids)] = roots, free
                self.sign(roots[free])
            roots, free = known[id(ids)]
            if free.any():
                yield _Axis(value, axis, roots, free)

    def vectors(self) -> Iterator[tuple[Value, int, Ids]]:
        for value, axes in self.t.axes.items():
            for axis, ids in enumerate(axes):
                if ids is not None:
                    yield value, axis, ids
            if value in self.t.blocked:
                yield value, self.t.blocked[value].axis, self.t.blocked[value].ids

    def sign(self, roots: Ids) -> None:
        found, counts = np.unique(roots, return_counts=True)
        self.signs[found] += self.random.integers(1, 1 << 63, dtype=np.uint64) * counts.astype(np.uint64)

    def classify(self) -> None:
        roots = np.unique(np.concatenate([a.roots[a.free] for a in self.axes] or [np.zeros(0, np.int64)]))
        _, first, classes = np.unique(self.signs[roots], return_index=True, return_inverse=True)
        order = np.argsort(np.argsort(first))
        groups = order[classes]
        self.group_of[roots] = groups
        places = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[places], groups[places])
        self.unit_of[roots[places]] = np.arange(len(places)) - starts

    def units(self, found: _Axis) -> Iterator[tuple[int, Ids]]:
        """For each group on an axis, which unit each index belongs to."""
        groups = np.where(found.free, self.group_of[found.roots], _NONE)
        for group in np.unique(groups[groups >= 0]):
            yield int(group), np.where(groups == group, self.unit_of[found.roots], _NONE)

    def unbalanced(self) -> None:
        """Freeze what could not leave as many of each block; sets of one signature stand or fall together."""
        again = True
        while again:
            self.classify()
            again = False
            for group, labels in self.labels().items():
                if labels is None:
                    self.freeze_group(group)
                    again = True

    def freeze_group(self, group: int) -> None:
        roots = np.flatnonzero(self.group_of == group)
        self.t.freeze(roots, "its units lie unevenly on blocks that must stay equal")
        self.group_of[:] = _NONE
        for found in self.axes:
            found.free[:] = ~self.t.atoms.frozen(found.roots)

    def labels(self) -> Mapping[int, Ids | None]:
        """For each group under a constraint, the label of each unit; None where it cannot be kept."""
        tables: dict[int, list[NDArray[np.int64]]] = {}
        for equal in self.t.equal:
            roots = self.t.atoms.roots(equal.rows)
            groups = np.where(self.t.atoms.frozen(roots), _NONE, self.group_of[roots])
            for group in np.unique(groups[groups >= 0]):
                row, column = np.nonzero(groups == group)
                units = self.unit_of[roots[row, column]]
                table = np.zeros((int(units.max()) + 1, len(equal.rows)), np.int64)
                np.add.at(table, (units, row), 1)
                tables.setdefault(int(group), []).append(table)
        return {group: _labels(found) for group, found in tables.items()}

    def group(self, index: int, members: Sequence[Member]) -> Group:
        size = int((self.group_of == index).sum())
        labels = self.labels_of.get(index)
        blocks = np.zeros(size, np.int64) if labels is None else labels
        return Group(_name(members), size, tuple(members), blocks, tuple(self.rough_of(index)))

    @cached_property
    def labels_of(self) -> Mapping[int, Ids | None]:
        return self.labels()

    def rough_of(self, group: int) -> Iterator[Reason]:
        seen: set[Reason] = set()
        for ids, reason in self.t.rough:
            found = self.t.reasons[reason]
            if found not in seen and (self.group_of[self.t.atoms.roots(ids)] == group).any():
                seen.add(found)
                yield found

    def find_frozen(self) -> Iterator[Frozen]:
        for value, axis, ids in self.vectors():
            if value.constant is None or value.rank is None or not value.constant.dtype.bits:
                continue
            reasons = self.t.atoms.reasons(ids.ravel())
            for reason in np.unique(reasons[reasons > 0]):
                yield Frozen(value, axis, int((reasons == reason).sum()), self.t.reasons[int(reason)])


def _labels(tables: Sequence[NDArray[np.int64]]) -> Ids | None:
    """Units of one footprint on all blocks share a label; None where equal counts of each leave blocks unequal."""
    patterns, labels = np.unique(np.concatenate(tables, axis=1), axis=0, return_inverse=True)
    labels = labels.ravel()
    if len(set(np.bincount(labels).tolist())) > 1:
        return None
    start = 0
    for table in tables:
        total = patterns[:, start : start + table.shape[1]].sum(axis=0)
        if (total != total[0]).any():
            return None
        start += table.shape[1]
    return labels.astype(np.int64)


def _name(members: Sequence[Member]) -> str:
    """The first node that makes an activation of the group, else the first that reads a weight of it."""
    for member in members:
        if member.value.producer is not None and not member.is_constant:
            return member.value.producer.label
    found = [reader.label for member in members for reader in readers(member.value)]
    return found[0] if found else str(members[0].value)
