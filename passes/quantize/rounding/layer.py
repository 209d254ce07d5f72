"""A layer Y = X W whose weight is rounded: what rounding costs at its output, and what every method checks first.

Weights are [K, N] throughout: axis 0 is contracted, a column is one output channel. The inputs are known by their Gram
matrix G = X^T X, [K, K], summed over all rows of X; up to a factor, which changes nothing, it is the Hessian of the
squared error. A convolution is such a layer, with K its window.
"""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles, Parameters


def output_errors(weight: Array, rounded: Array, gram: Doubles) -> Doubles:
    """||X w - X q||^2 of each column, [N]: e^T G e with e = w - q."""
    error = weight.astype(np.float64) - rounded.astype(np.float64)
    return np.maximum((error * (gram @ error)).sum(axis=0), 0)


def real(codes: Doubles, parameters: Parameters) -> Doubles:
    """What codes held as doubles stand for."""
    scale, zero_point = parameters.grid(codes.shape)
    return (codes - zero_point) * scale


def damped(gram: Doubles, damping: float) -> Doubles:
    """G + damping * mean(diag G) * I: positive definite, and less sure of what few samples say.

    An input that was never seen, and a Gram matrix of zeros, count as one of the mean size: such weights round to
    nearest. Frantar et al. 2023 (GPTQ, arXiv 2210.17323) damp by 0.01.
    """
    diagonal = np.diagonal(gram)
    mean = float(diagonal.mean()) if diagonal.size else 0.0
    mean = mean if mean > 0 else 1.0
    return gram + np.diag(np.where(diagonal > 0, damping * mean, mean))


def check(weight: Array, gram: Doubles) -> None:
    """Raises ValueError unless they are [K, N] and [K, K] and finite."""
    if weight.ndim != 2 or gram.shape != (weight.shape[0],) * 2:
        raise ValueError(f"a weight [K, N] goes with a Gram matrix [K, K], not {weight.shape} with {gram.shape}")
    if not np.isfinite(weight.astype(np.float64)).all():
        raise ValueError("a weight to round holds NaN or infinities")
    if not np.isfinite(gram).all() or (np.diagonal(gram) < 0).any():
        raise ValueError("a Gram matrix holds NaN, infinities or a negative sum of squares: calibrate on finite inputs")
