"""A product behind which a softmax stands: its weights fitted to the distributions that the original gives.

Least squares count what every class lacks alike, and draw rare classes to their means; what is read is which class is
likeliest. Here the cross-entropy of the original's distributions falls, by conjugate gradients with X^T X as the
preconditioner: (X^T X)^-1 bounds the inverse of the Hessian but for a factor (D. Böhning, Multinomial logistic
regression algorithm, Annals of the Institute of Statistical Mathematics 44, 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.runtime.pruning.fitting import Doubles

Singles = NDArray[np.float32]
Classes = NDArray[np.int64]
_LIKELIEST = 8
"""Classes of which the probability is kept for a row; that of others counts as 0."""
_MOST_BYTES = 64 << 20
_BLOCK = 1 << 21
"""Logits that are computed at a time."""
_RIDGE = 1.0
_STEPS = 12


class Affine(NamedTuple):
    """Weights [k, outputs] and biases [outputs]."""

    weight: Doubles
    bias: Doubles


class Distributions:
    """Rows of what goes into a product [rows, k], and the original's distributions for them.

    Rows with a NaN or an infinity are left out, and of rows that take more than 64 MiB what is more.
    """

    def __init__(self) -> None:
        self._x: list[Singles] = []
        self._classes: list[Classes] = []
        self._parts: list[Singles] = []
        self._bytes = 0

    def add(self, x: Doubles, logits: Doubles) -> None:
        with np.errstate(over="ignore"):
            rows = x.astype(np.float32)
        finite = np.isfinite(rows).all(axis=1) & np.isfinite(logits).all(axis=1)
        rows, logits = rows[finite], logits[finite]
        count = min(_LIKELIEST, logits.shape[1])
        size = len(rows) * (4 * rows.shape[1] + 12 * count)
        if not size or self._bytes + size > _MOST_BYTES:
            return
        self._bytes += size
        classes = np.argpartition(logits, -count, axis=1)[:, -count:]
        likeliest = np.take_along_axis(logits, classes, axis=1)
        parts = np.exp(likeliest - likeliest.max(axis=1, keepdims=True))
        self._x.append(rows)
        self._classes.append(classes)
        self._parts.append((parts / parts.sum(axis=1, keepdims=True)).astype(np.float32))

    @property
    def count(self) -> int:
        return sum(map(len, self._x))

    def blocks(self, outputs: int) -> Iterator[tuple[Singles, Classes, Singles]]:
        """Rows, classes and their probabilities."""
        step = max(_BLOCK // outputs, 1)
        for x, classes, parts in zip(self._x, self._classes, self._parts, strict=True):
            for begin in range(0, len(x), step):
                yield x[begin : begin + step], classes[begin : begin + step], parts[begin : begin + step]

    def gram(self) -> Doubles:
        """Of the rows with a 1 behind them."""
        k = self._x[0].shape[1]
        found = np.zeros((k + 1, k + 1))
        for x in self._x:
            extended = _extended(x)
            found += extended.T @ extended
        return found


@np.errstate(over="ignore", invalid="ignore")
def fitted(seen: Distributions, judging: Distributions, start: Affine) -> Affine:
    """Of some steps from that start on what does best on the judging ones; the start itself where none does better."""
    if not seen.count or not judging.count:
        return start
    gram = seen.gram()
    size = len(gram) - 1
    scale = float(np.trace(gram[:size, :size])) / max(size, 1)
    gram[np.arange(size), np.arange(size)] += _RIDGE * (scale if scale > 0 else 1.0)
    inverse = np.linalg.inv(gram)
    now = np.concatenate([start.weight, start.bias[None]])
    best, least = now, cross_entropy(judging, now)
    before: tuple[Doubles, Doubles, float] | None = None
    for _ in range(_STEPS):
        slope = _slope(seen, now)
        descent = inverse @ slope
        along = float((descent * slope).sum())
        way = descent
        if before is not None and before[2] > 0:  # Polak and Ribière
            way = descent + max(float(((descent - before[0]) * slope).sum()) / before[2], 0.0) * before[1]
        before = descent, way, along
        now = now + _length(seen, now, way, slope) * way
        loss = cross_entropy(judging, now)
        if loss < least:
            best, least = now, loss
    return Affine(best[:-1], best[-1])


def cross_entropy(seen: Distributions, weights: Doubles) -> float:
    """Of the distributions, a row; weights: [k + 1, outputs], the last are the biases."""
    total, single = 0.0, weights.astype(np.float32)
    for x, classes, parts in seen.blocks(weights.shape[1]):
        logits = _logits(x, single)
        logits -= logits.max(axis=1, keepdims=True)
        rest = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total += float((parts * (rest - np.take_along_axis(logits, classes, axis=1))).sum(dtype=np.float64))
    return total / seen.count if np.isfinite(total) else np.inf


def _slope(seen: Distributions, weights: Doubles) -> Doubles:
    """Where the cross-entropy falls, [k + 1, outputs]."""
    found, single = np.zeros_like(weights), weights.astype(np.float32)
    for x, classes, parts in seen.blocks(weights.shape[1]):
        lacking = -_softmax(_logits(x, single))
        rows = np.arange(len(x))[:, None]
        lacking[rows, classes] += parts
        found += np.concatenate([x.T @ lacking, lacking.sum(axis=0, keepdims=True)])
    return found


def _length(seen: Distributions, weights: Doubles, way: Doubles, slope: Doubles) -> float:
    """Of the step along a way to the least of the parabola that the cross-entropy is like there."""
    curvature = 0.0
    single, step = weights.astype(np.float32), way.astype(np.float32)
    for x, _, _ in seen.blocks(weights.shape[1]):
        likely, moved = _softmax(_logits(x, single)), _logits(x, step)
        mean = (likely * moved).sum(axis=1)
        curvature += float((likely * moved * moved).sum(dtype=np.float64) - np.square(mean).sum(dtype=np.float64))
    return float((way * slope).sum()) / curvature if curvature > 0 else 0.0


def _logits(x: Singles, weights: Singles) -> Singles:
    return x @ weights[:-1] + weights[-1]


def _softmax(logits: Singles) -> Singles:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _extended(x: Singles) -> Doubles:
    return np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1).astype(np.float64)
