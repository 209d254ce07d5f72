"""Building a graph by hand, in canonical form, with types inferred on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planish.ir.dim import Dim, Expr, fresh_symbol, symbol
from planish.ir.errors import GraphError
from planish.ir.graph import Attribute, Graph, Node, Value, constant
from planish.ir.infer import infer
from planish.ir.ops import forms, schema
from planish.ir.tensor import ArrayTensor, Tensor
from planish.ir.types import Array, DType, TensorType, Type, refine

Extent = int | str | Expr | None
"""One dim as a builder takes it: a number, the name of a symbol, an expression, or None where nothing is known."""


class Builder:
    """Lays down a graph node by node. Every method raises GraphError for what could not run.

        b = Builder(opset=21)
        x = b.input("x", DType.FLOAT, ("N", 3, 224, 224))
        w = b.initializer("w", array)
        b.output("y", b.node("Conv", (x, w), {"pads": (1, 1, 1, 1)}))
        graph = b.graph()

    Operators take their canonical form whatever the opset: what only attributes could say in old versions is an operand
    here too, and `emit` writes it the old way. A node that the opset cannot express at all is refused at once.
    """

    def __init__(
        self,
        name: str = "graph",
        *,
        opset: int = 21,
        imports: Mapping[str, int] | None = None,
        outer: Builder | None = None,
    ) -> None:
        """imports: versions of other domains; one that is used and missing is imported at its newest, or at 1."""
        self.outer = outer
        if outer is None:
            self._graph = Graph(name, {"": opset, **(imports or {})})
        else:
            self._graph = Graph(name, outer=outer._graph)
        self._inputs: dict[str, Value] = {}
        self._outputs: dict[str, Value] = {}

    def body(self, name: str) -> Builder:
        """A builder for a graph that a node of this one will hold; its nodes may read what this one has made so far."""
        return Builder(name, outer=self)

    def input(
        self,
        name: str,
        type: DType | Type | None = None,
        shape: Sequence[Extent] | None = None,
        default: Array | Tensor | None = None,
    ) -> Value:
        """An input; `shape` None leaves the rank open, and `default` makes it an overridable initializer."""
        if not name or name in self._inputs:
            raise GraphError(
                f"graph {self._graph.name!r} needs one name for each input, and got {name!r} again or empty"
            )
        if isinstance(type, DType):
            type = TensorType(type, None if shape is None else tuple([self._dim(extent) for extent in shape]))
        elif shape is not None:
            raise GraphError(f"input {name!r} has a shape, so its type must be an element type, not {type}")
        tensor = None if default is None else _tensor(name, default)
        if tensor is not None and (not isinstance(type, TensorType) or type.dtype is not tensor.dtype):
            raise GraphError(f"input {name!r} is declared as {type}, and its default is of {tensor.dtype.name.lower()}")
        value = self._inputs[name] = self._graph.add_input(name, type, tensor)
        if tensor is not None:
            self._graph.initializers[value] = None
        return value

    def initializer(self, name: str, value: Array | Tensor) -> Value:
        """A constant that stays in the graph, read or not."""
        return self._graph.add_initializer(name, _tensor(name, value))

    def constant(self, value: Array | Tensor, name: str = "") -> Value:
        """A constant that is written only where something reads it."""
        return constant(_tensor(name, value), name)

    def node(
        self,
        op: str,
        operands: Sequence[Value | None] = (),
        attributes: Mapping[str, Attribute | Array] | None = None,
        *,
        name: str = "",
        result: str = "",
    ) -> Value:
        """The one result of a new node; `result` is a hint for its name."""
        return self.nodes(op, operands, attributes, results=(result,), name=name)[0]

    def nodes(
        self,
        op: str,
        operands: Sequence[Value | None] = (),
        attributes: Mapping[str, Attribute | Array] | None = None,
        *,
        results: int | Sequence[str] = 1,
        name: str = "",
    ) -> tuple[Value, ...]:
        """All results of a new node: as many as `results` counts, or as it has name hints."""
        plain = {
            key: _tensor(key, value) if isinstance(value, np.ndarray) else value
            for key, value in (attributes or {}).items()
        }
        node = Node(op, operands, plain, results, name)
        self._check_sight(node)
        _check_schema(node)
        self._check_opset(node)
        self._graph.insert(node)
        try:
            infer(node)
            if op == "Constant":
                _set_constant(node)
        except GraphError:
            self._graph.erase(node)
            raise
        return node.results

    def output(self, name: str, value: Value, type: Type | None = None) -> Value:
        """Give `value` back under `name`; `type` tells what inference cannot know."""
        if not name or name in self._outputs:
            raise GraphError(
                f"graph {self._graph.name!r} needs one name for each output, and got {name!r} again or empty"
            )
        if self._inputs.get(name, value) is not value:
            raise GraphError(f"output {name!r} of graph {self._graph.name!r} has the name of an input that it is not")
        if not self._sees(value):
            raise GraphError(f"output {name!r} is {value}, which graph {self._graph.name!r} cannot see")
        value.type = refine(value.type, type)
        self._outputs[name] = value
        return value

    def graph(self) -> Graph:
        """The graph as built so far."""
        self._graph.set_results(tuple(self._outputs.values()), tuple(self._outputs))
        return self._graph

    def _dim(self, extent: Extent) -> Dim:
        if extent is None:
            return fresh_symbol(self._graph.fresh_name())
        if isinstance(extent, str):
            return symbol(extent)
        if isinstance(extent, int) and extent < 0:
            raise GraphError(f"a dim is {extent}; an extent that is not known is None")
        return extent

    def _sees(self, value: Value) -> bool:
        if value.graph is None:
            return value.producer is None and value.constant is not None
        return value.graph is self._graph or (self.outer is not None and self.outer._sees(value))

    def _check_sight(self, node: Node) -> None:
        for operand in node.operands:
            if operand is not None and not self._sees(operand):
                raise GraphError(f"{node.op} reads {operand}, which graph {self._graph.name!r} cannot see", node)

    def _check_opset(self, node: Node) -> None:
        root = self
        while root.outer is not None:
            root = root.outer
        imports = root._graph.opset_imports
        domain = schema.parse_key(node.op).domain
        version = imports.setdefault(domain, schema.newest_versions().get(domain, 1))
        forms.lower_form(node, version)


def _tensor(name: str, value: Array | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return ArrayTensor(value)
    except TypeError as error:
        raise GraphError(f"constant {name!r}: {error}") from None


def _check_schema(node: Node) -> None:
    """Raise GraphError for an operator that its domain lacks, and where counts or attributes are not as it has them."""
    found = schema.newest(node.op)
    domain = schema.parse_key(node.op).domain
    if found is None:
        if domain in schema.STANDARD_DOMAINS:
            raise GraphError(
                f"{domain or 'ai.onnx'} has no operator {node.op}; one of another domain is domain::{node.op}", node
            )
        return
    for what, count, least, most in (
        ("operands", len(node.operands), found.min_input, found.max_input),
        ("results", len(node.results), found.min_output, found.max_output),
    ):
        if not least <= count <= most:
            raise GraphError(f"{node.op} has {least} to {most} {what}, and got {count}", node)
    for name in node.attributes:
        if name not in found.attributes:
            known = ", ".join(found.attributes) or "none"
            raise GraphError(f"{node.op} has no attribute {name!r}; it has: {known}", node)
    for name, attribute in found.attributes.items():
        if attribute.required and name not in node.attributes:
            raise GraphError(f"{node.op} needs the attribute {name!r}", node)


def _set_constant(node: Node) -> None:
    name, value = next(iter(node.attributes.items()), ("value", None))
    tensor = value if isinstance(value, Tensor) else None if value is None else forms.constant_tensor(name, value)
    if tensor is None:
        raise GraphError("a Constant needs its value as one attribute", node)
    node.result.set_constant(tensor)
