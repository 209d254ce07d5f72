"""A Concat of Concats becomes one, and one that puts parts of a tensor together again becomes that tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.ir.ops.indexing import slice_bounds
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.rewrite import Contract, Match, Rule, rule

_FAR = 2**31 - 1
_MOST = 256


def _makes(op: str, value: Value | None, node: Node) -> Node | None:
    """The node of that operator, beside `node`, that makes the value."""
    producer = None if value is None else value.producer
    return producer if producer is not None and producer.op == op and producer.graph is node.graph else None


def _axis(node: Node) -> int | None:
    """The axis of a Concat or Split, counted from the front."""
    axis, rank = node.get_int("axis"), node.result.rank
    return axis if axis >= 0 else None if rank is None else axis % rank


def _reads_concat(node: Node) -> bool:
    return any(_makes("Concat", operand, node) for operand in node.operands)


@rule(Op("Concat", where=_reads_concat), contract=Contract.EXACT)
def concat_concat(m: Match) -> Value | None:
    """Concat(a, Concat(b, c)) along one axis -> Concat(a, b, c)"""
    axis, merged = _axis(m.root), False
    parts: list[Value | None] = []
    for operand in m.root.operands:
        inner = _makes("Concat", operand, m.root)
        if inner is None or operand is None or not operand.has_one_use or axis is None or _axis(inner) != axis:
            parts.append(operand)
        elif m.match(Op("Concat"), inner):
            parts += inner.operands
            merged = True
    if not merged:
        return m.decline("the inner Concat is read elsewhere, or joins along another axis")
    if len(parts) > _MOST:
        return m.decline(f"a Concat of more than {_MOST} parts would be made")
    return m.add("Concat", parts, m.root.attributes)


def _reads_split(node: Node) -> bool:
    return any(
        _makes("Split", operand, node) and operand is not None and not operand.index for operand in node.operands
    )


@rule(Op("Concat", where=_reads_split), contract=Contract.EXACT)
def concat_split(m: Match) -> Value | None:
    """Concat of all parts of Split(x), in order and along its axis, among others -> x in their place"""
    operands = m.root.operands
    parts: list[Value | None] = []
    while len(operands) > 0:
        split = _makes("Split", operands[0], m.root)
        count = 0 if split is None else len(split.results)
        if split is not None and operands[:count] == split.results and _axis(split) == _axis(m.root) is not None:
            m.match(Op("Split"), split)
            parts.append(split.operands[0])
            operands = operands[count:]
        else:
            parts.append(operands[0])
            operands = operands[1:]
    if len(parts) == len(m.root.operands):
        return m.decline("it lacks a part of the Split, or joins them in another order or along another axis")
    return parts[0] if len(parts) == 1 else m.add("Concat", parts, m.root.attributes)


def _reads_slices(node: Node) -> bool:
    return len(node.operands) > 1 and all(_makes("Slice", operand, node) for operand in node.operands)


@rule(Op("Concat", where=_reads_slices), contract=Contract.EXACT)
def concat_slices(m: Match) -> Value | None:
    """Concat(x[:n], x[n:]) along the axis that was cut -> x, whatever its extent"""
    slices = [node for operand in m.root.operands if (node := _makes("Slice", operand, m.root)) is not None]
    value = slices[0].operands[0]
    if value is None or value.rank is None or any(node.operands[0] is not value for node in slices):
        return None
    found = [slice_bounds(node, value.rank) for node in slices]
    if any(bounds is None or len(bounds) != 1 for bounds in found):
        return m.decline("the bounds are not constant, or cut several axes")
    places = [bounds[0] for bounds in found if bounds]
    if any(axis != _axis(m.root) or step != 1 for axis, _, _, step in places):
        return None
    cuts = [start for _, start, _, _ in places][1:]
    if [end for _, _, end, _ in places][:-1] != cuts or places[0][1] != 0 or places[-1][2] < _FAR:
        return m.decline("the slices leave gaps, or overlap")
    same_side = all(cut >= 0 for cut in cuts) or all(cut < 0 for cut in cuts)
    if cuts != sorted(cuts) or not same_side or any(cut >= _FAR for cut in cuts):
        return m.decline("whether the slices follow each other depends on the extent")
    for node in slices:
        m.match(Op("Slice"), node)
    return value


@dataclass(frozen=True)
class MergeConcats(RulePass):
    """Make one Concat of a Concat of Concats, and put nothing together that was one before.

    Holds for every extent of the axis; parts that are read elsewhere stay for their readers.
    """

    name: ClassVar[str] = "merge-concats"

    def rules(self) -> Sequence[Rule]:
        return (concat_concat, concat_split, concat_slices)
