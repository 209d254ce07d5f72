"""Scaled dot-product attention as ONNX Runtime's own MultiHeadAttention, where the standard Attention is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.dim import Dim
from planish.ir.ops.shape import normalize_axis
from planish.passes.fuse.heads import HEADS_FIRST, Heads, cover, hidden_sources, scaled_heads, unscaled
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_OP = "com.microsoft::MultiHeadAttention"
_AXES = 4
_REACH = 8

scores, values, shape = Var("scores"), Var("values"), Var("shape")


def _merges_heads(node: Node) -> bool:
    return node.get_ints("perm") == HEADS_FIRST


softmax = Op("Softmax", (scores,))
product = Op("MatMul", (softmax, values))
merged = Op("Transpose", (product,), where=_merges_heads)


class _Root(Op):
    """The picture of the merged heads, behind which the rule walks up to where they are split."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        return _REACH + _AXES


@rule(_Root("Reshape", (merged, shape)), contract=Contract.REASSOCIATES, needs="scores that do not overflow")
def multi_head_attention(m: Match) -> Value | None:
    """Softmax(q' @ k'^T * scale + mask) @ v' -> MultiHeadAttention(q, k, v, mask), where q', k', v' are their heads

    The heads are split by Reshape and Transpose, each from a tensor of its own or all three from one, and merged so.
    A mask may hold anything and be computed, and dims may be 0: unlike the standard Attention, ONNX Runtime's operator
    does with them what the parts do. Needs float, and a mask [batch or 1, heads or 1, length, length of the keys].
    """
    if not _is_merged(m):
        return None
    masked = _unmasked(m)
    if masked is None:
        return m.decline("the scores are no scaled product that nothing else reads, or the mask has another shape")
    factors, number, mask = masked
    found = _split(m, factors)
    if found is None:
        return m.decline("query, key or value is not split into heads by Reshape and Transpose, or is read elsewhere")
    (q, k, v), of_heads = found
    scale = float(np.float32(number * of_heads))
    if not 0 < scale < np.inf:
        return m.decline("the scale is not a positive number")
    if not _fit(q, k, v):
        return m.decline("keys have other heads, another batch or another length than queries or values")
    sources = hidden_sources(m, (q, k, v))
    if sources is None:
        return m.decline("query, key and value are neither tensors of their own nor the three parts of one")
    cover(m, (m[scores], m[values]), (q.source, k.source, v.source, mask))
    operands = sources if mask is None else (*sources, None, None, mask)
    return m.add(_OP, operands, {"num_heads": q.heads, "scale": scale})


def _is_merged(m: Match) -> bool:
    """Whether heads of single precision are merged into one axis, and the Softmax is over the keys."""
    result, inner = m.root.result.shape, m[product].result.shape
    if result is None or inner is None or m[scores].rank != _AXES or len(inner) != _AXES:
        m.decline("ranks or shapes are unknown, or there are not four axes")
        return False
    batch, heads, length, size = inner
    if m[values].dtype is not DType.FLOAT or result != (batch, length, heads * size):
        m.decline("the heads are not merged into one axis, or the elements are not of single precision")
        return False
    if normalize_axis(m[softmax], m[softmax].get_int("axis"), _AXES) != _AXES - 1:
        m.decline("the Softmax is not over the keys")
        return False
    return True


def _unmasked(m: Match) -> tuple[Node, float, Value | None] | None:
    """The product behind the scores, the number that scales it, and the mask that is added."""
    value, rows = m[scores], m[scores].shape
    node, number = unscaled(value)
    if node is not None:
        return node, number, None
    last = value.producer
    if last is None or last.op != "Add" or not value.has_one_use or rows is None:
        return None
    for before, mask in (last.operands, last.operands[::-1]):
        node, number = (None, 1.0) if before is None else unscaled(before)
        if node is not None and before is not None and before.shape == rows and mask is not None and _spans(mask, rows):
            return node, number, mask
    return None


def _spans(mask: Value, rows: Sequence[Dim]) -> bool:
    """Whether a mask has the axes of the scores, of which only the first two may be 1."""
    if mask.shape is None or len(mask.shape) != _AXES or mask.shape[2:] != tuple(rows[2:]):
        return False
    return all(one in (1, whole) for one, whole in zip(mask.shape[:2], rows[:2], strict=True))


def _split(m: Match, factors: Node) -> tuple[tuple[Heads, Heads, Heads], float] | None:
    """Query, key and value, and the number that scales queries and keys."""
    queries, keys = factors.operands
    if queries is None or keys is None:
        return None
    q, k, v = scaled_heads(queries), scaled_heads(keys, keys=True), scaled_heads(m[values])
    if q is None or k is None or v is None or v[1] != 1:
        return None
    return (q[0], k[0], v[0]), q[1] * k[1]


def _fit(q: Heads, k: Heads, v: Heads) -> bool:
    """Whether nothing is broadcast: one batch, and as many heads and values as keys."""
    batches = [None if one.source.shape is None else one.source.shape[0] for one in (q, k, v)]
    lengths = [None if one.source.shape is None else one.source.shape[1] for one in (k, v)]
    if None in batches or None in lengths or not q.heads == k.heads == v.heads or q.size != k.size:
        return False
    return batches[0] == batches[1] == batches[2] and lengths[0] == lengths[1]


@dataclass(frozen=True)
class FuseMultiHeadAttention(RulePass):
    """Make one MultiHeadAttention of com.microsoft of attention whose mask is computed, or whose dims may be 0.

    Only for a target that allows com.microsoft. What can be the standard Attention is faster so, and goes first.
    """

    name: ClassVar[str] = "fuse-multi-head-attention"

    def rules(self) -> Sequence[Rule]:
        return (multi_head_attention,)
