"""Attention heads: how models spell splitting a hidden axis into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Dim
from planish.ir.ops.indexing import slice_bounds
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.passes.fuse.factor import factor_of
from planish.passes.rewrite import Match

HEADS_FIRST = (0, 2, 1, 3)
_KEYS_LAST = (0, 2, 3, 1)
_SWAPPED = (0, 1, 3, 2)
_PARTS_FIRST = (2, 0, 3, 1, 4)
_REACH = 8
MOVES = frozenset(("Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"))


class Heads(NamedTuple):
    """A tensor [batch, heads, length, size] as one of equal parts of the last axis of [batch, length, hidden]."""

    source: Value
    part: int
    parts: int
    heads: int
    size: int


def scaled_heads(value: Value, *, keys: bool = False) -> tuple[Heads, float] | None:
    """Heads and the number that multiplies them; `keys`: those whose last two axes are swapped for the product."""
    number, swapped = 1.0, not keys
    while True:
        node = value.producer
        if node is None or not value.has_one_use:
            return None
        scaled = factor_of(node) if node.op in ("Div", "Mul") else None
        if scaled is not None and scaled[1].axis is None:
            value, number = scaled[0], number * float(scaled[1].values[0])
            continue
        order = node.get_ints("perm") if node.op == "Transpose" else None
        if order == _SWAPPED and not swapped and node.operands[0] is not None:
            value, swapped = node.operands[0], True
            continue
        found = _split(node, HEADS_FIRST if swapped else _KEYS_LAST) or (_picked(node) if swapped else None)
        return None if found is None else (found, number)


def _split(node: Node, order: Sequence[int]) -> Heads | None:
    """Transpose(Reshape(x, [batch, length, heads, size]))"""
    if node.op != "Transpose" or node.get_ints("perm") != tuple(order):
        return None
    found = _reshaped(node.operands[0], 4)
    if found is None:
        return None
    source, (heads, size) = found
    return Heads(source, 0, 1, heads, size)


def _picked(node: Node) -> Heads | None:
    """One part of Transpose(Reshape(x, [batch, length, parts, heads, size])), its parts in front."""
    found = _squeezed_part(node) or _gathered_part(node)
    if found is None:
        return None
    trunk, part = found
    transpose = trunk.producer
    if transpose is None or transpose.op != "Transpose" or transpose.get_ints("perm") != _PARTS_FIRST:
        return None
    reshaped = _reshaped(transpose.operands[0], 5)
    if reshaped is None:
        return None
    source, (parts, heads, size) = reshaped
    part += parts if part < 0 else 0
    return Heads(source, part, parts, heads, size) if 0 <= part < parts and len(trunk.readers) in (1, parts) else None


def _squeezed_part(node: Node) -> tuple[Value, int] | None:
    """Squeeze, over the first axis, of a result of Split into parts of one, or of a Slice of one."""
    value = node.operands[0] if node.op == "Squeeze" else None
    if value is None or value.producer is None or constant_ints(node.operand(1)) != (0,) or not value.has_one_use:
        return None
    inner = value.producer
    trunk = inner.operands[0]
    if trunk is None or trunk.rank is None or not value.shape or value.shape[0] != 1:
        return None
    if inner.op == "Split" and normalize_axis(inner, inner.get_int("axis"), trunk.rank) == 0:
        return (trunk, value.index) if trunk.shape and trunk.shape[0] == len(inner.results) else None
    bounds = slice_bounds(inner, trunk.rank) if inner.op == "Slice" else None
    if not bounds or len(bounds) != 1 or bounds[0][0] != 0 or bounds[0][3] != 1:
        return None
    return trunk, bounds[0][1]


def _gathered_part(node: Node) -> tuple[Value, int] | None:
    """Gather, along the first axis, of one place."""
    if node.op != "Gather" or node.operands[0] is None or node.operands[1] is None or node.operands[1].rank != 0:
        return None
    place, rank = constant_ints(node.operands[1]), node.operands[0].rank
    if not place or rank is None or normalize_axis(node, node.get_int("axis"), rank):
        return None
    return node.operands[0], place[0]


def _reshaped(value: Value | None, rank: int) -> tuple[Value, Sequence[int]] | None:
    """What a Reshape splits the last of three axes of, and the extents, all known, that it splits it into."""
    node = None if value is None else value.producer
    if value is None or node is None or node.op != "Reshape" or not value.has_one_use or value.shape is None:
        return None
    source = node.operands[0]
    behind = [dim for dim in value.shape[2:] if isinstance(dim, int)]
    if source is None or source.shape is None or len(source.shape) != 3 or len(value.shape) != rank:
        return None
    if len(behind) != rank - 2 or source.shape[:2] != value.shape[:2] or source.shape[2] != _product(behind):
        return None
    return source, behind


def _product(extents: Sequence[int]) -> Dim:
    total = 1
    for extent in extents:
        total *= extent
    return total


def unscaled(value: Value) -> tuple[Node | None, float]:
    """The MatMul behind factors that are one number each, and their product."""
    number = 1.0
    for _ in range(_REACH):
        node = value.producer
        if node is None or not value.has_one_use:
            break
        if node.op == "MatMul":
            return node, number
        found = factor_of(node) if node.op in ("Div", "Mul") else None
        if found is None or found[1].axis is not None:
            break
        value, number = found[0], number * float(found[1].values[0])
    return None, number


def hidden_sources(m: Match, heads: tuple[Heads, Heads, Heads]) -> tuple[Value, ...] | None:
    """Query, key and value with the heads in their hidden axis."""
    if all(one.parts == 1 for one in heads):
        return tuple([one.source for one in heads])
    first = heads[0]
    alike = all(one.source is first.source and one.size == first.size for one in heads)
    if not alike or [(one.part, one.parts) for one in heads] != [(0, 3), (1, 3), (2, 3)]:
        return None
    extents = m.constant(np.full(3, first.heads * first.size, np.int64))
    return m.add_node(Node("Split", (first.source, extents), {"axis": 2}, 3)).results


def cover(m: Match, starts: Iterable[Value], ends: Sequence[Value | None]) -> None:
    """Count all nodes of the picture, and those from some values up to others, among those that are rewritten."""
    covered = dict.fromkeys(m.nodes)
    queue = list(starts)
    while queue:
        value = queue.pop()
        node = value.producer
        if node is None or node in covered or value in ends:
            continue
        covered[node] = None
        m.cover(node)
        operands = node.operands[:1] if node.op in MOVES else node.operands
        queue += [operand for operand in operands if operand is not None and operand.constant is None]
