"""Importance as the scale that a normalization gives a channel.

Liu et al. 2017 (Network Slimming, arXiv 1708.06519).
"""

from __future__ import annotations

import numpy as np

from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.weights import Scores, vectors

_SCALE = 1


def normalization_scale(group: Group, _: int) -> list[Scores]:
    """|gamma| of each normalization over the group; no opinion where there is none."""
    return [
        np.abs(rows).mean(axis=1)
        for member, rows in vectors(group)
        if any(
            user.op.endswith("Normalization") and user.operand(_SCALE) is member.value for user in member.value.users
        )
    ]
