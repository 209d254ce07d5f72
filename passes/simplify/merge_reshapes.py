"""Reshape, Squeeze, Unsqueeze and Flatten in a row become one of them, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.ops.shape import constant_ints
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.reshaping import (
    RESHAPES,
    UNSAYABLE,
    axes_from_front,
    never_empty,
    outer_of,
    reshaped_to,
)

x, s, t = Var("x"), Var("s"), Var("t")
first_squeeze = Op("Squeeze", (x, s), shared=True)
last_squeeze = Op("Squeeze", (first_squeeze, t))
first_unsqueeze = Op("Unsqueeze", (x, s), shared=True)
last_unsqueeze = Op("Unsqueeze", (first_unsqueeze, t))
undone = Op("Squeeze", (first_unsqueeze, t))
redone = Op("Unsqueeze", (first_squeeze, t))
first = Op(RESHAPES, (x, Maybe(s)), shared=True)
last = Op(RESHAPES, (first, Maybe(t)))


@rule(last_squeeze, contract=Contract.EXACT)
def squeeze_squeeze(m: Match) -> Value | None:
    """Squeeze(Squeeze(x, s), t) -> Squeeze(x, s and t)"""
    inner, outer = axes_from_front(m[s], m[x].rank), axes_from_front(m[t], m[first_squeeze].result.rank)
    if not inner or not outer:
        return None
    return m.add("Squeeze", (m[x], _axes(m, inner + outer_of(outer, inner))))


@rule(last_unsqueeze, contract=Contract.EXACT)
def unsqueeze_unsqueeze(m: Match) -> Value | None:
    """Unsqueeze(Unsqueeze(x, s), t) -> Unsqueeze(x, s and t)"""
    inner, outer = axes_from_front(m[s], m[first_unsqueeze].result.rank), axes_from_front(m[t], m.root.result.rank)
    if inner is None or outer is None:
        return m.decline("the axes are not known, or counted from the back of a tensor of unknown rank")
    return m.add("Unsqueeze", (m[x], _axes(m, outer + outer_of(inner, outer))))


@rule(undone, contract=Contract.EXACT)
def squeeze_unsqueeze(m: Match) -> Value | None:
    """Squeeze(Unsqueeze(x, s), s) -> x, of any rank"""
    return m[x] if _same_axes(m, m[first_unsqueeze].result.rank) else None


@rule(redone, contract=Contract.EXACT)
def unsqueeze_squeeze(m: Match) -> Value | None:
    """Unsqueeze(Squeeze(x, s), s) -> x of unknown rank"""
    return m[x] if m[x].rank is None and constant_ints(m[s]) and _same_axes(m, None) else None


def _same_axes(m: Match, rank: int | None) -> bool:
    inner, outer = axes_from_front(m[s], rank), axes_from_front(m[t], rank)
    if inner is None or outer is None:
        inner, outer = constant_ints(m[s]), constant_ints(m[t])
    return inner is not None and outer is not None and sorted(inner) == sorted(outer)


def _axes(m: Match, axes: Sequence[int]) -> Value:
    return m.constant(np.array(sorted(axes), np.int64))


@rule(last, contract=Contract.EXACT)
def reshape_reshape(m: Match) -> Value | None:
    """Reshape(Reshape(x)), or any of Squeeze, Unsqueeze and Flatten in their place -> Reshape(x), or x

    The one that stays spells its shape with known extents, 0 and at most one -1; where that could fail on an empty
    tensor, Flatten, Unsqueeze or Squeeze stand for it.
    """
    inner, root = m[first], m.root
    if root.op == "Reshape" and _needs_no_operand_shape(root):
        return m.add("Reshape", (m[x], m[t]), root.attributes)
    shape = root.result.shape
    if shape is None:
        return m.decline("the rank of the result is not known")
    found = reshaped_to(m, m[x], shape, never_empty(inner) | never_empty(root))
    return m.decline(UNSAYABLE) if found is None else found


def _needs_no_operand_shape(node: Node) -> bool:
    """Whether a Reshape copies no dim of its operand, and works out none that could fail where the operand's would not.

    Where the shapes are known they may show that nothing is left to do.
    """
    asked = constant_ints(node.operand(1))
    operand = node.operand(0)
    if asked is None or operand is None or operand.producer is None:
        return False
    given = operand.producer.operand(0)
    return (given is None or given.shape != node.result.shape) and (0 not in asked or node.get_int("allowzero") == 1)


@dataclass(frozen=True)
class MergeReshapes(RulePass):
    """Make one of Reshape, Squeeze, Unsqueeze and Flatten in a row, or leave them out where the shape comes back.

    Holds for every binding of the dynamic dims, empty tensors too. A first one that others read stays for them.
    """

    name: ClassVar[str] = "merge-reshapes"

    def rules(self) -> Sequence[Rule]:
        return (squeeze_squeeze, unsqueeze_unsqueeze, squeeze_unsqueeze, unsqueeze_squeeze, reshape_reshape)
