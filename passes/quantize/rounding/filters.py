"""Rounding of depthwise filters: each has few weights and a Gram matrix of its own, so all are worked on at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, parameters, quantize

_FACTORS = tuple(np.linspace(1.1, 0.4, 15).tolist())
"""Of the range from the least to the largest weight, at which searches begin."""
_SWEEPS = 10


class Filters(NamedTuple):
    codes: Array
    """[K, C]"""
    parameters: Parameters


def filter_errors(weight: Array, rounded: Array, grams: Doubles) -> Doubles:
    """||X[c] (w[c] - q[c])||^2 of each filter, [C]: weights [K, C], G[c] = X[c]^T X[c], [C, K, K]."""
    error = weight.astype(np.float64) - rounded.astype(np.float64)
    return np.maximum(np.einsum("kc,ckj,jc->c", error, grams, error, optimize=True), 0)


def filter_codes(weight: Array, grams: Doubles, given: Parameters, *, damping: float = 0.01) -> Array:
    """Codes [K, C] by given scales of weights [K, C], axis 1, for the least filter_errors: second-order rounding, then
    coordinate descent, as of a matrix, but with a Gram matrix for each column.
    """
    _check(weight, grams, given.scheme)
    matrices = _damped(grams, damping)
    codes = _second_order(weight.astype(np.float64), matrices, given)
    return given.scheme.as_codes(_descended(weight.astype(np.float64), matrices, codes, given))


def least_filter_error(
    weight: Array, grams: Doubles, scheme: Scheme, *, fits: int = 3, damping: float = 0.01
) -> Filters:
    """Codes and scales of weights [K, C], one scale a filter. The best of searches that begin at several ranges, each
    `fits` times codes, then the scale that fits them best: s = v^T G w / v^T G v with v = codes - zero point.

    Never worse, on the inputs of the Gram matrices, than rounding to nearest from the least to the largest weight.
    """
    _check(weight, grams, scheme)
    low, high = min_max(weight, scheme)
    nearest = parameters(scheme, low, high)
    best = Filters(quantize(weight, nearest), nearest)
    for factor in _FACTORS:
        chosen = parameters(scheme, low * factor, high * factor)
        codes = filter_codes(weight, grams, chosen, damping=damping)
        best = _better(weight, grams, best, Filters(codes, chosen))
        for _ in range(0 if scheme.power_of_two else fits):
            chosen = _fitted(weight, _damped(grams, damping), codes, chosen)
            codes = filter_codes(weight, grams, chosen, damping=damping)
            best = _better(weight, grams, best, Filters(codes, chosen))
    return best


def _second_order(weight: Doubles, matrices: Doubles, given: Parameters) -> Doubles:
    scale, zero_point = given.grid(weight.shape)
    turned = np.linalg.inv(np.linalg.cholesky(matrices[:, ::-1, ::-1]))
    upper = turned[:, ::-1, ::-1]
    rest = weight.copy()
    codes = np.empty_like(rest)
    for k in range(len(rest)):
        codes[k] = given.scheme.nearest(rest[k] / scale[k], zero_point[k])
        error = (rest[k] - (codes[k] - zero_point[k]) * scale[k]) / upper[:, k, k]
        rest[k:] -= (upper[:, k, k:] * error[:, None]).T
    return codes


def _descended(weight: Doubles, matrices: Doubles, codes: Doubles, given: Parameters) -> Doubles:
    scale, zero_point = given.grid(weight.shape)
    diagonal = np.einsum("ckk->kc", matrices)
    now = (codes - zero_point) * scale
    slope = np.einsum("ckj,jc->kc", matrices, weight - now)
    for _ in range(_SWEEPS):
        moved = 0
        for k in range(len(codes)):
            best = given.scheme.nearest((now[k] + slope[k] / diagonal[k]) / scale[k], zero_point[k])
            step = (best - codes[k]) * scale[k]
            moved += np.count_nonzero(step)
            codes[k] = best
            now[k] += step
            slope -= matrices[:, :, k].T * step
        if not moved:
            break
    return codes


def _fitted(weight: Array, matrices: Doubles, codes: Array, given: Parameters) -> Parameters:
    value = codes.astype(np.float64) - given.grid(weight.shape)[1]
    pulled = np.einsum("ckj,jc->kc", matrices, value)
    over, under = (pulled * weight.astype(np.float64)).sum(axis=0), (pulled * value).sum(axis=0)
    fits = (under > 0) & (over > np.finfo(np.float32).tiny * under) & (over < np.finfo(np.float32).max * under)
    scale = np.where(fits, over / np.where(fits, under, 1), given.scale).astype(np.float32)
    return given._replace(scale=scale)


def _better(weight: Array, grams: Doubles, a: Filters, b: Filters) -> Filters:
    errors = [filter_errors(weight, dequantize(found.codes, found.parameters), grams) for found in (a, b)]
    take = errors[1] < errors[0]
    scale = np.where(take, b.parameters.scale, a.parameters.scale)
    zero_point = np.where(take, b.parameters.zero_point, a.parameters.zero_point)
    return Filters(np.where(take, b.codes, a.codes), Parameters(scale, zero_point, a.parameters.scheme))


def _damped(grams: Doubles, damping: float) -> Doubles:
    """As of one matrix, see layer.damped."""
    diagonal = np.einsum("ckk->ck", grams)
    mean = diagonal.mean(axis=1, keepdims=True) if diagonal.size else np.zeros((len(grams), 1))
    mean = np.where(mean > 0, mean, 1.0)
    return grams + np.where(diagonal > 0, damping * mean, mean)[:, :, None] * np.eye(grams.shape[1])


def _check(weight: Array, grams: Doubles, scheme: Scheme) -> None:
    if weight.ndim != 2 or grams.shape != (weight.shape[1], weight.shape[0], weight.shape[0]):
        raise ValueError(f"filters [K, C] go with Gram matrices [C, K, K], not {weight.shape} with {grams.shape}")
    if scheme.axis is None or scheme.axis % 2 != 1 or scheme.block:
        raise ValueError("filters have one scale each: a scheme of axis 1, without blocks")
    if not (np.isfinite(weight.astype(np.float64)).all() and np.isfinite(grams).all()):
        raise ValueError("filters to round, or their Gram matrices, hold NaN or infinities")
