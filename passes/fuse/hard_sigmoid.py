"""A clamped line between 0 and 1 becomes a HardSigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Value
from planish.passes.fuse.clamped_line import BOUNDS, ClampedLine, clamped_line
from planish.passes.fuse.walk import Root, claim, reads_from, same, scaled
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_REACH = 5
_FITS = "arithmetic on x that does not overflow"


@rule(
    Root(("Mul", "Div"), reach=_REACH, where=reads_from(*BOUNDS)),
    contract=Contract.REASSOCIATES,
    needs=_FITS,
)
def scaled_clamp(m: Match) -> Value | None:
    """Clip(x * k + c, 0, h) / h -> HardSigmoid(x, alpha = k / h, beta = c / h)

    Bounds may be spelled as Relu, Max and Min. An element differs by a few roundings of |alpha x| + |beta|.
    """
    outer = scaled(m.root.result, m.graph)
    clamp = None if outer is None else clamped_line(outer.value, m.graph)
    if outer is None or clamp is None:
        return None
    if not same(outer.factor * clamp.height, 1, m.root.result.dtype):
        return m.decline("the scaled upper bound is not 1")
    return _hard_sigmoid(m, clamp)


@rule(
    Root(BOUNDS, reach=_REACH, where=reads_from("Add", "Div", "Mul", "Sub", *BOUNDS)),
    contract=Contract.REASSOCIATES,
    needs=_FITS,
)
def clamp(m: Match) -> Value | None:
    """Clip(x * k + c, 0, 1) -> HardSigmoid(x, alpha = k, beta = c)

    Bounds may be spelled as Relu, Max and Min. An element differs by a few roundings of |alpha x| + |beta|.
    """
    found = clamped_line(m.root.result, m.graph)
    if found is None:
        return None
    if found.height != 1:
        return m.decline("the upper bound is not 1")
    return _hard_sigmoid(m, found)


def _hard_sigmoid(m: Match, clamp: ClampedLine) -> Value | None:
    dtype = clamp.line.value.dtype
    if dtype is None or not dtype.is_float:
        return m.decline("the element type is not known")
    alpha, beta = (float(np.float32(part)) for part in clamp.over_height())
    if not alpha or not np.isfinite(alpha) or not np.isfinite(beta):
        return m.decline("slope or intercept are too large or too small for an attribute")
    if not claim(m, clamp.nodes):
        return None
    return m.add("HardSigmoid", (clamp.line.value,), {"alpha": alpha, "beta": beta})


@dataclass(frozen=True)
class FuseHardSigmoid(RulePass):
    """Fuse max(0, min(1, alpha x + beta)), however it is spelled, into HardSigmoid."""

    name: ClassVar[str] = "fuse-hard-sigmoid"

    def rules(self) -> Sequence[Rule]:
        return (scaled_clamp, clamp)
