"""A few numbers that stand for many: k-means in one dimension."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array

Floats = NDArray[np.float64]
_ROUNDS = 64


class Palette(NamedTuple):
    """Numbers in order, of the type of what they stand for, and for each element which of them."""

    numbers: Array
    codes: NDArray[np.uint8]


def palette(array: Array, count: int) -> Palette:
    """At most `count` numbers with a small sum of squared distances; the elements' own where these are so few.

    Lloyd's algorithm (1957, published 1982) on sorted numbers, from quantiles and from even steps, the better of both:
    a round costs a search for each of the numbers. Elements must be finite.
    """
    exact = np.unique(array)
    if exact.size <= count:
        return Palette(exact, _codes(array, exact.astype(np.float64)))
    ordered = np.sort(array.astype(np.float64), axis=None)
    places = (np.arange(count) * 2 + 1) * (ordered.size - 1) // (2 * count)
    even: Floats = ordered[0] + (ordered[-1] - ordered[0]) * np.arange(count) / max(count - 1, 1)
    starts: tuple[Floats, Floats] = (ordered[places], even)
    found = min((_lloyd(ordered, np.unique(start)) for start in starts), key=lambda centers: _error(ordered, centers))
    numbers = np.unique(found.astype(array.dtype))
    return Palette(numbers, _codes(array, numbers.astype(np.float64)))


def _lloyd(ordered: Floats, centers: Floats) -> Floats:
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    for _ in range(_ROUNDS):
        edges = _edges(ordered, centers)
        sizes = np.diff(edges)
        means = np.where(sizes > 0, np.diff(sums[edges]) / np.maximum(sizes, 1), centers)
        if np.array_equal(means, centers):
            break
        centers = np.sort(means)
    return centers


def _edges(ordered: Floats, centers: Floats) -> NDArray[np.intp]:
    """Where the numbers that are nearest to each center begin, and the end."""
    inner = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
    return np.concatenate(([0], inner, [ordered.size])).astype(np.intp)


def _error(ordered: Floats, centers: Floats) -> float:
    nearest = np.repeat(centers, np.diff(_edges(ordered, centers)))
    return float(np.sum((ordered - nearest) ** 2))


def _codes(array: Array, numbers: Floats) -> NDArray[np.uint8]:
    return np.searchsorted((numbers[1:] + numbers[:-1]) / 2, array.astype(np.float64)).astype(np.uint8)
