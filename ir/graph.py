"""Values, nodes and graphs, and the five mutations that may change an edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, Union

from planish.ir.dim import Dim
from planish.ir.errors import GraphError
from planish.ir.ops import schema
from planish.ir.tensor import ArrayTensor, Spool, Tensor
from planish.ir.types import Array, DType, TensorType, Type

RETURN = "Return"
_SHOWN = 4
_NONE: Mapping[str, Attribute] = {}


class Use(NamedTuple):
    """One operand slot: `user.operands[position]`."""

    user: Node
    position: int


class Value:
    """One value of the graph: a node's result, an input, or a constant. Its identity is the object; its name is a hint.

    `type` and `elements` (what an integer tensor of at most a few elements holds, as dims) say what holds in every run.
    `readers` counts the operand slots of each node that read it. `source` is what the loaded model wrote about it, for
    emit alone.
    """

    __slots__ = ("constant", "elements", "graph", "index", "name", "producer", "readers", "source", "type")

    def __init__(self, name: str = "", type: Type | None = None, producer: Node | None = None, index: int = 0) -> None:
        self.name = name
        self.type = type
        self.elements: tuple[Dim, ...] | None = None
        self.producer = producer
        self.index = index
        self.constant: Tensor | None = None
        self.graph: Graph | None = None
        self.source: object = None
        self.readers: dict[Node, int] = {}

    def set_constant(self, tensor: Tensor) -> None:
        """Say that this value, whose maker is a Constant or nobody, is always `tensor`."""
        self.constant = tensor
        self.type = TensorType(tensor.dtype, tensor.shape)
        self.elements = tensor.elements()

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read it, each once, in the order in which they began to; `Return` nodes among them."""
        return tuple(self.readers)

    @property
    def uses(self) -> tuple[Use, ...]:
        return tuple(Use(user, i) for user in self.readers for i, o in enumerate(user.operands) if o is self)

    @property
    def has_one_use(self) -> bool:
        return len(self.readers) == 1 and 1 in self.readers.values()

    @property
    def is_used(self) -> bool:
        return bool(self.readers)

    @property
    def tensor_type(self) -> TensorType | None:
        return self.type if isinstance(self.type, TensorType) else None

    @property
    def shape(self) -> tuple[Dim, ...] | None:
        return self.type.shape if isinstance(self.type, TensorType) else None

    @property
    def dtype(self) -> DType | None:
        return self.type.dtype if isinstance(self.type, TensorType) else None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    def __str__(self) -> str:
        return f"%{self.name}" if self.name else f"%{self.producer.op if self.producer else 'value'}#{self.index}"

    __repr__ = __str__


Scalar = int | float | str | bytes
Attribute = Union[
    Scalar, tuple[int, ...], tuple[float, ...], tuple[str | bytes, ...], Tensor, tuple[Tensor, ...],
    "Graph", tuple["Graph", ...], "OpaqueAttribute",
]  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OpaqueAttribute:
    """An attribute that no pass reads (types, sparse tensors, references into a function's own attributes)."""

    source: object


