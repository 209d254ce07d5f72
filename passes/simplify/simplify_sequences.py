"""Sequences of tensors whose elements are known give way to the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.ops.shape import constant_ints
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

s, position = Var("s"), Var("position")
_LONGEST = 256


def _position(value: Value | None, length: int, default: int) -> int | None:
    """A constant place in a sequence, counted from its start; None for one that is not known or outside."""
    if value is None:
        return default
    found = constant_ints(value)
    if found is None or len(found) != 1 or not -length <= found[0] < length:
        return None
    return found[0] % length if length else None


def _elements(value: Value) -> list[Value] | None:
    """The tensors that a sequence was put together from; None where they are not known."""
    changes: list[Node] = []
    while value.producer is not None and value.producer.op in ("SequenceInsert", "SequenceErase"):
        inner = value.producer.operand(0)
        if inner is None or len(changes) == _LONGEST:
            return None
        changes.append(value.producer)
        value = inner
    start = value.producer
    if start is None or start.op not in ("SequenceConstruct", "SequenceEmpty"):
        return None
    found = [operand for operand in start.operands if operand is not None]
    for node in reversed(changes):
        if not _change(node, found):
            return None
    return found


def _change(node: Node, elements: list[Value]) -> bool:
    """Do to a list what SequenceInsert or SequenceErase does to the sequence; whether that is known."""
    length = len(elements)
    if node.op == "SequenceErase":
        place = _position(node.operand(1), length, length - 1)
        if place is None or not elements:
            return False
        del elements[place]
        return True
    tensor, where = node.operand(1), node.operand(2)
    given = None if where is None else constant_ints(where)
    at_end = where is None or (given is not None and len(given) == 1 and given[0] == length)
    place = length if at_end else _position(where, length, length)
    if tensor is None or place is None:
        return False
    elements.insert(place, tensor)
    return True


def _parts(node: Node) -> list[int] | None:
    """The extents of what SplitToSequence gives; None where they are not known, or the axis is dropped."""
    data, split = node.operand(0), node.operand(1)
    extent = _extent(node)
    if split is None:
        return [1] * extent if node.get_int("keepdims") and extent is not None and extent <= _LONGEST else None
    sizes = constant_ints(split)
    if data is None or sizes is None or any(size < 0 for size in sizes):
        return None
    if split.rank == 1:
        return list(sizes)
    if split.rank != 0 or extent is None or not sizes[0] or extent > _LONGEST * sizes[0]:
        return None
    whole, rest = divmod(extent, sizes[0])
    return [sizes[0]] * whole + ([rest] if rest else [])


def _extent(node: Node) -> int | None:
    """The extent of the axis that SplitToSequence cuts."""
    data, axis = node.operand(0), node.get_int("axis")
    shape = None if data is None else data.shape
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    extent = shape[axis]
    return extent if isinstance(extent, int) else None


@rule(Op("SequenceAt", (s, position)), contract=Contract.EXACT)
def element(m: Match) -> Value | None:
    """SequenceAt(SequenceConstruct(x0, x1, ...), i) -> xi; SequenceInsert and SequenceErase on the way are followed"""
    elements = _elements(m[s])
    if elements is None:
        return None
    place = _position(m[position], len(elements), 0)
    return m.decline("the position is not known, or lies outside of the sequence") if place is None else elements[place]


split = Op("SplitToSequence", shared=True)


@rule(Op("SequenceAt", (split, position)), contract=Contract.EXACT)
def part(m: Match) -> Value | None:
    """SequenceAt(SplitToSequence(x, sizes), i) -> Split(x, sizes), its result i; Gather where the axis is dropped"""
    node = m[split]
    axis, extent = node.get_int("axis"), _extent(node)
    if node.operand(1) is None and not node.get_int("keepdims"):
        place = None if extent is None else _position(m[position], extent, 0)
        if place is None:
            return m.decline("the number of parts or the position is not known")
        return m.add("Gather", (node.operand(0), m.constant(np.array(place, np.int64))), {"axis": axis})
    sizes = _parts(node)
    place = None if sizes is None else _position(m[position], len(sizes), 0)
    if sizes is None or place is None:
        return m.decline("the number of parts or the position is not known")
    operands = (node.operand(0), m.constant(np.array(sizes, np.int64)))
    return m.add_node(Node("Split", operands, {"axis": axis}, len(sizes))).results[place]


@rule(Op("SequenceLength", (s,)), contract=Contract.EXACT)
def length(m: Match) -> Value | None:
    """SequenceLength(SequenceConstruct(x0, x1, ...)) -> their number; that of SplitToSequence of known parts too"""
    producer = m[s].producer
    if producer is not None and producer.op == "SplitToSequence":
        dropped = producer.operand(1) is None and not producer.get_int("keepdims")
        sizes = _parts(producer)
        count = _extent(producer) if dropped else None if sizes is None else len(sizes)
    else:
        elements = _elements(m[s])
        count = None if elements is None else len(elements)
    return None if count is None else m.constant(np.array(count, np.int64))


@rule(Op("ConcatFromSequence", (s,)), contract=Contract.EXACT)
def concatenated(m: Match) -> Value | None:
    """ConcatFromSequence(SequenceConstruct(x0, x1, ...)) -> Concat(x0, x1, ...)"""
    elements = _elements(m[s])
    if not elements:
        return None
    if m.root.get_int("new_axis"):
        return m.decline("a new axis takes an Unsqueeze for each element")
    return m.add("Concat", elements, {"axis": m.root.get_int("axis")})


whole = Op("SplitToSequence", shared=True)


@rule(Op("ConcatFromSequence", (whole,)), contract=Contract.EXACT)
def put_together_again(m: Match) -> Value | None:
    """ConcatFromSequence(SplitToSequence(x)) along one axis -> x"""
    node, data = m[whole], m[whole].operand(0)
    dropped = node.operand(1) is None and not node.get_int("keepdims")
    if data is None or data.rank is None or bool(m.root.get_int("new_axis")) != dropped:
        return None
    if node.get_int("axis") % data.rank != m.root.get_int("axis") % data.rank:
        return None
    return data


@rule(Op(("SequenceInsert", "SequenceErase")), contract=Contract.EXACT)
def constructed(m: Match) -> Value | None:
    """SequenceInsert(SequenceConstruct(x0, x1), x2) -> SequenceConstruct(x0, x1, x2); SequenceErase takes one away"""
    inner = m.root.operand(0)
    if inner is None or not inner.has_one_use:
        return m.decline("others read the sequence")
    elements = _elements(m.root.result)
    return m.add("SequenceConstruct", elements) if elements else None


@dataclass(frozen=True)
class SimplifySequences(RulePass):
    """Replace sequences whose elements, length and positions are known by tensors, Concat, Split and constants."""

    name: ClassVar[str] = "simplify-sequences"

    def rules(self) -> Sequence[Rule]:
        return (element, part, length, concatenated, put_together_again, constructed)
