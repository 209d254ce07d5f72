"""Ranges to quantize, (low, high), of weights: one for all that share parameters. Every range holds 0.

Those of activations, of which a histogram was counted, are in histogram_ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize


class Range(NamedTuple):
    low: Doubles
    high: Doubles


def min_max(weight: Array, scheme: Scheme) -> Range:
    """The least and the largest element of all that share parameters."""
    values = _finite(weight)
    return Range(scheme.reduce(np.minimum, values), scheme.reduce(np.maximum, values))


def percentile(weight: Array, scheme: Scheme, part: float = 99.99) -> Range:
    """The ends between which the middle `part` percent of the elements lie, half of the rest on either side.

    Interpolated linearly between elements; a group of few keeps nearly all. Wu et al. 2020 (arXiv 2004.09602, section
    5.2) calibrate by percentiles.
    """
    if not 0 < part <= 100:
        raise ValueError(f"a percentile to keep is above 0 and at most 100, not {part}")
    tail = (100 - part) / 2
    values = _finite(weight)
    ends = _by_group(values, scheme, (tail, 100 - tail))
    return Range(np.minimum(ends[0], 0), np.maximum(ends[1], 0))


def least_squares(
    weight: Array, scheme: Scheme, *, importance: Doubles | None = None, power: float = 2.0, least: float = 0.3
) -> Range:
    """min_max times the factor, of 1 down to `least`, that minimises sum importance |W - Q|^power in each group.

    importance: of the weight's shape, or what broadcasts to it; for an output error take the diagonal of the Gram
    matrix, [K, 1] for a weight [K, N]. Choukroun et al. 2019 (arXiv 1902.06822) search by squares; GPTQ's code with
    power 2.4.
    """
    values = _finite(weight)
    weights = None if importance is None else np.broadcast_to(importance, values.shape)

    def loss(found: Range) -> Doubles:
        error = np.abs(values - _rounded(values, scheme, found)) ** power
        return scheme.reduce(np.add, error if weights is None else error * weights)

    return _searched(min_max(weight, scheme), np.linspace(1, least, 36), loss)


def least_output_error(weight: Array, scheme: Scheme, gram: Doubles, *, least: float = 0.3) -> Range:
    """min_max times the factor that minimises the output error ||X W - X Q||^2, G = X^T X, of a weight [K, N].

    Along axis 1 each column has a factor of its own, per tensor there is one. Blocks of axis 0 are coupled by G: one
    after the other takes its best factor while the others stand, which never ends worse than min_max. Raises
    ValueError for other axes. AWQ's code clips weights by this error (Lin et al. 2023, arXiv 2306.00978).
    """
    values = _finite(weight)
    if values.ndim != 2 or gram.shape != (values.shape[0],) * 2 or not np.isfinite(gram).all():
        raise ValueError(f"a weight [K, N] goes with a finite Gram matrix [K, K], not {values.shape} with {gram.shape}")
    axis = None if scheme.axis is None else scheme.axis % 2
    factors = np.linspace(1, least, 36)
    if scheme.block and axis == 0:
        return _block_by_block(values, scheme, gram, factors)
    if scheme.block or axis == 0:
        raise ValueError("output errors belong to columns: give a scheme per tensor, of axis 1, or of blocks of axis 0")

    def loss(found: Range) -> Doubles:
        error = values - _rounded(values, scheme, found)
        by_column = (error * (gram @ error)).sum(axis=0)
        return by_column if axis == 1 else np.asarray(by_column.sum())

    return _searched(min_max(weight, scheme), factors, loss)


def _block_by_block(values: Doubles, scheme: Scheme, gram: Doubles, factors: Doubles) -> Range:
    """e^T G e of a column changes by d^T G d + 2 d^T G e where its block b changes by d alone."""
    start = min_max(values, scheme)
    low, high = start.low.copy(), start.high.copy()
    error = values - _rounded(values, scheme, start)
    for b in range(low.shape[0]):
        rows = slice(b * scheme.block, (b + 1) * scheme.block)
        own, slope = gram[rows, rows], gram[rows] @ error
        least = np.zeros(values.shape[1])
        best = np.zeros_like(error[rows])
        for factor in factors:
            ends = Range(start.low[b : b + 1] * factor, start.high[b : b + 1] * factor)
            change = values[rows] - _rounded(values[rows], scheme, ends) - error[rows]
            loss = (change * (own @ change + 2 * slope)).sum(axis=0)
            better = loss < least
            least = np.where(better, loss, least)
            best = np.where(better, change, best)
            low[b], high[b] = np.where(better, ends.low[0], low[b]), np.where(better, ends.high[0], high[b])
        error[rows] += best
    return Range(low, high)


def _searched(whole: Range, factors: Doubles, loss: Callable[[Range], Doubles]) -> Range:
    """The whole range times the first factor of the least loss, group by group."""
    best = np.ones_like(whole.low)
    least = np.full_like(whole.low, np.inf)
    for factor in factors:
        found = loss(Range(whole.low * factor, whole.high * factor))
        best = np.where(found < least, factor, best)
        least = np.minimum(found, least)
    return Range(whole.low * best, whole.high * best)


def _rounded(values: Doubles, scheme: Scheme, found: Range) -> Doubles:
    chosen = parameters(scheme, *found)
    return dequantize(quantize(values, chosen), chosen).astype(np.float64)


def _finite(weight: Array) -> Doubles:
    values = weight.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a weight to quantize holds NaN or infinities")
    return values


def _by_group(values: Doubles, scheme: Scheme, percents: tuple[float, float]) -> Doubles:
    """Percentiles of every group, [2, *parameters' shape]."""
    shape = scheme.shape(values.shape)
    if not values.size:
        return np.zeros((2, *shape))
    if scheme.axis is None:
        return np.percentile(values, percents)
    axis = scheme.axis % values.ndim
    if not scheme.block:
        return np.percentile(values, percents, axis=tuple(i for i in range(values.ndim) if i != axis))
    starts = range(scheme.block, values.shape[axis], scheme.block)
    parts = [np.percentile(part, percents, axis=axis) for part in np.split(values, list(starts), axis)]
    return np.stack(parts, axis + 1)
