"""Add, Sub, Mul or Div by a constant, or Neg, behind a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.fuse.affine import absorb_into_conv, absorb_into_conv_transpose
from planish.passes.fuse.paths import REACH, Spread, arithmetic, before, clone, is_passable
from planish.passes.fuse.walk import Root
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_ABSORBERS = {"Conv": absorb_into_conv, "ConvTranspose": absorb_into_conv_transpose}


def _may_reach_a_convolution(node: Node) -> bool:
    moving = [operand for operand in node.operands if operand is not None and operand.constant is None]
    producer = moving[0].producer if len(moving) == 1 else None
    return producer is not None and (producer.op in _ABSORBERS or is_passable(producer))


arithmetic_node = Root(("Add", "Sub", "Mul", "Div", "Neg"), reach=REACH + 2, where=_may_reach_a_convolution)


@rule(arithmetic_node, contract=Contract.REASSOCIATES, needs="results of the convolution that do not overflow")
def conv_affine(m: Match) -> Value | None:
    """f(Conv(x, w, b)) * s + t -> f(Conv(x, w * s, b * s + t)), through nodes that let scale and shift through"""
    found = arithmetic(m, m.root)
    return None if found is None else _absorb(m, *found, m.root, REACH)


def _absorb(m: Match, value: Value, spread: Spread, reader: Node, left: int) -> Value | None:
    """The mapped value, made by changing what made it, past at most `left` nodes."""
    node = value.producer
    if node is None or node.graph is not reader.graph or (node.op not in _ABSORBERS and not is_passable(node)):
        return m.decline(f"no convolution makes {value}")
    if not value.has_one_use:
        return m.decline(f"{value} has other readers, or is an output")
    if node.op in _ABSORBERS:
        channels = _channels(node)
        affine = None if channels is None else spread.channels(channels)
        if affine is None:
            return m.decline("the constant is neither one number nor one a channel, or the weight is computed")
        m.cover(node)
        return _ABSORBERS[node.op](m, node, affine)
    if not left:
        return m.decline(f"no convolution makes {value} within {REACH} nodes")
    inner, source = before(m, node, spread), node.operands[0]
    mapped = None if inner is None or source is None else _absorb(m, source, inner, node, left - 1)
    return None if mapped is None else clone(m, node, mapped)


def _channels(conv: Node) -> int | None:
    """Output channels, by a constant float weight."""
    weight = conv.operands[1]
    tensor = None if weight is None else weight.constant
    if tensor is None or not tensor.dtype.is_float:
        return None
    return tensor.shape[0] if conv.op == "Conv" else tensor.shape[1] * conv.get_int("group")


@dataclass(frozen=True)
class FuseConvAffine(RulePass):
    """Fold arithmetic with a constant, one number or one a channel, or a Neg, into the convolution before it.

    Also past nodes in between that let it through: layout, pooling, and a positive scale through Relu. Needs constant
    weights, and no other reader on the way.
    """

    name: ClassVar[str] = "fuse-conv-affine"

    def rules(self) -> Sequence[Rule]:
        return (conv_affine,)
