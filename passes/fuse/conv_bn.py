"""Conv + BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.passes.fuse.affine import absorb_into_conv, batch_norm, batch_norm_affine, data
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op
from planish.passes.rewrite import Contract, Match, Rule, rule

w, b = Const("w"), Const("b")
conv = Op("Conv", (data, w, Maybe(b)))


@rule(batch_norm(conv), contract=Contract.REASSOCIATES, needs="results of the convolution that do not overflow")
def conv_bn(m: Match) -> Value | None:
    """BatchNormalization(Conv(x, w, b)) -> Conv(x, w', b')"""
    affine = batch_norm_affine(m)
    return None if affine is None else absorb_into_conv(m, m[conv], affine)


@dataclass(frozen=True)
class FuseConvBn(RulePass):
    """Fold a BatchNormalization in inference mode into the convolution before it, grouped and depthwise ones too.

    w' = w * s and b' = (b - mean) * s + beta with s = gamma / sqrt(variance + epsilon), worked out in double precision
    (Jacob et al. 2018, section 3.2). Needs constant weights, and no other reader of the convolution.
    """

    name: ClassVar[str] = "fuse-conv-bn"

    def rules(self) -> Sequence[Rule]:
        return (conv_bn,)
