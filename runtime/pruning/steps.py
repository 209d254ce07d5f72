"""A model that runs in steps, of which each goes on from what those before it made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from planish.ir import Graph, Value
from planish.runtime.cut import may_cross, outer_reads


@dataclass(frozen=True)
class Steps:
    """When the tensors that may be kept are there, and until when, by name. Inputs are there from step 0."""

    made: Mapping[str, int]
    needed: Mapping[str, int]
    """The last step that reads them."""

    @staticmethod
    def of(graph: Graph, wanted: Iterable[tuple[str, int]]) -> Steps:
        """Every node as late as it may be. wanted: tensors, and steps that look at them: 1 or later.

        A node runs once, unless a value that cannot be kept, such as a sequence, is read by several steps: each of them
        makes it again.
        """
        found = {value.name: value for node in graph.nodes for value in node.results}
        found |= {value.name: value for value in graph.inputs}
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for name, step in wanted:
            first[found[name]] = min(first.get(found[name], step), step)
            last[found[name]] = max(last.get(found[name], step), step)
        made = dict.fromkeys(graph.inputs, 0)
        for node in reversed(graph.nodes):
            read = [value for value in node.results if value in first]
            if not read:
                continue
            begin = min(first[value] for value in read)
            end = max((last[value] for value in read if not may_cross(value)), default=begin)
            made.update(dict.fromkeys(node.results, begin))
            for value in outer_reads(node, graph):
                first[value] = min(first.get(value, begin), begin)
                last[value] = max(last.get(value, end), end)
        kept = [value for value in made if value in last and value.constant is None]
        kept = [value for value in kept if may_cross(value) or value.producer is None]
        return Steps({value.name: made[value] for value in kept}, {value.name: last[value] for value in kept})

    def kept(self, step: int) -> list[str]:
        """What a later step needs of this one and of those before it."""
        return [name for name, made in self.made.items() if made <= step < self.needed[name]]


def reduce_to(graph: Graph, known: Collection[str], wanted: Sequence[str]) -> None:
    """Leave what makes the wanted tensors of the known ones, which become inputs, and of the graph's own inputs."""
    found = {value.name: value for node in graph.nodes for value in node.results}
    for name in known:
        if name in found:
            graph.replace_all_uses_with(found[name], graph.add_input(name, found[name].type))
    graph.set_results([found[name] for name in wanted], wanted)
    for node in reversed(graph.nodes):
        if not any(result.is_used for result in node.results):
            graph.erase(node)
    for value in [*graph.initializers, *graph.inputs]:
        if not value.is_used:
            _forget(graph, value)


def _forget(graph: Graph, value: Value) -> None:
    graph.defaults.pop(value, None)
    graph.inputs = tuple(other for other in graph.inputs if other is not value)
    if value in graph.initializers:
        graph.erase(value)
