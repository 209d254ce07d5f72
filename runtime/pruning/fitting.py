"""Sums over samples from which weights are fitted, and the fit: ridge regression of what a layer lacks.

He, Zhang and Sun 2017 (arXiv 1707.06168, section 3.1) fit the weights behind pruned channels by least squares so. Here
what is fitted is the change of the weights: where samples do not tell, the weights stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.passes.quantize.gram import Gram

Doubles = NDArray[np.float64]
_MOST = np.finfo(np.float64).max
RIDGES = (1e-9, 1e-6, 1e-4, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Parts of the mean of the diagonal of X^T X that are tried as its ridge."""


class Change(NamedTuple):
    """Of a layer's weights [groups, k, outputs] and of its biases [groups, outputs]."""

    weight: Doubles
    bias: Doubles


class Moments:
    """Of rows X [groups, rows, k] and of what the layer's outputs lack there, R [groups, rows, outputs], in float64.

    Rows with a NaN or an infinity in either are left out.
    """

    def __init__(self) -> None:
        self.count = 0
        self.power = 0.0
        """Squares of the wanted outputs less their means, summed."""
        self._sums: tuple[Doubles, ...] = ()

    @np.errstate(over="ignore", invalid="ignore")
    def add(self, x: Doubles, lacking: Doubles, wanted: Doubles) -> None:
        sums, lack = x.sum(axis=1), lacking.sum(axis=1)
        if not (np.isfinite(sums).all() and np.isfinite(lack).all()):
            finite = np.isfinite(x).all(axis=(0, 2)) & np.isfinite(lacking).all(axis=(0, 2))
            x, lacking, wanted = x[:, finite], lacking[:, finite], wanted[:, finite]
            sums, lack = x.sum(axis=1), lacking.sum(axis=1)
        xt = x.transpose(0, 2, 1)
        new = (
            xt @ x, sums, xt @ lacking, lack, np.square(lacking).sum(axis=1),
            wanted.sum(axis=1), np.square(wanted).sum(axis=1),
        )  # fmt: skip
        self.count += x.shape[1]
        for total, more in zip(self._sums, new, strict=False):
            np.add(total, more, out=total)
        self._sums = self._sums or new
        wants, squares = self._sums[5], self._sums[6]
        self.power = float(np.maximum(squares - np.square(wants) / max(self.count, 1), 0).sum())

    def merged(self, other: Moments) -> Moments:
        """Of the rows of both."""
        both = Moments()
        both.count, both.power = self.count + other.count, self.power + other.power
        sums = [moments._sums for moments in (self, other) if moments._sums]
        both._sums = tuple([np.sum(parts, axis=0) for parts in zip(*sums, strict=True)])
        return both

    @property
    def gram(self) -> Gram | None:
        """Of the rows X; None where there are none."""
        if not self.count:
            return None
        return Gram(self._sums[0], self._sums[1] / self.count, self.count)

    def shift(self) -> Change | None:
        """The change of the biases alone that leaves least."""
        if not self.count:
            return None
        return Change(np.zeros_like(self._sums[2]), self._sums[3] / self.count)

    @np.errstate(over="ignore", invalid="ignore")
    def error(self, change: Change | None = None) -> float:
        """Squares of what the outputs still lack after a change, summed, over the power of what is wanted."""
        if not self.count:
            return 0.0
        xx, x, xr, r, rr, _, _ = self._sums
        left = rr
        if change is not None:
            w, b = change
            through = np.einsum("gk,gko->go", x, w)
            left = rr - 2 * (np.einsum("gko,gko->go", w, xr) + b * r) + np.einsum("gko,gko->go", w, xx @ w)
            left = left + 2 * b * through + self.count * b * b
        found = np.maximum(left, 0).sum() / max(self.power, np.finfo(np.float64).tiny)
        return float(np.nan_to_num(found, nan=_MOST, posinf=_MOST))

    @np.errstate(over="ignore", invalid="ignore")
    def fit(self, ridge: float, *, with_bias: bool) -> Change | None:
        """The change that leaves least, with a ridge of that part; None where it cannot be told."""
        if not self.count:
            return None
        xx, x, xr, r, _, _, _ = self._sums
        mean, level = x / self.count, r / self.count
        if with_bias:
            xx = xx - self.count * mean[:, :, None] * mean[:, None, :]
            xr = xr - self.count * mean[:, :, None] * level[:, None, :]
        size = xx.shape[1]
        scale = np.trace(xx, axis1=1, axis2=2) / max(size, 1)
        eps = np.where(scale > 0, scale, 1.0) * ridge
        try:
            w = np.asarray(np.linalg.solve(xx + eps[:, None, None] * np.eye(size), xr), np.float64)
        except np.linalg.LinAlgError:
            return None
        b = level - np.einsum("gk,gko->go", mean, w) if with_bias else np.zeros_like(level)
        return Change(w, b) if np.isfinite(w).all() and np.isfinite(b).all() else None
