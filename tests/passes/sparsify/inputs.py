"""Inputs of layers that depend on each other, as those of real models do."""

from __future__ import annotations

import numpy as np

from planish.passes.quantize.gram import Gram
from planish.passes.quantize.scheme import Doubles, Floats


def correlated(rows: int, width: int, seed: int) -> Doubles:
    """Of few causes and some noise, whose sizes differ."""
    fixed = np.random.default_rng(0)
    causes = fixed.standard_normal((max(width // 4, 1), width)) * np.exp(fixed.standard_normal(width))
    random = np.random.default_rng([seed, 1])
    return random.standard_normal((rows, len(causes))) @ causes + 0.1 * random.standard_normal((rows, width))


def gram(x: Doubles) -> Gram:
    return Gram((x.T @ x)[None], x.mean(axis=0)[None], len(x))


def loss(w: Floats, v: Floats | Doubles, x: Doubles) -> float:
    return float(np.linalg.norm(x @ (w.astype(np.float64) - v.astype(np.float64))))