class Node:
    """An application of an operator. Operator and attributes never change; operands do, through the graph.

    `op` is the key of the operator table: "Conv", "com.microsoft::Gelu", or "Softmax-11" for an old version whose
    meaning has no canonical form. `graphs` are the nested graphs, in the order of their attributes. `origin` names the
    nodes of the loaded model that it came from. `before` and `after` are its neighbours in the graph's order.
    """

    __slots__ = (
        "after", "attributes", "before", "graph", "graphs", "name", "op", "operands", "origin", "results", "source",
    )  # fmt: skip

    def __init__(
        self,
        op: str,
        operands: Sequence[Value | None] = (),
        attributes: Mapping[str, Attribute] | None = None,
        results: int | Sequence[str] = 1,
        name: str = "",
    ) -> None:
        self.op = op
        self.operands: tuple[Value | None, ...] = tuple(operands)
        self.attributes: Mapping[str, Attribute] = attributes or _NONE
        self.graphs: tuple[Graph, ...] = _nested(self.attributes) if attributes else ()
        names = ("",) * results if isinstance(results, int) else results
        self.results: tuple[Value, ...] = tuple([Value(hint, None, self, i) for i, hint in enumerate(names)])
        self.name = name
        self.graph: Graph | None = None
        self.origin: tuple[str, ...] = ()
        self.source: object = None
        self.before: Node = self
        self.after: Node = self

    @property
    def result(self) -> Value:
        return self.results[0]

    def operand(self, index: int) -> Value | None:
        """The operand at `index`; None where it is omitted."""
        return self.operands[index] if index < len(self.operands) else None

    def attribute(self, name: str) -> Attribute | None:
        """The attribute, or the default that the operator's schema gives it."""
        found = self.attributes.get(name)
        return schema.default(self.op, name) if found is None else found

    def get_int(self, name: str) -> int:
        return self._expect(name, int)

    def get_float(self, name: str) -> float:
        return self._expect(name, float)

    def get_str(self, name: str) -> str:
        return self._expect(name, str)

    def get_ints(self, name: str) -> tuple[int, ...] | None:
        """A list of ints; None when it is absent and has no default."""
        found = self.attribute(name)
        if found is None:
            return None
        if isinstance(found, tuple):
            return tuple([element for element in found if isinstance(element, int)])
        raise GraphError(f"{self.op} needs the attribute {name!r} as a list of ints, and has {found!r}", self)

    def subgraph(self, name: str) -> Graph:
        found = self.attributes.get(name)
        if not isinstance(found, Graph):
            raise GraphError(f"{self.op} lacks its graph attribute {name!r}", self)
        return found

    @property
    def label(self) -> str:
        """The name, or the first named result where the model gives the node none."""
        return self.name or next((r.name for r in self.results if r.name), self.op)

    def describe(self) -> str:
        """The node with its neighbours, as text for an error."""
        producers = [o.producer for o in self.operands if o is not None and o.producer is not None]
        lines = [f"  > {self!r}", *(f"    from {producer!r}" for producer in producers[:_SHOWN])]
        lines += [f"    read by {user!r}" for result in self.results for user in result.users[:_SHOWN]]
        return "\n".join([*lines, f"    comes from {', '.join(self.origin[:_SHOWN])}"] if self.origin else lines)

    def __repr__(self) -> str:
        operands = ", ".join("" if operand is None else str(operand) for operand in self.operands)
        return f"{self.label}: {', '.join(map(str, self.results))} = {self.op}({operands})"

    def _expect(self, name: str, kind: type[T]) -> T:
        found = self.attribute(name)
        if isinstance(found, kind):
            return found
        raise GraphError(f"{self.op} needs the attribute {name!r} as {kind.__name__}, and has {found!r}", self)


