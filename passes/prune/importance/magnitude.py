"""Importance as the norm of all weights of a unit (Li et al. 2017, arXiv 1608.08710)."""

from __future__ import annotations

import numpy as np

from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.weights import Scores, filters


def absolute_sum(group: Group, _: int) -> list[Scores]:
    """L1: the mean of |w|, over what a unit is made by and what reads it."""
    return [np.abs(rows).mean(axis=1) for _, rows in filters(group)]


def euclidean_norm(group: Group, _: int) -> list[Scores]:
    """L2: the root of the mean of w * w."""
    return [np.sqrt(np.square(rows).mean(axis=1)) for _, rows in filters(group)]
