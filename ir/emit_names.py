"""Names for values: the interface's first, then each value's own hint, made unique within what it can see.

Nested graphs see the names around them, and two things must hold there. A name that a nested graph reads from outside must
mean the same inside, so nothing in between may have it. And no node may make a name that a node before its owner has made.
Otherwise names may be alike, in sibling branches for one, and stay as they were loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from planish.ir.errors import GraphError
from planish.ir.graph import Graph, Node, Value


class Names:
    """The names of one graph, in view of those of the graphs around it.

    `defined` are the names that a node about to be emitted can see; whoever emits in order adds each node's results.
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
        self._nested: set[str] = set()
        self._captured: Collection[str] = () if outer is None else {name for v in reads(graph) if (name := outer.known(v))}
        self._name_interface()
        for value in graph.initializers:
            self._name(value, self._captured)
        self.defined = {name for value, name in self.names.items() if value.producer is None}
        for node in graph.nodes:
            for result in node.results:
                if result.name or result.is_used:
                    self._name(result)
            if outer is None and node.attributes:
                for nested in node.graphs:
                    self._nested.update(_hints(nested))

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
        found = root._name(value, root._nested)
        root.defined.add(found)
        return found

    def unique(self, hint: str, reserved: Collection[str] = ()) -> str:
        """`hint`, or a name like it that nothing in the whole model has, where something in sight or reserved has it."""
        if not self._is_taken(hint) and hint not in reserved:
            return hint
        number = self._numbers.get(hint, 0)
        nested = self.root._nested
        while True:
            number += 1
            candidate = f"{hint}_{number}"
            if not self._is_taken(candidate, everywhere=True) and candidate not in nested:
                self._numbers[hint] = number
                return candidate

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
        made = value not in self.graph.initializers and self._is_defined(name)
        return self._positional(name, (name,) if made else self._captured)

    def _positional(self, name: str, reserved: Collection[str]) -> str:
        """An interface name: the caller's own in the main graph; in a nested one only its place has a meaning."""
        return name if self.outer is None or name not in reserved else self.unique(name, reserved)

    def _may_be_called(self, value: Value) -> bool:
        """Whether an output's name can be the value's own: it is made here, or is a constant of this graph."""
        if value.producer is not None:
            return value.graph is self.graph
        return value.constant is not None and (value in self.graph.initializers or self.outer is None)

    def _name(self, value: Value, reserved: Collection[str] | None = None) -> str:
        """`reserved` None: the value is made by a node, which may not make what is defined around it."""
        found = self.names.get(value)
        if found is None:
            hint = value.name or _hint(value.producer)
            if reserved is None:
                reserved = (hint,) if self._is_defined(hint) else self._captured
            found = self.unique(hint, reserved)
            self.taken.add(found)
            self.names[value] = found
            if self.outer is not None:
                self.root._nested.add(found)
        return found

    def _is_taken(self, name: str, everywhere: bool = False) -> bool:
        if not everywhere:
            return name in self.taken
        names: Names | None = self
        while names is not None:
            if name in names.taken:
                return True
            names = names.outer
        return False

    def _is_defined(self, name: str) -> bool:
        """Whether a graph around this one has made the name before the node that owns this one."""
        names = self.outer
        while names is not None:
            if name in names.defined:
                return True
            names = names.outer
        return False


def reads(graph: Graph) -> Iterator[Value]:
    """The values that a graph, or one nested in it, reads and none of them makes; one may come more than once."""
    for node in (*graph.nodes, graph.returns):
        for operand in node.operands:
            if operand is not None and not graph.encloses(operand.graph):
                yield operand
        for nested in node.graphs:
            yield from (value for value in reads(nested) if not graph.encloses(value.graph))


def _hints(graph: Graph) -> Iterator[str]:
    """Every name that a graph and those nested in it came with."""
    yield from (value.name for value in graph.inputs)
    yield from (value.name for value in graph.initializers)
    yield from graph.output_names
    for node in graph.nodes:
        yield from (result.name for result in node.results)
        for nested in node.graphs:
            yield from _hints(nested)


def _hint(producer: Node | None) -> str:
    return "constant" if producer is None else f"{producer.name or producer.op.rpartition('::')[2]}_out"
