"""Ranges to quantize, (low, high), of values that were counted: two numbers, which hold 0.

A histogram is counts, float64[n], and edges, float64[n + 1], increasing: counts[i] values lie from edges[i] to below
edges[i + 1]; the last bin holds its upper edge too. The bin that holds 0 stands for 0 itself, as what Relu gives;
others for their middle.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize

Ends = tuple[float, float]

_CANDIDATES = 128
_TINY = 1e-9
"""The part of all that a bin is given at least where values are and none were expected: a divergence stays finite."""


def min_max(counts: Doubles, edges: Doubles) -> Ends:
    """The outer edges of the outermost bins that hold anything, and 0."""
    _check(counts, edges)
    full = np.flatnonzero(counts)
    if not full.size:
        return 0.0, 0.0
    return min(float(edges[full[0]]), 0.0), max(float(edges[full[-1] + 1]), 0.0)


def percentile(counts: Doubles, edges: Doubles, part: float = 99.99) -> Ends:
    """The ends between which the middle `part` percent of the values lie, half of the rest on either side.

    Values are taken to lie evenly within a bin. A histogram that stands on one side of 0 loses all of the rest there,
    since at 0 nothing can be cut off. Wu et al. 2020 (arXiv 2004.09602, section 5.2).
    """
    if not 0 < part <= 100:
        raise ValueError(f"a percentile to keep is above 0 and at most 100, not {part}")
    low, high = min_max(counts, edges)
    if low == high:
        return low, high
    tail = float(counts.sum()) * (1 - part / 100) / (2 if low < 0 < high else 1)
    below, above = np.concatenate([[0.0], np.cumsum(counts)]), np.concatenate([[0.0], np.cumsum(counts[::-1])])
    cut_low = float(edges[0]) if tail <= 0 else _at(below, edges, tail)
    cut_high = float(edges[-1]) if tail <= 0 else -_at(above, -edges[::-1], tail)
    return max(low, min(cut_low, 0.0)), min(high, max(cut_high, 0.0))


def _at(sums: Doubles, edges: Doubles, tail: float) -> float:
    """Where the sum of counts, linear within bins, reaches the tail."""
    place = min(int(np.searchsorted(sums, tail, side="right")) - 1, len(sums) - 2)
    within = (tail - float(sums[place])) / max(float(sums[place + 1] - sums[place]), _TINY)
    return float(edges[place]) + min(within, 1.0) * float(edges[place + 1] - edges[place])


def least_squares(counts: Doubles, edges: Doubles, scheme: Scheme) -> Ends:
    """The range with the least mean squared error of the values: sum counts (x - q(x))^2.

    First both ends are cut at one magnitude, then, where the scheme is asymmetric, each end once more by itself.
    Banner et al. 2019 (arXiv 1810.05723) minimise it for bell curves in closed form, here it is counted.
    """
    low, high = min_max(counts, edges)
    if low == high:
        return low, high
    values, weights = _values(counts, edges)

    def loss(ends: Ends) -> float:
        return float(np.sum(weights * (values - _rounded(values, scheme, ends)) ** 2))

    steps = np.linspace(1, 0, _CANDIDATES, endpoint=False).tolist()
    reach = max(-low, high)
    best = min([(max(low, -reach * step), min(high, reach * step)) for step in steps], key=loss)
    if scheme.symmetric:
        return best
    best = min([best, *((best[0], high * step) for step in steps)], key=loss)
    return min([best, *((low * step, best[1]) for step in steps)], key=loss)


def entropy(counts: Doubles, edges: Doubles, scheme: Scheme) -> Ends:
    """The range whose codes keep most of what the histogram says, by the divergence of Kullback and Leibler.

    Migacz 2017 (8-bit Inference with TensorRT, GTC): for every magnitude t at which values may be cut, P is the
    histogram within t, what lies beyond it added to its outermost bins; Q spreads what each code collects within t
    evenly over the code's bins that are not empty; the t with the least sum P log(P / Q) is taken.

    Where that is known to fail, this differs. The bin of 0 does not count: 0 has a code of its own whatever t is, and
    the zeros of a Relu would drown all else. Bins are collected by the codes that the scheme really has: a histogram on
    one side of 0, or an asymmetric one, has all codes. Where P has values and Q none, Q has a tiny part, not a skip.
    A t must leave a bin for every code, else nothing could be lost; a histogram with too few bins keeps its min_max.
    """
    low, high = min_max(counts, edges)
    reach = max(-low, high)
    if low == high:
        return low, high
    values, weights = _values(np.where(_holds_zero(edges), 0, counts), edges)
    if not weights.any():
        return low, high
    least, largest = scheme.limits
    codes = (1 << scheme.dtype.bits) - 1 if scheme.dtype.is_float else largest - least
    found, best = (low, high), np.inf
    for t in np.linspace(reach, 0, _CANDIDATES, endpoint=False).tolist():
        ends = max(low, -t), min(high, t)
        if np.count_nonzero((values >= ends[0]) & (values <= ends[1])) < codes * _used(ends, scheme):
            continue
        loss = _divergence(values, weights, scheme, ends)
        if loss < best:
            found, best = ends, loss
    return found


def _used(ends: Ends, scheme: Scheme) -> float:
    """The part of the codes that a range reaches: half, where a symmetric scheme meets values of one sign."""
    return (ends[1] - ends[0]) / (2 * max(-ends[0], ends[1])) if scheme.symmetric else 1.0


def _divergence(values: Doubles, weights: Doubles, scheme: Scheme, ends: Ends) -> float:
    """P log(P / Q), both made to sum to 1."""
    inside = (values >= ends[0]) & (values <= ends[1])
    kept = np.where(inside, weights, 0)
    if not kept.any():
        return np.inf
    wanted = kept.copy()
    places = np.flatnonzero(inside)
    wanted[places[0]] += weights[values < ends[0]].sum()
    wanted[places[-1]] += weights[values > ends[1]].sum()
    _, code = np.unique(_rounded(values, scheme, ends), return_inverse=True)
    mass = np.bincount(code, kept)
    bins = np.bincount(code, kept > 0)
    spread = np.where(kept > 0, mass[code] / np.maximum(bins[code], 1), 0) / kept.sum()
    wanted /= wanted.sum()
    there = wanted > 0
    return float(np.sum(wanted[there] * np.log(wanted[there] / np.maximum(spread[there], _TINY))))


def _holds_zero(edges: Doubles) -> Array:
    last = np.arange(len(edges) - 1) == len(edges) - 2
    return (edges[:-1] <= 0) & ((edges[1:] > 0) | (last & (edges[1:] == 0)))


def _values(counts: Doubles, edges: Doubles) -> tuple[Doubles, Doubles]:
    """What each bin stands for, and how often it was met."""
    return np.where(_holds_zero(edges), 0.0, edges[:-1] / 2 + edges[1:] / 2), counts


def _rounded(values: Doubles, scheme: Scheme, ends: Ends) -> Doubles:
    chosen = parameters(_per_tensor(scheme), *ends)
    return dequantize(quantize(values, chosen), chosen).astype(np.float64)


def _per_tensor(scheme: Scheme) -> Scheme:
    return replace(scheme, axis=None, block=0)


def _check(counts: Doubles, edges: Doubles) -> None:
    if counts.ndim != 1 or edges.shape != (len(counts) + 1,) or not len(counts):
        raise ValueError(f"a histogram has n counts and n + 1 edges, not {counts.shape} and {edges.shape}")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("a histogram counts 0 or more values in each bin, never NaN or infinitely many")
    if not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
        raise ValueError("the edges of a histogram are finite and increase")
