"""Operators of com.microsoft that ONNX Runtime defines and passes may add."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.graph import Node
from planish.ir.ops.operator import Operator
from planish.ir.types import TensorType, Type

_HIDDEN, _HEADS = 3, 4
_BEFORE_PAST = 6


def _infer_multi_head_attention(node: Node) -> Sequence[Type | None]:
    """[batch, length, hidden of the value]; of packed operands and of what was before them nothing is said."""
    query, value = node.operand(0), node.operand(2)
    found: list[Type | None] = [None] * len(node.results)
    if query is None or query.dtype is None or query.shape is None or len(query.shape) != _HIDDEN:
        return found
    if value is None or value.shape is None:
        return found
    if len(value.shape) == _HIDDEN:
        found[0] = TensorType(query.dtype, (*query.shape[:2], value.shape[2]))
    elif len(value.shape) == _HEADS:
        found[0] = TensorType(query.dtype, (*query.shape[:2], value.shape[1] * value.shape[3]))
    return found


def _keeps_nothing(node: Node) -> bool:
    """Whether there is no cache of earlier keys and values, which the operator may write to."""
    return len(node.operands) <= _BEFORE_PAST and len(node.results) == 1


OPERATORS: dict[str, Operator] = {
    "com.microsoft::MultiHeadAttention": Operator(_infer_multi_head_attention, pure=_keeps_nothing),
}
