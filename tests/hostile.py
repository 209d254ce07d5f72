"""Values that break what looks right on random numbers between 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from planish.ir import DType

Array = NDArray[np.generic]
Kind = Literal["ordinary", "extreme", "special"]
"""ordinary: both signs, zeros and ties. extreme: the largest, the smallest and subnormal numbers too. special: also NaN
and infinities. Text and booleans are the same for all; integers have their limits in all but ordinary."""

_TEXTS = ("", "a", "A", "ä", " ", "a b", "1", "-0.0")
_SMALL = 16


class Limits(NamedTuple):
    """Of a float type: its largest number, the least normal and the least subnormal one, and the step above 1."""

    largest: float
    normal: float
    subnormal: float
    epsilon: float

    @staticmethod
    def of(dtype: DType) -> Limits:
        bits, least_exponent = _PRECISION[dtype]
        normal, epsilon = 2.0**least_exponent, 2.0 ** (1 - bits)
        return Limits((2 - epsilon) * 2.0 ** (1 - least_exponent), normal, normal * epsilon, epsilon)


# Bits of the significand, and the exponent of the least normal number.
_PRECISION = {DType.FLOAT16: (11, -14), DType.BFLOAT16: (8, -126), DType.FLOAT: (24, -126), DType.DOUBLE: (53, -1022)}


def hostile(dtype: DType, shape: tuple[int, ...], kind: Kind, seed: int = 0, near: Sequence[float] = ()) -> Array:
    """A tensor of such values; `near` are numbers of the model's own that may be thresholds."""
    rng = np.random.default_rng([seed, sum(map(ord, kind)), *shape])
    if dtype is DType.STRING:
        return np.array([_TEXTS[i] for i in rng.integers(0, len(_TEXTS), _count(shape))], np.object_).reshape(shape)
    if dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        integers = _integers(dtype, kind, near)
        taken = [integers[place] for place in _from_behind(len(integers), rng, shape)]
        return np.array(taken, np.object_).reshape(shape).astype(dtype.numpy)
    ordinary: list[float] = rng.normal(0, 2, max(_count(shape), 4)).tolist()
    pool = [*ordinary, 0.0, -0.0, 1.0, 1.0, -1.0, 0.5, 2.5, *_floats(dtype, kind, near)]
    with np.errstate(over="ignore"):
        floats = [pool[place] for place in _from_behind(len(pool), rng, shape)]
        return np.array(floats, np.float64).reshape(shape).astype(dtype.numpy)


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _from_behind(size: int, rng: np.random.Generator, shape: tuple[int, ...]) -> list[int]:
    """Places in a pool, as many as the shape holds: those at its end, the strangest, in any case; in a random order."""
    return [-1 - place % size for place in rng.permutation(_count(shape)).tolist()]


def _integers(dtype: DType, kind: Kind, near: Sequence[float]) -> list[int]:
    signed = dtype.name.startswith("INT")
    least, largest = (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1) if signed else (0, (1 << dtype.bits) - 1)
    pool = [*range(-3 if signed else 0, min(8, largest) + 1), 1, 1, 0]
    if kind != "ordinary":
        pool += [int(value) for value in near if least <= value <= largest and float(value).is_integer()]
        pool += [least + 1, largest - 1, least, largest]
    return pool


def _floats(dtype: DType, kind: Kind, near: Sequence[float]) -> list[float]:
    if kind == "ordinary":
        return []
    limits = Limits.of(dtype)
    ends = [limits.largest, limits.normal, limits.subnormal, limits.normal / 3, limits.largest / 3, limits.epsilon]
    around = [float(value) for value in near]
    around += [side for value in near for side in (float(np.nextafter(value, np.inf)), -float(value))]
    pool = [*around, *ends, *(-end for end in ends), 0.0, -0.0]
    return [*pool, np.nan, np.inf, -np.inf] if kind == "special" else pool


def boundaries(proto: onnx.ModelProto) -> list[float]:
    """The finite numbers that stand in a model's small constants and attributes, each once."""
    found: dict[float, None] = {}
    tensors = list(proto.graph.initializer)
    for node in proto.graph.node:
        tensors += [attribute.t for attribute in node.attribute if attribute.HasField("t")]
        found.update(dict.fromkeys(attribute.f for attribute in node.attribute if attribute.f))
    for tensor in tensors:
        if tensor.data_type not in (DType.STRING, DType.BOOL) and 0 < int(np.prod(tensor.dims)) <= _SMALL:
            found.update(dict.fromkeys(numpy_helper.to_array(tensor).astype(np.float64).ravel().tolist()))
    return [value for value in found if np.isfinite(value)]
