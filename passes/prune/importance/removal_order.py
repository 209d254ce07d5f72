"""The order in which units go at the least loss of what products of them give, and what is lost on the way.

The Optimal Brain Surgeon (Hassibi and Stork, NIPS 1992) for whole structures, as in ZipLM (Kurtic, Frantar and Alistarh
2023, arXiv 2302.04089): of a product X W with H = X^T X, taking the rows S out of W and fitting the others anew loses
tr(W_S^T ((H^-1)_SS)^-1 W_S), by which the least structure goes; W and H^-1 then become those of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir.ops.channels.atoms import Ids

Doubles = NDArray[np.float64]
DAMPING = 1e-4
"""A part of the mean of the diagonal of H, added to it."""
_LEAST = np.finfo(np.float64).tiny
_PUT_OFF = 64
_TOGETHER, _TURNS = 1 << 10, 64
"""Rows of H up to which one unit goes at a time; beyond, in about so many turns for every so many rows."""


@dataclass(frozen=True, eq=False)
class Consumer:
    """A product that reads units: H [k, k], its weight [k, outputs], and which unit each row is of, -1 for none."""

    h: Doubles
    weight: Doubles
    units: Ids


class RemovalOrder(NamedTuple):
    order: Ids
    """All units, the first to go in front."""
    losses: Doubles
    """[units + 1]: after so many of them went, the squares of what the products lack, fitted anew, over their power,
    summed over the products. It never falls."""

    @property
    def scores(self) -> Doubles:
        """For each unit what is lost once it is gone, too."""
        found = np.empty(len(self.order))
        found[self.order] = self.losses[1:]
        return found


def removal_order(consumers: Sequence[Consumer], blocks: Ids) -> RemovalOrder | None:
    """blocks: a label for each unit; units of all labels go in turn. None where no product tells the units apart.

    A product whose inputs or weights are not finite, or that gives nothing but zeros, has no say.
    """
    parts = [_Part(consumer, len(blocks)) for consumer in consumers if _power(consumer) > 0]
    if not parts:
        return None
    count, left = len(blocks), np.ones(len(blocks), np.bool_)
    order, losses = np.empty(count, np.int64), np.zeros(count + 1)
    gone = np.zeros(int(blocks.max(initial=0)) + 1, np.int64)
    place = 0
    while place < count:
        costs = np.sum([part.losses() for part in parts], axis=0)
        for unit in _next(costs, left, blocks, gone, max(part.at_once for part in parts)):
            left[unit] = False
            gone[blocks[unit]] += 1
            order[place] = unit
            place += 1
            losses[place] = losses[place - 1] + np.sum([part.remove(unit) for part in parts])
    return RemovalOrder(order, losses)


def _next(costs: Doubles, left: NDArray[np.bool_], blocks: Ids, gone: Ids, at_once: int) -> Sequence[int]:
    """The cheapest units of those labels of which the fewest went; of equals the first."""
    open_blocks = np.unique(blocks[left])
    if len(open_blocks) == 1:
        units = np.flatnonzero(left)
        return units[np.argsort(costs[units], kind="stable")][:at_once].tolist()
    block = open_blocks[np.argmin(gone[open_blocks])]
    units = np.flatnonzero(left & (blocks == block))
    return [int(units[np.argmin(costs[units])])]


@np.errstate(all="ignore")
def _power(consumer: Consumer) -> float:
    """tr(W^T H W), 0 where that is no positive number."""
    found = float(np.einsum("ko,ko->", consumer.weight, consumer.h @ consumer.weight))
    finite = np.isfinite(consumer.h).all() and np.isfinite(consumer.weight).all()
    return found if finite and np.isfinite(found) and found > 0 else 0.0


class _Part:
    """One product while units go: H^-1 and the weights, fitted to what is left. Losses are parts of its power.

    H is in parts of the mean of its diagonal.

    Of H^-1 the rows that belong to units are enough. Its updates are put off, as in GPTQ (Frantar et al. 2022, arXiv
    2210.17323): until `_PUT_OFF` of them are there it is `inverse` - `left` @ `right`, and its diagonal blocks alone
    are kept up to date.
    """

    def __init__(self, consumer: Consumer, count: int) -> None:
        """Raises ValueError where one unit has more rows than another."""
        size = len(consumer.h)
        level = float(np.trace(consumer.h)) / size
        self.power = _power(consumer) / level
        rows = np.argsort(consumer.units, kind="stable")[(consumer.units < 0).sum() :]
        self.units, widths = np.unique(consumer.units[rows], return_counts=True)
        if (widths != widths[:1]).any():
            raise ValueError("every unit that a product reads has as many rows of its weight")
        self.width = int(widths.max(initial=0))
        self.places = np.full(count, -1)
        self.places[self.units] = np.arange(len(self.units))
        inverse = np.asarray(np.linalg.inv(consumer.h / level + DAMPING * np.eye(size)), np.float64)
        self.inverse: Doubles = inverse[np.ix_(rows, rows)]
        self.weight: Doubles = consumer.weight[rows].reshape(len(self.units), self.width, -1)
        self.pivots: Doubles = _diagonal_blocks(self.inverse, self.width)
        self.left: Doubles = np.empty((len(rows), 0))
        self.right: Doubles = np.empty((0, len(rows)))
        self.at_once = max(1, len(rows) // _TOGETHER * len(self.units) // _TURNS)

    def losses(self) -> Doubles:
        """For each unit what its removal would lose; 0 of units without rows, and of those that are gone."""
        found = np.zeros(len(self.places))
        found[self.units] = self._losses(self.weight, self.pivots)
        return found

    def _losses(self, weight: Doubles, pivots: Doubles) -> Doubles:
        is_one = self.width == 1
        solved = weight / np.maximum(pivots, _LEAST) if is_one else np.linalg.solve(pivots, weight)
        return np.maximum(np.einsum("uro,uro->u", weight, solved), 0) / self.power

    def remove(self, unit: int) -> float:
        """Take a unit's rows out, and say what that lost."""
        place = int(self.places[unit])
        if place < 0:
            return 0.0
        begin, end = place * self.width, (place + 1) * self.width
        weight, pivot = self.weight[place].copy(), self.pivots[place].copy()
        lost = float(self._losses(weight[None], pivot[None])[0])
        row = self.inverse[begin:end] - self.left[begin:end] @ self.right
        through = np.asarray(np.linalg.solve(pivot, row), np.float64).T
        self.weight -= (through @ weight).reshape(self.weight.shape)
        blocks = through.reshape(-1, self.width, self.width) @ row.reshape(self.width, -1, self.width).swapaxes(0, 1)
        self.pivots -= blocks
        self.weight[place] = 0
        self.pivots[place] = np.eye(self.width)
        self.left = np.concatenate((self.left, through), axis=1)
        self.right = np.concatenate((self.right, row))
        if len(self.right) >= _PUT_OFF:
            self.inverse -= self.left @ self.right
            self.left, self.right = self.left[:, :0], self.right[:0]
        return lost


def _diagonal_blocks(matrix: Doubles, width: int) -> Doubles:
    """[blocks, width, width]."""
    count = len(matrix) // max(width, 1)
    places = np.arange(count)
    return matrix.reshape(count, width, count, width)[places, :, places].copy()
