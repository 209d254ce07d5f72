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
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import KERNEL, Reason, Tracker
from planish.passes.prune.walk import readers, track

Table = NDArray[np.int64]
_NONE = -1
_CODE_BITS = 8


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

    blocks: a label for each unit; as many units must go of each label. rough: why removal changes more than what the
    channels contribute; empty where it is exact. is_heads: whether each unit is a whole head of attention, or all that
    share a key.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    blocks: Ids
    rough: tuple[Reason, ...] = ()
    is_heads: bool = False

    @property
    def block_count(self) -> int:
        return int(self.blocks.max(initial=0)) + 1

    @cached_property
    def constants(self) -> tuple[Member, ...]:
        return tuple([member for member in self.members if member.is_constant])

    @property
    def parameters(self) -> int:
        """Elements of constants that vanish with one unit, where nothing else does."""
        total = 0
        for member in self.constants:
            tensor = member.value.constant
            if tensor is not None:
                total += int((member.units == 0).sum()) * tensor.size // member.units.size
        return total

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


def dependencies(graph: Graph, *, inexact: bool = False, whole_heads: bool = False) -> Dependencies:
    """Find the groups of a graph that is prepared (see `preparation`); channels whose shapes are computed stay.

    inexact: also those over which a mean, a variance or a softmax is taken. whole_heads: of attention the heads, rather
    than the elements of each.
    """
    return _Gathering(track(graph, inexact=inexact, whole_heads=whole_heads)).gather()


@dataclass(frozen=True, eq=False)
class _Axis:
    value: Value
    axis: int
    roots: Ids


