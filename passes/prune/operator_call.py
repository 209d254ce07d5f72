"""What the time of an operator depends on: its kind, its attributes and the shapes of its operands."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from planish.ir import DType, Node, Value
from planish.ir.graph import Attribute

Shape = tuple[int, ...]
Shapes = Callable[[Value], Shape | None]
"""The shape of a value in a run; None where that is open."""
_SCALARS = (int, float, str, tuple)
EMPTY_RUN = "an empty run"
"""The key of what any run takes."""


@dataclass(frozen=True)
class Call:
    """What the time of an operator depends on; all its operands are tensors of 32-bit floats."""

    op: str
    opset: int
    attributes: tuple[tuple[str, Attribute], ...]
    operands: tuple[Shape | None, ...]
    constants: tuple[bool, ...]
    """Which of the operands are weights."""

    @property
    def key(self) -> str:
        shapes = ["-" if shape is None else "x".join(map(str, shape)) or "scalar" for shape in self.operands]
        shapes = [f"{shape}{'c' if fixed else ''}" for shape, fixed in zip(shapes, self.constants, strict=True)]
        digest = hashlib.sha256(repr((self.opset, self.attributes)).encode()).hexdigest()[:12]
        return " ".join((self.op, digest, *shapes))


def call_of(node: Node, shapes: Shapes) -> Call | None:
    """What is to be measured of a node; None where it moves no floats, holds a graph, or its shapes are open.

    A depthwise convolution has as many groups as it has channels, however many these are by now.
    """
    graph = node.graph
    if graph is None or node.graphs or not node.operands or not all(map(_is_plain, node.attributes.values())):
        return None
    found: list[Shape | None] = []
    for operand in node.operands:
        shape = None if operand is None else shapes(operand)
        if operand is not None and (operand.dtype is not DType.FLOAT or shape is None or not math.prod(shape)):
            return None
        found.append(shape)
    attributes = dict(node.attributes)
    weight = node.operands[1] if len(node.operands) > 1 else None
    if "group" in attributes and weight is not None and weight.shape and found[1]:
        depthwise = weight.shape[0] == attributes["group"]
        attributes["group"] = found[1][0] if depthwise else attributes["group"]
    constants = tuple([operand is not None and operand.constant is not None for operand in node.operands])
    return Call(node.op, graph.root.opset_imports[""], tuple(sorted(attributes.items())), tuple(found), constants)


def _is_plain(attribute: Attribute) -> bool:
    return isinstance(attribute, _SCALARS)
