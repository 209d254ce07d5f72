"""Add, Sub, Mul or Div by a constant, or BatchNormalization, before a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.passes.fuse.affine import Affine, batch_norm_map, pads_with_zeros, scaled, shifted
from planish.passes.fuse.paths import REACH, Spread, after, arithmetic, clone, is_passable, spread_of
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization"))
_CONVOLUTIONS = frozenset(("Conv", "ConvTranspose"))
_FINITE = "results of the convolution that do not overflow"


def _may_be_mapped(node: Node) -> bool:
    producer = node.operands[0].producer if node.operands[0] is not None else None
    return producer is not None and (producer.op in _ARITHMETIC or is_passable(producer))


class _Root(Op):
    """The picture of a convolution, before which the rule walks up to the arithmetic."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        return REACH + 2


x, w, b = Var("x"), Const("w"), Const("b")
conv = _Root("Conv", (x, w, Maybe(b)), where=_may_be_mapped)
conv_transpose = _Root("ConvTranspose", (x, w, Maybe(b)), where=_may_be_mapped)


@rule(conv, contract=Contract.REASSOCIATES, needs=_FINITE)
def affine_conv(m: Match) -> Value | None:
    """Conv(f(x * s + t), w, b) -> Conv(f(x), w * s, b + sum(w * t)), the shift only where nothing is padded"""
    weight = m[w].constant
    if weight is None or not weight.dtype.is_float:
        return None
    group, shape = m.root.get_int("group"), weight.shape
    found = _stripped(m, shape[1] * group, len(shape))
    if found is None:
        return None
    source, before = found
    view = (group, shape[0] // group, *shape[1:])
    factors = before.scale.reshape(group, 1, -1, *(1,) * (len(shape) - 2))
    new_weight = m[w] if np.all(factors == 1) else scaled(m, m[w], factors, view)
    bias = m.get(b)
    if new_weight is None:
        return None
    if np.any(before.shift):
        taps = weight.array().astype(np.float64).reshape(*view[:3], -1).sum(-1)
        shift = np.einsum("gmc,gc->gm", taps, before.shift.reshape(group, -1)).ravel()
        bias = shifted(m, bias, Affine(np.ones_like(shift), shift), m[w])
        if bias is None:
            return None
    return m.add("Conv", (source, new_weight, bias), m.root.attributes)


@rule(conv_transpose, contract=Contract.REASSOCIATES, needs=_FINITE)
def affine_conv_transpose(m: Match) -> Value | None:
    """ConvTranspose(f(x * s), w, b) -> ConvTranspose(f(x), w * s, b)"""
    weight = m[w].constant
    if weight is None or not weight.dtype.is_float:
        return None
    found = _stripped(m, weight.shape[0], len(weight.shape))
    if found is None:
        return None
    source, before = found
    new_weight = scaled(m, m[w], before.scale.reshape(-1, *(1,) * (len(weight.shape) - 1)))
    return None if new_weight is None else m.add("ConvTranspose", (source, new_weight, m.get(b)), m.root.attributes)


def _stripped(m: Match, channels: int, rank: int) -> tuple[Value, Affine] | None:
    """What the convolution would read without the map, and the map of its channels."""
    shape = m[x].shape
    if shape is None or len(shape) != rank or shape[1] != channels:
        return m.decline("rank or channels of what the convolution reads are not known")
    found = _strip(m, m[x], m.root, REACH)
    if found is None:
        return None
    affine = found[1].channels(channels)
    if affine is None:
        return m.decline("the constant is neither one number nor one a channel")
    if np.any(affine.shift) and (m.root.op == "ConvTranspose" or pads_with_zeros(m.root)):
        return m.decline("the convolution puts zeros around the shifted value")
    return found[0], affine


def _strip(m: Match, value: Value, reader: Node, left: int) -> tuple[Value, Spread] | None:
    """The value without the map that it ends in, past at most `left` nodes, and that map."""
    node = value.producer
    if node is None or value.index or node.graph is not reader.graph:
        return None
    if node.op in _ARITHMETIC:
        found = _batch_norm(m, node) if node.op == "BatchNormalization" else arithmetic(m, node)
        if found is None or not _all_take_it(m, value, reader, bool(np.any(found[1].shift))):
            return None
        m.cover(node)
        return found
    if not is_passable(node) or not value.has_one_use or node.operands[0] is None:
        return m.decline(f"no arithmetic with a constant makes {value}, or it has other readers")
    if not left:
        return m.decline(f"no arithmetic makes {value} within {REACH} nodes")
    inner = _strip(m, node.operands[0], node, left - 1)
    spread = None if inner is None else after(m, node, inner[1])
    return None if inner is None or spread is None else (clone(m, node, inner[0]), spread)


def _batch_norm(m: Match, node: Node) -> tuple[Value, Spread] | None:
    affine, source = batch_norm_map(m, node), node.operands[0]
    if affine is None or source is None or source.rank is None:
        return None
    return source, spread_of(affine, source.rank)


def _all_take_it(m: Match, value: Value, reader: Node, shift: bool) -> bool:
    """Whether only convolutions that can take the map in read what is mapped, so that no mapping is left behind."""
    if value.has_one_use:
        return True
    for user in value.users:
        if user.op not in _CONVOLUTIONS or user.operands.count(value) != 1 or user.graph is not reader.graph:
            m.decline(f"the mapped value is also read by {user.label}")
            return False
        if user.operands[0] is not value or any(o is not None and o.constant is None for o in user.operands[1:]):
            m.decline(f"weight or bias of {user.label}, which reads the mapped value, is computed")
            return False
        if shift and (user.op == "ConvTranspose" or pads_with_zeros(user)):
            m.decline(f"{user.label} puts zeros around the shifted value")
            return False
    return True


@dataclass(frozen=True)
class FuseAffineConv(RulePass):
    """Fold arithmetic with a constant, one number or one a channel, into the convolutions behind it.

    So are a Neg and a BatchNormalization. Also past nodes in between that let it through: layout, pooling, and a
    positive scale through Relu. A scale passes through zeros that are put around, a shift does not. Needs constant
    weights in every reader.
    """

    name: ClassVar[str] = "fuse-affine-conv"

    def rules(self) -> Sequence[Rule]:
        return (affine_conv, affine_conv_transpose)
