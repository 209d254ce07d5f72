"""A Pad of a Pad becomes one."""

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

x = Var("x")
first = Op("Pad", (x, Var("pads"), Maybe(Var("value")), Maybe(Var("axes"))))
last = Op("Pad", (first, Var("pads"), Maybe(Var("value")), Maybe(Var("axes"))))
_MERGING = ("constant", "edge")


@rule(last, contract=Contract.EXACT)
def pad_pad(m: Match) -> Value | None:
    """Pad(Pad(x)) with one value, or by the edge -> Pad(x) by the sum of both"""
    inner, outer = m[first], m.root
    mode = inner.get_str("mode")
    if outer.get_str("mode") != mode or mode not in _MERGING:
        return m.decline("they pad in two modes, or by reflection, which a sum of both would continue differently")
    before, behind = widths(inner), widths(outer)
    if before is None or behind is None:
        return m.decline("the pads are not constant, or the rank is not known")
    both = [a + b for a, b in zip(before, behind, strict=True)]
    crops = min(behind, default=0) < 0
    if min((*before, *both), default=0) < 0 or (crops and mode != "constant"):
        return m.decline("one of them crops what the operand holds")
    if mode == "constant" and not _same_value(inner, outer):
        return m.decline("they pad with two values")
    pads = m.constant(np.array(both, np.int64))
    return m.add("Pad", (m[x], pads, inner.operand(2)) if inner.operand(2) else (m[x], pads), {"mode": mode})


def widths(node: Node) -> list[int] | None:
    """Pads at the beginning of each axis, then at the end of each; None where they or the rank are not known."""
    operand = node.operand(0)
    rank = None if operand is None else operand.rank
    pads, axes = constant_ints(node.operand(1)), constant_ints(node.operand(3))
    if rank is None or pads is None or (axes is None and node.operand(3) is not None):
        return None
    named = range(rank) if axes is None else axes
    found = [0] * (2 * rank)
    for place, axis in enumerate(named):
        found[axis % rank] = pads[place]
        found[axis % rank + rank] = pads[place + len(named)]
    return found


def _same_value(first: Node, second: Node) -> bool:
    """Whether both pad with the same bits; 0 is what an absent value stands for."""
    a, b = first.operand(2), second.operand(2)
    return a is b or (_bits(a) == _bits(b) and _bits(a) is not None)


def _bits(value: Value | None) -> bytes | None:
    """The bytes of a constant without the zeros that end it, so that positive zeros of every type are alike."""
    if value is None:
        return b""
    tensor = value.constant
    return None if tensor is None or not tensor.dtype.bits else bytes(tensor.raw()).rstrip(b"\0")


@dataclass(frozen=True)
class MergePads(RulePass):
    """Make one Pad of two that pad with the same value, or both by the edge.

    A second one that crops merges as far as it crops what the first one put there.
    """

    name: ClassVar[str] = "merge-pads"

    def rules(self) -> Sequence[Rule]:
        return (pad_pad,)
