"""Histograms of bounded size whose bins do not depend on the order in which the numbers came.

A bin is [i * 2**e, (i + 1) * 2**e) for whole i, and e is the least exponent at which the bins from the smallest to
the largest number are no more than BINS. So e follows from the range alone, bins merge in pairs without error when the
range grows, and a histogram of parts merged in any order is that of the whole, bin for bin.
"""

from __future__ import annotations

import math
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 2048
_PRECISION = 30
"""A bin is no narrower than 2**-30 of the largest magnitude, so that its number stays small."""
_LEAST_EXPONENT = -1074


@dataclass(frozen=True, eq=False)
class Histogram:
    """Of finite numbers; zeros of both signs lie in the bin that begins at 0."""

    exponent: int
    """Bins are 2**exponent wide."""
    first: int
    """The first bin begins at first * 2**exponent."""
    counts: Counts
    """At most BINS; neither the first nor the last is 0."""

    @staticmethod
    def of(numbers: Floats) -> Histogram:
        """numbers: finite, at least one."""
        low, high = float(numbers.min()), float(numbers.max())
        return Histogram.at(numbers, exponent_of(low, high), low)

    @staticmethod
    def at(numbers: Floats, exponent: int, low: float) -> Histogram:
        """With bins of that width, which must be wide enough for the numbers to fit; low: the least of them."""
        first = _place(low, exponent)
        places, whole = _scratch.of(numbers.size)
        _scale(numbers, -exponent, places)
        np.floor(places, out=places)
        if exponent > 0 and low < 0:
            places[(places == 0) & (numbers < 0)] = -1  # of which the scaled number was too small for a double
        places -= first
        np.copyto(whole, places, casting="unsafe")
        return Histogram(exponent, first, np.bincount(whole).astype(np.int64, copy=False))

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> Floats:
        """One more than the counts: bin i is [edges[i], edges[i + 1])."""
        with np.errstate(over="ignore"):
            edges = np.ldexp(self.first + np.arange(self.counts.size + 1, dtype=np.float64), self.exponent)
        return np.clip(edges, -sys.float_info.max, sys.float_info.max)

    def widened(self, exponent: int) -> Histogram:
        """The same with wider bins."""
        step = exponent - self.exponent
        if step == 0:
            return self
        places = (self.first + np.arange(self.counts.size, dtype=np.int64)) >> step
        first = int(places[0])
        counts = np.zeros(int(places[-1]) - first + 1, np.int64)
        np.add.at(counts, places - first, self.counts)
        return Histogram(exponent, first, counts)

    def merged(self, other: Histogram, exponent: int) -> Histogram:
        """Of both together; exponent: what `exponent_of` says for the range of both."""
        a, b = self.widened(exponent), other.widened(exponent)
        first = min(a.first, b.first)
        counts = np.zeros(max(part.first + part.counts.size for part in (a, b)) - first, np.int64)
        for part in (a, b):
            counts[part.first - first : part.first - first + part.counts.size] += part.counts
        return Histogram(exponent, first, counts)

    def quantile(self, share: float) -> float:
        """The edge of the bin under which so many of the numbers lie: right within one bin."""
        below = np.cumsum(self.counts)
        index = int((below < share * below[-1]).sum())
        return float(self.edges[min(index, self.counts.size - 1) + 1])


@lru_cache(maxsize=1024)
def exponent_of(low: float, high: float) -> int:
    """The width of the bins for a range, as the exponent of 2; never less for a range that holds another."""
    largest = max(abs(low), abs(high))
    exponent = max(math.frexp(largest)[1] - _PRECISION, _LEAST_EXPONENT) if largest else _LEAST_EXPONENT
    while _place(high, exponent) - _place(low, exponent) >= BINS:
        exponent += 1
    return exponent


def _place(number: float, exponent: int) -> int:
    scaled = math.ldexp(number, -exponent)
    return -1 if number < 0 and scaled == 0 else math.floor(scaled)


def _scale(numbers: Floats, exponent: int, out: Floats) -> None:
    """numbers * 2**exponent, exactly but for what is too small for a double."""
    if -1022 <= exponent <= 1023:
        np.multiply(numbers, math.ldexp(1.0, exponent), out=out)
    else:
        np.ldexp(numbers, exponent, out=out)


class _Scratch(threading.local):
    """Arrays to work in: getting new ones from the system took longer than the work."""

    def __init__(self) -> None:
        self._floats, self._integers = np.empty(0, np.float64), np.empty(0, np.int64)

    def of(self, size: int) -> tuple[Floats, Counts]:
        if size > _KEPT:
            return np.empty(size, np.float64), np.empty(size, np.int64)
        if self._floats.size < size:
            self._floats, self._integers = np.empty(size, np.float64), np.empty(size, np.int64)
        return self._floats[:size], self._integers[:size]


_KEPT = 1 << 16
_scratch = _Scratch()
