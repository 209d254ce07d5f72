"""What happens to every part of a Split happens before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.ir.graph import constant
from planish.ir.ops.indexing import slice_bounds
from planish.ir.ops.shape import normalize_axis
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x = Var("x")
_ELEMENTWISE = frozenset((
    *("Abs", "Cast", "Ceil", "Clip", "Floor", "LeakyRelu", "Mul", "Neg", "Not", "Relu", "Round", "Slice", "Sqrt"),
))  # fmt: skip
"""What rounds correctly or not at all: of Exp and its like, a runtime's vectors and remainders may differ in a bit."""


def _every_part_is_read_once(node: Node) -> bool:
    """Whether each part has one reader, all of the same operator: what nearly no Split has."""
    first = node.results[0].users
    if len(node.results) < 2 or len(first) != 1 or first[0].op not in _ELEMENTWISE:
        return False
    return all(len(part.readers) == 1 and part.users[0].op == first[0].op for part in node.results)


split = Op("Split", where=_every_part_is_read_once)


@rule(split, contract=Contract.EXACT)
def split_last(m: Match) -> None:
    """f(a), f(b) of the parts a, b of Split(x) -> the parts of Split(f(x))

    f works on each element alone, squares, or slices another axis.
    """
    source = m.root.operands[0]
    readers = [part.users[0] for part in m.root.results]
    if source is None or source.rank is None or len(set(readers)) != len(readers):
        return m.decline("parts of the Split meet in one node, or the rank is not known")
    if not all(_is_alike(readers[0], reader, part) for reader, part in zip(readers, m.root.results, strict=True)):
        return m.decline("the parts of the Split are not all used alike")
    if readers[0].op == "Slice" and not _slices_elsewhere(readers[0], m.root, source.rank):
        return m.decline("the parts are sliced along the axis that they are split along, or at computed places")
    first = m.root.results[0]
    operands = tuple([source if operand is first else _anywhere(operand) for operand in readers[0].operands])
    for reader in readers:
        m.cover(reader)
    whole = m.add(readers[0].op, operands, readers[0].attributes)
    parts = Node("Split", (whole, *m.root.operands[1:]), m.root.attributes, results=len(readers))
    m.add_node(parts)
    for reader, part in zip(readers, parts.results, strict=True):
        m.also(reader.result, part)
    return None


def _anywhere(operand: Value | None) -> Value | None:
    """A constant that may be read before the node that makes it."""
    tensor = None if operand is None else operand.constant
    return operand if operand is None or tensor is None or operand.producer is None else constant(tensor, operand.name)


def _is_alike(first: Node, other: Node, part: Value) -> bool:
    """Whether two readers do the same to their parts, with the same constants; a product is a square."""
    if other.attributes != first.attributes or other.graph is not part.graph or len(other.results) != 1:
        return False
    if len(other.operands) != len(first.operands):
        return False
    if other.op == "Mul":
        return all(operand is part for operand in other.operands)
    if other.operands[0] is not part:
        return False
    pairs = zip(first.operands[1:], other.operands[1:], strict=True)
    return all(_is_same_constant(mine, theirs) for mine, theirs in pairs)


def _is_same_constant(one: Value | None, other: Value | None) -> bool:
    """Also where nothing has merged the two yet."""
    if one is None or other is None:
        return one is other
    mine, theirs = one.constant, other.constant
    if mine is None or theirs is None or (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return False
    return mine is theirs or (mine.in_memory and theirs.in_memory and mine.holds_same(theirs))


def _slices_elsewhere(node: Node, along: Node, rank: int) -> bool:
    bounds = slice_bounds(node, rank)
    axis = normalize_axis(along, along.get_int("axis"), rank)
    return bounds is not None and all(bound[0] != axis for bound in bounds)


@dataclass(frozen=True)
class MoveSplits(RulePass):
    """Do what happens alike to every part of a Split once, before it.

    Needs that nothing else reads the parts. As exact as the operator, which sees the same elements.
    """

    name: ClassVar[str] = "move-splits"

    def rules(self) -> Sequence[Rule]:
        return (split_last,)
