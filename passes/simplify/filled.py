"""Values that are the same number everywhere, whatever their shape."""

from __future__ import annotations

from planish.ir import Value
from planish.ir.dim import Dim
from planish.ir.tensor import Tensor

_COPYING = frozenset((
    *("Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
    *("Tile", "Transpose", "Unsqueeze"),
))  # fmt: skip
"""Each element of the results is one of the first operand's."""
_STEPS = 16


def filled(value: Value | None) -> Dim | float | None:
    """What every element of a value surely is, if it has any, with the sign of a zero; None where it is not known."""
    for _ in range(_STEPS):
        if value is None:
            return None
        if value.constant is not None:
            return value.constant.uniform() if value.constant.in_memory else None
        if value.elements:
            return value.elements[0] if len(set(value.elements)) == 1 else None
        node = value.producer
        if node is None:
            return None
        if node.op == "ConstantOfShape":
            fill = node.attribute("value")
            return fill.uniform() if isinstance(fill, Tensor) else 0
        if node.op not in _COPYING and not (node.op == "Concat" and len(set(node.operands)) == 1):
            return None
        value = node.operands[0]
    return None
