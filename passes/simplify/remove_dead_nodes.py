"""What no output needs is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Graph, Node, Value
from planish.ir.ops.table import is_pure
from planish.passes.manager import Pass
from planish.passes.replacing import merge_origins
from planish.passes.run import Run


@dataclass(frozen=True)
class RemoveDeadNodes(Pass):
    """Remove nodes and initializers that nothing reads, in nested graphs too.

    Exact. Nodes that are random, have state or effects, or are unknown stay; so do the inputs.
    """

    name: ClassVar[str] = "remove-dead-nodes"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        for node in reversed(graph.nodes):
            if run.exhausted:
                return
            for nested in node.graphs:
                self.run(nested, run)
            if not any(result.is_used for result in node.results) and is_pure(node):
                read = _read_by(node)
                graph.erase(node)
                run.log.extend(user for value in read if value.has_one_use for user in value.users)
                run.log.extend(value.producer for value in read if value.producer is not None and _gives_less(value))
                run.record("remove-node", merge_origins((node,)), "")
        for value in list(graph.initializers):
            if run.exhausted:
                return
            if not value.is_used and value.constant is not None:
                self._drop(graph, value, run)

    @staticmethod
    def _drop(graph: Graph, value: Value, run: Run) -> None:
        graph.erase(value)
        run.record("remove-initializer", (value.name,), "")


def _gives_less(value: Value) -> bool:
    """Whether what makes a value nests graphs, and need not give it back any more."""
    return value.producer is not None and bool(value.producer.graphs) and not value.is_used


def _read_by(node: Node) -> dict[Value, None]:
    """What a node reads, the graphs nested in it too, each once and in order."""
    inside = [inner for nested in node.graphs for inner in (*nested.walk(), nested.returns)]
    return {operand: None for reader in (node, *inside) for operand in reader.operands if operand is not None}
