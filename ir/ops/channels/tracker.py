"""Following channels through a graph, node by node.

Each axis of each value is a vector of atoms, one for each index. A rule of an operator says which atoms its results
have and which sets become one. An axis of an operand that a rule does not ask for is frozen: what nobody understands
stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir.graph import Attribute, Node, Value
from planish.ir.ops.channels.atoms import Atoms, Ids
from planish.ir.types import Array

Doubles = NDArray[np.float64]
Axes = list[Ids | None]
"""Of one value: the atoms of each axis, None where the axis stays as it is."""


KERNEL = "a kernel spans it"
"""Why the spatial axes of a convolution's weight stay, which surprises nobody."""


@dataclass(frozen=True, slots=True)
class Channels:
    """What an operator does with channels.

    track: says so to a tracker, of a node whose operands and results all have a known rank.
    shrink: what else must change in a node when channels of its operands or results vanish; None for nothing.
    pointwise: whether an element of the result depends on those of the operands alone that are aligned with it.
    spreads: whether a channel that holds one number everywhere gives channels of that number.
    filters: where a node keeps what makes each channel of its result; None where it is not constant.
    contribution: what channels that hold one number each add to each channel of the result of a node that sums over
    them; None where that is not the same everywhere (padding), or not known.
    """

    track: Callable[[Node, Tracker], None]
    shrink: Callable[[Node, Kept], Shrunk] | None = None
    pointwise: bool = False
    spreads: bool = False
    filters: Callable[[Node], Filters | None] | None = None
    contribution: Callable[[Node, Doubles], Doubles | None] | None = None


class Filters(NamedTuple):
    """Operands of a node by position: a channel of the result is made by the weights at its index of `axis`.

    A channel whose weights are 0 holds its bias, times `factor`, everywhere. `channel` is the axis of the result;
    `reads` that of the first operand, over which the node sums; `bias` is None of an operator that has none.
    """

    weight: int
    axis: int
    bias: int | None
    channel: int
    reads: int
    factor: float = 1.0


