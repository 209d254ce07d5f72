"""The operands of MatMulNBits of com.microsoft: codes packed by column and block."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.rounding.least_output_error import Rounded
from planish.passes.quantize.scheme import Floats

OP = "com.microsoft::MatMulNBits"
LEAST_BLOCK = 16
_BYTE = 8


def packed_operands(found: Rounded) -> tuple[Array, Floats, Array | None]:
    """Of codes [K, N] with blocks of K: codes u8 [N, blocks, bytes], scales [N, blocks], and zero points u8 [N, bytes]
    where the scheme is not symmetric: without them they are 2^(bits - 1). The lowest bits come first; what is beyond K
    in the last block is 0.
    """
    scheme = found.parameters.scheme
    rows, columns = found.codes.shape
    bits, block = scheme.dtype.bits, scheme.block or _block_of(rows)
    shift = 0 if scheme.dtype.name.startswith("U") else 1 << (bits - 1)
    codes = found.codes.astype(np.int16) + shift
    blocks = -(-rows // block)
    padded = np.zeros((blocks * block, columns), np.uint8)
    padded[:rows] = codes.astype(np.uint8)
    by_column = padded.T.reshape(columns, blocks, block)
    scale = np.ascontiguousarray(np.atleast_2d(found.parameters.scale).T)
    if scheme.symmetric:
        return _packed(by_column, bits), scale, None
    zeros = np.atleast_2d(found.parameters.zero_point.astype(np.int16) + shift).T.astype(np.uint8)
    return _packed(by_column, bits), scale, _packed(zeros, bits)


def block_of(found: Rounded) -> int:
    """The attribute block_size."""
    return found.parameters.scheme.block or _block_of(found.codes.shape[0])


def _block_of(rows: int) -> int:
    """The power of two that holds a whole column."""
    return max(LEAST_BLOCK, 1 << max(rows - 1, 0).bit_length())


def _packed(codes: Array, bits: int) -> Array:
    """The last axis of numbers below 2^bits as bytes, the lowest bits first, filled up with 0."""
    if bits == _BYTE:
        return np.ascontiguousarray(codes)
    count = _BYTE // bits
    length = codes.shape[-1]
    filled = np.zeros((*codes.shape[:-1], -(-length // count) * count), np.uint8)
    filled[..., :length] = codes
    parts = filled.reshape(*codes.shape[:-1], -1, count)
    total = np.zeros(parts.shape[:-1], np.uint8)
    for place in range(count):
        total |= parts[..., place] << np.uint8(place * bits)
    return total
