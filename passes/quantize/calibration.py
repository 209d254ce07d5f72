"""What was observed of a model's tensors: what passes that quantize take as an option.

    quantize-static{ranges=cal.json}

Nothing is chosen here: which range to quantize for is for the passes to say, from these numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planish.ir import Node, Value
from planish.passes.errors import CalibrationError
from planish.passes.quantize.gram import Gram, gram_key
from planish.passes.quantize.histogram import Histogram

Floats = NDArray[np.float64]


def _no_channels() -> Mapping[int, Floats]:
    return {}


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """Of all elements of one tensor over all runs. Extremes, moments and histogram are of the finite ones."""

    min: float | None = None
    """None where nothing finite was seen."""
    max: float | None = None
    dtype: str = ""
    """In ONNX's words, in lower case: float, float16, bfloat16, double."""
    count: int = 0
    """Of elements, NaN and infinities among them."""
    nans: int = 0
    infs: int = 0
    zeros: int = 0
    """Of both signs."""
    mean: float | None = None
    variance: float | None = None
    """Of the population: the sum of squared deviations over their number."""
    histogram: Histogram | None = None
    """Zeros are in it, in the bin that begins at 0."""
    channels: Mapping[int, Floats] = field(default_factory=_no_channels)
    """Largest finite magnitudes along an axis, by the axis, counted from 0: those along which a reader contracts or has
    its channels. An axis whose extent changed between runs, or is beyond MOST_CHANNELS, is left out."""
    low: float | None = None
    """With `high`, the range that the user wants, whatever was observed."""
    high: float | None = None

    def __post_init__(self) -> None:
        for below, above in (("min", "max"), ("low", "high")):
            a, b = getattr(self, below), getattr(self, above)
            if (a is None) != (b is None):
                raise CalibrationError(f"{below} and {above} belong together, and only one of them is given")
            if a is not None and not (math.isfinite(a) and math.isfinite(b) and a <= b):
                raise CalibrationError(f"{below} {a!r} and {above} {b!r} are no range of finite numbers")

    @property
    def wanted(self) -> tuple[float, float] | None:
        """The range that the user wants, where one was given."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def observed(self) -> tuple[float, float] | None:
        return None if self.min is None or self.max is None else (self.min, self.max)

    @property
    def range(self) -> tuple[float, float] | None:
        """What the user wants, else what was observed."""
        return self.wanted or self.observed

    @property
    def finite(self) -> int:
        return self.count - self.nans - self.infs

    @property
    def outlier_ratio(self) -> float:
        """The largest magnitude over that under which 99.9 % of all lie; 1 where nothing is known."""
        if self.histogram is None or self.observed is None:
            return 1.0
        magnitudes = _folded(self.histogram)
        largest = max(abs(end) for end in self.observed)
        return max(largest / magnitudes, 1.0) if magnitudes else 1.0


MOST_CHANNELS = 1 << 14


def _no_grams() -> Mapping[str, Gram]:
    return {}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics by the tensors' names in the model's file; a name that a pass changed is found no more."""

    tensors: Mapping[str, TensorStatistics]
    grams: Mapping[str, Gram] = field(default_factory=_no_grams)
    """By `gram_key`; those of a file are read when they are asked for."""
    model: str = ""
    samples: int = 0
    warnings: tuple[str, ...] = ()
    """What a user should know: tensors with NaN, tensors that were left out."""
    path: str = ""
    """The file that it was read from: how a pipeline's text names it."""

    def of(self, value: Value | None) -> TensorStatistics | None:
        """None for a value that was not observed."""
        return None if value is None or not value.name else self.tensors.get(value.name)

    def gram(self, product: Node) -> Gram | None:
        """Of what a Conv, Gemm or MatMul contracts with its constant weight; None where it was not asked for."""
        key = gram_key(product)
        return None if key is None else self.grams.get(key)

    def with_range(self, name: str, low: float, high: float) -> Calibration:
        """With the range that is wanted of one tensor, observed or not."""
        known = self.tensors.get(name, TensorStatistics())
        return replace(self, tensors={**self.tensors, name: replace(known, low=low, high=high)}, path="")

    def __eq__(self, other: object) -> bool:
        """Whether the statistics are the same, bit for bit. Of the Gram matrices, only that there are the same ones."""
        return isinstance(other, Calibration) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __str__(self) -> str:
        return self.path or f"calibration of {self.model or 'a model'}"

    @cached_property
    def _digest(self) -> bytes:
        digest = hashlib.sha256(repr((self.model, self.samples, self.warnings, list(self.grams))).encode())
        for name, seen in sorted(self.tensors.items()):
            digest.update(repr((name, _plain(seen))).encode())
            if seen.histogram is not None:
                digest.update(repr((seen.histogram.exponent, seen.histogram.first)).encode())
                digest.update(seen.histogram.counts.tobytes())
            for axis, maxima in sorted(seen.channels.items()):
                digest.update(repr((axis, maxima.shape)).encode() + maxima.tobytes())
        return digest.digest()


def _plain(seen: TensorStatistics) -> tuple[object, ...]:
    extremes = (seen.min, seen.max, seen.mean, seen.variance, seen.low, seen.high)
    return (seen.dtype, seen.count, seen.nans, seen.infs, seen.zeros, *extremes)


def _folded(histogram: Histogram, share: float = 0.999) -> float:
    """The magnitude under which that share of the numbers lies, within one bin."""
    edges = histogram.edges
    magnitudes = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    order = np.argsort(magnitudes, kind="stable")
    below = np.cumsum(histogram.counts[order])
    index = int((below < share * below[-1]).sum())
    return float(magnitudes[order][min(index, below.size - 1)])
