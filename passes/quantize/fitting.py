"""Codes of a weight that keep the outputs on calibrated inputs, not the weight itself, and the bias beside them."""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.gram import Gram
from planish.passes.quantize.rounding.bias_correction import bias_correction, centred
from planish.passes.quantize.rounding.coordinate_descent import coordinate_descent
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, quantize


class Fitted(NamedTuple):
    codes: Array
    """Of the weight's shape."""
    shift: Doubles
    """What to add to the bias, [channels]."""


_KNOWN: WeakKeyDictionary[Gram, dict[bytes, Fitted | None]] = WeakKeyDictionary()
"""By the Gram matrix and what else decides: a search quantizes one graph over and over."""


def fitted(array: Doubles, found: Parameters, gram: Gram, *, has_bias: bool) -> Fitted | None:
    """Codes by given scales of the weight of a Conv [M, C / group, *kernel], axis 0, or of a matrix [K, N], axis 1.

    Second-order rounding, then coordinate descent, on the Gram matrix; of every output channel the codes are kept only
    where they beat rounding to nearest. With a bias the inputs' means are taken care of by it, and the codes are for
    what deviates from them. None where the Gram matrix is of other rows. Nothing is worked out twice for one Gram.
    """
    known = _KNOWN.setdefault(gram, {})
    parts = (array.tobytes(), repr((array.shape, found.scheme, has_bias)).encode())
    digest = hashlib.sha256(b"".join((*parts, found.scale.tobytes(), found.zero_point.tobytes()))).digest()
    if digest not in known:
        known[digest] = _fitted(array, found, gram, has_bias=has_bias)
    return known[digest]


def _fitted(array: Doubles, found: Parameters, gram: Gram, *, has_bias: bool) -> Fitted | None:
    columns = array if found.scheme.axis == 1 else array.reshape(array.shape[0], -1).T
    groups, length = gram.matrix.shape[:2]
    if columns.shape[0] != length or columns.shape[1] % groups or not gram.count:
        return None
    width = columns.shape[1] // groups
    codes, shifts = np.empty(columns.shape, found.scheme.dtype.numpy), np.zeros(columns.shape[1])
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        matrix, means = gram.matrix[group], gram.mean[group]
        aim = centred(matrix, means, gram.count) if has_bias else matrix.copy()
        np.fill_diagonal(aim, np.maximum(np.diagonal(aim), 0))  # sums of squares, but for rounding
        own = _of_columns(found, part)
        codes[:, part] = _rounded(columns[:, part].astype(np.float32), aim, own)
        if has_bias:
            shifts[part] = bias_correction(columns[:, part], dequantize(codes[:, part], own), means)
    shaped = codes if found.scheme.axis == 1 else codes.T.reshape(array.shape)
    return Fitted(shaped, shifts)


def _of_columns(found: Parameters, part: slice) -> Parameters:
    scheme = Scheme(found.scheme.dtype, symmetric=True, axis=1, narrow=found.scheme.narrow)
    return Parameters(found.scale[part], found.zero_point[part], scheme)


def _rounded(weight: Array, gram: Doubles, found: Parameters) -> Array:
    nearest = quantize(weight, found)
    if not np.any(gram):
        return nearest
    better = coordinate_descent(weight, gram, second_order(weight, gram, found), found)
    errors = [output_errors(weight, dequantize(codes, found), gram) for codes in (nearest, better)]
    return np.where(errors[1] < errors[0], better, nearest)
