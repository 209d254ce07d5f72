"""What paired timings say: a ratio with its interval, a verdict, and the percentiles that the sample supports.

A *round* times each arm twice, in mirrored order, so that a steady drift cancels. Its log-ratio is the mean over both
halves of log(median of A's block / median of B's block). Rounds are the units that the bootstrap draws.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Verdict = Literal["faster", "slower", "equivalent", "undecided"]
"""Of B against A. Equivalent: within EQUIVALENCE, whether or not a smaller difference can be told."""

EQUIVALENCE = 0.02
MIN_ROUNDS = 4
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}

_RESAMPLES = 2000
_GROUP_RESAMPLES = 1000
_SEED = 20_240_607
_TRIM = 0.2


@dataclass(frozen=True)
class Interval:
    ratio: float
    """A's time over B's: above 1, B is faster."""
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """In logarithms: 0.01 is about 1 %."""
        return math.log(self.high / self.low) / 2 if self.low > 0 and math.isfinite(self.high) else math.inf

    def as_dict(self) -> dict[str, object]:
        """An end that the sample does not bound is None."""
        return {
            "ratio": self.ratio if math.isfinite(self.ratio) else None,
            "low": self.low if self.low > 0 else None,
            "high": self.high if math.isfinite(self.high) else None,
        }


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, 0.0, math.inf)


def round_log_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Of the block medians of one round, in the order in which they were paired."""
    return float(np.mean(np.log(np.asarray(a) / np.asarray(b))))


def interval(log_ratios: Sequence[float], confidence: float = 0.95) -> Interval:
    """The trimmed mean of the rounds and its circular block bootstrap interval; unbounded under MIN_ROUNDS rounds.

    The percentile interval is widened to Student's quantile and for the variance that drawing whole blocks from a short
    series loses: T. Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69(4), 2015;
    block length n^(1/3), S. Lahiri, Resampling Methods for Dependent Data, 2003.
    """
    rounds = np.asarray(log_ratios, np.float64)
    count = rounds.size
    if count == 0:
        return UNKNOWN
    centre = float(_trimmed_mean(rounds[None])[0])
    if count < MIN_ROUNDS:
        return Interval(math.exp(centre), 0.0, math.inf)
    length = round(count ** (1 / 3)) if count >= 6 else 1  # shorter series hold too few distinct blocks
    means = _trimmed_mean(rounds[_circular_blocks(count, length)])
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    widen = _student(1 - tail, count - 1) / NormalDist().inv_cdf(1 - tail) * math.sqrt(count / (count - length))
    return Interval(
        math.exp(centre), math.exp(centre + (low - centre) * widen), math.exp(centre + (high - centre) * widen)
    )


def estimates(
    score: Callable[[Floats], Sequence[float]],
    grades: Floats,
    groups: Sequence[Hashable],
    ranges: Sequence[tuple[float, float]],
    confidence: float = 0.95,
) -> list[Estimate]:
    """What `score` gives for all samples, each with its bootstrap interval over groups; None is a group by itself.

    Widened to Student's quantile as `interval` is; all of the range under MIN_ROUNDS groups. Where every resample gives
    the same, as when all is right, the interval is that of an event not seen in so many trials (C. Clopper and
    E. Pearson, The Use of Confidence or Fiducial Limits, Biometrika 26, 1934). Resamples scored NaN are left out.
    """
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(("alone", index) if group is None else ("group", group), []).append(index)
    values = score(grades)
    if len(members) < MIN_ROUNDS:
        return [Estimate(value, *limits) for value, limits in zip(values, ranges, strict=True)]
    resampled = np.asarray([score(grades[drawn]) for drawn in _resamples(list(members.values()))], np.float64)
    return [
        _estimate(value, column, limits, len(members), (1 - confidence) / 2)
        for value, column, limits in zip(values, resampled.T, ranges, strict=True)
    ]


def _estimate(value: float, resampled: Floats, limits: tuple[float, float], count: int, tail: float) -> Estimate:
    least, most = limits
    known = resampled[~np.isnan(resampled)]
    if not math.isfinite(value) or not known.size:
        return Estimate(value, least, most)
    low, high = (float(end) for end in np.quantile(known, [tail, 1 - tail], method="inverted_cdf"))
    if low == high and math.isfinite(most - least):
        unseen = 1 - tail ** (1 / count)
        return Estimate(value, value - unseen * (value - least), value + unseen * (most - value))
    widen = _student(1 - tail, count - 1) / NormalDist().inv_cdf(1 - tail) * math.sqrt(count / (count - 1))
    return Estimate(value, max(value + (low - value) * widen, least), min(value + (high - value) * widen, most))


def _resamples(rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.int64]]:
    """The members of as many rows as there are, drawn with replacement."""
    random = np.random.default_rng(_SEED)
    flat = np.asarray([index for row in rows for index in row], np.int64)
    sizes = np.asarray([len(row) for row in rows], np.int64)
    starts = np.cumsum(sizes) - sizes
    for _ in range(_GROUP_RESAMPLES):
        chosen = random.integers(0, len(rows), len(rows))
        lengths = sizes[chosen]
        within: NDArray[np.int64] = np.arange(lengths.sum(), dtype=np.int64) - np.repeat(
            np.cumsum(lengths) - lengths, lengths
        )
        yield flat[np.repeat(starts[chosen], lengths) + within]


def decide(log_ratios: Sequence[float], noise: Interval) -> Verdict:
    """Equivalence by two one-sided tests at 5 % (the 90 % interval lies within EQUIVALENCE); a difference when the 95 %
    interval excludes 1 and lies beyond what A measured against itself shows, in either direction."""
    margin = math.log1p(EQUIVALENCE)
    both = interval(log_ratios, 0.90)
    if both.low > 0 and -margin <= math.log(both.low) and math.log(both.high) <= margin:
        return "equivalent"
    found = interval(log_ratios)
    floor = max(1.0, noise.high, 1 / noise.low if noise.low > 0 else math.inf)
    if found.low > floor:
        return "faster"
    if found.high < 1 / floor:
        return "slower"
    return "undecided"


def needed(quantile: float) -> int:
    """The sample size at which the largest value lies above the quantile with 99 % confidence."""
    return math.ceil(math.log(0.01) / math.log(quantile))


def percentiles(seconds: Floats) -> dict[str, float | None]:
    """In seconds, by name; None where the sample is too small to tell."""
    return {
        name: float(np.quantile(seconds, quantile)) if seconds.size >= needed(quantile) else None
        for name, quantile in QUANTILES.items()
    }


def stable(medians: Sequence[float], window: int = 3, spread: float = 0.03) -> bool:
    """Whether the last `window` block medians lie within `spread` of each other."""
    last = medians[-window:]
    return len(last) == window and max(last) <= min(last) * (1 + spread)


def _trimmed_mean(rows: Floats) -> Floats:
    count = rows.shape[1]
    cut = int(count * _TRIM)
    return np.sort(rows, axis=1)[:, cut : count - cut].mean(axis=1)


def _circular_blocks(count: int, length: int) -> NDArray[np.int64]:
    """Indices of the resamples, one in a row."""
    random = np.random.default_rng(_SEED)
    starts = random.integers(0, count, (_RESAMPLES, math.ceil(count / length)))
    indices = (starts[:, :, None] + np.arange(length)).reshape(_RESAMPLES, -1)
    return indices[:, :count] % count


def _student(probability: float, freedom: int) -> float:
    """Student's quantile, within 0.2 % from 3 degrees on: Abramowitz and Stegun, 26.7.5."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
