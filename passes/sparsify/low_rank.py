"""A matrix as the product of two thin ones, for the least error at the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from planish.passes.quantize.rounding.layer import check, output_errors
from planish.passes.quantize.scheme import Doubles, Floats

_SLACK = 1e-3


class Factors(NamedTuple):
    left: Floats
    """[K, r]"""
    right: Floats
    """[r, N], its rows orthonormal."""

    def matrix(self) -> Doubles:
        """What they stand for, [K, N]; not finite where they are not."""
        with np.errstate(invalid="ignore"):
            return self.left.astype(np.float64) @ self.right.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Of a matrix W [K, N], or of X W where inputs are known: right singular vectors, the largest first, and the
    squares of their singular values.
    """

    weight: Floats
    vectors: Doubles
    """[N, min(K, N)]"""
    squares: Doubles

    def rank_for(self, error: float) -> int:
        """The least rank, 1 or more, that keeps ||X W - X W'|| within that part of ||X W||."""
        total = float(self.squares.sum())
        left = total - np.cumsum(self.squares)
        return 1 + int(np.count_nonzero(left[:-1] > error**2 * total))

    def factors(self, rank: int) -> Factors:
        """W V V^T with V the first vectors, the best of all matrices of that rank: W V and V^T. So no root of the Gram
        matrix need be inverted, which may be singular.
        """
        vectors = self.vectors[:, :rank]
        with np.errstate(over="ignore"):
            return Factors((self.weight @ vectors).astype(np.float32), vectors.T.astype(np.float32))

    def holds(self, factors: Factors) -> bool:
        """Whether single precision holds them: nothing overflowed or vanished."""
        if not np.isfinite(factors.left).all():
            return False
        rank = len(factors.right)
        wanted = self.weight.astype(np.float64) @ self.vectors[:, :rank] @ self.vectors[:, :rank].T
        return bool(
            np.linalg.norm(wanted - factors.matrix()) <= _SLACK * np.linalg.norm(self.weight.astype(np.float64))
        )


def spectrum(weight: Floats, gram: Doubles | None = None) -> Spectrum:
    """Of W, or with G = X^T X of X W, which has the singular vectors and values of S W where S^T S = G.

    Truncating it is optimal at the output (Chen et al. 2021, DRONE; Wang et al. 2024, SVD-LLM, arXiv 2403.07378). What
    the inputs of G never show comes last, in the order of W's own singular values.
    """
    if gram is None:
        _, values, rows = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
        return Spectrum(weight, rows.T, values**2)
    check(weight, gram)
    sizes, directions = np.linalg.eigh(gram)
    seen = np.sqrt(np.maximum(sizes, 0))[:, None] * (directions.T @ weight)
    _, values, rows = np.linalg.svd(seen, full_matrices=False)
    known = int(np.count_nonzero(values > values[:1].sum() * max(weight.shape) * np.finfo(np.float64).eps))
    vectors = rows[:known].T
    rest = weight - weight @ vectors @ vectors.T
    others = np.linalg.svd(rest, full_matrices=False)[2][: len(values) - known]
    return Spectrum(weight, np.hstack([vectors, others.T]), np.where(np.arange(len(values)) < known, values**2, 0))


def relative_error(weight: Floats, other: Doubles, gram: Doubles | None) -> float:
    """||X W - X W'|| / ||X W||; of the matrices themselves where no inputs are known. Infinite where W' is."""
    if not np.isfinite(other).all():
        return np.inf
    matrix = np.eye(len(weight)) if gram is None else gram
    total = output_errors(weight, np.zeros_like(weight), matrix).sum()
    return float(np.sqrt(output_errors(weight, other, matrix).sum() / total)) if total > 0 else 0.0
