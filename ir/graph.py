"""Values, nodes and graphs, and the five mutations that may change an edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, Union

from planish.ir.dim import Dim
from planish.ir.errors import GraphError
from planish.ir.ops import schema
from planish.ir.tensor import ArrayTensor, Spool, Tensor
from planish.ir.types import Array, DType, TensorType, Type

SPOOL_BYTES = 1 << 20
RETURN = "Return"
ELEMENTS = 64
_COUNTING = (DType.INT64, DType.INT32, DType.BOOL)


class Use(NamedTuple):
    """One operand slot: `user.operands[index]`."""

    user: Node
    index: int


class Value:
    """One value of the graph: a node's result, an input, or a constant. Its identity is the object; its name is a hint.

    `type` and `elements` (what an integer tensor of at most a few elements holds, as dims) say what holds in every run.
    `source` is what the loaded model wrote about it, for emit alone.
    """

    __slots__ = ("_users", "constant", "elements", "graph", "index", "name", "producer", "source", "type")

    def __init__(self, name: str = "", type: Type | None = None, producer: Node | None = None, index: int = 0) -> None:
        self.name = name
        self.type = type
        self.elements: tuple[Dim, ...] | None = None
        self.producer = producer
        self.index = index
        self.constant: Tensor | None = None
        self.graph: Graph | None = None
        self.source: object = None
        self._users: dict[Node, int] = {}

    def set_constant(self, tensor: Tensor) -> None:
        """Say that this value, whose maker is a Constant or nobody, is always `tensor`."""
        self.constant = tensor
        self.type = TensorType(tensor.dtype, tensor.shape)
        if tensor.in_memory and len(tensor.shape) < 2 and tensor.size <= ELEMENTS and tensor.dtype in _COUNTING:  # noqa: PLR2004  a vector
            self.elements = tensor.ints()

    @property
    def users(self) -> tuple[Node, ...]:
        """The nodes that read it, each once, in the order in which they began to; `Return` nodes among them."""
        return tuple(self._users)

    @property
    def uses(self) -> tuple[Use, ...]:
        return tuple(Use(user, i) for user in self._users for i, o in enumerate(user.operands) if o is self)

    @property
    def use_count(self) -> int:
        return sum(self._users.values())

    def uses_by(self, node: Node) -> int:
        return self._users.get(node, 0)

    @property
    def is_used(self) -> bool:
        return bool(self._users)

    @property
    def is_input(self) -> bool:
        """Whether it is an input of its graph; one that has a default (an overridable initializer) is no constant."""
        return self.producer is None and self.constant is None

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

    `op` is the key of the operator table: "Conv", "com.microsoft::Gelu", or "Softmax-11" for an old version whose meaning
    has no canonical form. `origin` names the nodes of the loaded model that it came from.
    """

    __slots__ = ("_next", "_prev", "attributes", "graph", "name", "op", "operands", "origin", "results", "source")

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
        self.attributes: Mapping[str, Attribute] = attributes if attributes is not None else {}
        names = ("",) * results if isinstance(results, int) else results
        self.results: tuple[Value, ...] = tuple([Value(hint, None, self, i) for i, hint in enumerate(names)])
        self.name = name
        self.graph: Graph | None = None
        self.origin: tuple[str, ...] = ()
        self.source: object = None
        self._prev: Node | None = None
        self._next: Node | None = None

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The nested graphs (branches, bodies), in the order of their attributes."""
        if not self.attributes:
            return ()
        found: list[Graph] = []
        for attribute in self.attributes.values():
            if isinstance(attribute, Graph):
                found.append(attribute)
            elif isinstance(attribute, tuple):
                found.extend(part for part in attribute if isinstance(part, Graph))
        return tuple(found)

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
        if not isinstance(found, tuple):
            raise GraphError(f"{self.op} needs the attribute {name!r} as a list of ints, and has {found!r}", self)
        return tuple(element for element in found if isinstance(element, int))

    def subgraph(self, name: str) -> Graph:
        found = self.attributes.get(name)
        if not isinstance(found, Graph):
            raise GraphError(f"{self.op} lacks its graph attribute {name!r}", self)
        return found

    def describe(self) -> str:
        """The node with its neighbours, as text for an error."""
        lines = [self.line(f"  > {self.label}: ")]
        lines += [o.producer.line("    from ") for o in self.operands if o is not None and o.producer is not None][:4]
        lines += [user.line("    read by ") for result in self.results for user in result.users][:4]
        if self.origin:
            lines.append(f"    comes from {', '.join(self.origin[:6])}")
        return "\n".join(lines)

    @property
    def label(self) -> str:
        """The name, or the first named result where the model gives the node none."""
        return self.name or next((r.name for r in self.results if r.name), self.op)

    def line(self, prefix: str = "") -> str:
        operands = ", ".join("" if o is None else str(o) for o in self.operands)
        return f"{prefix}{', '.join(map(str, self.results))} = {self.op}({operands})"

    def __repr__(self) -> str:
        return f"<{self.label}: {self.op}>"

    def _expect(self, name: str, kind: type[T]) -> T:
        found = self.attribute(name)
        if not isinstance(found, kind):
            raise GraphError(f"{self.op} needs the attribute {name!r} as {kind.__name__}, and has {found!r}", self)
        return found


class Graph:
    """Nodes in an order in which every value is made before it is read, with an interface that no pass may change.

    A graph's results are the operands of its `returns` node, so a value that the caller sees has a use like any other.
    Nested graphs (`owner` is their node) read values of the graphs around them directly.
    """

    def __init__(self, name: str = "", opset_imports: Mapping[str, int] | None = None, outer: Graph | None = None) -> None:
        """`outer`: the graph that one of its nodes will nest this one in."""
        self.name = name
        self.opset_imports: dict[str, int] = dict(opset_imports or {})
        self.inputs: tuple[Value, ...] = ()
        self.defaults: dict[Value, Tensor] = {}
        self.initializers: dict[Value, None] = {}
        self.output_names: tuple[str, ...] = ()
        self.owner: Node | None = None
        self.source: object = None
        self.model: object = None
        self.path: Path | None = None
        self.data_files: tuple[Path, ...] = ()
        self.spool: Spool | None = None
        self.version = 0
        self.returns = Node(RETURN, results=0)
        self.returns.graph = self
        self._head: Node | None = None
        self._tail: Node | None = None
        self._count = 0
        self._erased = False
        self._fresh: Iterator[int] = itertools.count(1) if outer is None else outer._fresh

    # What is there

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in order, as they stand now; the graph may be changed while the caller walks them."""
        return tuple(self._iterate())

    def __len__(self) -> int:
        return self._count

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(value for value in self.returns.operands if value is not None)

    @property
    def root(self) -> Graph:
        graph = self
        while graph.owner is not None and graph.owner.graph is not None:
            graph = graph.owner.graph
        return graph

    @property
    def opset(self) -> int:
        """The version of the standard operators that the model was written in."""
        return self.root.opset_imports.get("", 1)

    def walk(self) -> Iterator[Node]:
        """Every node of this graph and of the graphs nested in it, an owner before what it owns."""
        for node in self.nodes:
            yield node
            for nested in node.graphs:
                yield from nested.walk()

    def encloses(self, graph: Graph | None) -> bool:
        """Whether `graph` is this graph or is nested in it."""
        while graph is not None:
            if graph is self:
                return True
            graph = graph.owner.graph if graph.owner is not None else None
        return False

    def fresh_name(self) -> str:
        """A name for an extent of which nothing is known; no model can hold it."""
        return f"?{next(self._fresh)}"

    # The interface, laid down once by whoever builds the graph

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

    # Mutations

    def insert(self, node: Node, before: Node | None = None) -> None:
        """Put a node before another one of this graph, or at the end; a node that is elsewhere moves here."""
        if before is not None and before.graph is not self:
            raise GraphError(f"cannot insert {node.op} before {before.label}, which is not in this graph", node)
        if before is node:
            return
        if node.graph is not None:
            node.graph._unlink(node)
        else:
            _acquire(node)
        node.graph = self
        for result in node.results:
            result.graph = self
        for nested in node.graphs:
            nested.owner = node
        self._link(node, None if before is self.returns else before)
        self.root.version += 1

    def set_operand(self, node: Node, index: int, value: Value | None) -> None:
        """Make `node` read `value` at `index`."""
        old = node.operands[index]
        if old is value:
            return
        if old is not None:
            _drop_use(old, node)
        if value is not None:
            value._users[node] = value._users.get(node, 0) + 1
        node.operands = (*node.operands[:index], value, *node.operands[index + 1 :])
        self.root.version += 1

    def replace_all_uses_with(self, old: Value, new: Value) -> None:
        """Make every reader of `old`, in nested graphs too, read `new`."""
        if old is new:
            return
        for user, count in old._users.items():
            user.operands = tuple([new if operand is old else operand for operand in user.operands])
            new._users[user] = new._users.get(user, 0) + count
        old._users = {}
        self.root.version += 1

    def set_results(self, values: Sequence[Value], names: Sequence[str] | None = None) -> None:
        """What the graph gives back, in order; `names` only from whoever builds it."""
        if names is not None:
            self.output_names = tuple(names)
        if len(values) != len(self.output_names):
            raise GraphError(f"graph {self.name!r} has {len(self.output_names)} outputs and was given {len(values)}")
        for old in self.returns.operands:
            if old is not None:
                _drop_use(old, self.returns)
        self.returns.operands = tuple(values)
        for value in values:
            value._users[self.returns] = value._users.get(self.returns, 0) + 1
        self.root.version += 1

    def erase(self, what: Node | Value) -> None:
        """Remove a node or an initializer that nothing reads."""
        if isinstance(what, Value):
            if what.is_used:
                raise GraphError(f"cannot erase the constant {what}: it is still read", what.users[0])
            if what not in self.initializers or what in self.defaults:
                raise GraphError(f"cannot erase {what}: it is no constant of graph {self.name!r}")
            del self.initializers[what]
        else:
            for result in what.results:
                if result._users:
                    raise GraphError(f"cannot erase {what.label}: {result} is still read", what)
            _release(what)
            self._unlink(what)
            what.graph = None
        self.root.version += 1

    # The list

    def _iterate(self) -> Iterator[Node]:
        node = self._head
        while node is not None:
            yield node
            node = node._next

    def _link(self, node: Node, before: Node | None) -> None:
        node._next = before
        node._prev = self._tail if before is None else before._prev
        if node._prev is None:
            self._head = node
        else:
            node._prev._next = node
        if before is None:
            self._tail = node
        else:
            before._prev = node
        self._count += 1

    def _unlink(self, node: Node) -> None:
        if node._prev is None:
            self._head = node._next
        else:
            node._prev._next = node._next
        if node._next is None:
            self._tail = node._prev
        else:
            node._next._prev = node._prev
        node._prev = node._next = None
        self._count -= 1


def constant(value: Tensor | Array, name: str = "") -> Value:
    """A constant that belongs to no graph yet: emit writes it where it is used."""
    tensor = value if isinstance(value, Tensor) else ArrayTensor(value)
    made = Value(name)
    made.set_constant(tensor)
    return made


def _drop_use(value: Value, user: Node) -> None:
    left = value._users[user] - 1
    if left:
        value._users[user] = left
    else:
        del value._users[user]


def _acquire(node: Node) -> None:
    """Make the uses of a node that is in no graph, and those that erasing it took from what is nested in it."""
    for operand in node.operands:
        if operand is not None:
            operand._users[node] = operand._users.get(node, 0) + 1
    for nested in node.graphs:
        if nested._erased:
            nested._erased = False
            for inner in (*nested.nodes, nested.returns):
                _acquire(inner)


def _release(node: Node) -> None:
    """Take back every use that a node, and what is nested in it, makes."""
    for operand in node.operands:
        if operand is not None:
            _drop_use(operand, node)
    for nested in node.graphs:
        if nested.owner is node:
            nested._erased = True
            for inner in (*nested.nodes, nested.returns):
                _release(inner)
