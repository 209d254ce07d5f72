"""x times a sigmoid of x becomes a Swish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from planish.ir import Graph, Node, Value
from planish.passes.fuse.walk import Root, claim, number, producer, reads_from, scaled, with_number
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_REACH = 5
_PLAIN = 2
_ROOT = Root(("Mul", "Div"), reach=_REACH, where=reads_from("Add", "Div", "Reciprocal", "Sigmoid"))


class _Gated(NamedTuple):
    """x * sigmoid(alpha * x), and the nodes that work it out but for the root."""

    x: Value
    alpha: float
    nodes: tuple[Node, ...]


@rule(_ROOT, contract=Contract.REASSOCIATES)
def swish(m: Match) -> Value | None:
    """x * Sigmoid(alpha * x) -> Swish(x, alpha)

    Also x / (1 + Exp(-x)). An element differs by some roundings of |x|.
    """
    found = _gated(m.root, m.graph)
    if found is None:
        return None
    alpha = float(np.float32(found.alpha))
    if not alpha or not isfinite(alpha):
        return m.decline("the factor of x is too large or too small for an attribute")
    return m.add("Swish", (found.x,), {"alpha": alpha}) if claim(m, found.nodes) else None


@rule(_ROOT, contract=Contract.REASSOCIATES)
def quotient_swish(m: Match) -> Value | None:
    """x / (1 + Exp(-x)) -> x * Sigmoid(x)

    For targets that have no kernel for Swish. An element differs by some roundings of |x|.
    """
    found = _gated(m.root, m.graph)
    if found is None or found.alpha != 1 or len(found.nodes) <= _PLAIN or not claim(m, found.nodes):
        return None
    return m.add("Mul", (found.x, m.add("Sigmoid", (found.x,))))


def _gated(root: Node, graph: Graph) -> _Gated | None:
    if len(root.operands) != 2:
        return None
    left, right = root.operands
    if left is None or right is None:
        return None
    if root.op == "Div":
        return _of(left, _exponential(right, graph), ())
    for x, gate in ((left, right), (right, left)):
        found = _sigmoid(x, gate, graph)
        if found is not None:
            return found
    return None


def _sigmoid(x: Value, gate: Value, graph: Graph) -> _Gated | None:
    node = producer(gate, ("Div", "Reciprocal", "Sigmoid"), graph)
    if node is None:
        return None
    if node.op == "Sigmoid":
        inner = node.operand(0)
        scale = None if inner is x else scaled(inner, graph)
        if inner is x:
            return _Gated(x, 1.0, (node,))
        return None if scale is None or scale.value is not x else _Gated(x, scale.factor, (node, scale.node))
    if node.op == "Div" and number(node.operand(0), node.result) != 1:
        return None
    return _of(x, _exponential(node.operands[-1], graph), (node,))


def _of(x: Value, found: _Gated | None, nodes: tuple[Node, ...]) -> _Gated | None:
    return None if found is None or found.x is not x else found._replace(nodes=(*nodes, *found.nodes))


def _exponential(value: Value | None, graph: Graph) -> _Gated | None:
    """1 + Exp(-alpha * x)"""
    node = producer(value, ("Add",), graph)
    found = None if node is None else with_number(node)
    exponential = None if found is None or found[1] != 1 else producer(found[0], ("Exp",), graph)
    inner = None if exponential is None else exponential.operand(0)
    if node is None or exponential is None or inner is None:
        return None
    negation = producer(inner, ("Neg",), graph)
    if negation is not None and negation.operand(0) is not None:
        return _Gated(negation.operands[0] or inner, 1.0, (node, exponential, negation))
    scale = scaled(inner, graph)
    return None if scale is None else _Gated(scale.value, -scale.factor, (node, exponential, scale.node))


@dataclass(frozen=True)
class FuseSwish(RulePass):
    """Fuse x * sigmoid(alpha * x), also spelled with an exponential, into Swish of opset 24.

    spell: the operators to make of it. "Sigmoid" makes x * Sigmoid(x) of the quotient, and leaves what is a product.
    """

    name: ClassVar[str] = "fuse-swish"
    spell: Literal["Swish", "Sigmoid"] = "Swish"

    def rules(self) -> Sequence[Rule]:
        return (swish, quotient_swish) if self.spell == "Swish" else (quotient_swish,)
