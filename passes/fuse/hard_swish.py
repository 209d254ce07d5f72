"""x times a clamped line of x becomes a HardSwish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from planish.ir import Graph, Node, Value
from planish.passes.fuse.clamped_line import BOUNDS, clamped_line
from planish.passes.fuse.walk import Root, claim, leads_to, producer, product, same, with_number
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_ALPHA, _BETA = 1 / 6, 0.5
_REACH = 7
_AS_PRODUCT = 2
_FITS = "x * 6 and x + 3 that do not overflow"
_ROOT = Root(("Mul", "Div"), reach=_REACH, where=leads_to("HardSigmoid", *BOUNDS, through=("Mul", "Div"), levels=3))


class _Gated(NamedTuple):
    """x * factor * max(0, min(1, alpha x + beta)), and the nodes that work it out."""

    x: Value
    factor: float
    alpha: float
    beta: float
    nodes: tuple[Node, ...]

    @property
    def is_whole(self) -> bool:
        """Whether there is no factor."""
        return self.x.dtype is not None and same(self.factor, 1, self.x.dtype)


@rule(_ROOT, contract=Contract.REASSOCIATES, needs=_FITS)
def hard_swish(m: Match) -> Value | None:
    """x * Clip(x + 3, 0, 6) / 6 -> HardSwish(x), with another factor HardSwish(x) * factor

    The product may be taken in any order, the bounds spelled as Relu, Max and Min, or HardSigmoid stand for all but x.
    An element differs by a few roundings of |x|.
    """
    found = _hard_swish(m)
    return None if found is None or not claim(m, found.nodes) else _times(m, m.add("HardSwish", (found.x,)), found)


@rule(_ROOT, contract=Contract.REASSOCIATES, needs=_FITS)
def hard_swish_as_product(m: Match) -> Value | None:
    """x * Clip(x + 3, 0, 6) / 6 -> x * HardSigmoid(x, alpha = 1 / 6, beta = 0.5)

    In the spellings of hard-swish, for targets that have no kernel for HardSwish.
    """
    found = _hard_swish(m)
    if found is None or len(found.nodes) <= _AS_PRODUCT + (not found.is_whole) or not claim(m, found.nodes):
        return None
    gate = m.add("HardSigmoid", (found.x,), {"alpha": _ALPHA, "beta": _BETA})
    return _times(m, m.add("Mul", (found.x, gate)), found)


def _hard_swish(m: Match) -> _Gated | None:
    found = _gated(m.root, m.graph)
    if found is None:
        return None
    dtype = found.x.dtype
    if dtype is None or not dtype.is_float:
        return m.decline("the element type is not known")
    if not found.is_whole and (len(found.nodes) <= _AS_PRODUCT or _is_scaled(m.root)):
        return m.decline("the factor is not 1: a HardSwish and its product with a number would be as many nodes")
    if not same(found.alpha, _ALPHA, dtype) or not same(found.beta, _BETA, dtype):
        return m.decline("slope and intercept of the HardSigmoid are not 1/6 and 1/2")
    return found


def _is_scaled(node: Node) -> bool:
    """Whether one more product with a number stands behind the node, at which the match begins instead."""
    reader = node.result.users[0] if node.result.has_one_use else None
    return reader is not None and reader.op in _ROOT.ops and with_number(reader) is not None


def _times(m: Match, value: Value, found: _Gated) -> Value:
    if found.is_whole or found.x.dtype is None:
        return value
    return m.add("Mul", (value, m.constant(np.array(found.factor, found.x.dtype.numpy))))


def _gated(root: Node, graph: Graph) -> _Gated | None:
    """The root as a product of x, a clamped line of x, and numbers."""
    found = product(root, graph)
    if found is None:
        return None
    for x, gate in ((found.left, found.right), (found.right, found.left)):
        node = producer(gate, ("HardSigmoid",), graph)
        if node is not None and node.operand(0) is x:
            line = node.get_float("alpha"), node.get_float("beta")
            return _Gated(x, found.factor, *line, (*found.nodes, node))
        clamp = clamped_line(gate, graph, of=x)
        if clamp is not None:
            return _Gated(x, found.factor * clamp.height, *clamp.over_height(), (*found.nodes, *clamp.nodes))
    return None


@dataclass(frozen=True)
class FuseHardSwish(RulePass):
    """Fuse x * max(0, min(1, x / 6 + 1 / 2)), however it is spelled, into HardSwish.

    spell: the operators to make of it. Where HardSwish cannot be had, for it needs opset 14 and a target that has a
    kernel, its product with HardSigmoid is made.
    """

    name: ClassVar[str] = "fuse-hard-swish"
    spell: Literal["HardSwish", "HardSigmoid"] = "HardSwish"

    def rules(self) -> Sequence[Rule]:
        return (hard_swish, hard_swish_as_product) if self.spell == "HardSwish" else (hard_swish_as_product,)
