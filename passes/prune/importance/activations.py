"""What units matter by, from what was seen of their activations and of the inputs of what reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.ops.channels.atoms import Ids
from planish.passes.prune.importance.removal_order import Consumer, Doubles

_BINS = 16


@np.errstate(over="ignore", invalid="ignore")
def hessian_diagonal(consumers: Sequence[Consumer], size: int) -> Doubles:
    """What products lose of their power once a unit is 0 and no other weight makes up for it: tr(W_S^T H_SS W_S).

    Second derivatives alone, of squares of errors, as in Optimal Brain Damage (LeCun, Denker and Solla, NIPS 1989).
    """
    total = np.zeros(size)
    for consumer in consumers:
        power = float(np.einsum("ko,ko->", consumer.weight, consumer.h @ consumer.weight))
        if not np.isfinite(power) or power <= 0:
            continue
        for unit in range(size):
            rows = np.flatnonzero(consumer.units == unit)
            w = consumer.weight[rows]
            total[unit] += max(float(np.einsum("ko,ko->", w, consumer.h[np.ix_(rows, rows)] @ w)), 0.0) / power
    return total


def dissimilarity(matrix: Doubles, units: Ids, size: int) -> Doubles:
    """How little a unit is like the others: of those that it is like, one may stand for it.

    Their number less the sum of Gaussian kernels exp(-d^2 / 2 s^2) of the distances d to all units' activations, s the
    median distance. matrix: X^T X; units: which unit each column of X belongs to, -1 for none.
    """
    belongs = (units[:, None] == np.arange(size)).astype(np.float64)
    squares = belongs.T @ np.diagonal(matrix)
    joint = np.zeros((size, size))
    for column in range(int(belongs.sum(axis=0).max(initial=0))):
        first = np.array([[*np.flatnonzero(row), *[-1] * column][column] for row in belongs.T])
        joint += np.where((first >= 0)[:, None] & (first >= 0), matrix[np.ix_(first, first)], 0)
    apart = np.maximum(squares[:, None] + squares - 2 * joint, 0)
    others = apart[~np.eye(size, dtype=np.bool_)]
    scale = float(np.median(others)) if others.size else 0.0
    return size - np.exp(-apart / (2 * scale)).sum(axis=1) if scale > 0 else np.zeros(size)


@np.errstate(over="ignore")
def entropy(means: Doubles) -> Doubles:
    """In nats, of the histogram of a unit's mean over each sample (Luo and Wu 2017, arXiv 1706.05791).

    means: [samples, units].
    """
    found = np.zeros(means.shape[1])
    for unit, column in enumerate(means.T):
        finite = column[np.isfinite(column)]
        if finite.size and np.isfinite(float(np.ptp(finite))):
            counts = np.histogram(finite, _BINS)[0]
            parts = counts[counts > 0] / max(finite.size, 1)
            found[unit] = max(-float((parts * np.log(parts)).sum()), 0.0)
        else:
            found[unit] = np.inf
    return found
