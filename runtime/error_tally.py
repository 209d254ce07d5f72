"""Counts of what quantization costs a tensor, in one look after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from planish.ir import DType
from planish.ir.ops.elementwise import integer_limits
from planish.runtime.providers import Array

Doubles = NDArray[np.float64]
_PART = 1 << 15
"""Elements that are looked at together."""
_BINS = 16
_MATRIX = 2


@dataclass(frozen=True)
class Error:
    """What is left of a float model's tensor. Parts are from 0 to 1; None where there is nothing that they are of."""

    name: str
    codes: str
    """The type of codes; empty for a tensor of real numbers."""
    elements: int
    snr: float | None
    """Signal to noise in dB, of all that went wrong before it as well; None without noise, or without signal."""
    alone: float | None
    """What its own rounding would leave of the float model's tensor."""
    lowest: float | None
    """The part of the codes that are the lowest one."""
    highest: float | None
    beyond: float | None
    """The part of the float model's elements that are beyond what codes reach, by more than half a step."""
    vanished: float | None
    """The part of the float model's elements other than 0 whose code stands for 0."""
    used: int | None
    """Different codes that occur."""
    infinite: int
    """Pairs of elements of which one is infinite or NaN: they count nowhere else."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class WeightError:
    name: str
    codes: str
    elements: int
    channels: int
    """Scales."""
    snr: float | None
    """In dB, against the weights of the same name; None where there are none, or no noise."""
    used: int
    levels: int
    """Codes that the type has."""
    histogram: tuple[int, ...]
    """Elements by code, from the lowest code to the highest, in as many parts of the same width."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Tally:
    """Of a tensor of real numbers."""

    def __init__(self) -> None:
        self.count = self.infinite = 0
        self.signal = self.noise = 0.0

    def add(self, reference: Array, found: Array) -> None:
        for wanted, has in _parts(reference, found):
            self._add(wanted, has.astype(np.float64))

    def _add(self, wanted: Doubles, has: Doubles) -> tuple[Doubles, NDArray[np.bool_] | None]:
        """What of the first is finite in both, and where that is, if it is not everywhere."""
        self.count += wanted.size
        finite = None
        with np.errstate(all="ignore"):
            total = np.sum(wanted) + np.sum(has)
        if not np.isfinite(total):  # sums of finite numbers may overflow, too, and are looked at one by one then
            finite = np.isfinite(wanted) & np.isfinite(has)
            wanted, has = wanted[finite], has[finite]
            self.infinite += finite.size - wanted.size
        self.signal += _power(wanted)
        self.noise += _power(wanted - has)
        return wanted, finite

    def error(self, name: str) -> Error:
        snr = decibels(self.signal, self.noise)
        return Error(name, "", self.count, snr, None, None, None, None, None, None, self.infinite)


class CodeTally(Tally):
    """Of a tensor of codes."""

    def __init__(self, dtype: DType | None) -> None:
        super().__init__()
        self.dtype = dtype or DType.UINT8
        self.low, self.high = integer_limits(self.dtype.numpy)
        self.alone = 0.0
        self.seen = np.zeros(self.high - self.low + 1, np.int64)
        self.beyond = self.nonzero = self.vanished = 0

    def see(self, reference: Array, codes: Array, scale: float, zero_point: int) -> None:
        """Codes of what the float model's elements became."""
        ends = (self.low - zero_point - 0.5) * scale, (self.high - zero_point + 0.5) * scale
        for wanted, has in _parts(reference, codes):
            numbers = has.astype(np.int64)
            self.seen += np.bincount(numbers - self.low, minlength=self.seen.size)
            real, finite = self._add(wanted, np.asarray((numbers - zero_point) * scale, np.float64))
            kept = numbers if finite is None else numbers[finite]
            self.beyond += int(np.count_nonzero(real < ends[0])) + int(np.count_nonzero(real > ends[1]))
            self.nonzero += int(np.count_nonzero(real))
            self.vanished += int(np.count_nonzero(real[kept == zero_point]))
            rounded = np.clip(np.rint(real / scale), self.low - zero_point, self.high - zero_point) * scale
            self.alone += _power(real - rounded)

    def error(self, name: str) -> Error:
        finite = self.count - self.infinite
        return Error(
            name,
            self.dtype.name.lower(),
            self.count,
            decibels(self.signal, self.noise),
            decibels(self.signal, self.alone),
            _part(int(self.seen[0]), self.count),
            _part(int(self.seen[-1]), self.count),
            _part(self.beyond, finite),
            _part(self.vanished, self.nonzero),
            int(np.count_nonzero(self.seen)),
            self.infinite,
        )


def weight_error(name: str, dtype: DType | None, codes: Array, scales: int, snr: float | None) -> WeightError:
    kind = dtype or DType.INT8
    levels = 1 << kind.bits
    low = 0 if kind.name.startswith("U") else -(levels >> 1)
    numbers = np.asarray(codes, np.int64).reshape(-1)
    seen = np.bincount(numbers - low, minlength=levels)
    counts = tuple([int(part.sum()) for part in np.array_split(seen, min(_BINS, levels))])
    return WeightError(name, kind.name.lower(), numbers.size, scales, snr, int(np.count_nonzero(seen)), levels, counts)


def weight_snr(reference: Doubles, real: Doubles) -> float | None:
    """In dB; None where there is no noise, no signal, or other shapes. A matrix may be stored the other way round."""
    ways = [reference] if reference.ndim != _MATRIX else [reference, reference.T]
    noises = [float(np.square(way - real).sum()) for way in ways if way.shape == real.shape]
    return decibels(float(np.square(reference).sum()), min(noises)) if noises else None


def decibels(signal: float, noise: float) -> float | None:
    """Signal to noise; None where there is no signal, or no noise."""
    if not (0 < signal < math.inf and 0 < noise < math.inf):
        return None
    return 10 * (math.log10(signal) - math.log10(noise))


def _power(numbers: Doubles) -> float:
    """The sum of squares; not by BLAS, whose threads wait for each other over so few."""
    with np.errstate(over="ignore"):
        return float(np.square(numbers).sum())


def _part(count: int, of: int) -> float | None:
    return count / of if of else None


def _parts(reference: Array, found: Array) -> Iterator[tuple[Doubles, Array]]:
    """Stretches of both, in the order of their elements."""
    a, b = reference.reshape(-1), found.reshape(-1)
    for begin in range(0, a.size, _PART):
        yield np.asarray(a[begin : begin + _PART], np.float64), b[begin : begin + _PART]
