"""Constants that hold the same bytes become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Graph, Node, Value
from planish.ir.ops.forms import is_attribute
from planish.ir.tensor import Tensor
from planish.passes.manager import Pass
from planish.passes.replacing import erase_dead
from planish.passes.run import Run


@dataclass(frozen=True)
class MergeDuplicateConstants(Pass):
    """Merge constants of the same type, shape and bytes; a nested graph uses those of the graphs around it.

    Exact. Weights outside of the model are the same only where they are the same stretch of the same file: none is
    read. Overridable initializers, strings, and constants that are outputs themselves are left alone.
    """

    name: ClassVar[str] = "merge-duplicate-constants"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        floating = _floating(graph)
        everything = [*floating, *(value for inner in _graphs(graph) for value in _own(inner))]
        alike = Counter((v.constant.dtype, v.constant.shape) for v in everything if v.constant is not None)
        merger = _Merger(run, {kind for kind, count in alike.items() if count > 1})
        merger.merge(graph, floating)
        if merger.kept is not None:  # one reader is enough to wake a pass that compares operands
            run.log.extend(reader for reader in merger.kept.users[:1] if reader.graph is not None)


class _Merger:
    """Merges what is in sight; `alike` are the types and shapes that more than one constant has."""

    def __init__(self, run: Run, alike: set[tuple[DType, tuple[int, ...]]]) -> None:
        self.run = run
        self.alike = alike
        self.seen: dict[Hashable, list[Value]] = {}
        self.kept: Value | None = None

    def merge(self, graph: Graph, floating: Sequence[Value] = ()) -> None:
        """Merge the constants of a graph with those seen before them; those that it nests see what is before them."""
        added: list[Hashable] = []
        for value in _returned_first(graph, (*floating, *graph.initializers)):
            self.see(graph, value, added)
        for node in graph.nodes:
            if node.op == "Constant":
                self.see(graph, node.result, added)
            for nested in node.graphs:
                self.merge(nested)
        for key in reversed(added):
            self.seen[key].pop()

    def see(self, graph: Graph, value: Value, added: list[Hashable]) -> None:
        """Merge a constant with the first of its bytes, or remember it as that."""
        tensor = value.constant
        if tensor is None or (tensor.dtype, tensor.shape) not in self.alike or tensor.dtype is DType.STRING:
            return
        key = _key(tensor)
        alike = self.seen.setdefault(key, [])
        first = next((other for other in alike if _same(other, tensor)), None)
        if first is None:
            alike.append(value)
            added.append(key)
        elif graph.returns not in value.readers and not self.run.exhausted:
            self.replace(graph, first, value)

    def replace(self, graph: Graph, first: Value, second: Value) -> None:
        """The readers stay out of the log: the same bytes leave types as they are and give no rule a new chance."""
        if not second.is_used:
            return
        graph.replace_all_uses_with(second, first)
        self.run.record("merge", (first.name, second.name), first.name)
        self.kept = first
        if second.producer is not None:
            erase_dead(second.producer)
        elif second in graph.initializers:
            graph.erase(second)


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for nested in node.graphs:
            yield from _graphs(nested)


def _own(graph: Graph) -> list[Value]:
    """The constants that a graph holds: its initializers, and the results of its Constant nodes in order."""
    return [*graph.initializers, *(node.result for node in graph.nodes if node.op == "Constant")]


def _returned_first(graph: Graph, constants: Sequence[Value]) -> list[Value]:
    """Those that the graph gives back keep their names, so they come first."""
    returned = set(graph.returns.operands)
    return sorted(constants, key=lambda value: value not in returned)


def _floating(graph: Graph) -> list[Value]:
    """The constants that passes made, which belong to no graph and can be read in every one."""
    found: dict[Value, None] = {}
    for inner in _graphs(graph):
        for node in (*inner.nodes, inner.returns):
            for operand in node.operands:
                if operand is not None and operand.graph is None and operand.constant is not None:
                    found[operand] = None
    return [value for value in found if not is_attribute(value)]


def _key(tensor: Tensor) -> Hashable:
    """Equal for tensors that may hold the same bytes."""
    return (tensor.dtype, tensor.shape, tensor.sample() if tensor.in_memory else tensor.identity)


def _same(value: Value, tensor: Tensor) -> bool:
    """Whether a constant with the same key holds the same bytes; those outside of memory do."""
    other = value.constant
    return other is not None and (other is tensor or not tensor.in_memory or other.holds_same(tensor))
