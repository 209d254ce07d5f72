"""Scaled dot-product attention, its heads on an axis of their own or within the hidden axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from planish.ir.dim import Dim, Shape, floor_div
from planish.ir.errors import GraphError
from planish.ir.graph import Node, Value
from planish.ir.ops.operator import Operator
from planish.ir.types import TensorType, Type


class Heads(NamedTuple):
    """The shape of a query, key or value by what its axes mean."""

    batch: Dim
    heads: Dim
    length: Dim
    size: Dim


def _heads(node: Node, shape: Shape | None, attribute: str) -> Heads | None:
    """A tensor [batch, heads, length, size], or [batch, length, heads * size] where an attribute counts heads."""
    if shape is None:
        return None
    if len(shape) == 4:
        return Heads(*shape)
    if len(shape) != 3:
        raise GraphError(f"Attention takes tensors of rank 3 or 4, not {len(shape)}", node)
    heads = node.get_int(attribute)
    if heads < 1 or (isinstance(shape[2], int) and shape[2] % heads):
        raise GraphError(f"Attention with {attribute}={heads} over {shape[2]} hidden elements", node)
    return Heads(shape[0], heads, shape[1], floor_div(shape[2], heads))


def _shape(value: Value | None) -> Shape | None:
    return None if value is None else value.shape


def _infer_attention(node: Node) -> Sequence[Type | None]:
    """The result in the query's layout, then keys and values with what was before them, then the products of both."""
    query, key, value = (node.operand(i) for i in range(3))
    dtypes = [None if v is None else v.dtype for v in (query, key, value, query)]
    q = _heads(node, _shape(query), "q_num_heads")
    k, v = (_heads(node, _shape(operand), "kv_num_heads") for operand in (key, value))
    shapes: list[Shape | None] = [None] * 4
    if q is not None and v is not None:
        flat = query is not None and query.rank == 3
        shapes[0] = (q.batch, q.length, q.heads * v.size) if flat else (q.batch, q.heads, q.length, v.size)
    past = node.operand(4)
    before: Dim | None = 0 if past is None else past.shape[2] if past.shape is not None and past.rank == 4 else None
    if k is not None and before is not None:
        shapes[1] = (k.batch, k.heads, before + k.length, k.size)
        shapes[2] = None if v is None else (v.batch, v.heads, before + v.length, v.size)
        shapes[3] = None if q is None else (q.batch, q.heads, q.length, before + k.length)
    found = zip(dtypes, shapes, strict=True)
    return [None if dtype is None else TensorType(dtype, shape) for dtype, shape in found][: len(node.results)]


OPERATORS: dict[str, Operator] = {"Attention": Operator(_infer_attention)}