class _Gathering:
    """Sorts the sets of atoms into groups: those that lie on the same axes, equally often on each."""

    def __init__(self, tracker: Tracker) -> None:
        self.t = tracker
        self.random = np.random.default_rng(0)
        count = tracker.atoms.count
        self.roots = tracker.atoms.roots(np.arange(count))
        self.stays = tracker.atoms.frozen(self.roots)
        """Of the atom that stands for a set, whether the set is frozen."""
        self.signs: NDArray[np.uint64] = np.zeros(count, np.uint64)
        self.group_of: Ids = np.full(count, _NONE)
        self.unit_of: Ids = np.full(count, _NONE)
        self.axes: list[_Axis] = []
        self.labels: dict[int, Ids] = {}

    def gather(self) -> Dependencies:
        self.axes = list(self.find_axes())
        self.balance()
        members: dict[int, list[Member]] = {}
        known: dict[int, list[tuple[int, Ids]]] = {}
        for found in self.axes:
            if id(found.roots) not in known:
                known[id(found.roots)] = list(self.units(found.roots))
            for group, units in known[id(found.roots)]:
                members.setdefault(group, []).append(Member(found.value, found.axis, units))
        sizes = np.bincount(self.group_of[self.group_of >= 0], minlength=len(members))
        groups = [self.group(group, int(sizes[group]), members[group]) for group in sorted(members)]
        return Dependencies(tuple(groups), tuple(self.find_frozen()))

    def find_axes(self) -> Iterator[_Axis]:
        """Every axis that has atoms which may vanish, each with its weight in the signatures of its sets."""
        known: dict[int, Ids] = {}
        same: dict[bytes, tuple[Ids, Ids, NDArray[np.uint64]]] = {}
        for value, axis, ids in self.vectors():
            roots = known.get(id(ids))
            if roots is None:
                roots = self.roots[ids]
                key = roots.tobytes()
                if key not in same:
                    found, counts = np.unique(roots[~self.stays[roots]], return_counts=True)
                    same[key] = roots, found, counts.astype(np.uint64)
                roots, found, counts = same[key] if same[key][0].shape == roots.shape else (roots, *same[key][1:])
                known[id(ids)] = roots
                self.signs[found] += self.random.integers(1, 1 << 63, dtype=np.uint64) * counts
            if not self.stays[roots].all():
                yield _Axis(value, axis, roots)

    def vectors(self) -> Iterator[tuple[Value, int, Ids]]:
        for value, axes in self.t.axes.items():
            for axis, ids in enumerate(axes):
                if ids is not None:
                    yield value, axis, ids
            if value in self.t.blocked:
                yield value, self.t.blocked[value].axis, self.t.blocked[value].ids

    def classify(self) -> None:
        """Number the groups in the order of their first atoms, and the units of each."""
        self.group_of[:] = _NONE
        known = {id(a.roots): a.roots.ravel() for a in self.axes}
        roots = np.unique(np.concatenate([*known.values(), np.zeros(0, np.int64)]))
        roots = roots[~self.stays[roots]]
        _, first, classes = np.unique(self.signs[roots], return_index=True, return_inverse=True)
        groups = np.argsort(np.argsort(first))[classes]
        self.group_of[roots] = groups
        places = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[places], groups[places])
        self.unit_of[roots[places]] = np.arange(len(places)) - starts

    def units(self, roots: Ids) -> Iterator[tuple[int, Ids]]:
        """For each group on an axis, which unit each index belongs to."""
        groups = self.group_of[roots]
        for group in np.unique(groups[groups >= 0]):
            yield int(group), np.where(groups == group, self.unit_of[roots], _NONE)

    def balance(self) -> None:
        """Freeze the units that could not go without leaving less of one block than of another."""
        while True:
            self.classify()
            self.labels = {group: _labels(tables) for group, tables in self.tables().items()}
            stuck = [
                np.flatnonzero((self.group_of == group) & np.isin(self.unit_of, np.flatnonzero(labels < 0)))
                for group, labels in self.labels.items()
                if (labels < 0).any()
            ]
            if not stuck:
                return
            self.t.freeze(np.concatenate(stuck), "its units lie unevenly on blocks of which as many must stay")
            self.stays[np.concatenate(stuck)] = True

    def tables(self) -> Mapping[int, list[Table]]:
        """For each group under constraints, how often each unit lies on each block, a table for each constraint."""
        found: dict[int, list[Table]] = {}
        for equal in self.t.equal:
            roots = self.roots[equal.rows]
            groups = self.group_of[roots]
            for group in np.unique(groups[groups >= 0]):
                row, column = np.nonzero(groups == group)
                table = np.zeros((int((self.group_of == group).sum()), len(equal.rows)), np.int64)
                np.add.at(table, (self.unit_of[roots[row, column]], row), 1)
                found.setdefault(int(group), []).append(table)
        return found

    def group(self, index: int, size: int, members: Sequence[Member]) -> Group:
        blocks = self.labels.get(index, np.zeros(size, np.int64))
        is_heads = any((self.group_of[self.roots[ids]] == index).any() for ids in self.t.heads)
        return Group(_name(members), size, tuple(members), blocks, tuple(self.rough_of(index)), is_heads)

    def rough_of(self, group: int) -> Iterator[Reason]:
        seen: set[Reason] = set()
        for ids, reason in self.t.rough:
            found = self.t.reasons[reason]
            if found not in seen and (self.group_of[self.roots[ids]] == group).any():
                seen.add(found)
                yield found

    def find_frozen(self) -> Iterator[Frozen]:
        for value, axis, ids in self.vectors():
            dtype = None if value.constant is None else value.constant.dtype
            if dtype is None or not (dtype.is_float or dtype.bits <= _CODE_BITS):
                continue
            reasons = self.t.atoms.reasons(ids.ravel())
            for reason in np.unique(reasons[reasons > 0]):
                if self.t.reasons[int(reason)].text != KERNEL:
                    yield Frozen(value, axis, int((reasons == reason).sum()), self.t.reasons[int(reason)])


def _labels(tables: Sequence[Table]) -> Ids:
    """Units of one footprint on all blocks share a label, so that as many of each may go; -1 for those that must stay.

    Either units of every footprint may go, or those that lie in one block alone: whichever leaves more to choose from.
    """
    patterns, labels = np.unique(np.concatenate(tables, axis=1), axis=0, return_inverse=True)
    labels, counts = labels.ravel(), np.bincount(labels.ravel())
    starts = np.cumsum([table.shape[1] for table in tables])[:-1]
    single = np.all([(part > 0).sum(axis=1) == 1 for part in np.split(patterns, starts, axis=1)], axis=0)
    best, most = np.full(len(labels), _NONE), 0
    for chosen in (np.ones(len(patterns), np.bool_), single):
        totals = np.split(patterns[chosen].sum(axis=0), starts)
        some = int((counts[chosen].min(initial=counts.max()) - 1) * chosen.sum())
        if some > most and all((total == total[0]).all() for total in totals):
            most, best = some, np.where(chosen, np.cumsum(chosen) - 1, _NONE)[labels]
    return best


def _name(members: Sequence[Member]) -> str:
    """The first node that makes an activation of the group, else the first that reads a weight of it."""
    for member in members:
        if member.value.producer is not None and not member.is_constant:
            return member.value.producer.label
    found = [reader.label for member in members for reader in readers(member.value)]
    return found[0] if found else str(members[0].value)
