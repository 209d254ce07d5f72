"""Statistics of tensors that stream by: each observer holds a bounded amount, however much it has seen."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planish.passes.quantize.calibration import MOST_CHANNELS, TensorStatistics
from planish.passes.quantize.histogram import Histogram, exponent_of
from planish.runtime.providers import Array

Floats = NDArray[np.float64]

_CHUNK = 1 << 15
"""Elements at a time: few enough to stay in a processor's cache."""
_HUGE = 1e280


class TensorObserver:
    """Of one tensor.

    Counts, extremes, histogram and channels are the same whatever the order of what is observed and merged; mean and
    variance, whose sums are float64, may differ in their last bits.
    """

    def __init__(self, dtype: str, axes: Sequence[int] = ()) -> None:
        """axes: along which the largest magnitudes are kept; negative ones count from the end."""
        self._dtype = dtype
        self._axes = tuple(axes)
        self._count = self._nans = self._infs = self._zeros = 0
        self._low, self._high = math.inf, -math.inf
        self._histogram: Histogram | None = None
        self._moments = (0, 0.0, 0.0)
        self._channels: dict[int, Floats | None] = {}

    def observe(self, tensor: Array) -> None:
        array = tensor if tensor.dtype.kind == "f" else tensor.astype(np.float32)  # bfloat16 and the 8-bit floats
        flat = np.ascontiguousarray(array).reshape(-1)
        clean = True
        for start in range(0, flat.size, _CHUNK):
            clean &= self._observe_part(flat[start : start + _CHUNK].astype(np.float64))
        self._observe_channels(array, clean)

    def merge(self, other: TensorObserver) -> None:
        """Take in what another observer of the same tensor saw after this one."""
        self._count += other._count
        self._nans += other._nans
        self._infs += other._infs
        self._zeros += other._zeros
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)
        if other._histogram is not None:
            self._add(other._histogram)
        self._moments = _combined(self._moments, other._moments)
        for axis, maxima in other._channels.items():
            self._keep(axis, maxima)

    def statistics(self) -> TensorStatistics:
        finite, mean, deviations = self._moments
        most = sys.float_info.max
        return TensorStatistics(
            min=self._low if finite else None,
            max=self._high if finite else None,
            dtype=self._dtype,
            count=self._count,
            nans=self._nans,
            infs=self._infs,
            zeros=self._zeros,
            mean=min(max(mean, self._low), self._high) if finite else None,
            variance=min(deviations / finite, most) if finite else None,
            histogram=self._histogram,
            channels={axis: maxima for axis, maxima in self._channels.items() if maxima is not None},
        )

    def _observe_part(self, numbers: Floats) -> bool:
        """Whether all are finite."""
        self._count += numbers.size
        low, high = float(numbers.min()), float(numbers.max())
        clean = math.isfinite(low) and math.isfinite(high)
        if not clean:
            finite, nans = np.isfinite(numbers), int(np.isnan(numbers).sum())
            numbers = numbers[finite]
            self._nans += nans
            self._infs += finite.size - numbers.size - nans
            if not numbers.size:
                return clean
            low, high = float(numbers.min()), float(numbers.max())
        self._zeros += int(np.count_nonzero(numbers == 0))
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._low, self._high = self._low + 0.0, self._high + 0.0  # which of -0 and 0 came first must not show
        self._add(Histogram.at(numbers, exponent_of(self._low, self._high), low))
        self._moments = _combined(self._moments, _moments(numbers, max(abs(low), abs(high))))
        return clean

    def _add(self, histogram: Histogram) -> None:
        exponent = exponent_of(self._low, self._high)
        own = self._histogram
        self._histogram = histogram.widened(exponent) if own is None else own.merged(histogram, exponent)

    def _observe_channels(self, array: Array, clean: bool) -> None:
        kept = array if clean or not self._axes else np.where(np.isfinite(array), array, array.dtype.type(0))
        for wanted in self._axes:
            axis = wanted + array.ndim if wanted < 0 else wanted
            if not 0 <= axis < array.ndim:
                continue
            others = tuple(place for place in range(array.ndim) if place != axis)
            extent = array.shape[axis]
            if extent > MOST_CHANNELS or not array.size:
                self._keep(axis, None if array.size else _nothing(extent))
                continue
            most, least = np.asarray(kept.max(axis=others), np.float64), np.asarray(kept.min(axis=others), np.float64)
            self._keep(axis, np.abs(np.maximum(most, -least)))

    def _keep(self, axis: int, maxima: Floats | None) -> None:
        """None: the axis cannot be told of, now or later."""
        known = self._channels.get(axis, maxima)
        if known is None or maxima is None or known.shape != maxima.shape:
            self._channels[axis] = None
        else:
            self._channels[axis] = np.maximum(known, maxima)


_Moments = tuple[int, float, float]
"""How many, their mean, and the sum of squared deviations from it."""


def _nothing(extent: int) -> Floats:
    return np.zeros(extent, np.float64)


def _moments(numbers: Floats, largest: float) -> _Moments:
    scale = 1.0 if largest < _HUGE else math.ldexp(1.0, -64)
    mean = float(numbers.mean() if scale == 1 else (numbers * scale).mean() / scale)
    deviations = numbers - mean
    with np.errstate(over="ignore"):
        return numbers.size, mean, float(np.square(deviations, out=deviations).sum())


def _combined(a: _Moments, b: _Moments) -> _Moments:
    """T. Chan, G. Golub and R. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
    1979.

    A sum of squares that float64 cannot hold is infinite.
    """
    if not a[0] or not b[0]:
        return a if a[0] else b
    count, delta = a[0] + b[0], b[1] - a[1]
    share = b[0] / count
    mean = a[1] + delta * share if math.isfinite(delta) else a[1] * (1 - share) + b[1] * share
    return count, mean, a[2] + b[2] + delta * delta * (a[0] * share)
