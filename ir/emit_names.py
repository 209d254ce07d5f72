"""Names for values: the interface's first, then each value's own hint, made unique within what it can see."""

from __future__ import annotations

from planish.ir.graph import Graph, Node, Value


class Names:
    """The names of one graph, in view of those of the graphs around it."""

    def __init__(self, graph: Graph, outer: Names | None = None) -> None:
        self.graph = graph
        self.outer = outer
        self.taken: set[str] = set()
        self.names: dict[Value, str] = {}
        self.copies: list[tuple[Value, str]] = []
        self._numbers: dict[str, int] = {}
        self._name_interface()
        for value in graph.initializers:
            self._name(value)
        for node in graph.nodes:
            for result in node.results:
                if result.name or result.is_used:
                    self._name(result)

    @property
    def root(self) -> Names:
        return self if self.outer is None else self.outer.root

    def of(self, value: Value | None) -> str:
        """The name to read a value by; a constant that no graph holds gets one in the outermost."""
        if value is None:
            return ""
        names: Names | None = self
        while names is not None:
            found = names.names.get(value)
            if found is not None:
                return found
            names = names.outer
        if value.constant is None:
            return value.name
        return self.root._name(value)

    def unique(self, hint: str) -> str:
        """A name like `hint` that nothing in sight has."""
        if not self._is_taken(hint):
            return hint
        number = self._numbers.get(hint, 0)
        while True:
            number += 1
            candidate = f"{hint}_{number}"
            if not self._is_taken(candidate):
                self._numbers[hint] = number
                return candidate

    def _name_interface(self) -> None:
        for value in self.graph.inputs:
            self.names[value] = value.name
            self.taken.add(value.name)
        outputs = list(zip(self.graph.outputs, self.graph.output_names, strict=True))
        exact = {value for value, name in outputs if value.name == name}
        for value, name in outputs:
            self.taken.add(name)
            if self.names.get(value) == name:
                continue
            if self._may_be_called(value) and value not in self.names and (value.name == name or value not in exact):
                self.names[value] = name
            else:
                self.copies.append((value, name))

    def _may_be_called(self, value: Value) -> bool:
        """Whether an output's name can be the value's own: it is made here, or is a constant of this graph."""
        if value.producer is not None:
            return value.graph is self.graph
        return value.constant is not None and (value in self.graph.initializers or self.outer is None)

    def _name(self, value: Value) -> str:
        found = self.names.get(value)
        if found is None:
            found = self.unique(value.name or _hint(value.producer))
            self.taken.add(found)
            self.names[value] = found
        return found

    def _is_taken(self, name: str) -> bool:
        names: Names | None = self
        while names is not None:
            if name in names.taken:
                return True
            names = names.outer
        return False


def _hint(producer: Node | None) -> str:
    return "constant" if producer is None else f"{producer.name or producer.op.rpartition('::')[2]}_out"
