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

    Lloyd's algorithm (1957, published 1982) on sorted numbers: a round costs a search for each of the numbers. Elements
    must be finite.
    """
    exact = np.unique(array)
    if exact.size <= count:
        return Palette(exact, _codes(array, exact.astype(np.float64)))
    ordered = np.sort(array.astype(np.float64), axis=None)
    found = _lloyd(ordered, _spaced(ordered, count))
    numbers = np.unique(found.astype(array.dtype))
    return Palette(numbers, _codes(array, numbers.astype(np.float64)))


def _spaced(ordered: Floats, count: int) -> Floats:
    """Numbers as dense as the third root of how dense the elements are, which is best for many (Panter, Dite 1951)."""
    widths = np.concatenate(([0.0], np.cumsum(np.diff(ordered) ** (2 / 3))))
    places = (np.arange(count) + 0.5) / count * widths[-1]
    return np.asarray(np.interp(places, widths, ordered), np.float64)


def _lloyd(ordered: Floats, centers: Floats) -> Floats:
    """The centers once they are the means of what is nearest to them; one that has nothing takes a share elsewhere."""
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    squares = np.concatenate(([0.0], np.cumsum(ordered**2)))
    for _ in range(_ROUNDS):
        edges = _edges(ordered, centers)
        sizes = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(sizes, 1)
        empty = np.flatnonzero(sizes == 0)
        if empty.size:
            errors = np.diff(squares[edges]) - sizes * means**2
            worst = np.argsort(-errors, kind="stable")[: empty.size]
            means[empty] = ordered[(edges[worst] + edges[worst + 1]) // 2]
            means[worst] = ordered[(3 * edges[worst] + edges[worst + 1]) // 4]
        if np.array_equal(means, centers):
            break
        centers = np.sort(means)
    return centers


def _edges(ordered: Floats, centers: Floats) -> NDArray[np.intp]:
    """Where the numbers that are nearest to each center begin, and the end."""
    inner = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
    return np.concatenate(([0], inner, [ordered.size])).astype(np.intp)


def _codes(array: Array, numbers: Floats) -> NDArray[np.uint8]:
    return np.searchsorted((numbers[1:] + numbers[:-1]) / 2, array.astype(np.float64)).astype(np.uint8)
