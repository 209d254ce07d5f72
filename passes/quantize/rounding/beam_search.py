"""Second-order rounding that keeps several roundings of each column, and the best in the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array
from planish.passes.quantize.rounding.layer import check
from planish.passes.quantize.rounding.second_order import upper_factor_of_inverse
from planish.passes.quantize.scheme import Doubles, Parameters

Places = NDArray[np.intp]


def beam_search(
    weight: Array, gram: Doubles, parameters: Parameters, *, width: int = 8, damping: float = 0.01, lazy: int = 64
) -> Array:
    """Codes [K, N] of a weight [K, N]: those of second_order where `width` is 1, nearer to the best ones above.

    The squared error at the output is the sum over rows of (e[k] / U[k, k])^2, e the errors that second_order makes. So
    it is known of the first rows before the others are rounded: a search down a tree, whose branches at each row are
    the two nearest codes. Of each column the `width` roundings of the least error so far go on: the M-algorithm of
    Anderson & Mohan 1984 (IEEE Trans. Commun. 32, 169-176), which detects signals sent over several antennas likewise.
    For codes of integers. Time and memory are `width` times those of second_order.
    """
    check(weight, gram)
    if parameters.scheme.dtype.is_float:
        raise ValueError("beam search goes to neighbouring codes, which are those of integers")
    order = np.argsort(-np.diagonal(gram), kind="stable")
    scale, zero_point = (grid[order] for grid in parameters.grid(weight.shape))
    upper = upper_factor_of_inverse(gram[np.ix_(order, order)], damping)
    rest = weight[order].astype(np.float64)[:, None]
    rows, columns = weight.shape
    codes = np.zeros((rows, 1, columns), np.int16)
    cost = np.zeros((1, columns))
    for start in range(0, rows, lazy):
        end = min(start + lazy, rows)
        part = slice(start, end)
        found = _walk(rest[part], _Rows(upper[part, part], scale[part], zero_point[part]), parameters, cost, width)
        cost = found.cost
        codes = codes[:, found.ancestors, np.arange(columns)]
        codes[part] = found.codes
        if end < rows:
            made_up = upper[part, end:].T @ found.errors.reshape(end - start, -1)
            later = rest[end:, found.ancestors, np.arange(columns)]
            later -= made_up.reshape(later.shape)
            rest = np.concatenate([np.empty((end, *later.shape[1:])), later])
    best = np.empty((rows, columns))
    best[order] = codes[:, cost.argmin(axis=0), np.arange(columns)]
    return parameters.scheme.as_codes(best)


class _Rows(NamedTuple):
    upper: Doubles
    scale: Doubles
    zero_point: Doubles


class _Found(NamedTuple):
    codes: Array
    """[rows, beams, columns], as errors are."""
    errors: Doubles
    ancestors: Places
    """Which of the beams before these rows each beam goes on from, [beams, columns]."""
    cost: Doubles
    """[beams, columns]."""


def _walk(values: Doubles, rows: _Rows, parameters: Parameters, cost: Doubles, width: int) -> _Found:
    """Through some rows, [rows, beams, columns]."""
    block = values
    columns = np.arange(len(values[0, 0]))
    steps: list[tuple[Doubles, Doubles, Places]] = []
    for k in range(len(values)):
        choices = _two_nearest(block[0], rows.scale[k], rows.zero_point[k], parameters)
        errors = (block[0] - (choices - rows.zero_point[k]) * rows.scale[k]) / rows.upper[k, k]
        beams = block.shape[1]
        errors, choices = errors.reshape(2 * beams, -1), choices.reshape(2 * beams, -1)
        total = np.concatenate([cost, cost]) + errors**2
        kept = _least(total, width)
        cost = np.take_along_axis(total, kept, axis=0)
        error, parents = np.take_along_axis(errors, kept, axis=0), kept % beams
        steps.append((np.take_along_axis(choices, kept, axis=0), error, parents))
        block = block[1:, parents, columns]
        block -= rows.upper[k, k + 1 :, None, None] * error
    codes, errors = np.empty((2, len(values), *cost.shape))
    ancestors = np.broadcast_to(np.arange(len(cost))[:, None], cost.shape)
    for k in reversed(range(len(values))):
        code, error, parents = steps[k]
        codes[k], errors[k] = code[ancestors, columns], error[ancestors, columns]
        ancestors = parents[ancestors, columns]
    return _Found(codes, errors, ancestors, cost)


def _two_nearest(values: Doubles, scale: Doubles, zero_point: Doubles, parameters: Parameters) -> Doubles:
    """[2, beams, columns]; never the same one twice, which would fill the beam with itself."""
    scheme = parameters.scheme
    ratio = values / scale
    nearest = scheme.nearest(ratio, zero_point)
    side = np.where(ratio + zero_point >= nearest, 1.0, -1.0)
    least, largest = scheme.limits
    side = np.where((nearest + side > largest) | (nearest + side < least), -side, side)
    return np.stack([nearest, nearest + side])


def _least(total: Doubles, width: int) -> Places:
    if len(total) <= width:
        return np.broadcast_to(np.arange(len(total))[:, None], total.shape)
    return np.argpartition(total, width - 1, axis=0)[:width]
