"""What integers with a scale and a zero point stand for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planish.ir import Value
from planish.ir.types import Array
from planish.passes.rewrite import Match


def dequantized(codes: Array, scale: Array, zero: Array | None, axis: int = 1, block: int = 0) -> Array | None:
    """(codes - zero) * scale, of the scale's type; None where the shapes do not go together.

    A scale is one number, or one for each index of `axis`, or with `block` one for so many in a row along it.
    """
    factor = _spread(scale, codes.shape, axis, block)
    offset = None if zero is None else _spread(zero, codes.shape, axis, block)
    if factor is None or (zero is not None and offset is None):
        return None
    real = codes.astype(np.float64) if offset is None else codes.astype(np.float64) - offset.astype(np.float64)
    return (real * factor.astype(np.float64)).astype(scale.dtype)


def _spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array | None:
    """A scale or zero point as it meets the elements of that shape."""
    if parameter.size == 1:
        return parameter.reshape(())
    if not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    if block:
        wide = np.repeat(parameter, block, axis) if parameter.ndim == len(shape) else parameter
        cut = wide[(slice(None),) * axis + (slice(0, shape[axis]),)] if wide.ndim == len(shape) else wide
        return cut if cut.shape == shape else None
    if parameter.ndim != 1 or parameter.size != shape[axis]:
        return None
    return parameter.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """The last axis of bytes as `count` numbers of so many bits, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = packed.astype(np.uint8)[..., None]
    numbers: Array = np.bitwise_and(np.right_shift(spread, shifts), np.uint8((1 << bits) - 1))
    return numbers.reshape(*packed.shape[:-1], -1)[..., :count]


def arrays(m: Match, values: Iterable[Value | None]) -> list[Array] | None:
    """The elements of constants; None where one is none."""
    found = [None if value is None or value.constant is None else m.array(value) for value in values]
    known = [array for array in found if array is not None]
    return known if len(known) == len(found) else None


def real(m: Match, codes: Value | None, scale: Value | None, zero: Value | None, axis: int = 1) -> Value | None:
    """A value that holds the real numbers: a constant where the codes are, else a DequantizeLinear."""
    if codes is None or scale is None or scale.dtype is None:
        return None
    known = arrays(m, (codes, scale) if zero is None else (codes, scale, zero))
    if known is not None:
        array = dequantized(known[0], known[1], None if zero is None else known[2], axis)
        return None if array is None else m.constant(array, codes.name)
    return m.add("DequantizeLinear", (codes, scale, zero) if zero is not None else (codes, scale), {"axis": axis})


def quantized(m: Match, value: Value, scale: Value | None, zero: Value | None, like: Value | None) -> Value | None:
    """The codes of a value, of the zero point's type or of that of `like`."""
    if scale is None:
        return None
    if zero is None:
        if like is None or like.dtype is None:
            return None
        zero = m.constant(np.zeros((), like.dtype.numpy))
    return m.add("QuantizeLinear", (value, scale, zero))
