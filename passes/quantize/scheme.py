"""Schemes of quantization: which code stands for which real number, as QuantizeLinear and DequantizeLinear have it.

real = (code - zero point) * scale. One scale and one zero point serve the whole tensor, one index of an axis (a
channel), or a block of `block` indices along an axis; their arrays have the shapes that the operators ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array, DType

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)

_FIRST_OPSETS = {
    DType.INT8: 10,
    DType.UINT8: 10,
    DType.FLOAT8E4M3FN: 19,
    DType.FLOAT8E5M2: 19,
    DType.INT16: 21,
    DType.UINT16: 21,
    DType.INT4: 21,
    DType.UINT4: 21,
    DType.INT2: 25,
    DType.UINT2: 25,
}
_LARGEST_FLOATS = {DType.FLOAT8E4M3FN: 448.0, DType.FLOAT8E5M2: 57344.0}
_OPSET_OF_CHANNELS = 13
_OPSET_OF_BLOCKS = 21
_LEAST_SCALE = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_POWER = 2.0**127


@dataclass(frozen=True)
class Scheme:
    """An element type and how parameters are shared.

    symmetric: the zero point is 0, and of unsigned types the middle code, 2^(bits - 1). Otherwise it is where the
    range puts it, and real 0 has a code of its own in any case. Types of 8-bit floats are symmetric only.
    axis, block: neither for one pair of parameters; axis for one per index; both for one per `block` indices of it.
    narrow: the lowest code is left out, so that a symmetric scheme has as many codes below 0 as above.
    power_of_two: every scale is 2^-p, so that a code is round(W * 2^p) and scaling is a shift.
    """

    dtype: DType
    symmetric: bool
    axis: int | None = None
    block: int = 0
    narrow: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in _FIRST_OPSETS:
            kinds = ", ".join(dtype.name.lower() for dtype in _FIRST_OPSETS)
            raise ValueError(f"no scheme quantizes to {self.dtype.name.lower()}: give one of {kinds}")
        if self.dtype.is_float and (self.narrow or not self.symmetric):
            raise ValueError(f"{self.dtype.name.lower()} has zero point 0 and all of its codes: symmetric, not narrow")
        if self.block < 0 or (self.block and self.axis is None):
            raise ValueError(f"blocks of {self.block} need an axis and at least one index: axis is {self.axis}")

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest code that is used; of 8-bit floats, the largest finite numbers."""
        if self.dtype.is_float:
            return -_LARGEST_FLOATS[self.dtype], _LARGEST_FLOATS[self.dtype]
        least = 0 if self._is_unsigned else -(1 << (self.dtype.bits - 1))
        return least + self.narrow, least + (1 << self.dtype.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point where the scheme is symmetric."""
        return 1 << (self.dtype.bits - 1) if self._is_unsigned else 0

    @property
    def opset(self) -> int:
        """The first opset whose QuantizeLinear and DequantizeLinear hold the scheme."""
        shared = _OPSET_OF_BLOCKS if self.block else 0 if self.axis is None else _OPSET_OF_CHANNELS
        return max(_FIRST_OPSETS[self.dtype], shared)

    @property
    def _is_unsigned(self) -> bool:
        return self.dtype.name.startswith("U")

    def shape(self, of: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the parameters for a tensor's shape; raises ValueError where the tensor lacks the axis."""
        if self.axis is None:
            return ()
        axis = self._axis(len(of))
        if not self.block:
            return (of[axis],)
        return (*of[:axis], -(-of[axis] // self.block), *of[axis + 1 :])

    def spread(self, parameter: NDArray[Number], of: tuple[int, ...]) -> NDArray[Number]:
        """Parameters, shaped to meet a tensor of the shape `of` element by element."""
        expected = self.shape(of)
        if parameter.shape != expected:
            raise ValueError(f"a tensor of shape {of} takes parameters of shape {expected}, not {parameter.shape}")
        if self.axis is None:
            return parameter
        axis = self._axis(len(of))
        if not self.block:
            return parameter.reshape([-1 if i == axis else 1 for i in range(len(of))])
        repeated = np.repeat(parameter, self.block, axis)
        return repeated[(slice(None),) * axis + (slice(of[axis]),)]

    def reduce(self, combine: np.ufunc, x: NDArray[Number]) -> NDArray[Number]:
        """x combined (np.add, np.minimum, np.maximum) over all that shares parameters, in the parameters' shape.

        A 0 joins in everywhere, as it does in every range; so of an empty tensor comes 0.
        """
        if self.axis is None:
            return np.asarray(combine.reduce(x, axis=None, initial=0))
        axis = self._axis(x.ndim)
        if self.block:
            starts = list(range(0, x.shape[axis], self.block))
            return np.asarray(combine(combine.reduceat(x, starts, axis), 0))
        others = tuple(i for i in range(x.ndim) if i != axis)
        return np.asarray(combine.reduce(x, axis=others, initial=0))

    def nearest(self, ratio: Doubles, zero_point: Doubles) -> Doubles:
        """The code nearest to x / scale, as a float; a tie goes to the even one, what is out of reach to the limits."""
        least, largest = self.limits
        if self.dtype.is_float:
            return np.clip(ratio, least, largest).astype(self.dtype.numpy).astype(np.float64)
        return np.clip(np.rint(ratio) + zero_point, least, largest)

    def as_codes(self, whole: Floats | Doubles) -> Array:
        """Codes held as floats, in their own type; by way of int32, from which every type of integers can be cast."""
        return whole.astype(np.float32 if self.dtype.is_float else np.int32).astype(self.dtype.numpy)

    def _axis(self, rank: int) -> int:
        if self.axis is None or not -rank <= self.axis < rank:
            raise ValueError(f"a tensor of rank {rank} has no axis {self.axis} to quantize along")
        return self.axis % rank


class Parameters(NamedTuple):
    """Scales and zero points of one tensor, in the shape of scheme.shape, ready to be operands."""

    scale: Floats
    zero_point: Array
    scheme: Scheme

    def grid(self, of: tuple[int, ...]) -> tuple[Doubles, Doubles]:
        """Scale and zero point of every element of a tensor of that shape, in double precision."""
        scale = np.broadcast_to(self.scheme.spread(self.scale, of), of)
        zero_point = np.broadcast_to(self.scheme.spread(self.zero_point, of), of)
        return scale.astype(np.float64), zero_point.astype(np.float64)


def parameters(scheme: Scheme, low: Array | float, high: Array | float) -> Parameters:
    """Scales and zero points by which the codes reach from low to high; both of the shape that scheme.shape gives.

    The range is widened to hold 0, as gemmlowp and Jacob et al. 2018 (arXiv 1712.05877, section 2.1) ask for: padding
    and Relu stay exact. With codes q0 .. q1:

        symmetric:   scale = max(high / (q1 - middle), -low / (middle - q0)),  zero point = middle
        asymmetric:  scale = (high - low) / (q1 - q0),                         zero point = round(q0 - low / scale)

    with the next power of two above that where the scheme asks for one. An empty range, low = high = 0, has scale 1.
    A scale is a normal number at least: processors that flush subnormals would divide by zero. Raises ValueError for
    a range that is turned around, not finite, or beyond float32.
    """
    lows, highs = _checked(np.asarray(low, np.float64), np.asarray(high, np.float64))
    scale = _scales(scheme, lows, highs)
    if scheme.power_of_two:
        scale = _next_power(scale, max(float(-lows.min(initial=0)), float(highs.max(initial=0))))
    scale = np.where(lows == highs, 1.0, np.maximum(scale, _LEAST_SCALE)).astype(np.float32)
    if scheme.symmetric:
        zero_point = np.full(scale.shape, scheme.middle, np.float64)
    else:
        least, largest = scheme.limits
        zero_point = np.clip(np.rint(least - lows / scale), least, largest)
    return Parameters(_finite(scale, zero_point, scheme), scheme.as_codes(zero_point), scheme)


def _checked(low: Doubles, high: Doubles) -> tuple[Doubles, Doubles]:
    if low.shape != high.shape:
        raise ValueError(f"low and high of a range have one shape, not {low.shape} and {high.shape}")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("a range to quantize is not finite: remove NaN and infinities first, or clip them")
    if (low > high).any():
        raise ValueError("a range to quantize is turned around: low is above high")
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    if max(-low.min(initial=0), high.max(initial=0)) > _LARGEST:
        raise ValueError("a range to quantize reaches beyond float32")
    return low, high


def _scales(scheme: Scheme, low: Doubles, high: Doubles) -> Doubles:
    least, largest = scheme.limits
    if scheme.symmetric:
        return np.maximum(high / (largest - scheme.middle), low / (least - scheme.middle))
    return (high - low) / (largest - least)


def _next_power(scale: Doubles, reach: float) -> Doubles:
    """The least power of two that is no less. `reach`: the largest magnitude, whose code must not overflow float32."""
    if reach > _LARGEST_POWER:
        raise ValueError("a range to quantize by powers of two reaches beyond 2^127")
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(1.0, exponent - (mantissa == 0.5))


def _finite(scale: Floats, zero_point: Doubles, scheme: Scheme) -> Floats:
    """Scales, less an ulp or so where the farthest code would not be finite."""
    if scheme.power_of_two:
        return scale
    least, largest = scheme.limits
    bound = (_LARGEST / np.maximum(largest - zero_point, zero_point - least)).astype(np.float32)
    return np.minimum(scale, np.nextafter(bound, np.float32(0)))


def quantize(x: Array, parameters: Parameters) -> Array:
    """The codes of x: saturate(round(x / scale) + zero point), as QuantizeLinear of opsets 10 to 25 has it.

    The division is in float32, rounding half to even; infinities saturate. 8-bit floats round half to even too and
    saturate to the largest finite number (saturate = 1), infinities as well; NaN stays NaN. For integers the
    specification gives NaN no code: raises ValueError. A narrow scheme saturates one code above QuantizeLinear.
    """
    scheme = parameters.scheme
    with np.errstate(over="ignore", under="ignore"):
        ratio = x.astype(np.float32) / scheme.spread(parameters.scale, x.shape)
    if scheme.dtype.is_float:
        return np.clip(ratio, *scheme.limits).astype(scheme.dtype.numpy)
    if np.isnan(ratio).any():
        raise ValueError(f"NaN has no code of type {scheme.dtype.name.lower()}")
    # Sums are exact in float32 wherever they do not saturate: codes have 16 bits at most.
    codes = np.rint(ratio) + scheme.spread(parameters.zero_point, x.shape).astype(np.float32)
    return scheme.as_codes(np.clip(codes, *scheme.limits))


def dequantize(codes: Array, parameters: Parameters) -> Floats:
    """(codes - zero point) * scale in float32, as DequantizeLinear has it. The difference is exact: it rounds once."""
    scheme = parameters.scheme
    offset = scheme.spread(parameters.zero_point, codes.shape).astype(np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return (codes.astype(np.float32) - offset) * scheme.spread(parameters.scale, codes.shape)
