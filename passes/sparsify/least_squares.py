"""What weights that become zero cost at the output, and how those that stay make up for it.

A layer Y = X W is known by its Gram matrix G = X^T X, as in quantize/rounding/layer.py: W is [K, N].
"""

from __future__ import annotations

import numpy as np

from planish.passes.quantize.rounding.layer import check, damped, output_errors
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.pattern import Mask

_DAMPING = 0.01
_ENOUGH = 1e-10
"""A column is done when the squared slope has shrunk by so much."""


def norm_importance(weight: Floats, gram: Doubles) -> Doubles:
    """Squared importance w_kn^2 ||x_k||^2 of each weight, [K, N]: what the output loses when it alone becomes zero, and
    no other makes up for it (Sun et al. 2024, Wanda, arXiv 2306.11695). Of inputs that are always 0 it is 0.
    """
    check(weight, gram)
    return weight.astype(np.float64) ** 2 * np.diagonal(gram)[:, None]


def made_up_for(weight: Floats, zero: Mask, gram: Doubles, begin: Floats | None = None, *, steps: int = 60) -> Floats:
    """V [K, N] that is 0 where `zero` says so, and otherwise the least of ||X W - X V||^2: the update of Optimal Brain
    Surgeon (Hassibi & Stork 1993) for all zeros at once.

    By conjugate gradients on the elements that stay, every column for itself, G damped and scaled to a diagonal of 1;
    from `begin`, else from W, with zeros, in so many steps at most. A column that G does not find better is W with
    zeros.
    """
    check(weight, gram)
    start = np.where(zero, 0, weight)
    matrix = damped(gram, _DAMPING)
    scale = 1 / np.sqrt(np.diagonal(matrix))[:, None]
    matrix = matrix * scale * scale.T
    found = (start if begin is None else np.where(zero, 0, begin)) / scale
    slope = np.where(zero, 0, matrix @ (weight / scale - found))
    direction = slope.copy()
    size = (slope**2).sum(axis=0)
    enough = size * _ENOUGH
    for _ in range(steps):
        if (size <= enough).all():
            break
        turned = matrix @ direction
        curve = (direction * turned).sum(axis=0)
        step = np.where(curve > 0, size / np.where(curve > 0, curve, 1), 0)
        found += step * direction
        slope -= step * np.where(zero, 0, turned)
        size, before = (slope**2).sum(axis=0), size
        direction = slope + np.where(before > 0, size / np.where(before > 0, before, 1), 0) * direction
    return _better(weight, start, found * scale, gram)


def _better(weight: Floats, start: Floats, found: Doubles, gram: Doubles) -> Floats:
    with np.errstate(over="ignore"):
        single = found.astype(np.float32)
    usable = np.isfinite(single).all(axis=0)
    single = np.where(usable, single, start)
    better = output_errors(weight, single, gram) < output_errors(weight, start, gram)
    return np.where(better, single, start).astype(np.float32)
