"""Conv + Add, Sub, Mul or Div by a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Value
from planish.passes.fuse.affine import Affine, Channels, absorb_into_conv, absorb_into_conv_transpose, data, per_channel
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op
from planish.passes.rewrite import Contract, Match, Rule, rule

w, b, c = Const("w"), Const("b"), Const("c")
conv = Op(("Conv", "ConvTranspose"), (data, w, Maybe(b)))
_FINITE = "results of the convolution that do not overflow"


@rule(Op("Mul", (conv, c), commutes=True), contract=Contract.REASSOCIATES, needs=_FINITE)
def conv_mul(m: Match) -> Value | None:
    """Mul(Conv(x, w, b), c) -> Conv(x, w * c, b * c)"""
    return _absorb(m, lambda k: Affine(k, np.zeros_like(k)))


@rule(Op("Div", (conv, c)), contract=Contract.REASSOCIATES, needs=_FINITE)
def conv_div(m: Match) -> Value | None:
    """Div(Conv(x, w, b), c) -> Conv(x, w / c, b / c)"""
    return _absorb(m, lambda k: Affine(1 / k, np.zeros_like(k)))


@rule(Op("Add", (conv, c), commutes=True), contract=Contract.REASSOCIATES, needs=_FINITE)
def conv_add(m: Match) -> Value | None:
    """Add(Conv(x, w, b), c) -> Conv(x, w, b + c)"""
    return _absorb(m, lambda k: Affine(np.ones_like(k), k))


@rule(Op("Sub", (conv, c)), contract=Contract.REASSOCIATES, needs=_FINITE)
def conv_sub(m: Match) -> Value | None:
    """Sub(Conv(x, w, b), c) -> Conv(x, w, b - c)"""
    return _absorb(m, lambda k: Affine(np.ones_like(k), -k))


@rule(Op("Sub", (c, conv)), contract=Contract.REASSOCIATES, needs=_FINITE)
def sub_conv(m: Match) -> Value | None:
    """Sub(c, Conv(x, w, b)) -> Conv(x, -w, c - b)"""
    return _absorb(m, lambda k: Affine(-np.ones_like(k), k))


def _absorb(m: Match, affine_of: Callable[[Channels], Affine]) -> Value | None:
    node, weight = m[conv], m[w].constant
    if weight is None or not weight.dtype.is_float:
        return None
    transposed = node.op == "ConvTranspose"
    channels = weight.shape[1] * node.get_int("group") if transposed else weight.shape[0]
    constant = per_channel(m[c], channels, len(weight.shape))
    if constant is None:
        return m.decline("the constant is neither one number nor one a channel")
    with np.errstate(all="ignore"):
        affine = affine_of(constant)
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        return m.decline("the constant is not finite, or divides by zero")
    return (absorb_into_conv_transpose if transposed else absorb_into_conv)(m, node, affine)


@dataclass(frozen=True)
class FuseConvAffine(RulePass):
    """Fold arithmetic with a constant, one number or one a channel, into the convolution before it.

    Needs constant weights, and no other reader of the convolution.
    """

    name: ClassVar[str] = "fuse-conv-affine"

    def rules(self) -> Sequence[Rule]:
        return (conv_mul, conv_div, conv_add, conv_sub, sub_conv)
