"""Weights quantized after their mean was taken off and their deviation made 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.scheme import Doubles, Floats, Parameters, Scheme, dequantize, parameters, quantize


class Standardized(NamedTuple):
    """W = dequantize(codes, parameters) + means: a DequantizeLinear and an Add."""

    codes: Array
    parameters: Parameters
    means: Floats
    """In the parameters' shape."""

    def real(self) -> Floats:
        means = self.parameters.scheme.spread(self.means, self.codes.shape)
        return dequantize(self.codes, self.parameters) + means


def standardized(weight: Array, scheme: Scheme, *, deviations: float | None = None) -> Standardized:
    """Codes of (W - mean) / deviation, both of all that share parameters; what is returned has scale * deviation.

    deviations: how many of them the codes reach on both sides, so that one scale serves groups that are distributed
    alike; without it they reach from the least to the largest. The form is that of Li, Dong & Wang 2020 (APoT, arXiv
    1909.13144, weight normalization) and Qin et al. 2020 (IR-Net, arXiv 1909.10788), who train with it. After training
    it helps weights whose mean is not 0 where the scheme is symmetric; an asymmetric one has its zero point for that,
    without the Add. A group of one value is its mean, exactly. Raises ValueError for NaN and infinities.
    """
    values = weight.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a weight to quantize holds NaN or infinities")
    if deviations is not None and not 0 < deviations < np.inf:
        raise ValueError(f"codes reach a number of deviations above 0, not {deviations}")
    mean = _mean(values, scheme).astype(np.float32)
    centred = values - scheme.spread(mean, values.shape)
    deviation = np.sqrt(_mean(centred**2, scheme))
    deviation = np.where(deviation > 0, deviation, 1.0)
    normal = centred / scheme.spread(deviation, values.shape)
    reach = np.full(mean.shape, deviations, np.float64)
    chosen = parameters(scheme, *(min_max(normal, scheme) if deviations is None else (-reach, reach)))
    scale = (chosen.scale * deviation).astype(np.float32)
    return Standardized(quantize(normal, chosen), chosen._replace(scale=scale), mean)


def _mean(values: Doubles, scheme: Scheme) -> Doubles:
    counts = scheme.reduce(np.add, np.ones_like(values))
    return scheme.reduce(np.add, values) / np.maximum(counts, 1)
