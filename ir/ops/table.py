"""The operator table: one entry an operator, gathered from the families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planish.ir.graph import Node
from planish.ir.ops import (
    attention,
    contrib,
    control,
    elementwise,
    indexing,
    linear,
    normalization,
    placing,
    pooling,
    quantization,
    reduction,
    schema,
    shape,
    signal,
)
from planish.ir.ops.channels.table import CHANNELS
from planish.ir.ops.operator import Operator

_FAMILIES: Mapping[str, Operator] = {
    **attention.OPERATORS,
    **contrib.OPERATORS,
    **control.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **linear.OPERATORS,
    **normalization.OPERATORS,
    **placing.OPERATORS,
    **pooling.OPERATORS,
    **quantization.OPERATORS,
    **reduction.OPERATORS,
    **shape.OPERATORS,
    **signal.OPERATORS,
}
_PLAIN = Operator()
OPERATORS: Mapping[str, Operator] = {
    **_FAMILIES,
    **{name: replace(_FAMILIES.get(name, _PLAIN), channels=channels) for name, channels in CHANNELS.items()},
}


def lookup(op: str) -> Operator:
    """The entry of an operator; an empty one, to which onnx's own knowledge applies, when it has none."""
    return OPERATORS.get(op, _PLAIN)


def is_pure(node: Node) -> bool:
    """Whether the node may be merged with its equal and dropped when unread: no randomness, no state, no side effect.

    An operator that onnx does not know is taken to have effects.
    """
    entry = OPERATORS.get(node.op, _PLAIN)
    if entry.pure is not None:
        return entry.pure(node)
    return schema.is_deterministic(node.op) is True
