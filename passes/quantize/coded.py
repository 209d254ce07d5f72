"""Codes with their scale and zero point, as DequantizeLinear reads and QuantizeLinear makes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles
from planish.passes.rewrite import Match

_CODES = (DType.UINT8, DType.INT8, DType.INT32)
_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max) / 2**17
"""Scales of which 2^17 codes are finite, and no step is subnormal: then Quantize(Dequantize(code)) is the code."""


class Coded(NamedTuple):
    """Codes, and the constants that say what they stand for: each one number, or one for each index of an axis.

    axis: as it was written; without meaning where there is but one scale.
    """

    codes: Value
    scale: Value
    zero: Value
    axis: int

    @property
    def dtype(self) -> DType | None:
        return self.zero.dtype

    @property
    def is_by_channel(self) -> bool:
        return _array(self.scale).ndim > 0

    @property
    def scales(self) -> Doubles:
        """[channels], or one number."""
        return _array(self.scale).astype(np.float64)

    @property
    def zeros(self) -> Doubles:
        return _array(self.zero).astype(np.float64)

    @property
    def operands(self) -> tuple[Value, Value, Value]:
        return self.codes, self.scale, self.zero

    def is_along(self, axis: int) -> bool:
        """Whether there is one scale, or one for each index of that axis."""
        rank = self.codes.rank
        return not self.is_by_channel or (rank is not None and self.axis % rank == axis % rank)

    def is_like(self, other: Coded) -> bool:
        """Whether both have the same codes for the same numbers, and one scale."""
        same = self.dtype is other.dtype and not self.is_by_channel and not other.is_by_channel
        return same and bool(self.scales == other.scales) and bool(self.zeros == other.zeros)


def dequantized_from(m: Match, value: Value | None) -> Coded | None:
    """What a DequantizeLinear of float32 with known parameters reads; None where something else makes the value."""
    node = None if value is None else value.producer
    if value is None or node is None or node.op != "DequantizeLinear" or value.dtype is not DType.FLOAT:
        return None
    codes = node.operands[0]
    return None if codes is None else _coded(m, node, codes, codes.dtype)


def quantized_by(m: Match, node: Node) -> Coded | None:
    """What a QuantizeLinear of float32 with known parameters makes."""
    x = node.operands[0]
    if x is None or x.dtype is not DType.FLOAT or node.get_int("precision") not in (0, int(DType.FLOAT)):
        return None
    return _coded(m, node, node.result, node.result.dtype)


def _coded(m: Match, node: Node, codes: Value, dtype: DType | None) -> Coded | None:
    scale, zero = node.operands[1], node.operand(2)
    if dtype is None or dtype not in _CODES or node.get_int("block_size"):
        return None
    if scale is None or scale.constant is None or scale.dtype is not DType.FLOAT or not _is_usable(m.array(scale)):
        return None
    if zero is not None and (zero.constant is None or zero.constant.size != m.array(scale).size):
        return None
    if zero is None:
        zero = m.constant(np.zeros(_parameter(m.array(scale)).shape, dtype.numpy))
    return Coded(codes, _reshaped(m, scale), _reshaped(m, zero), node.get_int("axis"))


def _is_usable(scale: Array) -> bool:
    steps = scale.astype(np.float64)
    return steps.ndim <= 1 and steps.size > 0 and bool(np.all((steps >= _TINY) & (steps <= _LARGEST)))


def _parameter(array: Array) -> Array:
    """One number without axes."""
    return array.reshape(()) if array.size == 1 else array.reshape(-1)


def _reshaped(m: Match, value: Value) -> Value:
    array = m.array(value)
    return value if array.ndim == _parameter(array).ndim else m.constant(_parameter(array), value.name)


def _array(value: Value) -> Array:
    if value.constant is None:
        raise ValueError(f"{value} is no constant")
    return value.constant.array()
