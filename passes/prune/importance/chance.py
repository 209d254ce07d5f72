"""Importance by chance: what every criterion must beat."""

from __future__ import annotations

import zlib

import numpy as np

from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.weights import Scores


def random_order(group: Group, seed: int) -> list[Scores]:
    """Uniform numbers, the same for the same seed and name of the group."""
    return [np.random.default_rng((seed, zlib.crc32(group.name.encode()))).random(group.size)]
