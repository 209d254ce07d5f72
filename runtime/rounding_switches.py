"""A model of single precision in which each tensor can be rounded to half precision, or not, from run to run.

What ONNX Runtime's CPU provider makes of a model of half precision does not tell what that costs elsewhere: it has no
kernels of half precision for most operators, works whole regions out in single precision, and rounds constants alone.
Hardware that has them rounds what each node gives, and sums up products in single precision. So do the switches here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from planish.ir import DType, Graph, Node, TensorType, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import infer
from planish.passes.kernels import Kernels
from planish.passes.opset import Opsets
from planish.passes.precision.half import Half
from planish.runtime.providers import Array

_PREFIX = "planish/half/"
_SELECTING = 9
"""The first opset with Where."""
Slots = Mapping[Node, tuple[int, ...]]
"""Nodes that may be of half precision, and the operands of each that become half with it."""


@dataclass(frozen=True)
class Part:
    """A node that may be of half precision."""

    name: str
    """Of its first result, which no other node's has."""
    bytes: int
    """Of its constants in single precision."""
    constants: tuple[str, ...]
    """Switches of those that lose something by rounding."""
    tensors: tuple[str, ...]
    """Switches of what it reads and gives."""
    computes: bool
    """Whether it may work on half precision, not only store its constants in it."""


@dataclass
class Switches:
    """The parts of a model, and the inputs that were added to it to switch them."""

    parts: list[Part] = field(default_factory=list[Part])
    names: list[str] = field(default_factory=list[str])

    def feeds(self, stored: Collection[int], half: Collection[int]) -> dict[str, Array]:
        """stored: the parts whose constants are rounded; half: those that round what they read and give."""
        on = {name for place in stored for name in self.parts[place].constants}
        on |= {name for place in half for name in self.parts[place].tensors}
        return {name: np.array(name in on) for name in self.names}


def add_switches(graph: Graph, free: Slots, storing: Slots, half: Half, kernels: Kernels) -> Switches:
    """Let the graph, which is changed, round what the free nodes read and give where its new inputs say so.

    storing: nodes that may store constants in half precision, and no more.

    A tensor is rounded for all who read it where its maker is of half precision or one of its readers is: what the
    others lose by that is counted, too, though a Cast of their own would spare them.
    """
    if graph.opset_imports.get("", 0) < _SELECTING:
        Opsets(kernels).raise_to(graph, _SELECTING)
    work = _Switching(graph, half)
    nodes = [node for node in graph.walk() if node in free or node in storing]
    for node in nodes:
        for result in node.results if node in free else ():
            if result.dtype is DType.FLOAT and result.is_used:
                work.round_for_all(result)
    for node in nodes:
        work.take(node, free.get(node, storing.get(node, ())), computes=node in free)
    return work.found


class _Switching:
    def __init__(self, graph: Graph, half: Half) -> None:
        self.graph = graph
        self.half = half
        self.found = Switches()
        self.switched: dict[Value, tuple[str, Value]] = {}
        """Of a tensor its switch, and what is read in its place; of that, the same."""

    def take(self, node: Node, slots: tuple[int, ...], *, computes: bool) -> None:
        size, constants = 0, list[str]()
        results = node.results if computes else ()
        tensors = [self.switched[result][0] for result in results if result in self.switched]
        for position in slots:
            operand = node.operands[position]
            if operand is None:
                continue
            if operand.constant is None:
                tensors.append(self.round_for(node, position, operand))
                continue
            size += operand.constant.nbytes
            constants += self.round_constant(node, position, operand.constant.array())
        name = next((result.name for result in node.results if result.name), node.label)
        self.found.parts.append(Part(name, size, tuple(constants), tuple(dict.fromkeys(tensors)), computes))

    def round_constant(self, node: Node, position: int, array: Array) -> list[str]:
        rounded = self.half.rounded(array).astype(np.float32)
        if np.array_equal(rounded, array):
            return []
        switch = self.switch()
        chosen = _put(node.graph or self.graph, node, "Where", (switch, constant(rounded), node.operands[position]))
        (node.graph or self.graph).set_operand(node, position, chosen)
        return [switch.name]

    def round_for(self, node: Node, position: int, value: Value) -> str:
        """Rounded where it comes from a node that stays as it is: for those alone that may be half."""
        name, chosen = self.switched.get(value) or self.round(value)
        (node.graph or self.graph).set_operand(node, position, chosen)
        return name

    def round_for_all(self, value: Value) -> None:
        uses = value.uses
        _, chosen = self.round(value)
        for user, position in uses:
            if user.graph is not None:
                user.graph.set_operand(user, position, chosen)

    def round(self, value: Value) -> tuple[str, Value]:
        graph, producer = value.graph or self.graph, value.producer
        before = graph.returns.after if producer is None else producer.after
        narrow = _put(graph, before, "Cast", (value,), {"to": int(self.half.dtype)})
        wide = _put(graph, before, "Cast", (narrow,), {"to": int(DType.FLOAT)})
        switch = self.switch()
        chosen = _put(graph, before, "Where", (switch, wide, value))
        self.switched[value] = self.switched[chosen] = (switch.name, chosen)
        return self.switched[value]

    def switch(self) -> Value:
        name = f"{_PREFIX}{len(self.found.names)}"
        self.found.names.append(name)
        return self.graph.add_input(name, TensorType(DType.BOOL, ()))


def _put(
    graph: Graph,
    before: Node,
    op: str,
    operands: tuple[Value | None, ...],
    attributes: Mapping[str, Attribute] | None = None,
) -> Value:
    made = Node(op, operands, attributes)
    graph.insert(made, before=before)
    infer(made)
    return made.result
