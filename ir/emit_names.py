"""Names for values: the interface's first, then each value's own hint, made unique within what it can see.

Nested graphs see the names around them, and two things must hold there. A name that a nested graph reads from outside
must mean the same inside, so nothing in between may have it. And no node may make a name that is made outside as well,
unless by the node that owns the graph: runtimes choose the order of nodes, and either could come first. Otherwise names
may be alike, in sibling branches for one, and stay as they were loaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import onnx

from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, Value
from planish.ir.load import Source
from planish.ir.ops import schema


class Names:
    """The names of one graph, in view of those of the graphs around it.

    `copies` are outputs that are not made here under their own name and need an Identity.
    """

    def __init__(self, graph: Graph, outer: Names | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.taken: set[str] = set()
        self.names: dict[Value, str] = {}
        self.copies: list[tuple[Value, str]] = []
        self.output_names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._called: set[str] = set()
        self._hints: set[str] = set()
        self._nested: set[str] = set()
        self._untouched: bool | None = None
        if outer is None:
            self._nested.update(hint for node in graph.nodes for nested in node.graphs for hint in _hints(nested))
        captured = () if outer is None else {outer.known(value) for value in reads(graph)}
        self._captured: Collection[str | None] = captured
        self._name_interface()
        for value in graph.initializers:
            self._name(value, self._captured)
        for node in graph.nodes:
            for result in node.results:
                if result.name or result.is_used or (node.source is None and _is_needed(result)):
                    self._name(result)

    @property
    def root(self) -> Names:
        return self if self.outer is None else self.outer.root

    def known(self, value: Value) -> str | None:
        """The name that a value has so far, here or in a graph around."""
        names: Names | None = self
        while names is not None:
            found = names.names.get(value)
            if found is not None:
                return found
            names = names.outer
        return None

    def of(self, value: Value | None) -> str:
        """The name to read a value by; a constant that no graph holds gets one in the outermost.

        Raises GraphError for a value that is not in sight.
        """
        if value is None:
            return ""
        found = self.known(value)
        if found is not None:
            return found
        if value.constant is None or value.producer is not None:
            raise GraphError(f"{value} is read where nothing makes it", next(iter(value.users), None))
        root = self.root
        return root._name(value, root._nested)

    def call(self, name: str) -> str:
        """The name for a node that is written next: its own, unless one before it has that already.

        ONNX Runtime refuses two nodes of one name; a model that was loaded with such nodes keeps them.
        """
        if not name or name not in self._called:
            self._called.add(name)
            return name
        source = self.graph.source
        if isinstance(source, onnx.GraphProto) and [node.name for node in source.node].count(name) > 1:
            return name
        self._hints = self._hints or {node.name for node in self.graph.nodes}
        number = next(n for n in itertools.count(1) if f"{name}_{n}" not in self._called | self._hints)
        self._called.add(f"{name}_{number}")
        return f"{name}_{number}"

    def _name_interface(self) -> None:
        for value in self.graph.inputs:
            self.names[value] = self._positional(value.name, self._captured)
            self.taken.add(self.names[value])
        outputs = [(value, self._output_name(value, name)) for value, name in self._outputs()]
        exact = {value for value, name in outputs if value.name == name}
        for value, name in outputs:
            self.taken.add(name)
            self.output_names.append(name)
            if self.names.get(value) == name:
                continue
            if self._may_be_called(value) and value not in self.names and (value.name == name or value not in exact):
                self.names[value] = name
            else:
                self.copies.append((value, name))

    def _outputs(self) -> Iterator[tuple[Value, str]]:
        return zip(self.graph.outputs, self.graph.output_names, strict=True)

    def _output_name(self, value: Value, name: str) -> str:
        if self.names.get(value) == name:
            return name
        made = value not in self.graph.initializers and self._is_made_outside(name)
        return self._positional(name, (name,) if made else self._captured)

    def _positional(self, name: str, reserved: Collection[str | None]) -> str:
        """An interface name: the caller's own in the main graph; in a nested one only its place has a meaning."""
        return name if self.outer is None or name not in reserved else self._unique(name, reserved)

    def _may_be_called(self, value: Value) -> bool:
        """Whether an output's name can be the value's own: it is made here, or is a constant of this graph."""
        if value.producer is not None:
            return value.graph is self.graph
        return value.constant is not None and (value in self.graph.initializers or self.outer is None)

    def _name(self, value: Value, reserved: Collection[str | None] | None = None) -> str:
        """`reserved` None: the value is made by a node, which may not make what is made outside."""
        found = self.names.get(value)
        if found is None:
            hint = value.name or _hint(value.producer)
            if reserved is None:
                reserved = (hint,) if self._is_made_outside(hint) else self._captured
            found = self.names[value] = self._unique(hint, reserved)
            self.taken.add(found)
            if self.outer is not None:
                self.root._nested.add(found)
        return found

    def _unique(self, hint: str, reserved: Collection[str | None]) -> str:
        """`hint`; where something here or reserved has it, a name like it that nothing in the whole model has."""
        if hint not in self.taken and hint not in reserved:
            return hint
        everywhere = self.root._nested
        number = self._numbers.get(hint, 0)
        while True:
            number += 1
            candidate = f"{hint}_{number}"
            if candidate not in everywhere and not self._is_taken(candidate):
                self._numbers[hint] = number
                everywhere.add(candidate)
                return candidate

    def _is_taken(self, name: str) -> bool:
        names: Names | None = self
        while names is not None:
            if name in names.taken:
                return True
            names = names.outer
        return False

    def _is_made_outside(self, name: str) -> bool:
        """Whether a graph around this one has the name, and not from the node that owns this one.

        An untouched model is left as it is: whoever runs it found an order.
        """
        graph, names = self.graph, self.outer
        while names is not None:
            if name in names.taken and not (graph.owner and name in map(names.names.get, graph.owner.results)):
                return not self._is_untouched()
            graph, names = names.graph, names.outer
        return False

    def _is_untouched(self) -> bool:
        root = self.root
        if root._untouched is None:
            root._untouched = _is_as_loaded(root.graph)
        return root._untouched


