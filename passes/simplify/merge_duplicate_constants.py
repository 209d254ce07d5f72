"""Constants that hold the same bytes become one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

from planish.ir import DType, Graph, Node, Value
from planish.ir.tensor import Tensor
from planish.passes.manager import Pass
from planish.passes.rewrite import erase_dead
from planish.passes.run import Run


@dataclass(frozen=True)
class MergeDuplicateConstants(Pass):
    """Merge constants of the same type, shape and bytes; a nested graph uses those of the graphs around it.

    Exact. Weights outside of the model are the same only where they are the same stretch of the same file: none is read.
    Overridable initializers, strings, and constants that are outputs themselves are left alone.
    """

    name: ClassVar[str] = "merge-duplicate-constants"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        self._graph(graph, run, _Seen())

    def _graph(self, graph: Graph, run: Run, seen: _Seen) -> None:
        added: list[Hashable] = []
        for value in _constants(graph, seen):
            if run.exhausted:
                return
            tensor = value.constant
            if tensor is None or tensor.dtype is DType.STRING:
                continue
            key = seen.key(value, tensor)
            first = seen.values.setdefault(key, value)
            if first is value:
                added.append(key)
            elif not any(user is user.graph.returns for user in value.users if user.graph is not None):
                _merge(graph, first, value, run)
        for node in graph.nodes:
            for nested in node.graphs:
                self._graph(nested, run, seen)
        for key in added:
            del seen.values[key]


class _Seen:
    """Constants in sight, by what they hold."""

    def __init__(self) -> None:
        self.values: dict[Hashable, Value] = {}
        self._keys: dict[int, tuple[Tensor, Hashable]] = {}

    def key(self, value: Value, tensor: Tensor) -> Hashable:
        found = self._keys.get(id(tensor))
        if found is None:
            found = self._keys[id(tensor)] = (tensor, _key(tensor))
        return found[1]


def _constants(graph: Graph, seen: _Seen) -> Iterator[Value]:
    """The graph's own constants, then those that its nodes make or read, in order."""
    met: dict[Value, None] = {}
    for value in graph.initializers:
        met[value] = None
    for node in graph.nodes:
        if node.op == "Constant":
            met[node.result] = None
        for operand in node.operands:
            if operand is not None and operand.constant is not None and operand.producer is None and operand.graph is None:
                met[operand] = None
    yield from met


def _key(tensor: Tensor) -> Hashable:
    if not tensor.in_memory:
        return (tensor.dtype, tensor.shape, tensor.identity)
    digest = blake2b(digest_size=16)
    for chunk in tensor.raw_chunks():
        digest.update(chunk)
    return (tensor.dtype, tensor.shape, digest.digest())


def _merge(graph: Graph, first: Value, second: Value, run: Run) -> None:
    readers = second.users
    if readers:
        graph.replace_all_uses_with(second, first)
        run.log.extend(reader for reader in readers if reader.graph is not None)
        run.record("merge", (first.name, second.name), first.name)
    elif second.producer is None:
        return
    if second.producer is not None:
        erase_dead(second.producer)
    elif second in graph.initializers:
        graph.erase(second)
