"""Rotary position embedding: pairs of elements, half a head apart, turned by angles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.dim import Dim
from planish.ir.ops.indexing import slice_bounds
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import Array
from planish.passes.fuse.factor import factor_of
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

sines, front, back = Var("sines"), Var("front"), Var("back")
_ELEMENTWISE = frozenset(("Cast", "Cos", "Div", "Identity", "Mul", "Sin"))
_REACH = 8
_RANK = 4

straight = Op("Mul")
negated = Op("Neg", (back,))
turned = Op("Concat", (negated, front))
crossed = Op("Mul", (turned, sines), commutes=True)


class _Root(Op):
    """The picture of the sum, behind which the rule walks up to where the angles are doubled."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        return _REACH + 4


@rule(
    _Root("Add", (crossed, straight), commutes=True), contract=Contract.REASSOCIATES, needs="no product that overflows"
)
def rotary_embedding(m: Match) -> Value | None:
    """x * cos + Concat(-x2, x1) * sin -> RotaryEmbedding(x, cos', sin'), where x1 and x2 are the halves of x

    x is [batch, heads, length, size] of single precision; cos and sin are [batch, 1, length, size] and hold everything
    twice, side by side, which shows from a Concat of something with itself, under a Cos, or from constants.
    """
    taken = m[front].producer
    x = None if taken is None or not taken.operands else taken.operands[0]
    cosines = _factor_beside(m[straight], x)
    if x is None or cosines is None:
        return m.decline("what is crossed over are not the halves of what is multiplied beside it")
    shape = x.shape
    if x.dtype is not DType.FLOAT or shape is None or len(shape) != _RANK:
        return m.decline("what is turned has not four axes, or is not of single precision")
    size = shape[3]
    if not isinstance(size, int) or size % 2 or m.root.result.shape != shape:
        return m.decline("the size of a head is odd or unknown, or the angles broadcast what is turned")
    if normalize_axis(m[turned], m[turned].get_int("axis"), _RANK) != 3 or not _are_halves(m, x, size // 2):
        return m.decline("what is crossed over are not the halves of what is turned, or they are read elsewhere")
    makers = [_cache(side, shape) for side in (cosines, m[sines])]
    if makers[0] is None or makers[1] is None:
        return m.decline("the angles do not surely repeat, or have another shape than one for each batch and place")
    for half in (front, back):
        producer = m[half].producer
        if producer is not None:
            m.cover(producer)
    return m.add("RotaryEmbedding", (x, makers[0](m), makers[1](m)))


def _factor_beside(node: Node, x: Value | None) -> Value | None:
    """What a Mul multiplies x by."""
    left, right = node.operands[:2]
    return right if left is x else left if right is x else None


def _are_halves(m: Match, x: Value, half: int) -> bool:
    """Whether `front` and `back` are the halves of x along its last axis, and nothing else reads them."""
    first, last = m[front].producer, m[back].producer
    if first is None or last is None or not (m[front].has_one_use and m[back].has_one_use):
        return False
    if first.operands[0] is not x or last.operands[0] is not x:
        return False
    if first is last and first.op == "Split":
        sizes = (m[front].shape or (None,))[-1], (m[back].shape or (None,))[-1]
        last_axis = normalize_axis(first, first.get_int("axis"), _RANK) == 3
        return last_axis and sizes == (half, half) and (m[front].index, m[back].index) == (0, 1)
    return _is_slice(first, 0, half, half) and _is_slice(last, half, 2 * half, half)


def _is_slice(node: Node, start: int, end: int, half: int) -> bool:
    bounds = slice_bounds(node, _RANK) if node.op == "Slice" else None
    if not bounds or len(bounds) != 1:
        return False
    axis, first, last, step = bounds[0]
    first += 2 * half if first < 0 else 0
    last = last + 2 * half if last < 0 else min(last, 2 * half)
    return (axis, first, last, step) == (3, start, end, 1)


Maker = Callable[[Match], Value]
"""Makes half of a value, once everything is known to fit."""


def _cache(value: Value, shape: tuple[Dim, ...]) -> Maker | None:
    """How to make a cache [batch, length, size / 2] of angles that a tensor of that shape is multiplied by."""
    batch, _, length, size = shape
    if value.shape != (batch, 1, length, size):
        return None
    if value.constant is not None:
        array = value.constant.array()
        return _of_constant(array.reshape(array.shape[0], *array.shape[2:]), value.name)
    node = value.producer
    if node is None or node.op != "Unsqueeze" or node.operands[0] is None:
        return None
    if [axis % _RANK for axis in constant_ints(node.operand(1)) or ()] != [1]:
        return None
    return _half(node.operands[0], _REACH)


def _of_constant(array: Array, name: str) -> Maker | None:
    half = array.shape[-1] // 2
    if not np.array_equal(array[..., :half], array[..., half:]):
        return None
    return lambda m: m.constant(np.ascontiguousarray(array[..., :half]), name)


def _half(value: Value, left: int) -> Maker | None:
    """How to make the first half, along the last axis, of a value whose halves are alike."""
    node = value.producer
    if value.constant is not None:
        return _of_constant(value.constant.array(), value.name) if value.rank else None
    if node is None or value.rank is None or not left:
        return None
    if node.op == "Concat":
        one = node.operands[0]
        alike = len(node.operands) == 2 and one is node.operands[1] and one is not None
        last = normalize_axis(node, node.get_int("axis"), value.rank) == value.rank - 1
        return (lambda _: one) if alike and last and one is not None else None
    if node.op == "Gather":
        return _half_of_rows(node, left)
    if node.op not in _ELEMENTWISE:
        return None
    scaled = factor_of(node) if node.op in ("Div", "Mul") else None
    if node.op in ("Div", "Mul") and (scaled is None or scaled[1].axis is not None):
        return None
    source = node.operands[0] if scaled is None else scaled[0]
    inner = None if source is None else _half(source, left - 1)
    if inner is None or source is None:
        return None
    return _again(node, {node.operands.index(source): inner})


def _half_of_rows(node: Node, left: int) -> Maker | None:
    """Rows that are picked from a table whose halves are alike."""
    table = node.operands[0]
    if table is None or table.rank != 2 or normalize_axis(node, node.get_int("axis"), 2):
        return None
    inner = _half(table, left - 1)
    return None if inner is None else _again(node, {0: inner})


def _again(node: Node, inner: Mapping[int, Maker]) -> Maker:
    def made(m: Match) -> Value:
        operands = [inner[place](m) if place in inner else operand for place, operand in enumerate(node.operands)]
        return m.add(node.op, operands, node.attributes)

    return made


@dataclass(frozen=True)
class FuseRotaryEmbedding(RulePass):
    """Make one RotaryEmbedding of the products and the crossed halves that turn a tensor by angles.

    The angles' half is worked out anew beside the whole, which goes when its last reader is rewritten; equal ones are
    left to be merged.
    """

    name: ClassVar[str] = "fuse-rotary-embedding"

    def rules(self) -> Sequence[Rule]:
        return (rotary_embedding,)
