"""A model on the way to a smaller one: what is pruned next, and what went before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planish.passes.prune.slicing import SUFFIX
from planish.runtime.pruning.candidate import GroupLoss
from planish.runtime.pruning.group_plan import GroupPlan


@dataclass(frozen=True)
class Stage:
    """form: the file of the model. losses: of its groups, by the names that they had in the first model."""

    form: Path
    plan: GroupPlan
    losses: tuple[GroupLoss, ...] = ()


def joined(before: Sequence[GroupLoss], after: Sequence[GroupLoss]) -> tuple[GroupLoss, ...]:
    """What two steps took of each group, counted from what it was before the first."""
    found = {(loss.name, loss.is_heads): loss for loss in before}
    for loss in after:
        key = first_name(loss.name), loss.is_heads
        known = found.get(key, replace(loss, name=key[0], gone=0))
        found[key] = replace(known, gone=known.gone + loss.gone)
    return tuple(found.values())


def first_name(key: str) -> str:
    """The key of a group before it shrank, once or more."""
    name, mark, number = key.partition("#")
    while name.endswith(SUFFIX):
        name = name.removesuffix(SUFFIX)
    return name + mark + number
