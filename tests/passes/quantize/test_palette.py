"""k-means in one dimension: against all ways to cut sorted numbers, and on numbers that are hard to cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.passes.quantize.palette import palette

Floats = NDArray[np.float64]


def error(array: Floats, count: int) -> float:
    found = palette(array, count)
    assert found.numbers.size <= count
    assert found.codes.shape == array.shape
    return float(np.sum((found.numbers.astype(np.float64)[found.codes] - array) ** 2))


def least(array: Floats, count: int) -> float:
    """Of all ways to cut the sorted numbers into so many runs."""
    ordered = np.sort(array)
    cuts = itertools.combinations(range(1, array.size), count - 1)
    runs = ([ordered[a:b] for a, b in itertools.pairwise((0, *cut, array.size))] for cut in cuts)
    return min(sum(float(np.sum((run - run.mean()) ** 2)) for run in parts) for parts in runs)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_is_near_the_best(seed: int, count: int) -> None:
    array = np.random.default_rng(seed).normal(0, 1, 14)
    assert error(array, count) <= 2 * least(array, count)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_few_numbers_are_kept_as_they_are(kind: type[np.floating]) -> None:
    array = np.array([[0, -0.1, 3e-7], [65504, -0.1, 0]], kind)
    found = palette(array, 4)
    assert found.numbers.dtype == kind
    assert np.array_equal(found.numbers[found.codes], array)


def test_a_number_far_away_has_its_own_center() -> None:
    array = np.concatenate((np.random.default_rng(0).normal(0, 1e-3, 1000), [1e4]))
    assert error(array, 4) < 1e-2


def test_every_element_has_the_nearest_number() -> None:
    array = np.random.default_rng(1).standard_cauchy((40, 25))
    found = palette(array, 16)
    nearest = np.abs(array[..., None] - found.numbers.astype(np.float64)).argmin(-1)
    assert np.array_equal(found.codes, nearest)


def test_more_numbers_are_no_worse() -> None:
    array = np.random.default_rng(2).normal(0, 1, 5000)
    errors = [error(array, 1 << bits) for bits in range(9)]
    assert errors == sorted(errors, reverse=True)
