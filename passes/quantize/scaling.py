"""Factors by which channels are scaled between two operators, so that what is quantized is easier to quantize.

All are float64[C] above 0, for C channels that one operator gives and the next one takes: the first one's results are
divided by them, the second one's weight multiplied; the product stays as it was. A channel of which nothing is known,
whose magnitudes are 0, keeps its size: factor 1.
"""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.layer import check, output_errors
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize


def equalizing(first: Doubles, second: Doubles) -> Doubles:
    """Factors that give both weights the same range in every channel.

        s = sqrt(r1 / r2)        r1 / s = r2 * s = sqrt(r1 r2)

    first: r1, the largest magnitude of each output channel of the first weight; second: r2, that of each input channel
    of the second. Nagel et al. 2019 (Data-Free Quantization, arXiv 1906.04721, equation 11). What lies between must be
    positively homogeneous, as Relu is, and its bias is divided too. Meller et al. 2019 (arXiv 1902.01917) are alike.
    """
    _check(first, second)
    with np.errstate(over="ignore"):  # by a subnormal: the factor has its limit
        ratio = np.sqrt(first) / np.sqrt(_nonzero(second))
    return _safe(ratio, (first > 0) & (second > 0))


def smoothing(activations: Doubles, weights: Doubles, *, exponent: float = 0.5) -> Doubles:
    """Factors that move the outliers of activations into the weight.

        s = max|X|^exponent / max|W|^(1 - exponent)

    activations: the largest magnitude of each channel of X; weights: that of each row of W [K, N], and where several
    weights read X, over all. Xiao et al. 2023 (SmoothQuant, arXiv 2211.10438, equation 4).
    """
    _check(activations, weights)
    _check_exponent(exponent)
    with np.errstate(over="ignore"):
        ratio = _nonzero(activations) ** exponent / _nonzero(weights) ** (1 - exponent)
    return _safe(ratio, (activations > 0) & (weights > 0))


def activation_aware(
    weight: Array, gram: Doubles, magnitudes: Doubles, scheme: Scheme, *, exponents: int = 20
) -> Doubles:
    """Factors under which a weight [K, N], rounded to nearest, keeps its output best.

        s = magnitudes^a / sqrt(max * min of these)        a from 0, which is no scaling, to 1

    with the a of the least ||X W - (X / s) q(s W)||^2, G = X^T X. magnitudes: the mean |X| of each channel. Lin et al.
    2023 (AWQ, arXiv 2306.00978, equations 4 and 5). Never worse than no scaling, on the inputs of G.
    """
    check(weight, gram)
    _check(magnitudes, magnitudes)
    if magnitudes.shape != weight.shape[:1]:
        raise ValueError(f"a weight {weight.shape} takes one magnitude for each row, not {magnitudes.shape}")
    best, least = np.ones(len(magnitudes)), np.inf
    for exponent in np.linspace(0, 1, exponents + 1).tolist():
        power = _nonzero(magnitudes) ** exponent
        if power.size:
            with np.errstate(over="ignore"):
                power = power / (np.sqrt(power.max()) * np.sqrt(power.min()))
        factors = _safe(power, magnitudes > 0)
        loss = _output_error(weight, gram, factors[:, None], scheme)
        if loss < least:
            best, least = factors, loss
    return best


def _output_error(weight: Array, gram: Doubles, factors: Doubles, scheme: Scheme) -> float:
    scaled = weight.astype(np.float64) * factors
    chosen = parameters(scheme, *min_max(scaled, scheme))
    return float(output_errors(weight, dequantize(quantize(scaled, chosen), chosen) / factors, gram).sum())


def _nonzero(magnitudes: Doubles) -> Doubles:
    return np.where(magnitudes > 0, magnitudes, 1.0)


def _safe(factors: Doubles, known: Array) -> Doubles:
    """Factors within float32's normal numbers whose inverse is one too; 1 where nothing is known."""
    limit = 2.0**60
    return np.where(known, np.clip(factors, 1 / limit, limit), 1.0)


def _check(first: Doubles, second: Doubles) -> None:
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"magnitudes are one for each channel of both sides, not {first.shape} and {second.shape}")
    if not all(np.isfinite(each).all() and (each >= 0).all() for each in (first, second)):
        raise ValueError("magnitudes are 0 or more, never NaN or infinite")


def _check_exponent(exponent: float) -> None:
    if not 0 <= exponent <= 1:
        raise ValueError(f"an exponent of smoothing lies between 0 and 1, not {exponent}")
