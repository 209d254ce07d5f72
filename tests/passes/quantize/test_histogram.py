"""Histograms: every number in its own bin, whatever the order; bins that follow from the range alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.passes.quantize.histogram import BINS, Histogram, exponent_of

finite = st.floats(allow_nan=False, allow_infinity=False)
STREAMS: dict[str, list[float]] = {
    "one": [3.0],
    "constant": [1e30, 1e30, 1e30],
    "zeros": [0.0, -0.0, 0.0],
    "subnormal": [5e-324, -5e-324, 0.0, 1e-310],
    "largest": [sys.float_info.max, -sys.float_info.max, 1.0],
    "far from zero": [1e6, 1e6 + 0.125, 1e6 + 1],
    "outlier": [*np.linspace(-1, 1, 999).tolist(), 1e9],
    "negative": [-3.0, -2.0, -2.0, -1e-300],
}


def brute(numbers: Sequence[float], histogram: Histogram) -> list[int]:
    """Each number looked for among the edges, one by one."""
    found = [0] * histogram.counts.size
    for number in numbers:
        inside = [i for i in range(len(found)) if _edge(histogram, i) <= number < _edge(histogram, i + 1)]
        assert len(inside) == 1
        found[inside[0]] += 1
    return found


def _edge(histogram: Histogram, index: int) -> float:
    try:
        return math.ldexp(histogram.first + index, histogram.exponent)
    except OverflowError:
        return math.copysign(math.inf, histogram.first + index)


@pytest.mark.parametrize("numbers", STREAMS.values(), ids=STREAMS)
def test_each_number_lies_in_its_bin(numbers: list[float]) -> None:
    found = Histogram.of(np.asarray(numbers))
    assert found.counts.tolist() == brute(numbers, found)
    assert 1 <= found.counts.size <= BINS
    assert found.counts[0]
    assert found.counts[-1]
    assert np.isfinite(found.edges).all()
    assert (np.diff(found.edges) > 0).all()


@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, min_size=1, max_size=30))
def test_parts_merge_to_the_whole_in_any_order(a: list[float], b: list[float]) -> None:
    whole = Histogram.of(np.asarray(a + b))
    exponent = exponent_of(min(a + b), max(a + b))
    one, other = Histogram.of(np.asarray(a)), Histogram.of(np.asarray(b))
    for merged in (one.merged(other, exponent), other.merged(one, exponent)):
        assert (merged.exponent, merged.first) == (whole.exponent, whole.first)
        assert merged.counts.tolist() == whole.counts.tolist()


@given(finite, finite, finite)
def test_bins_never_grow_narrower_with_the_range(a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    assert exponent_of(low, high) >= max(exponent_of(low, middle), exponent_of(middle, high))


def test_bins_are_as_narrow_as_their_number_allows() -> None:
    found = Histogram.of(np.asarray([-1.0, 0.3, 0.999]))
    assert BINS / 2 < (0.999 + 1.0) / found.width <= BINS


def test_quantiles_are_right_within_a_bin() -> None:
    numbers = np.random.default_rng(0).standard_normal(10_000)
    found = Histogram.of(numbers)
    for share in (0.001, 0.5, 0.999, 1.0):
        assert found.quantile(share) == pytest.approx(float(np.quantile(numbers, share)), abs=2 * found.width)