class Kept:
    """Which indices of an axis stay."""

    def positions(self, value: Value | None, axis: int) -> Ids | None:
        """The indices of the axis that stay, in order; None for all."""
        raise NotImplementedError

    def extent(self, value: Value, axis: int) -> int:
        """How many stay of an axis whose extent is a number; -1 of any other."""
        found = self.positions(value, axis)
        if found is not None:
            return len(found)
        dim = None if value.shape is None else value.shape[axis]
        return dim if isinstance(dim, int) else -1


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Changes of a node: operands by position, and attributes, where None takes one away.

    An operand is a constant, or the pieces that a Concat joins.
    """

    operands: Mapping[int, Array | tuple[Value | Array, ...]]
    attributes: Mapping[str, Attribute | None]


class Reason(NamedTuple):
    """Why atoms are frozen."""

    node: str
    """The name of the node, input or output that freezes them."""
    text: str
    is_inexact: bool = False
    """Whether the atoms may vanish where the result need not be that of zeros in their place."""


class Radix(NamedTuple):
    """An axis whose index is made of the indices of others, the first of them the most significant.

    Its elements vanish with an index of one of these, the carrier, while the others stay as they are.
    """

    merged: Ids
    factors: tuple[Ids | None, ...]
    extents: tuple[int, ...]
    reason: int


class Equal(NamedTuple):
    """Rows of atoms of each of which as many must stay as of every other."""

    rows: Ids
    what: str


class Blocked(NamedTuple):
    """An axis of a weight of which each block of `over` keeps indices of its own; atoms [blocks, extent of `axis`]."""

    axis: int
    over: int
    ids: Ids


class Tracker:
    """What is known of channels so far, and the node that is being looked at."""

    def __init__(self, *, inexact: bool = False, whole_heads: bool = False) -> None:
        """inexact: whether channels may vanish where that changes more than what they contribute (a mean over them).

        whole_heads: of attention, heads shall vanish rather than elements of each.
        """
        self.atoms = Atoms()
        self.axes: dict[Value, Axes] = {}
        self.blocked: dict[Value, Blocked] = {}
        self.radices: list[Radix] = []
        self.equal: list[Equal] = []
        self.reasons: list[Reason] = [Reason("", "")]
        self.rough: list[tuple[Ids, int]] = []
        """Atoms whose removal is not exact, with the reason that says why."""
        self.allows_inexact = inexact
        self.whole_heads = whole_heads
        self.heads: list[Ids] = []
        """Atoms of axes whose indices are heads: products of computed tensors are made for each by itself."""
        self._node: Node | None = None
        self._asked: set[tuple[Value, int]] = set()

    # What rules ask

    def ids(self, value: Value | None, axis: int) -> Ids | None:
        """The atoms of an axis of an operand; asking for them says that the rule answers for them."""
        if value is None:
            return None
        axes = self.axes_of(value)
        axis %= max(len(axes), 1)
        self._asked.add((value, axis))
        return axes[axis] if axes else None

    def give(self, value: Value, axis: int, ids: Ids | None) -> None:
        """Say which atoms an axis of a result has."""
        self.axes_of(value)[axis % len(self.axes_of(value))] = ids

    def give_all(self, value: Value, axes: Sequence[Ids | None]) -> None:
        self.axes[value] = list(axes)

    def unite(self, *parts: Ids | None) -> Ids | None:
        """One axis of all of these; an axis that stays as it is freezes the others."""
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            for part in known:
                self.freeze(part, "it stands for an axis that stays as it is")
        for part in known[1:]:
            if part is not known[0]:
                self.atoms.unite(known[0], part)
        return known[0] if known else None

    def freeze(self, ids: Ids | None, text: str) -> None:
        if ids is not None and ids.size:
            self.atoms.freeze(ids, self.reason(text))

    def keep(self, value: Value, axis: int, text: str) -> None:
        """Freeze an axis of an operand for a reason of its own."""
        self.freeze(self.ids(value, axis), text)

    def inexact(self, ids: Ids | None, text: str) -> None:
        """Say that without these channels the node gives something else than with zeros in them."""
        if ids is None or not ids.size:
            return
        reason = self.reason(text, is_inexact=True)
        if self.allows_inexact:
            self.rough.append((ids, reason))
        else:
            self.atoms.freeze(ids, reason)

    def frozen(self, count: int, text: str) -> Ids:
        """New atoms that stay."""
        return self.atoms.fresh(count, self.reason(text))

    def radix(self, merged: Ids | None, factors: Sequence[Ids | None], extents: Sequence[int], text: str) -> None:
        """Say that an axis is made of others; its extent is the product of theirs."""
        if merged is None:
            for factor in factors:
                self.freeze(factor, text)
            return
        if all(factor is None for factor in factors):
            self.freeze(merged, text)
            return
        self.radices.append(Radix(merged, tuple(factors), tuple(extents), self.reason(text)))

    def equal_counts(self, ids: Ids | None, blocks: int, what: str) -> None:
        """Say that of each of so many blocks of an axis as many must stay."""
        if ids is not None and blocks > 1:
            self.equal.append(Equal(ids.reshape(blocks, -1), what))

    def add_heads(self, ids: Ids | None) -> None:
        """Say that each index of an axis is a head."""
        if ids is not None:
            self.heads.append(ids)

    def block(self, value: Value, blocked: Blocked) -> None:
        """Say that blocks of a weight's axis shrink each in its own way."""
        known = self.blocked.get(value)
        self._asked.add((value, blocked.axis))
        self.axes_of(value)[blocked.axis] = None
        if known is None:
            self.blocked[value] = blocked
        elif known.ids.shape == blocked.ids.shape:
            self.atoms.unite(known.ids, blocked.ids)
        else:
            self.freeze(known.ids, "two convolutions divide one weight in two ways")
            self.freeze(blocked.ids, "two convolutions divide one weight in two ways")

    def reason(self, text: str, *, is_inexact: bool = False) -> int:
        node = self._node
        found = Reason("" if node is None else f"{node.op} {node.label}", text, is_inexact)
        if found != self.reasons[-1]:
            self.reasons.append(found)
        return len(self.reasons) - 1

    # What the walk over the graph does

    def axes_of(self, value: Value) -> Axes:
        """The atoms of each axis of a value; those of a constant are made when first asked for."""
        found = self.axes.get(value)
        if found is None:
            shape = value.shape or ()
            tracked = value.constant is not None
            found = self.axes[value] = [
                self.atoms.fresh(dim) if tracked and isinstance(dim, int) and dim > 1 else None for dim in shape
            ]
        return found

    def add_input(self, value: Value, name: str, text: str) -> None:
        """Give an input atoms that stay."""
        self.reasons.append(Reason(name, text))
        reason = len(self.reasons) - 1
        self.axes[value] = [
            self.atoms.fresh(dim, reason) if isinstance(dim, int) and dim > 1 else None for dim in value.shape or ()
        ]

    def keep_all(self, value: Value, name: str, text: str) -> None:
        """Freeze every axis of a value."""
        self.reasons.append(Reason(name, text))
        self._freeze_axes(value, range(len(self.axes_of(value))), len(self.reasons) - 1)

    def look_at(self, node: Node, rule: Channels | None) -> None:
        """Apply a node's rule, and freeze all of its operands' axes that it does not answer for."""
        self._node = node
        self._asked.clear()
        known = all(value.rank is not None for value in (*node.operands, *node.results) if value is not None)
        if rule is not None and known:
            rule.track(node, self)
        text = "its ranks are not known" if not known else "of this operator nothing is known"
        if rule is not None and known:
            text = "it works over the axis"
        for value in dict.fromkeys(node.operands):
            if value is None:
                continue
            rest = [axis for axis in range(len(self.axes_of(value))) if (value, axis) not in self._asked]
            if rest:
                self._freeze_axes(value, rest, -1, text)
        self._node = None

    def _freeze_axes(self, value: Value, axes: Sequence[int], reason: int, text: str = "") -> None:
        found = self.axes_of(value)
        parts = [part for axis in axes if (part := found[axis]) is not None]
        blocked = self.blocked.get(value)
        if blocked is not None and blocked.axis in axes:
            parts.append(blocked.ids.ravel())
        if parts:
            ids = parts[0] if len(parts) == 1 else np.concatenate(parts)
            self.atoms.freeze(ids, self.reason(text) if reason < 0 else reason)