class Graph:
    """Nodes in an order in which every value is made before it is read, with an interface that no pass may change.

    A graph's results are the operands of its `returns` node, so a value that the caller sees has a use like any other;
    that node is also where the circle of nodes, each linked to its neighbours, begins and ends. Nested graphs (`owner`
    is their node) read values of the graphs around them directly; `refused` are those of their nodes that cannot run.
    """

    def __init__(self, name: str = "", opsets: Mapping[str, int] | None = None, outer: Graph | None = None) -> None:
        """`opsets`: versions by domain. `outer`: the graph that one of its nodes will nest this one in."""
        self.name = name
        self.opset_imports: dict[str, int] = dict(opsets or {})
        self.inputs: tuple[Value, ...] = ()
        self.defaults: dict[Value, Tensor] = {}
        self.initializers: dict[Value, None] = {}
        self.output_names: tuple[str, ...] = ()
        self.owner: Node | None = None
        self.notes: tuple[str, ...] = ()
        self.source: object = None
        self.model: object = None
        self.path: Path | None = None
        self.data_files: tuple[Path, ...] = ()
        self.spool: Spool | None = None
        self.version = 0
        self.verified = -1
        self.returns = Node(RETURN, results=0)
        self.returns.graph = self
        self._nodes: tuple[Node, ...] | None = None
        self.refused: dict[Node, None] = {} if outer is None else outer.refused
        self._fresh: Iterator[int] = itertools.count(1) if outer is None else outer._fresh

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order, as they stand now; the graph may be changed while the caller walks them."""
        if self._nodes is None:
            found: list[Node] = []
            node = self.returns.after
            while node is not self.returns:
                found.append(node)
                node = node.after
            self._nodes = tuple(found)
        return self._nodes

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(value for value in self.returns.operands if value is not None)

    @property
    def root(self) -> Graph:
        graph = self
        while graph.owner is not None and graph.owner.graph is not None:
            graph = graph.owner.graph
        return graph

    def walk(self) -> Iterator[Node]:
        """Every node of this graph and of the graphs nested in it, an owner before what it owns."""
        for node in self.nodes:
            yield node
            for nested in node.graphs:
                yield from nested.walk()

    def fresh_name(self) -> str:
        """A name for an extent of which nothing is known; no model can hold it."""
        return f"?{next(self._fresh)}"

    def add_input(self, name: str, type: Type | None, default: Tensor | None = None) -> Value:
        """Append an input; one with a default is an overridable initializer."""
        value = Value(name, type)
        value.graph = self
        self.inputs = (*self.inputs, value)
        if default is not None:
            self.defaults[value] = default
        return value

    def add_initializer(self, name: str, tensor: Tensor) -> Value:
        """A constant that belongs to this graph and is kept, used or not, until a pass drops it."""
        value = constant(tensor, name)
        value.graph = self
        self.initializers[value] = None
        return value

    def insert(self, node: Node, before: Node | None = None) -> None:
        """Put a new node before another one of this graph, or at the end; a node that is elsewhere moves here."""
        if before is not None and before.graph is not self:
            raise GraphError(f"cannot insert {node.op} before {before.label}, which is not in this graph", node)
        if before is node:
            return
        if node.graph is not None:
            node.graph._unlink(node)
        else:
            for operand in node.operands:
                _add_use(operand, node)
        node.graph = self
        for result in node.results:
            result.graph = self
        for nested in node.graphs:
            nested.owner = node
        following = self.returns if before is None else before
        node.before, node.after = following.before, following
        following.before.after = following.before = node
        self._nodes = None
        self.root.version += 1

    def set_operand(self, node: Node, index: int, value: Value | None) -> None:
        """Make `node` read `value` at `index`."""
        old = node.operands[index]
        if old is value:
            return
        _drop_use(old, node)
        _add_use(value, node)
        node.operands = (*node.operands[:index], value, *node.operands[index + 1 :])
        self.root.version += 1

    def replace_all_uses_with(self, old: Value, new: Value) -> None:
        """Make every reader of `old`, in nested graphs too, read `new`."""
        if old is new:
            return
        for user, count in old.readers.items():
            user.operands = tuple([new if operand is old else operand for operand in user.operands])
            _add_use(new, user, count)
        old.readers = {}
        self.root.version += 1

    def set_results(self, values: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """What the graph gives back, in order; `names` only from whoever builds it."""
        if names is not None:
            self.output_names = tuple(names)
        if len(values) != len(self.output_names):
            raise GraphError(f"graph {self.name!r} has {len(self.output_names)} outputs and was given {len(values)}")
        for old in self.returns.operands:
            _drop_use(old, self.returns)
        self.returns.operands = tuple(values)
        for value in values:
            _add_use(value, self.returns)
        self.root.version += 1

    def erase(self, what: Node | Value) -> None:
        """Remove a node, and what is nested in it, or an initializer. Nothing may read it; what is erased is gone."""
        if isinstance(what, Value):
            if what.is_used:
                raise GraphError(f"cannot erase the constant {what}: it is still read", what.users[0])
            if what not in self.initializers or what in self.defaults:
                raise GraphError(f"cannot erase {what}: it is no constant of graph {self.name!r}")
            del self.initializers[what]
        else:
            if what.graph is not self:
                raise GraphError(f"cannot erase {what.label}: it is not in graph {self.name!r}", what)
            if any(result.readers for result in what.results):
                raise GraphError(f"cannot erase {what.label}: its results are still read", what)
            _release(what)
            self._unlink(what)
            what.graph = None
        self.root.version += 1

    def _unlink(self, node: Node) -> None:
        node.before.after, node.after.before = node.after, node.before
        node.before = node.after = node
        self._nodes = None


def constant(value: Tensor | Array, name: str = "") -> Value:
    """A constant that belongs to no graph yet: emit writes it where it is used."""
    tensor = value if isinstance(value, Tensor) else ArrayTensor(value)
    made = Value(name)
    made.set_constant(tensor)
    return made


def _nested(attributes: Mapping[str, Attribute]) -> tuple[Graph, ...]:
    parts = [part for value in attributes.values() for part in (value if isinstance(value, tuple) else (value,))]
    return tuple([part for part in parts if isinstance(part, Graph)])


def _add_use(value: Value | None, user: Node, count: int = 1) -> None:
    if value is not None:
        value.readers[user] = value.readers.get(user, 0) + count


def _drop_use(value: Value | None, user: Node) -> None:
    if value is None:
        return
    value.readers[user] -= 1
    if not value.readers[user]:
        del value.readers[user]


def _release(node: Node) -> None:
    """Take back every use that a node, and what is nested in it, makes."""
    for operand in node.operands:
        _drop_use(operand, node)
    for nested in node.graphs:
        if nested.owner is node:
            for inner in (*nested.nodes, nested.returns):
                _release(inner)
                inner.graph = None
