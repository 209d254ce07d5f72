"""Which units of some layers become zero, step by step, so that what makes up for the first ones is seen by the next.

Zhu & Gupta 2018 (arXiv 1710.01878) prune step by step while they train; here least squares stand for training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from planish.passes.quantize.scheme import Floats
from planish.passes.sparsify.layer import Layer
from planish.passes.sparsify.pattern import Mask, Pattern, least

_ROUNDS = 8
_FEW, _MANY = 12, 60
"""Steps of conjugate gradients in all rounds but the last, and there."""
_NEAR = 1e-9


def with_share(layers: Sequence[Layer], pattern: Pattern, share: float) -> list[Floats] | None:
    """The matrices with that part of all their elements zero, in whole units, or up to one unit less. None where there
    are as many zeros already.
    """
    sizes = [pattern.sizes(layer.extents).reshape(-1) for layer in layers]
    found = [layer.matrix for layer in layers]
    all_sizes = np.concatenate([np.zeros(0, np.int64), *sizes])
    budget = math.floor(share * int(all_sizes.sum()) + _NEAR)
    zeros = np.concatenate([np.zeros(0, bool), *(pattern.zeros(matrix).reshape(-1) for matrix in found)])
    if all_sizes[zeros].sum() + all_sizes.max(initial=1) > budget:
        return None
    ends = np.cumsum([len(part) for part in sizes])[:-1]
    for part, steps in _rounds(layers, _ROUNDS):
        pairs = list(zip(layers, found, strict=True))
        scores = [pattern.scores(layer.squares(matrix)).reshape(-1) for layer, matrix in pairs]
        chosen = least(np.concatenate(scores), all_sizes, zeros, math.floor(part * budget + _NEAR))
        units = zip(pairs, np.split(chosen, ends), strict=True)
        found = [layer.without(_spread(pattern, layer, gone), now, steps) for (layer, now), gone in units]
        zeros = np.concatenate([pattern.zeros(matrix).reshape(-1) for matrix in found])
    return found


def n_of_m(layer: Layer, pattern: Pattern) -> Floats | None:
    """The matrix with no more than N of every M elements other than zero; None where it is such."""
    found = layer.matrix
    if pattern.is_kept_by(found):
        return None
    excess = pattern.of - pattern.keep
    for part, steps in _rounds([layer], min(_ROUNDS, excess)):
        mask = pattern.least_of_each(layer.squares(found), pattern.of - math.ceil(part * excess - _NEAR))
        found = layer.without(mask, found, steps)
    return found


def above_threshold(layer: Layer, pattern: Pattern, threshold: float) -> Floats | None:
    """The matrix without units below; what makes up for zeros may sink below itself, then it becomes zero, too."""
    found = layer.matrix
    zero = np.zeros(found.shape, bool)
    for turn in range(_ROUNDS + 1):
        units = (pattern.scores(layer.squares(found)) < threshold) & ~pattern.zeros(found)
        if not units.any():
            break
        zero |= pattern.spread(units, layer.extents)
        found = layer.without(zero, found, _MANY) if turn < _ROUNDS else np.where(zero, np.float32(0), found)
    return found if zero.any() else None


def _rounds(layers: Sequence[Layer], count: int) -> Iterator[tuple[float, int]]:
    """Which part of what is to become zero has become so after each round, and its steps."""
    count = count if any(layer.makes_up for layer in layers) else 1
    yield from ((turn / count, _MANY if turn == count else _FEW) for turn in range(1, count + 1))


def _spread(pattern: Pattern, layer: Layer, units: Mask) -> Mask:
    rows, columns = layer.extents
    tall, wide = pattern.rows or rows, pattern.columns or columns
    return pattern.spread(units.reshape(-(-rows // tall), -(-columns // wide)), layer.extents)
