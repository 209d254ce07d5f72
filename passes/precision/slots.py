"""Which operands of a node may become half precision, and which of its results follow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir import DType, GraphError, Node, Value
from planish.ir.ops.forms import lowest_opset
from planish.ir.ops.schema import parse_key, type_variables
from planish.ir.tensor import Tensor
from planish.ir.types import TensorType
from planish.passes.precision.half import Half

_COORDINATES = {"Resize": (1,), "GridSample": (1,)}
"""Operands that say where to look, not what is there: in half precision they would look elsewhere."""
_EXACT = (DType.BOOL, DType.UINT8, DType.INT8)
"""Whose numbers both types of half precision hold."""
READ_SHAPE = ("Shape", "Size")
"""Operators that read what shape a tensor has, not what it holds."""


def half_slots(node: Node, opset: int) -> tuple[int, ...]:
    """The positions of float operands that an operator takes in other types, too."""
    domain, op_type, *_ = parse_key(node.op)
    variables = () if domain else type_variables(op_type, opset)[0]
    found: list[int] = []
    for position, operand in enumerate(node.operands):
        if operand is None or operand.dtype is not DType.FLOAT or not variables:
            continue
        variable = variables[min(position, len(variables) - 1)]
        if "(" not in variable and position not in _COORDINATES.get(op_type, ()):
            found.append(position)
    return tuple(found)


def never_binds(node: Node, position: int, tensor: Tensor, half: Half) -> bool:
    """Whether a constant is a bound that no finite number of half precision reaches; its nearest number will do."""
    sides = {("Clip", 1): -1, ("Clip", 2): 1}
    side = sides.get((node.op, position), {"Max": -1, "Min": 1}.get(node.op, 0))
    array = tensor.array().astype(np.float64)
    return bool(side) and bool(np.all(side * array > half.largest))


def exact_source(node: Node, half: Half) -> bool:
    """Whether a node makes single precision from other types, and would make the same numbers in half precision."""
    if not node.results or node.result.dtype is not DType.FLOAT:
        return False
    if node.op == "Cast":
        operand = node.operands[0]
        return operand is not None and operand.dtype in _EXACT
    value = node.attribute("value")
    return node.op == "ConstantOfShape" and (not isinstance(value, Tensor) or not half.loss(value))


def taken_in_half(value: Value, free: Mapping[Node, tuple[int, ...]]) -> bool:
    """Whether all readers of a value take it in half precision; `free` are the operands that become half."""
    return value.is_used and all(use.position in free.get(use.user, ()) for use in value.uses)


def in_half(node: Node, slots: tuple[int, ...], half: DType) -> Node:
    """The node as it would be in half precision: of stand-ins, in no graph."""
    operands = [
        _stand_in(operand, half) if position in slots else operand for position, operand in enumerate(node.operands)
    ]
    made = Node(node.op, operands, node.attributes, len(node.results))
    for result, old in zip(made.results, node.results, strict=True):
        result.type = old.type
    return made


def opset_needed(trial: Node, opset: int) -> int | None:
    """The lowest opset, from `opset` on, in which the operator takes these types; None where none does."""
    try:
        return lowest_opset(trial, opset)
    except GraphError:
        return None


def _stand_in(operand: Value | None, half: DType) -> Value | None:
    if operand is None:
        return None
    made = Value(operand.name, TensorType(half, operand.shape))
    made.constant = operand.constant
    return made
