"""The weights of products: which operands they are, and nodes with others in their place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir import Node, Value
from planish.ir.types import Array
from planish.passes.pattern import Op
from planish.passes.rewrite import Match

_POSITIONS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "GRU": (1, 2),
    "Gemm": (0, 1),
    "LSTM": (1, 2),
    "MatMul": (0, 1),
    "RNN": (1, 2),
}


def weights_of(node: Node) -> list[int]:
    """The positions of constant weights of floats, those of one element left out."""
    found: list[int] = []
    for position in _POSITIONS.get(node.op, ()):
        operand = node.operand(position)
        tensor = None if operand is None else operand.constant
        if tensor is not None and tensor.dtype.is_float and tensor.dtype.bits >= np.dtype(np.float16).itemsize * 8:
            found += [position] if tensor.size > 1 else []
    return found


PRODUCT = Op(tuple(_POSITIONS), where=lambda node: bool(weights_of(node)))
"""A node with constant weights."""


def finite(m: Match, position: int) -> Array | None:
    """The elements of a weight; None where not all are finite."""
    operand = m.root.operands[position]
    array = None if operand is None else m.array(operand)
    return array if array is not None and bool(np.isfinite(array.astype(np.float64)).all()) else None


def with_weights(m: Match, weights: Mapping[int, Value]) -> tuple[Value, ...]:
    """The results of the root with other weights."""
    node = m.root
    operands = [weights.get(position, operand) for position, operand in enumerate(node.operands)]
    return m.add_node(Node(node.op, operands, node.attributes, len(node.results), node.name)).results
