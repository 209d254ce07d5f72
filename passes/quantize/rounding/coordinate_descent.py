"""Rounding learned: codes are moved, one input at a time, as long as the output gets nearer."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.rounding.layer import check, damped, real
from planish.passes.quantize.scheme import Doubles, Parameters

_FEW = 1e-3
"""A sweep that moves no more than this part of the codes is the last."""


def coordinate_descent(
    weight: Array,
    gram: Doubles,
    codes: Array,
    parameters: Parameters,
    *,
    sweeps: int = 10,
    damping: float = 1e-3,
    lazy: int = 64,
) -> Array:
    """Codes [K, N], no worse than those given, by the squared error tr(E^T (G + damping) E), E = W - Q.

    Where all other rows of Q stand, the best row k is, for every column at once, the code nearest to

        Q[k] + (G E)[k] / G[k, k]

    for the error is a parabola in it. Sweeps over all rows until hardly a code moves. The aim is that of Nagel et al.
    2020 (AdaRound, arXiv 2004.10568), who relax it and descend by gradients; moving single codes downhill is that of
    Nair & Suggala 2024 (CDQuant, arXiv 2406.17542) and Chee et al. 2023 (QuIP's LDLQ with greedy updates, arXiv
    2307.13304). A code may move by more than one. Start from second_order: descent ends in the next local minimum.
    """
    check(weight, gram)
    scheme = parameters.scheme
    matrix = damped(gram, damping)
    diagonal = np.diagonal(matrix)
    scale, zero_point = parameters.grid(weight.shape)
    found = codes.astype(np.float64)
    now = real(found, parameters)
    slope = matrix @ (weight.astype(np.float64) - now)
    for _ in range(sweeps):
        moved = 0
        for start in range(0, len(found), lazy):
            rows = slice(start, min(start + lazy, len(found)))
            near = slope[rows].copy()
            steps = np.zeros_like(near)
            for k in range(rows.start, rows.stop):
                best = scheme.nearest((now[k] + near[k - start] / diagonal[k]) / scale[k], zero_point[k])
                steps[k - start] = (best - found[k]) * scale[k]
                moved += np.count_nonzero(best != found[k])
                found[k] = best
                now[k] += steps[k - start]
                near -= np.outer(matrix[rows, k], steps[k - start])
            slope -= matrix[:, rows] @ steps
        if moved <= _FEW * found.size:
            break
    return scheme.as_codes(found)
