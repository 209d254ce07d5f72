"""Transposes in a row become one or none, and one that moves nothing becomes a Reshape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.reshaping import RESHAPES, UNSAYABLE, never_empty, reshaped_to

x, t = Var("x"), Var("t")
first = Op("Transpose", (x,), shared=True)
last = Op("Transpose", (first,))
reshape = Op(RESHAPES, (first, Maybe(t)))


def order_of(node: Node) -> tuple[int, ...] | None:
    """The axes of a Transpose's operand in the order of its result; None when that takes the rank, which is unknown."""
    order = node.get_ints("perm")
    rank = node.result.rank
    return order or (None if rank is None else tuple(reversed(range(rank))))


@rule(last, contract=Contract.EXACT)
def transpose_transpose(m: Match) -> Value | None:
    """Transpose(Transpose(x)) -> Transpose(x), or x where the axes come back"""
    inner, outer = order_of(m[first]), order_of(m.root)
    if inner is None or outer is None:
        both_reverse = inner is None and outer is None
        return m[x] if both_reverse else m.decline("the rank is not known, and one of the orders depends on it")
    order = tuple([inner[axis] for axis in outer])
    if list(order) == sorted(order):
        return m[x]
    if not m[first].result.has_one_use:
        return m.decline("the first Transpose is read elsewhere too, so none would be saved")
    return m.add("Transpose", (m[x],), {"perm": order})


@rule(Op("Transpose", (x,)), contract=Contract.EXACT)
def transpose_ones(m: Match) -> Value | None:
    """Transpose(x) that moves only axes of one element past others -> Reshape(x), which copies nothing"""
    shape = m.root.result.shape
    if shape is None or not _keeps_elements(m[x], m.root):
        return None
    found = reshaped_to(m, m[x], shape)
    return m.decline(UNSAYABLE) if found is None else found


@rule(reshape, contract=Contract.EXACT)
def reshape_transpose(m: Match) -> Value | None:
    """Reshape(Transpose(x)), where the Transpose moves only axes of one element past others -> Reshape(x)"""
    shape = m.root.result.shape
    if shape is None or not _keeps_elements(m[x], m[first]):
        return None
    found = reshaped_to(m, m[x], shape, never_empty(m.root))
    return m.decline(UNSAYABLE) if found is None else found


def _keeps_elements(value: Value, transpose: Node) -> bool:
    """Whether the elements stay in their order: the axes that are not surely of one element do."""
    shape, order = value.shape, order_of(transpose)
    if shape is None or order is None:
        return False
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


@dataclass(frozen=True)
class MergeTransposes(RulePass):
    """Make one of two Transposes, or none where the axes come back, and a Reshape of one that moves no element.

    Holds for every binding of the dynamic dims, of which none counts as 1.
    """

    name: ClassVar[str] = "merge-transposes"

    def rules(self) -> Sequence[Rule]:
        return (transpose_transpose, transpose_ones, reshape_transpose)
