"""A weight [K, N] with what is known of its inputs, as sparsity looks at it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.constant_weight import ConstantWeight
from planish.passes.sparsify.least_squares import made_up_for, norm_importance, second_order_importance
from planish.passes.sparsify.pattern import Mask, Pattern

Update = Literal["obs", "none"]


@dataclass(frozen=True, eq=False)
class Layer:
    weight: ConstantWeight
    matrix: Floats
    """Rows in the order `rows`."""
    rows: NDArray[np.int64]
    grams: Doubles | None
    """Means over the rows of X, [groups, K, K], in the order `rows`; each is of N / groups columns."""
    update: Update

    @property
    def extents(self) -> tuple[int, int]:
        """K and N."""
        return len(self.matrix), self.matrix.shape[1]

    def squares(self, matrix: Floats) -> Doubles:
        """Squared importance of the elements; with Gram matrices in units of the output."""
        if self.grams is None:
            return matrix.astype(np.float64) ** 2
        importance = norm_importance if self.update == "none" else second_order_importance
        parts = np.split(matrix, len(self.grams), axis=1)
        return np.hstack([importance(part, gram) for part, gram in zip(parts, self.grams, strict=True)])

    def without(self, zero: Mask) -> Floats:
        """The matrix with zeros there, and where it had some; the others make up for them if that is asked for."""
        zero = zero | (self.matrix == 0)
        if self.grams is None or self.update == "none":
            return np.where(zero, np.float32(0), self.matrix)
        groups = len(self.grams)
        parts = zip(np.split(self.matrix, groups, axis=1), np.split(zero, groups, axis=1), self.grams, strict=True)
        return np.hstack([made_up_for(part, gone, gram) for part, gone, gram in parts])

    def stored(self, matrix: Floats) -> Array:
        """In the layout of the weight."""
        found = np.empty_like(matrix)
        found[self.rows] = matrix
        return self.weight.stored.stored(found)


def layer_of(weight: ConstantWeight, pattern: Pattern, ranges: Calibration | None, update: Update) -> Layer | str:
    """Why there is none, where there is none.

    For N:M the rows of a convolution stand channel by channel at each place of the window, as NVIDIA's ASP prunes them:
    no group of M spans two places.
    """
    gram = weight.gram(ranges)
    matrix = weight.matrix()
    if isinstance(gram, str) or isinstance(matrix, str):
        return matrix if isinstance(matrix, str) else str(gram)
    channels = weight.stored.shape[1] if weight.stored.is_image else weight.stored.rows
    if pattern.of and channels % pattern.of:
        return f"{pattern.keep}:{pattern.of} does not divide its {channels} input channels"
    rows = np.arange(len(matrix))
    if pattern.of and weight.stored.is_image:
        rows = rows.reshape(channels, math.prod(weight.stored.shape[2:])).T.reshape(-1)
    grams = None if gram is None else gram.matrix[:, rows[:, None], rows] / gram.count
    return Layer(weight, matrix[rows], rows, grams, update)
