"""Nodes that compute the same thing from the same operands become one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute, OpaqueAttribute
from planish.ir.infer import inherit
from planish.ir.ops import schema
from planish.ir.ops.table import is_pure
from planish.ir.tensor import Tensor
from planish.passes.manager import Pass
from planish.passes.rewrite import erase_dead, merge_origins
from planish.passes.run import Run

_SMALL = 4096


@dataclass(frozen=True)
class MergeCommonSubexpressions(Pass):
    """Merge nodes with the same operator, attributes and operands; a nested graph sees what the graphs around it have
    made.

    Exact. Nodes that are random, have state, effects or nested graphs, or are unknown are never merged.
    """

    name: ClassVar[str] = "merge-common-subexpressions"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        self._graph(graph, run, {})

    def _graph(self, graph: Graph, run: Run, seen: dict[Hashable, Node]) -> None:
        added: list[Hashable] = []
        for node in graph.nodes:
            if run.exhausted:
                break
            if node.graphs:
                for nested in node.graphs:
                    self._graph(nested, run, seen)
                continue
            key = _key(node)
            if key is None or not is_pure(node):
                continue
            first = seen.setdefault(key, node)
            if first is node:
                added.append(key)
            elif not _returns_captured(node, first):
                _merge(first, node, run)
        for key in added:
            del seen[key]


def _merge(first: Node, second: Node, run: Run) -> None:
    graph = second.graph
    if graph is None:
        return
    sources = merge_origins((first, second))
    for kept, gone in zip(first.results, second.results, strict=True):
        readers = gone.users
        inherit(kept, gone)
        graph.replace_all_uses_with(gone, kept)
        run.log.extend(readers)
    first.origin = sources
    run.log.append(first)
    run.record("merge", sources, first.results[0].name)
    erase_dead(second)


def _returns_captured(node: Node, first: Node) -> bool:
    """Whether a graph gives back the node's result and could give back `first`'s only through a copy."""
    return any(
        user.graph is not None
        and user is user.graph.returns
        and (first.graph is not user.graph or _returned(kept, user))
        for kept, result in zip(first.results, node.results, strict=True)
        for user in result.users
    )


def _returned(value: Value, returns: Node) -> bool:
    return value in returns.operands


def _key(node: Node) -> Hashable | None:
    """Equal for nodes that compute the same; None for one that cannot be compared."""
    if not node.operands:
        return None
    if not node.attributes:
        return (node.op, node.operands, len(node.results), ())
    defaults = schema.defaults(node.op)
    attributes: list[tuple[str, Hashable]] = []
    for name, value in node.attributes.items():
        plain = _comparable(value)
        if plain is None:
            return None
        if name not in defaults or plain != _comparable(defaults[name]):
            attributes.append((name, plain))
    return (node.op, node.operands, len(node.results), tuple(sorted(attributes, key=lambda item: item[0])))


def _comparable(value: Attribute) -> Hashable | None:
    """Numbers with their kind, so that 1 and 1.0, 0.0 and -0.0 stay apart; small tensors by their bytes."""
    if isinstance(value, Tensor):
        if not value.in_memory or value.nbytes > _SMALL or value.dtype is DType.STRING:
            return None
        return (value.dtype, value.shape, value.raw())
    if isinstance(value, (Graph, OpaqueAttribute)):
        return None
    return (type(value).__name__, repr(value))
