"""Scaled dot-product attention over heads that are split from a hidden axis, and merged behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.dim import is_positive
from planish.ir.ops.broadcast import broadcasts_to
from planish.ir.ops.shape import normalize_axis
from planish.ir.tensor import Tensor
from planish.passes.fuse.heads import HEADS_FIRST, MOVES, Heads, cover, hidden_sources, scaled_heads, unscaled
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

scores, values, shape = Var("scores"), Var("values"), Var("shape")
_REACH = 8
_LEAST = -1e30
"""Runtimes take a row for masked whose scores are all below about -3.4e38, and give zeros for it."""
_LARGEST_MASK = 1 << 20


def _merges_heads(node: Node) -> bool:
    return node.get_ints("perm") == HEADS_FIRST


softmax = Op("Softmax", (scores,))
product = Op("MatMul", (softmax, values))
merged = Op("Transpose", (product,), where=_merges_heads)
_NEEDS = "scores that do not overflow, and in each row one that is no mask's"


class _Root(Op):
    """The picture of the merged heads, behind which the rule walks up to where they are split."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        return _REACH + 4


@rule(_Root("Reshape", (merged, shape)), contract=Contract.REASSOCIATES, needs=_NEEDS)
def attention(m: Match) -> Value | None:
    """Softmax(q' @ k'^T * scale + mask) @ v' -> Attention(q, k, v, mask), where q', k' and v' are the heads of q, k, v

    The heads are split by Reshape and Transpose, each from a tensor of its own or all three from one, and merged so.
    The scale may stand before or behind the product, or on both factors. Needs float, dims that are surely not 0 (there
    are runtimes that refuse them), and a mask that is made of constants and masks no row as a whole.
    """
    found = _operands(m)
    if found is None:
        return None
    (q, k, v), scale, mask = found
    sources = hidden_sources(m, (q, k, v))
    if sources is None:
        return m.decline("query, key and value are neither tensors of their own nor the three parts of one")
    cover(m, (m[scores], m[values]), (q.source, k.source, v.source, mask))
    attributes = {"q_num_heads": q.heads, "kv_num_heads": k.heads, "scale": scale}
    return m.add("Attention", (*sources, mask) if mask is not None else sources, attributes)


def _operands(m: Match) -> tuple[tuple[Heads, Heads, Heads], float, Value | None] | None:
    """Query, key and value, the scale, and the mask in the shape of the scores."""
    result, inner, rows = m.root.result.shape, m[product].result.shape, m[scores].shape
    if result is None or inner is None or rows is None or len(inner) != 4 or len(rows) != 4:
        return m.decline("ranks or shapes are unknown, or there are not four axes")
    batch, heads, length, size = inner
    if m[values].dtype is not DType.FLOAT or result != (batch, length, heads * size):
        return m.decline("the heads are not merged into one axis, or the elements are not of single precision")
    if not all(map(is_positive, (*inner, *rows))):
        return m.decline("a dim may be 0, which ONNX Runtime's Attention refuses")
    if normalize_axis(m[softmax], m[softmax].get_int("axis"), 4) != 3:
        return m.decline("the Softmax is not over the keys")
    masked = _unmasked(m)
    if masked is None:
        return None
    value, mask = masked
    product_node, number = unscaled(value)
    if product_node is None:
        return m.decline("the scores are not a scaled product that nothing else reads")
    found = [
        scaled_heads(o, keys=bool(place)) if o is not None else None for place, o in enumerate(product_node.operands)
    ]
    last = scaled_heads(m[values])
    if found[0] is None or found[1] is None or last is None or last[1] != 1:
        return m.decline("query, key or value is not split into heads by Reshape and Transpose, or is read elsewhere")
    (q, of_q), (k, of_k) = found[0], found[1]
    scale = float(np.float32(number * of_q * of_k))
    if not 0 < scale < np.inf or not q.heads == k.heads == last[0].heads:
        return m.decline("the scale is not positive, or keys have other heads than queries")
    return (q, k, last[0]), scale, mask


def _unmasked(m: Match) -> tuple[Value, Value | None] | None:
    """The scores before a mask is added, and the mask; its last two axes are as long as those of the scores."""
    value, rows = m[scores], m[scores].shape
    node = value.producer
    if node is None or node.op != "Add" or not value.has_one_use or rows is None:
        return value, None
    for place in (0, 1):
        before, mask = node.operands[place], node.operands[1 - place]
        if before is None or mask is None or before.shape != rows or not _is_bounded(mask):
            continue
        wide = _widened(m, mask, rows)
        return m.decline("the mask has another shape than the scores") if wide is None else (before, wide)
    return m.decline("the mask is computed, and might mask a whole row, for which Attention gives zeros")


def _is_bounded(value: Value) -> bool:
    """Whether a mask leaves something of each row, by its elements alone, which must be those of one constant."""
    if value.constant is not None:
        return value.rank != 0 and _leaves_something(value.constant, rows=True)
    for _ in range(_REACH):
        node = value.producer
        if node is None or node.op not in MOVES or node.operands[0] is None:
            return False
        value = node.operands[0]
        if value.constant is not None:
            return _leaves_something(value.constant, rows=False)
    return False


def _leaves_something(tensor: Tensor, *, rows: bool) -> bool:
    """Whether elements are numbers, and all, or one in each row, far from the least one."""
    if tensor.dtype is not DType.FLOAT or not tensor.size:
        return False
    elements = tensor.array().astype(np.float64)
    kept = elements.max(-1) if rows else elements
    return bool(np.all(elements < np.inf) and np.all(kept > _LEAST))


def _widened(m: Match, mask: Value, rows: Sequence[object]) -> Value | None:
    """A mask whose last two axes are those of the scores: Attention broadcasts only the others."""
    if mask.shape is None or not broadcasts_to(mask.shape, m[scores].shape or ()):
        return None
    if mask.shape[-2:] == tuple(rows[-2:]):
        return mask
    extents = [extent for extent in rows[-2:] if isinstance(extent, int)]
    if mask.constant is None or len(extents) != 2 or extents[0] * extents[1] * mask.constant.size > _LARGEST_MASK:
        return None
    array = m.array(mask)
    full = np.broadcast_shapes(array.shape, tuple(extents))
    return m.constant(np.ascontiguousarray(np.broadcast_to(array, full)), mask.name)


@dataclass(frozen=True)
class FuseAttention(RulePass):
    """Make one Attention of a scaled product of heads, its Softmax, and all that splits and merges the heads.

    Reads queries, keys and values as [batch, length, hidden]: the operator's other form, over heads that are split
    already, is slower than its parts for many small windows.
    """

    name: ClassVar[str] = "fuse-attention"

    def rules(self) -> Sequence[Rule]:
        return (attention,)
