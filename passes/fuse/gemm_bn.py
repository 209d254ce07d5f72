"""Gemm + BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Value
from planish.passes.fuse.affine import Affine, batch_norm, batch_norm_affine, data, per_channel, scaled, shifted
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op
from planish.passes.rewrite import Contract, Match, Rule, rule

w, b = Const("w"), Const("b")
gemm = Op("Gemm", (data, w, Maybe(b)))
_RANK = 2


@rule(batch_norm(gemm), contract=Contract.REASSOCIATES, needs="results of the Gemm that do not overflow")
def gemm_bn(m: Match) -> Value | None:
    """BatchNormalization(Gemm(a, w, b)) -> Gemm(a, w', b')"""
    affine = batch_norm_affine(m)
    if affine is None:
        return None
    node, channels = m[gemm], len(affine.scale)
    weight = m[w].constant
    across = node.get_int("transB")
    if weight is None or not weight.dtype.is_float or weight.shape[0 if across else 1] != channels:
        return m.decline("the Gemm has another number of columns")
    before = _bias(m, channels)
    if before is None:
        return m.decline("the third operand of the Gemm differs from row to row")
    bias = shifted(m, None, Affine(affine.scale, before * affine.scale + affine.shift), m[w])
    factors = affine.scale.reshape(-1, 1) if across else affine.scale.reshape(1, -1)
    new_weight = scaled(m, m[w], factors)
    if new_weight is None or bias is None:
        return None
    return m.add("Gemm", (m[data], new_weight, bias), {**node.attributes, "beta": 1.0})


def _bias(m: Match, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """beta * C as one number a column; None when it differs from row to row."""
    value = m.get(b)
    if value is None:
        return np.zeros(channels)
    columns = per_channel(value, channels, _RANK)
    return None if columns is None else columns * m[gemm].get_float("beta")


@dataclass(frozen=True)
class FuseGemmBn(RulePass):
    """Fold a BatchNormalization in inference mode into the Gemm before it, with either transposition of its weight.

    Needs a constant weight, a third operand that is the same for every row, and no other reader of the Gemm.
    """

    name: ClassVar[str] = "fuse-gemm-bn"

    def rules(self) -> Sequence[Rule]:
        return (gemm_bn,)
