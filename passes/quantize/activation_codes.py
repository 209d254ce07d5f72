"""The 8-bit codes of activations whose range is found at each run, as DynamicQuantizeLinear finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import infer
from planish.passes.quantize.bounds import bounds
from planish.passes.quantize.scheme import Doubles

_LEAST_ROW = float(np.float32(2.0**-100))
_LAST = -1


@dataclass(frozen=True)
class Term:
    """codes, u8, of the activation's shape; scale and zero point of the whole tensor."""

    codes: Value
    scale: Value
    zero_point: Value


@dataclass(frozen=True)
class ActivationCodes:
    """x = sum over terms of (codes - zero point) * scale, times `rows`, [..., 1], where there is one."""

    terms: tuple[Term, ...]
    rows: Value | None = None


@dataclass
class Writer:
    """Writes nodes behind the values that they read, in one graph."""

    graph: Graph
    created: list[Node] = field(default_factory=list[Node])
    spot: Node | None = None

    def behind(self, value: Value) -> None:
        """Let what is added next stand right behind what makes a value."""
        producer = value.producer
        if producer is not None and producer.graph is self.graph:
            self.before(producer.after)
        else:
            self.before(self.graph.returns.after)

    def before(self, node: Node) -> None:
        """Let what is added next stand before a node."""
        self.spot = None if node is self.graph.returns else node

    def add(
        self, op: str, operands: Sequence[Value], results: int = 1, attributes: Mapping[str, Attribute] | None = None
    ) -> Node:
        return self.add_node(Node(op, operands, attributes, results))

    def add_node(self, node: Node) -> Node:
        self.graph.insert(node, before=self.spot)
        self.created.append(node)
        infer(node)
        return node

    def undo(self) -> None:
        for node in reversed(self.created):
            self.graph.erase(node)
        self.created = []


def plain(write: Writer, x: Value) -> ActivationCodes:
    """One term: DynamicQuantizeLinear."""
    return ActivationCodes((_term(write, x),))


def smoothed(write: Writer, x: Value, factors: Doubles, *, alone: bool) -> ActivationCodes:
    """The codes of x / factors, one for each channel, the last axis; see scaling.smoothing.

    alone: nothing else reads x. A LayerNormalization that makes it then divides its own scale and bias.
    """
    divided = _divided(write, x, factors) if alone else None
    return plain(write, divided or write.add("Mul", (x, constant((1 / factors).astype(np.float32)))).result)


def _divided(write: Writer, x: Value, factors: Doubles) -> Value | None:
    """The result of the LayerNormalization that makes x, with its channels divided; None where none does."""
    node = x.producer
    if node is None or node.op != "LayerNormalization" or node.graph is not write.graph:
        return None
    made: list[Value] = []
    for operand in node.operands[1:]:
        if operand is None or operand.constant is None or operand.constant.shape != factors.shape:
            return None
        name = f"{operand.name}_smoothed" if operand.name else ""
        array = np.asarray(operand.constant.array(), np.float64)
        made.append(constant((array / factors).astype(np.float32), name))
    return write.add_node(Node(node.op, (node.operands[0], *made), node.attributes)).result


def two_terms(write: Writer, x: Value) -> ActivationCodes:
    """x and what its codes leave of it, each as codes: as near as 16 bits."""
    first = _term(write, x)
    near = write.add("DequantizeLinear", (first.codes, first.scale, first.zero_point)).result
    return ActivationCodes((first, _term(write, write.add("Sub", (x, near)).result)))


def by_row(write: Writer, x: Value) -> ActivationCodes:
    """The codes of x over the largest magnitude of its row, the last axis: a row with outliers spoils no other one.

    A value whose least number is known, as Gelu's is, needs no search for it: no row is divided by less.
    """
    low = bounds(x)[0]
    axes = constant(np.array([_LAST], np.int64))
    ends = [write.add("ReduceMax", (x, axes)).result]
    if low == -np.inf:
        ends.append(write.add("Neg", (write.add("ReduceMin", (x, axes)).result,)).result)
    least = constant(np.array(_LEAST_ROW if low == -np.inf else max(-low, _LEAST_ROW), np.float32))
    rows = write.add("Max", (*ends, least)).result
    if any(not isinstance(dim, int) or dim == 0 for dim in x.shape or (0,)):
        # ONNX Runtime 1.31 keeps the shape of an empty tensor whole, whatever axis it reduces.
        rows = write.add("Slice", (rows, *(constant(np.array([n], np.int64)) for n in (0, 1, _LAST)))).result
    return ActivationCodes((_term(write, write.add("Div", (x, rows)).result),), rows)


def _term(write: Writer, x: Value) -> Term:
    return Term(*write.add("DynamicQuantizeLinear", (x,), 3).results)
