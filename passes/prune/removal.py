"""A choice of units to remove, and what it leaves of each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planish.ir import Value
from planish.ir.ops.channels.atoms import Flags, Ids
from planish.ir.ops.channels.tracker import Kept
from planish.passes.prune.dependency import Group


@dataclass(frozen=True, eq=False)
class Removal(Kept):
    """For each group, which of its units go.

    Raises ValueError where a group would lose all units of a block, or more of one than of another.
    """

    groups: Sequence[Group]
    gone: Sequence[Flags]

    def __post_init__(self) -> None:
        for group, gone in zip(self.groups, self.gone, strict=True):
            if len(gone) != group.size:
                raise ValueError(f"group {group.name} has {group.size} units, and {len(gone)} were judged")
            lost, left = (np.bincount(group.blocks[part], minlength=group.block_count) for part in (gone, ~gone))
            if lost.min() != lost.max() or not left.min():
                raise ValueError(f"group {group.name} must lose as many of each block, and not all: {lost.tolist()}")

    @property
    def is_empty(self) -> bool:
        return not any(gone.any() for gone in self.gone)

    @cached_property
    def staying(self) -> Mapping[tuple[Value, int], Flags]:
        """Which indices stay, of each axis that shrinks; by blocks of the first axis where these shrink differently."""
        return staying(self.groups, self.gone)

    @cached_property
    def values(self) -> Mapping[Value, tuple[int, ...]]:
        """The axes that shrink, by value."""
        found: dict[Value, tuple[int, ...]] = {}
        for value, axis in self.staying:
            found[value] = (*found.get(value, ()), axis)
        return found

    def positions(self, value: Value | None, axis: int) -> Ids | None:
        if value is None:
            return None
        stays = self.staying.get((value, axis % max(value.rank or 1, 1)))
        if stays is None:
            return None
        return np.flatnonzero(stays if stays.ndim == 1 else stays[0])


def staying(groups: Sequence[Group], gone: Sequence[Flags]) -> dict[tuple[Value, int], Flags]:
    """Which indices of each axis belong to no unit that goes; axes that keep all are left out."""
    found: dict[tuple[Value, int], Flags] = {}
    for group, lost in zip(groups, gone, strict=True):
        if not lost.any():
            continue
        for member in group.members:
            stays = ~((member.units >= 0) & lost[member.units])
            key = member.value, member.axis
            found[key] = found[key] & stays if key in found else stays
    return {key: stays for key, stays in found.items() if not stays.all()}
