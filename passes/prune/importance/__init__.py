"""How much a unit matters: by its weights alone, or by what was measured of it on samples.

A criterion of weights scores the units of each weight of a group; a reduction joins these scores over the weights, and
a normalization makes groups comparable. What was measured is one number for each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.chance import random_order
from planish.passes.prune.importance.geometric_median import geometric_median
from planish.passes.prune.importance.magnitude import absolute_sum, euclidean_norm
from planish.passes.prune.importance.normalization_scale import normalization_scale
from planish.passes.prune.importance.weights import Scores

Criterion = Callable[[Group, int], list[Scores]]
"""From a group and a seed to the scores of its units, one array for each weight that it looked at; none: no opinion."""
Importance = Literal[
    "l1", "l2", "random", "geometric-median", "bn-scale",
    "obs", "taylor", "hessian", "similarity", "variance", "mean-activation", "zeros", "entropy",
]  # fmt: skip
Reduction = Literal["mean", "sum", "max", "product"]
Normalization = Literal["mean", "max", "sum", "none"]

CRITERIA: Mapping[Importance, Criterion] = {
    "l1": absolute_sum,
    "l2": euclidean_norm,
    "random": random_order,
    "geometric-median": geometric_median,
    "bn-scale": normalization_scale,
}
MEASURED: tuple[Importance, ...] = (
    "obs", "taylor", "hessian", "similarity", "variance", "mean-activation", "zeros", "entropy",
)  # fmt: skip
"""Criteria of what units do on samples, which `runtime.importance` measures."""
_COMPARABLE: tuple[Importance, ...] = ("obs", "taylor", "hessian")
"""Parts of what products give, which are held against each other as they are."""
_REDUCTIONS: Mapping[Reduction, Callable[[Scores], Scores]] = {
    "mean": lambda scores: scores.mean(axis=0),
    "sum": lambda scores: scores.sum(axis=0),
    "max": lambda scores: scores.max(axis=0),
    "product": lambda scores: scores.prod(axis=0),
}
_SCALES: Mapping[Normalization, Callable[[Scores], float]] = {
    "mean": lambda scores: float(scores.mean()),
    "max": lambda scores: float(scores.max()),
    "sum": lambda scores: float(scores.sum()),
    "none": lambda _: 1.0,
}


def score(
    group: Group,
    importance: Importance,
    *,
    reduction: Reduction = "mean",
    normalization: Normalization = "mean",
    seed: int = 0,
) -> Scores:
    """One number for each unit, the least for what matters least; infinite where the criterion has no opinion.

    reduction: joins what the weights say, each first divided by its mean. normalization: what the result is divided by,
    so that the units of one group can be held against those of another.
    """
    found = [scores for scores in CRITERIA[importance](group, seed) if np.isfinite(scores).all()]
    if not found:
        return np.full(group.size, np.inf)
    joined = _REDUCTIONS[reduction](np.stack([_divided(scores, float(scores.mean())) for scores in found]))
    return _divided(joined, _SCALES[normalization](joined))


def measured(criterion: Importance, scores: Scores, normalization: Normalization = "mean") -> Scores:
    """What was measured of a group, made comparable; errors of what products give are, as they are."""
    if criterion in _COMPARABLE or not np.isfinite(scores).all():
        return scores
    return _divided(scores, _SCALES[normalization](scores))


def _divided(scores: Scores, scale: float) -> Scores:
    return scores / scale if scale > 0 and np.isfinite(scale) else scores
