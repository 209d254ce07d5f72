"""Codes of a weight that keep the outputs on calibrated inputs, not the weight itself, and the bias beside them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.gram import Gram, aim_of
from planish.passes.quantize.rounding.bias_correction import bias_correction
from planish.passes.quantize.rounding.coordinate_descent import coordinate_descent
from planish.passes.quantize.rounding.filters import filter_codes, filter_errors
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.rounding.shrinkage import shrunk
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
    trusted = np.stack([shrunk(*of_group, gram.count) for of_group in zip(gram.matrix, gram.mean, strict=True)])
    gram = replace(gram, matrix=trusted)
    aims = np.stack([aim_of(gram, group, has_bias=has_bias) for group in range(groups)])
    if width == 1 and groups > 1:
        codes = _of_filters(columns.astype(np.float32), aims, _of_columns(found, slice(None)))
    for group in range(groups):
        part = slice(group * width, (group + 1) * width)
        own = _of_columns(found, part)
        if width > 1 or groups == 1:
            codes[:, part] = _rounded(columns[:, part].astype(np.float32), aims[group], own)
        if has_bias:
            shifts[part] = bias_correction(columns[:, part], dequantize(codes[:, part], own), gram.mean[group])
    shaped = codes if found.scheme.axis == 1 else codes.T.reshape(array.shape)
    return Fitted(shaped, shifts)


def _of_columns(found: Parameters, part: slice) -> Parameters:
    scheme = Scheme(found.scheme.dtype, symmetric=True, axis=1, narrow=found.scheme.narrow)
    return Parameters(found.scale[part], found.zero_point[part], scheme)


def _of_filters(weight: Array, grams: Doubles, found: Parameters) -> Array:
    both = quantize(weight, found), filter_codes(weight, grams, found)
    errors = [filter_errors(weight, dequantize(codes, found), grams) for codes in both]
    return np.where(errors[1] < errors[0], both[1], both[0])


def _rounded(weight: Array, gram: Doubles, found: Parameters) -> Array:
    nearest = quantize(weight, found)
    if not np.any(gram):
        return nearest
    better = coordinate_descent(weight, gram, second_order(weight, gram, found), found)
    errors = [output_errors(weight, dequantize(codes, found), gram) for codes in (nearest, better)]
    return np.where(errors[1] < errors[0], better, nearest)
