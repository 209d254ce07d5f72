"""Which units go: the least important, as many as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planish.ir.ops.channels.atoms import Flags
from planish.passes.prune.dependency import Group

Scores = NDArray[np.float64]
Scope = Literal["local", "global"]


def select(
    groups: Sequence[Group], scores: Sequence[Scores], ratio: float, *, scope: Scope = "local", round_to: int = 1
) -> list[Flags]:
    """For each group, which units go: those of the lowest scores, as many of each block; at least one of each stays.

    local: the ratio is that of every group. global: of all units; a group gives what lies below one threshold, and an
    infinite score is never given. What stays is rounded up to a multiple of `round_to` channels.
    """
    if scope == "local":
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


def _lowest(group: Group, scores: Scores, count: int, round_to: int) -> Flags:
    """So many units of each block, fewer where what stays would not be round."""
    each = group.size // group.block_count
    left = max(each - count, 1)
    step = round_to // gcd(round_to, _width(group) * group.block_count)
    left = min(-(-left // step) * step, each)
    gone = np.zeros(group.size, np.bool_)
    for block in range(group.block_count):
        units = np.flatnonzero(group.blocks == block)
        order = units[np.argsort(scores[units], kind="stable")][: each - left]
        gone[order[np.isfinite(scores[order])]] = True
    if group.block_count > 1 and len(set(np.bincount(group.blocks[gone], minlength=group.block_count).tolist())) > 1:
        gone[:] = False
    return gone


def _width(group: Group) -> int:
    """How many indices of an axis a unit takes, at least."""
    counts = [int((member.units == 0).sum()) for member in group.members if member.units.ndim == 1]
    return max(min(counts, default=1), 1)
