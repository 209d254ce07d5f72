"""Operators with nested graphs, and those whose effects depend on the node."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.graph import Node
from planish.ir.ops import schema
from planish.ir.ops.operator import Operator, unknown_shape
from planish.ir.types import TensorType, Type, common


def _infer_if(node: Node) -> Sequence[Type | None]:
    """What both branches agree on."""
    branches = [branch.outputs for branch in node.graphs]
    if len(branches) != 2:
        return (None,) * len(node.results)
    found = [common(a.type, b.type) for a, b in zip(*branches, strict=False)]
    return [_with_own_dims(node, type) for type in found]


def _infer_body(node: Node) -> Sequence[Type | None]:
    """Element types of a body's outputs; shapes may change from one iteration to the next and stay unknown."""
    return [_stacked(value.type) for body in node.graphs for value in body.outputs][_skipped(node) :]


def _skipped(node: Node) -> int:
    return 1 if node.op == "Loop" else 0


def _stacked(type: Type | None) -> Type | None:
    return TensorType(type.dtype) if isinstance(type, TensorType) else None


def _with_own_dims(node: Node, type: Type | None) -> Type | None:
    """Dims on which the branches differ become unknown ones."""
    if not isinstance(type, TensorType) or type.shape is None:
        return type
    fresh = unknown_shape(node, len(type.shape))
    return TensorType(type.dtype, tuple([f if dim == -1 else dim for dim, f in zip(type.shape, fresh, strict=True)]))


def _body_is_pure(node: Node) -> bool:
    """A node with nested graphs is as pure as what it runs."""
    return all(_is_pure(inner) for nested in node.graphs for inner in nested.walk())


def _is_pure(node: Node) -> bool:
    """Of a node in a body; bodies within it are walked by the caller."""
    if node.op in _WITH_BODIES:
        return True
    return is_inference(node) if node.op == "Dropout" else schema.is_deterministic(node.op) is True


def is_inference(node: Node) -> bool:
    """A Dropout is deterministic unless it may run in training mode."""
    mode = node.operand(2)
    return mode is None or (mode.constant is not None and mode.constant.in_memory and not any(mode.constant.ints()))


_WITH_BODIES = frozenset(("If", "Loop", "Scan", "SequenceMap"))

OPERATORS: dict[str, Operator] = {
    "If": Operator(infer=_infer_if, pure=_body_is_pure),
    "Loop": Operator(infer=_infer_body, pure=_body_is_pure),
    "Scan": Operator(infer=_infer_body, pure=_body_is_pure),
    "SequenceMap": Operator(pure=_body_is_pure),
    # onnx calls it not deterministic because its definition is a function.
    "AffineGrid": Operator(pure=lambda _: True),
}
