"""Which units go: the least important, as many as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir.ops.channels.atoms import Flags
from planish.passes.prune.dependency import Group

Scores = NDArray[np.float64]
Scope = Literal["local", "global"]


def select(
    groups: Sequence[Group],
    scores: Sequence[Scores],
    ratio: float | Sequence[float],
    *,
    scope: Scope = "local",
    round_to: int = 1,
) -> list[Flags]:
    """For each group, which units go: those of the lowest scores, as many of each block; at least one of each stays.

    ratio: for each group, its own: a part below 1, or a number of units; or one, of which the scope says what it is of.
    local: of every group. global: of all units; a group gives what lies below one threshold, and an
    infinite score is never given. As many go as leave a multiple of `round_to` channels, none where that cannot be.
    """
    if isinstance(ratio, Sequence):
        counts = [part if part >= 1 else part * group.size for part, group in zip(ratio, groups, strict=True)]
        wanted = [int(count / group.block_count + 0.5) for count, group in zip(counts, groups, strict=True)]
    elif scope == "local":
        wanted = [int(ratio * group.size / group.block_count + 0.5) for group in groups]
    else:
        finite = [score[np.isfinite(score)] for score in scores]
        everything = np.sort(np.concatenate([*finite, np.zeros(0)]))
        count = int(ratio * len(everything))
        threshold = everything[count - 1] if count else -np.inf
        wanted = [
            int((score <= threshold).sum()) // group.block_count for group, score in zip(groups, scores, strict=True)
        ]
    return [_lowest(group, score, count, round_to) for group, score, count in zip(groups, scores, wanted, strict=True)]


class Step(NamedTuple):
    """Of the group at a place so many units are gone then."""

    place: int
    gone: int


def removal_steps(
    groups: Sequence[Group], scores: Sequence[Scores], *, scope: Scope = "local", round_to: int = 1
) -> list[Step]:
    """All that `select` would take for ratios from 0 to 1, one group after the other, the first to go in front."""
    found: list[tuple[float, Step]] = []
    for place, (group, score) in enumerate(zip(groups, scores, strict=True)):
        lowest = np.sort(score)
        for count in fitting_counts(group, score, round_to)[1:]:
            uniform = (count - group.block_count / 2) / group.size
            found.append((float(lowest[count - 1]) if scope == "global" else uniform, Step(place, count)))
    return [step for _, step in sorted(found)]


def fitting_counts(group: Group, scores: Scores, round_to: int = 1) -> list[int]:
    """How many units may go in all, from 0 on: as many of each block, not all of any, and what stays is round."""
    least = np.bincount(group.blocks, minlength=group.block_count).min()
    judged = np.bincount(group.blocks[np.isfinite(scores)], minlength=group.block_count).min()
    width, blocks = _width(group), group.block_count
    counts = [n * blocks for n in range(min(least - 1, judged) + 1)]
    return [count for count in counts if count == 0 or (group.size - count) * width % round_to == 0]


def _lowest(group: Group, scores: Scores, count: int, round_to: int) -> Flags:
    """So many units of each block, fewer where what stays would not be round."""
    fitting = fitting_counts(group, scores, round_to)
    most = max((n for n in fitting if n <= count * group.block_count), default=0)
    gone = np.zeros(group.size, np.bool_)
    for block in range(group.block_count):
        units = np.flatnonzero(group.blocks == block)
        gone[units[np.argsort(scores[units], kind="stable")][: most // group.block_count]] = True
    return gone


def _width(group: Group) -> int:
    """How many indices of an axis a unit takes, at least; of heads, those of weights that hold several of each head."""
    members = group.constants if group.is_heads else group.members
    counts = [int((member.units == 0).sum()) for member in members if member.units.ndim == 1]
    return max(min([count for count in counts if count > 1 or not group.is_heads], default=1), 1)
