"""Which parts of a model can be of half precision together, by what each costs alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
_NODES = 0.5
"""What all nodes in half precision are worth, where all weights stored in it are worth 1."""


class Costs(NamedTuple):
    """Of parts by themselves: noise over signal, [parts, runs], of rounded constants and of rounded tensors."""

    sizes: Doubles
    """Bytes of constants."""
    computes: Flags
    """Parts that may compute in half precision."""
    constants: Doubles
    tensors: Doubles
    floor: Doubles
    """What is there without any rounding, [runs]."""


class Choice(NamedTuple):
    """Parts whose constants are of half precision, and, of these, those that compute in it."""

    stored: Flags
    half: Flags

    def worth(self, sizes: Doubles) -> float:
        return float(
            sizes[self.stored].sum() / max(float(sizes.sum()), 1.0) + _NODES * self.half.sum() / max(len(sizes), 1)
        )


def choose(costs: Costs, budget: Doubles) -> Choice:
    """As much as the budget, [runs], lets be of half precision, as noises of single parts add up to that of all.

    Greedily: what costs most for what it is worth goes back to single precision, until every run is within its budget.
    """
    parts = len(costs.sizes)
    stored, half = np.ones(parts, np.bool_), costs.computes.copy()
    shares = costs.sizes / max(float(costs.sizes.sum()), 1.0)
    worth = np.full(parts, _NODES / max(parts, 1))
    room = np.maximum(budget - costs.floor, np.finfo(np.float64).tiny)
    constants, tensors = (
        np.nan_to_num(cost / room, posinf=1e30, nan=1e30) for cost in (costs.constants, costs.tensors)
    )
    holds = costs.sizes > 0
    while parts:
        over = constants[stored].sum(axis=0) + tensors[half].sum(axis=0) > 1
        if not over.any() or not (half.any() or stored[holds].any()):
            break
        computing = np.where(half, tensors[:, over].sum(axis=1), 0)
        storing = constants[:, over].sum(axis=1) + computing
        by_half = np.where(half, computing / worth, -1)
        by_stored = np.where(stored & holds, storing / (shares + np.where(half, worth, 0) + 1e-12), -1)
        if by_half.max() >= by_stored.max():
            half[by_half.argmax()] = False
        else:
            half[by_stored.argmax()] = stored[by_stored.argmax()] = False
    return Choice(stored & holds, half)
