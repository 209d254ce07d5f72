"""A weight [K, N] with what is known of its inputs, as sparsity looks at it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import aim_of
from planish.passes.quantize.quantize_weights import has_own_bias
from planish.passes.quantize.rounding.bias_correction import bias_correction
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.constant_weight import ConstantWeight
from planish.passes.sparsify.least_squares import made_up_for, norm_importance
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
    means: Doubles | None = None
    """Of the columns of X, [groups, K], where a bias makes up for them; the Gram matrices are then about them."""

    @property
    def extents(self) -> tuple[int, int]:
        """K and N."""
        return len(self.matrix), self.matrix.shape[1]

    @property
    def makes_up(self) -> bool:
        """Whether weights that stay make up for those that go."""
        return self.grams is not None and self.update == "obs"

    def squares(self, matrix: Floats) -> Doubles:
        """Squared importance of the elements; with Gram matrices in units of the output."""
        if self.grams is None:
            return matrix.astype(np.float64) ** 2
        parts = np.split(matrix, len(self.grams), axis=1)
        return np.hstack([norm_importance(part, gram) for part, gram in zip(parts, self.grams, strict=True)])

    def without(self, zero: Mask, begin: Floats, steps: int) -> Floats:
        """The matrix with zeros there, and where it had some. The others make up for them if that is asked for, in so
        many steps from `begin` on.
        """
        zero = zero | (self.matrix == 0)
        if self.grams is None or not self.makes_up:
            return np.where(zero, np.float32(0), self.matrix)
        parts = zip(*(np.split(part, len(self.grams), axis=1) for part in (self.matrix, zero, begin)), strict=True)
        pairs = zip(parts, self.grams, strict=True)
        return np.hstack([made_up_for(w, gone, gram, now, steps=steps) for (w, gone, now), gram in pairs])

    def bias_shift(self, found: Floats) -> Doubles | None:
        """What to add to the bias, [N], to keep the means of the outputs; None where there is no bias of its own."""
        if self.means is None:
            return None
        pairs = (np.split(matrix, len(self.means), axis=1) for matrix in (self.matrix, found))
        return np.concatenate([bias_correction(w, v, mean) for w, v, mean in zip(*pairs, self.means, strict=True)])

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
    if gram is None:
        return Layer(weight, matrix[rows], rows, None, update)
    has_bias = update == "obs" and has_own_bias(weight.readers[0], weight.stored)
    aims = np.stack([aim_of(gram, group, has_bias=has_bias) for group in range(len(gram.matrix))])
    means = gram.mean[:, rows] if has_bias else None
    return Layer(weight, matrix[rows], rows, aims[:, rows[:, None], rows] / gram.count, update, means)
