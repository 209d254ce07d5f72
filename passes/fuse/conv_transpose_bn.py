"""ConvTranspose + BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.passes.fuse.affine import absorb_into_conv_transpose, batch_norm, batch_norm_affine, data
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op
from planish.passes.rewrite import Contract, Match, Rule, rule

w, b = Const("w"), Const("b")
conv = Op("ConvTranspose", (data, w, Maybe(b)))


@rule(batch_norm(conv), contract=Contract.REASSOCIATES, needs="results of the convolution that do not overflow")
def conv_transpose_bn(m: Match) -> Value | None:
    """BatchNormalization(ConvTranspose(x, w, b)) -> ConvTranspose(x, w', b')"""
    affine = batch_norm_affine(m)
    return None if affine is None else absorb_into_conv_transpose(m, m[conv], affine)


@dataclass(frozen=True)
class FuseConvTransposeBn(RulePass):
    """Fold a BatchNormalization in inference mode into the transposed convolution before it, grouped ones too.

    Needs constant weights, and no other reader of the convolution.
    """

    name: ClassVar[str] = "fuse-conv-transpose-bn"

    def rules(self) -> Sequence[Rule]:
        return (conv_transpose_bn,)
