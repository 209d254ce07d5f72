"""Constant weights as matrices [K, N], K contracted, and back as codes in the layout that they are stored in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.types import Array
from planish.passes.quantize.gram import Gram, aim_of
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.bias_correction import bias_correction
from planish.passes.quantize.rounding.filters import least_filter_error
from planish.passes.quantize.rounding.half_quadratic import half_quadratic
from planish.passes.quantize.rounding.least_output_error import Rounded, least_output_error
from planish.passes.quantize.scheme import Doubles, Floats, Parameters, Scheme, dequantize, parameters, quantize

Rounding = Literal["nearest", "gram", "hqq"]
_MATRIX = 2


@dataclass(frozen=True)
class StoredWeight:
    """position: of the operand. channels_first: it is stored [N, K...], as of Conv, of a Gemm with transB, and as a
    table of embeddings is, of which each of N rows is looked up as a whole.
    """

    position: int
    shape: tuple[int, ...]
    channels_first: bool
    groups: int = 1

    @property
    def rows(self) -> int:
        """K, of each group."""
        if self.channels_first:
            return math.prod(self.shape[1:])
        return self.shape[0]

    @property
    def is_image(self) -> bool:
        """Whether it is that of a convolution."""
        return len(self.shape) > _MATRIX

    def matrix(self, array: Array) -> Floats:
        """[K, N]"""
        found = np.asarray(array, np.float32)
        return found.reshape(self.shape[0], self.rows).T if self.channels_first else found

    def stored(self, codes: Array) -> Array:
        """Codes [K, N] in the layout of the weight."""
        return np.ascontiguousarray(codes.T if self.channels_first else codes).reshape(self.shape)

    def in_blocks(self, found: Rounded) -> tuple[Array, Floats, Array]:
        """Codes, scales and zero points that meet by broadcasting: in the layout of the weight, with blocks on an axis
        of their own, the last one filled up.
        """
        codes, (scale, zero_point, scheme) = found.codes, found.parameters
        if not scheme.block:
            ones = (1,) * (len(self.shape) - 1)
            shape = (-1, *ones) if self.channels_first else (*ones, -1)
            return self.stored(codes), scale.reshape(shape), zero_point.reshape(shape)
        rows, columns = codes.shape
        blocks = len(scale)
        filled = np.zeros((blocks * scheme.block, columns), codes.dtype)
        filled[:rows] = codes
        parts = (filled.reshape(blocks, scheme.block, columns), scale[:, None], zero_point[:, None])
        if self.channels_first:
            parts = (parts[0].transpose(2, 0, 1), parts[1].transpose(2, 0, 1), parts[2].transpose(2, 0, 1))
        return np.ascontiguousarray(parts[0]), np.ascontiguousarray(parts[1]), np.ascontiguousarray(parts[2])

    def blocked_shape(self, found: Rounded) -> tuple[int, ...]:
        """Of the weight with its last block filled up."""
        rows = len(found.parameters.scale) * found.parameters.scheme.block
        return (self.shape[0], rows) if self.channels_first else (rows, self.shape[1])

    def as_stored(self, found: Parameters) -> Parameters:
        """Parameters of [K, N], for the layout of the weight."""
        scheme = found.scheme
        if not self.channels_first:
            return found
        if not scheme.block:
            return found._replace(scheme=replace(scheme, axis=0))
        scale, zero_point = np.ascontiguousarray(found.scale.T), np.ascontiguousarray(found.zero_point.T)
        return Parameters(scale, zero_point, replace(scheme, axis=1))


def stored_weight(node: Node) -> StoredWeight | None:
    """The constant float32 weight of a product or the table of a Gather; None where there is none."""
    position = 0 if node.op == "Gather" else 1
    operand, other = node.operand(position), node.operand(1 - position)
    if operand is None or operand.constant is None or operand.dtype is not DType.FLOAT or other is None:
        return None
    shape = operand.constant.shape
    if other.constant is not None or len(shape) < _MATRIX:
        return None
    if node.op == "Conv":
        return StoredWeight(1, shape, channels_first=True, groups=node.get_int("group"))
    if len(shape) != _MATRIX or (node.op == "Gather" and node.get_int("axis") not in (0, -len(shape))):
        return None
    if node.op in ("MatMul", "Gather"):
        return StoredWeight(position, shape, channels_first=node.op == "Gather")
    return StoredWeight(1, shape, channels_first=bool(node.get_int("transB"))) if node.op == "Gemm" else None


def scheme_for(bits: int, rows: int, block: int, *, symmetric: bool) -> Scheme:
    """Of a matrix [K, N]: blocks of K, or one scale for each column where a block would hold all of it."""
    dtype = DType[f"{'INT' if symmetric else 'UINT'}{bits}"]
    if block and rows > block:
        return Scheme(dtype, symmetric, axis=0, block=block)
    return Scheme(dtype, symmetric, axis=1)


def rounded(
    weight: Floats, scheme: Scheme, rounding: Rounding, gram: Gram | None, *, has_bias: bool = False
) -> Rounded:
    """Codes and parameters of a matrix [K, N]; with a Gram matrix of several groups, N / groups columns of each.

    With a bias the inputs' means are taken care of by it, see bias_shift; the codes are for what deviates from them.
    """
    if rounding == "gram" and gram is not None:
        return _fitted(weight, scheme, np.stack([aim_of(gram, g, has_bias=has_bias) for g in range(len(gram.matrix))]))
    chosen = parameters(scheme, *min_max(weight, scheme))
    if rounding == "hqq":
        chosen = half_quadratic(weight, chosen)
    return Rounded(quantize(weight, chosen), chosen)


def bias_shift(weight: Floats, found: Rounded, gram: Gram) -> Doubles:
    """What to add to the bias, [N], so that the outputs keep their means."""
    moved = np.zeros_like(gram.mean) if gram.wanted is None else gram.wanted - gram.mean
    parts = (np.split(matrix, len(gram.matrix), axis=1) for matrix in (weight, dequantize(*found)))
    rows = zip(*parts, gram.mean, moved, strict=True)
    return np.concatenate([bias_correction(w, q, means) + step @ w.astype(np.float64) for w, q, means, step in rows])


def _fitted(weight: Floats, scheme: Scheme, aims: Doubles) -> Rounded:
    if len(aims) == weight.shape[1] > 1 and not scheme.block:
        return Rounded(*least_filter_error(weight, aims, scheme))
    parts = np.split(weight, len(aims), axis=1)
    found = [least_output_error(part, aim, scheme) for part, aim in zip(parts, aims, strict=True)]
    scales = np.concatenate([each.parameters.scale for each in found], axis=-1)
    zeros = np.concatenate([each.parameters.zero_point for each in found], axis=-1)
    return Rounded(np.concatenate([each.codes for each in found], axis=1), Parameters(scales, zeros, scheme))


def operand_of(node: Node, weight: StoredWeight) -> Value:
    operand = node.operands[weight.position]
    if operand is None:
        raise ValueError(f"{node.label} lacks its weight")
    return operand
