"""How long a target takes for an operator: measured by itself, by its shapes, and kept."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planish import ir
from planish.ir import DType, Node, Value
from planish.ir.build import Builder
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Session
from planish.runtime.times_file import TimesFile, best_seconds

Shape = tuple[int, ...]
Shapes = Callable[[Value], Shape | None]
"""The shape of a value in a run; None where that is open."""
_SCALARS = (int, float, str, tuple)
_LEAST = 1e-8
"""What is faster than an empty run counts as this."""
_EMPTY = "an empty run"


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


class OperatorTimes:
    """Seconds of operators, for one target on this machine."""

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        """folder: where times are kept between runs; None keeps none."""
        self.target = target
        self.kept = TimesFile("operator-times", 1, target, folder)

    def seconds(self, call: Call) -> float:
        """Of one run, without what any run takes; 0 for what ONNX Runtime cannot run by itself."""
        return max(self._known(call.key, lambda: _model(call)) - self._known(_EMPTY, _nothing), 0.0)

    def _known(self, key: str, make: Callable[[], ir.Graph]) -> float:
        found = self.kept.seconds.get(key)
        if found is None:
            try:
                found = (max(self._measured(make()), _LEAST),)
            except (GraphError, SessionError):
                found = (_LEAST,)
            self.kept.keep(key, found)
        return found[0]

    def _measured(self, graph: ir.Graph) -> float:
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            path = Path(folder) / "operator.onnx"
            shapes = {value.name: value.shape or () for value in graph.inputs}
            ir.save(graph, path)
            random = np.random.default_rng(0)
            feeds = {
                name: random.standard_normal([dim for dim in shape if isinstance(dim, int)], np.float32)
                for name, shape in shapes.items()
            }
            return best_seconds(Session(path, self.target), feeds)


def _model(call: Call) -> ir.Graph:
    b = Builder("operator", opset=call.opset)
    random = np.random.default_rng(0)
    operands: list[Value | None] = []
    for place, (shape, fixed) in enumerate(zip(call.operands, call.constants, strict=True)):
        if shape is None:
            operands.append(None)
        elif fixed:
            operands.append(b.constant(np.abs(random.standard_normal(shape, np.float32)) / 8))
        else:
            operands.append(b.input(f"x{place}", DType.FLOAT, shape))
    b.output("y", b.node(call.op, operands, dict(call.attributes)))
    return b.graph()


def _nothing() -> ir.Graph:
    b = Builder("operator")
    b.output("y", b.node("Neg", (b.input("x", DType.FLOAT, (1,)),)))
    return b.graph()
