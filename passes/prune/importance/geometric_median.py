"""Importance as the distance to the other filters: what lies in their midst is made up for by them.

He et al. 2019 (FPGM, arXiv 1811.00250).
"""

from __future__ import annotations

import numpy as np

from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.weights import Scores, filters


def geometric_median(group: Group, _: int) -> list[Scores]:
    """The sum of the Euclidean distances from a unit's weights to those of all units of the group."""
    return [_distances(rows) for _, rows in filters(group)]


def _distances(rows: Scores) -> Scores:
    with np.errstate(all="ignore"):
        squares = np.square(rows).sum(axis=1)
        apart = squares[:, None] + squares[None] - 2 * rows @ rows.T
        return np.sqrt(np.maximum(apart, 0)).sum(axis=1)
