"""The few weights that are far larger than the others are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from planish.ir import Value
from planish.ir.types import Array
from planish.passes.errors import PipelineError
from planish.passes.manager import RulePass
from planish.passes.quantize.weights import PRODUCT, finite, weights_of, with_weights
from planish.passes.rewrite import Contract, Match, Rule

_PERCENT = 100.0
_NORMAL = 1.4826
"""Standard deviations of a normal distribution over its median absolute deviation."""
_NEEDS = "weights whose largest few matter little; measure the results"


def _clipped(options: ClipWeights, m: Match) -> tuple[Value, ...] | None:
    """MatMul(x, w) -> MatMul(x, clip(w)), and so for Conv, Gemm and recurrent operators"""
    made: dict[int, Value] = {}
    for position in weights_of(m.root):
        operand, array = m.root.operands[position], finite(m, position)
        if array is None:
            m.decline("not all weights are finite")
            continue
        low, high = options.ends(array)
        cut = np.clip(array, low, high)
        if not np.array_equal(cut, array):
            made[position] = m.constant(cut, "" if operand is None else operand.name)
    return with_weights(m, made) if made else None


@dataclass(frozen=True)
class ClipWeights(RulePass):
    """Cut the weights of products to a range, so that quantization can spend its steps on the many.

    percentile: the part of all magnitudes, in percent, that stays as it is. sigma: instead, so many standard deviations
    around the median, which are estimated from the median absolute deviation (Leys et al. 2013): cutting does not
    change them, so that a second run cuts nothing.
    """

    name: ClassVar[str] = "clip-weights"
    lossy: ClassVar[bool] = True
    percentile: float = 99.9
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= _PERCENT:
            raise PipelineError(f"clip-weights takes percentile above 0 and up to 100, not {self.percentile}")
        if self.sigma and not 1 <= self.sigma < np.inf:
            raise PipelineError(f"clip-weights takes sigma from 1 on, or 0 for the percentile, not {self.sigma}")

    def ends(self, array: Array) -> tuple[float, float]:
        """The least and the largest number that stay, of the array's type."""
        wide = array.astype(np.float64)
        if self.sigma:
            middle = float(np.median(wide))
            reach = self.sigma * _NORMAL * float(np.median(np.abs(wide - middle)))
            ends = np.array([middle - reach, middle + reach]).astype(array.dtype).astype(np.float64)
            return (float(ends[0]), float(ends[1])) if reach else (-np.inf, np.inf)
        reach = float(np.quantile(np.abs(wide), self.percentile / _PERCENT, method="higher"))
        return -reach, reach

    def rules(self) -> Sequence[Rule]:
        apply = partial(_clipped, self)
        return (Rule("clip", PRODUCT, Contract.APPROXIMATE, apply, _clipped.__doc__ or "", _NEEDS),)
