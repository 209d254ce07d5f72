"""Statistics of streams against what numpy and exact arithmetic say of all elements at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from planish.passes.quantize.calibration import MOST_CHANNELS, TensorStatistics
from planish.passes.quantize.histogram import Histogram
from planish.runtime.observe import TensorObserver

Array = NDArray[np.generic]
_SHAPE = (2, 3, 5)


def _random(seed: int, dtype: np.dtype[np.generic], scale: float = 3.0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(_SHAPE) * scale).astype(dtype) for _ in range(6)]


def _salted(values: Sequence[float]) -> list[Array]:
    """Random arrays, each value put somewhere in each."""
    arrays = _random(1, np.dtype(np.float32))
    rng = np.random.default_rng(2)
    for array in arrays:
        for value in values:
            array[tuple(rng.integers(0, extent) for extent in _SHAPE)] = np.float32(value)
    return arrays


STREAMS: dict[str, list[Array]] = {
    "float": _random(0, np.dtype(np.float32)),
    "half": _random(0, np.dtype(np.float16)),
    "double": _random(0, np.dtype(np.float64)),
    "bfloat16": _random(0, np.dtype(ml_dtypes.bfloat16)),
    "large": _random(0, np.dtype(np.float32), 1e38),
    "huge doubles": [np.full(_SHAPE, 1.7e308), np.full(_SHAPE, -1.7e308), np.ones(_SHAPE)],
    "NaN": _salted([math.nan, math.nan]),
    "infinities": _salted([math.inf, -math.inf]),
    "all kinds": _salted([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38]),
    "subnormal": [np.full(_SHAPE, 1e-45, np.float32), np.full(_SHAPE, -3e-45, np.float32)],
    "constant": [np.full(_SHAPE, 7.25, np.float32)] * 3,
    "zeros": [np.zeros(_SHAPE, np.float32), -np.zeros(_SHAPE, np.float32)],
    "only NaN": [np.full(_SHAPE, np.nan, np.float32)],
    "only infinities": [np.full(_SHAPE, -np.inf, np.float32)],
    "growing": [np.full(_SHAPE, 2.0**power, np.float32) for power in range(-140, 127, 9)],
    "empty": [np.zeros((0, 3, 5), np.float32)],
    "empty among others": [np.zeros((0, 3, 5), np.float32), *_random(3, np.dtype(np.float32))],
    "scalar": [np.asarray(-2.5, np.float32), np.asarray(3.0, np.float32)],
    "many": [np.random.default_rng(4).standard_normal((1, 3, 40_000)).astype(np.float32) ** 3],
}


def observed(arrays: Sequence[Array], axes: tuple[int, ...] = (1,)) -> TensorStatistics:
    observer = TensorObserver("float", axes)
    for array in arrays:
        observer.observe(array)
    return observer.statistics()


@pytest.mark.parametrize("name", STREAMS)
def test_statistics_are_those_of_all_elements(name: str) -> None:
    arrays = STREAMS[name]
    found = observed(arrays)
    numbers = np.concatenate([array.astype(np.float64).reshape(-1) for array in arrays])
    finite = numbers[np.isfinite(numbers)]
    assert found.count == numbers.size
    assert found.nans == int(np.isnan(numbers).sum())
    assert found.infs == int(np.isinf(numbers).sum())
    assert found.zeros == int((finite == 0).sum())
    if not finite.size:
        assert (found.observed, found.mean, found.variance, found.histogram) == (None, None, None, None)
        return
    assert found.observed == (finite.min(), finite.max())
    assert found.histogram is not None
    whole = Histogram.of(finite)
    assert (found.histogram.exponent, found.histogram.first) == (whole.exponent, whole.first)
    assert found.histogram.counts.tolist() == whole.counts.tolist()


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in ("huge doubles", "many")])
def test_moments_are_those_of_exact_arithmetic(name: str) -> None:
    numbers = [float(x) for array in STREAMS[name] for x in array.astype(np.float64).reshape(-1) if np.isfinite(x)]
    found = observed(STREAMS[name])
    if not numbers:
        assert found.mean is None
        return
    mean = sum(map(Fraction, numbers)) / len(numbers)
    variance = sum((Fraction(x) - mean) ** 2 for x in numbers) / len(numbers)
    assert found.mean is not None
    assert found.variance is not None
    # Each addition rounds relative to magnitudes up to the largest number's.
    largest = max(map(abs, numbers))
    assert abs(Fraction(found.mean) - mean) <= Fraction(largest) * Fraction(1, 2**45)
    assert float(variance) == pytest.approx(found.variance, rel=1e-10, abs=largest**2 * 2.0**-90)


def test_moments_of_the_largest_doubles_stay_finite() -> None:
    found = observed(STREAMS["huge doubles"])
    assert found.mean == pytest.approx(0, abs=1e300)
    assert found.variance == np.finfo(np.float64).max


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_channels_hold_the_largest_finite_magnitudes(name: str, axis: int) -> None:
    arrays = STREAMS[name]
    found = observed(arrays, (axis,)).channels
    if arrays[0].ndim == 0:
        assert found == {}
        return
    place = axis % 3
    extents = {array.shape[place] for array in arrays}
    if len(extents) > 1 or extents.pop() > MOST_CHANNELS:
        assert found == {}
        return
    expected = np.zeros(arrays[0].shape[place])
    for array in arrays:
        wide = array.astype(np.float64)
        rows = np.moveaxis(np.where(np.isfinite(wide), np.abs(wide), 0), place, 0)
        expected = np.maximum(expected, [row.max(initial=0) for row in rows])
    assert list(found) == [place]
    assert found[place].tolist() == expected.tolist()


def test_what_is_known_of_an_axis_is_dropped_where_its_extent_changes_and_does_not_come_back() -> None:
    arrays = [np.ones((2, 4), np.float32), np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)]
    assert observed(arrays, (-1,)).channels == {}


@pytest.mark.parametrize("name", STREAMS)
def test_merging_gives_what_one_observer_gives(name: str) -> None:
    arrays = STREAMS[name]
    whole = observed(arrays)
    for order in (arrays, arrays[::-1]):
        total = TensorObserver("float", (1,))
        for array in order:
            part = TensorObserver("float", (1,))
            part.observe(array)
            total.merge(part)
        found = total.statistics()
        assert (found.count, found.nans, found.infs, found.zeros) == (whole.count, whole.nans, whole.infs, whole.zeros)
        assert found.observed == whole.observed
        assert {axis: maxima.tolist() for axis, maxima in found.channels.items()} == {
            axis: maxima.tolist() for axis, maxima in whole.channels.items()
        }
        if whole.histogram is not None and found.histogram is not None:
            assert found.histogram.counts.tolist() == whole.histogram.counts.tolist()
            assert found.histogram.edges.tolist() == whole.histogram.edges.tolist()
        if whole.variance is not None:
            assert found.variance == pytest.approx(whole.variance, rel=1e-9, abs=1e-300)