def _is_as_loaded(graph: Graph) -> bool:
    if not isinstance(graph.source, onnx.GraphProto) or len(graph) != len(graph.source.node):
        return False
    here = {tuple(proto.output) for proto in graph.source.node}
    for node in graph.nodes:
        if not isinstance(node.source, Source) or node.source.operands is not node.operands:
            return False
        if tuple(node.source.proto.output) not in here:  # as many came from a nested graph as went
            return False
        if not all(map(_is_as_loaded, node.graphs)):
            return False
    return True


def reads(graph: Graph) -> Iterator[Value]:
    """The values that a graph, or one nested in it, reads and none of them makes; one may come more than once."""
    for node in (*graph.nodes, graph.returns):
        for operand in node.operands:
            if operand is not None and not encloses(graph, operand.graph):
                yield operand
        for nested in node.graphs:
            yield from (value for value in reads(nested) if not encloses(graph, value.graph))


def encloses(graph: Graph, inner: Graph | None) -> bool:
    """Whether `inner` is the graph or is nested in it."""
    while inner is not None and inner is not graph:
        inner = inner.owner.graph if inner.owner is not None else None
    return inner is graph


def _hints(graph: Graph) -> Iterator[str]:
    """Every name that a graph and those nested in it came with."""
    yield from (value.name for value in graph.inputs)
    yield from (value.name for value in graph.initializers)
    yield from graph.output_names
    for node in graph.nodes:
        yield from (result.name for result in node.results)
        for nested in node.graphs:
            yield from _hints(nested)


def _is_needed(result: Value) -> bool:
    """Whether the operator has no way to leave a result out that nobody reads."""
    found = None if result.producer is None else schema.newest(result.producer.op)
    if found is None or not found.outputs:
        return result.index == 0
    formal = found.outputs[min(result.index, len(found.outputs) - 1)]
    return formal.option != onnx.defs.OpSchema.FormalParameterOption.Optional


def _hint(producer: Node | None) -> str:
    return "constant" if producer is None else f"{producer.name or producer.op.rpartition('::')[2]}_out"
