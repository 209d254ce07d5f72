"""Zero points learned from weights alone, outliers counting less than by squares: HQQ."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles, Parameters, dequantize, quantize

_LEAST = 1e-12


def half_quadratic_zeros(
    weight: Array,
    parameters: Parameters,
    *,
    power: float = 0.7,
    strength: float = 10.0,
    growth: float = 1.01,
    steps: int = 20,
) -> Doubles:
    """Zero points, as reals in the parameters' shape, that lessen sum |W - (codes - z) s|^power, s fixed.

    Half-quadratic splitting with an auxiliary error E, Badri & Shaji 2023 (HQQ, mobiusml.github.io/hqq_blog):

        E = shrink(W - (codes - z) s),    shrink(x) = sign(x) max(0, |x| - |x|^(power - 1) / strength)
        z = mean over the group of (codes - (W - E) / s)

    with strength growing by `growth` a step; codes are those nearest for the current z. The operator MatMulNBits takes
    such zero points as they are; half_quadratic rounds them for DequantizeLinear. Errors are measured in steps of the
    grid, so that `strength` means the same for every weight; HQQ leaves it to the size of usual ones.
    """
    scheme = parameters.scheme
    _check(weight, parameters)
    scale, zero = parameters.grid(weight.shape)
    zeros = parameters.zero_point.astype(np.float64)
    ratio = weight.astype(np.float64) / scale
    counts = scheme.reduce(np.add, np.ones_like(ratio))
    least, largest = scheme.limits
    for _ in range(steps):
        codes = np.clip(np.rint(ratio + zero), least, largest)
        error = ratio - (codes - zero)
        size = np.maximum(np.abs(error), _LEAST)
        sparse = np.sign(error) * np.maximum(0, size - size ** (power - 1) / strength)
        zeros = scheme.reduce(np.add, codes - ratio + sparse) / np.maximum(counts, 1)
        zero = scheme.spread(zeros, weight.shape)
        strength *= growth
    return zeros


def half_quadratic(weight: Array, parameters: Parameters, *, power: float = 0.7) -> Parameters:
    """The parameters with zero points of HQQ, rounded to codes; each only where sum |W - Q|^power gets less by it."""
    scheme = parameters.scheme
    zeros = np.clip(np.rint(half_quadratic_zeros(weight, parameters, power=power)), *scheme.limits)
    moved = parameters._replace(zero_point=scheme.as_codes(zeros))
    before, after = (_distance(weight, p, power) for p in (parameters, moved))
    chosen = np.where(after < before, zeros, parameters.zero_point.astype(np.float64))
    return parameters._replace(zero_point=scheme.as_codes(chosen))


def _distance(weight: Array, parameters: Parameters, power: float) -> Doubles:
    error = np.abs(weight.astype(np.float64) - dequantize(quantize(weight, parameters), parameters))
    return parameters.scheme.reduce(np.add, error**power)


def _check(weight: Array, parameters: Parameters) -> None:
    if parameters.scheme.symmetric:
        raise ValueError("a symmetric scheme has no zero points to learn")
    if not np.isfinite(weight.astype(np.float64)).all():
        raise ValueError("a weight to round holds NaN or infinities")
