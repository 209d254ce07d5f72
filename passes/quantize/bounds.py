"""Between which numbers a value lies, as far as what makes it says so."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import Node, Value

_RANGES = {
    "Gelu": (-0.1701, math.inf),
    "HardSigmoid": (0.0, 1.0),
    "Relu": (0.0, math.inf),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Softplus": (0.0, math.inf),
    "Tanh": (-1.0, 1.0),
}
MOVES = frozenset(
    ("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool", "Reshape",
     "ReverseSequence", "Slice", "SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)  # fmt: skip
"""Whose first result holds elements of the first operand and nothing else."""
_STEPS = 16


def bounds(value: Value) -> tuple[float, float]:
    """The least and the largest number that a value can hold; infinities where that is not known."""
    found: Value | None = value
    for _ in range(_STEPS):
        if found is None:
            break
        if found.constant is not None:
            array = found.constant.array().astype(np.float64)
            return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        node = found.producer
        if node is None or found.index:
            break
        if node.op in _RANGES:
            return _RANGES[node.op]
        if node.op == "Clip":
            return _bound(node, 1, -math.inf), _bound(node, 2, math.inf)
        if node.op not in MOVES:
            break
        found = node.operand(0)
    return -math.inf, math.inf


def _bound(node: Node, position: int, otherwise: float) -> float:
    operand = node.operand(position)
    if operand is None or operand.constant is None or operand.constant.size != 1:
        return otherwise
    return float(operand.constant.array().astype(np.float64).reshape(-1)[0])
