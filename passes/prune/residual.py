"""Residual blocks: sums of a tensor and of what a branch makes of it, without which the tensor itself goes on.

He et al. 2016 (arXiv 1512.03385); the attention and the inner layers of a transformer are two of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planish.ir import Graph, Node, Value
from planish.ir.ops.table import is_pure, lookup

_MATRIX = 2
_KEEPING = frozenset(("DequantizeLinear", "QuantizeLinear", "Transpose"))


@dataclass(frozen=True, eq=False)
class Block:
    """Nodes that make a value of another one of the same type, the skip, which could stand for it.

    end: makes the value: the sum of the skip and of a branch, or the last node of a layer without one. entry: a node
    that reads the skip, with the position of the operand. nodes: what goes with the block besides its end, in the order
    of the graph.
    """

    end: Node
    entry: tuple[Node, int]
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """Of what its end gives."""
        return self.end.result.name or self.end.label

    @property
    def skip(self) -> Value:
        node, place = self.entry
        return _operand(node, place)

    @property
    def branch(self) -> Value | None:
        """What is added to the skip; None of a layer."""
        node, place = self.entry
        return _operand(node, 1 - place) if node is self.end and node.op == "Add" else None


def residual_blocks(graph: Graph) -> tuple[Block, ...]:
    """The blocks of a graph and of those nested in it, in order; of blocks within blocks the inner ones.

    No path from the skip through the branch is without weights; the branch is read nowhere else, and nothing in it is
    random or has effects. What a loop carries from one turn to the next stays as it is made.
    """
    found: list[Block] = []
    for nested in all_graphs(graph):
        found += _Search(nested).blocks()
    inner = {node for block in found for node in _around(block.end)}
    return tuple([block for block in found if inner.isdisjoint(block.nodes)])


def all_graphs(graph: Graph) -> tuple[Graph, ...]:
    """A graph, and those nested in it."""
    return (graph, *[inner for node in graph.walk() for inner in node.graphs])


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places = {node: place for place, node in enumerate(graph.nodes)}
        self.streams: dict[Value, tuple[Value, ...]] = {}
        """Of the sum of a block, the skips of this one and of those before it."""

    def blocks(self) -> Iterator[Block]:
        for node in self.graph.nodes:
            if node.op != "Add" or is_carried(self.graph, (*node.operands, node.result)):
                continue
            for place in (1, 0):
                block = self._block(node, place)
                if block is not None:
                    yield block
                    break

    def _block(self, add: Node, place: int) -> Block | None:
        branch, skip = add.operands[place], add.operands[1 - place]
        if branch is None or skip is None or branch is skip or branch.constant is not None or skip.constant is not None:
            return None
        type, end = add.result.tensor_type, branch.producer
        if type is None or type.shape is None or not type == branch.tensor_type == skip.tensor_type:
            return None
        if end is None or end not in self.places or not branch.has_one_use or skip in end.results:
            return None
        skips = self._stream(skip)
        if not any(self._reaches(skip, end) and not self._reaches(skip, end, weightless=True) for skip in skips):
            return None
        nodes = self._alone(end)
        if not all(is_pure(node) for node in nodes) or not any(has_weights(node) for node in nodes):
            return None
        self.streams[add.result] = skips
        return Block(add, (add, 1 - place), nodes)

    def _stream(self, skip: Value) -> tuple[Value, ...]:
        """The value, and those that it is but for blocks added to it, axes swapped, and codes."""
        node = skip.producer
        before = node.operands[0] if node is not None and node.op in _KEEPING else None
        return (skip, *self.streams.get(skip, () if before is None else self._stream(before)))

    def _reaches(self, skip: Value, end: Node, *, weightless: bool = False) -> bool:
        """Whether a node depends on a value; weightless: on a way without weights."""
        first = self.places.get(skip.producer, -1) if skip.producer is not None else -1
        seen, stack = {end}, [end]
        while stack:
            node = stack.pop()
            if weightless and has_weights(node):
                continue
            for value in _read(node):
                if value is skip:
                    return True
                producer = value.producer
                if producer is not None and producer not in seen and self.places.get(producer, -1) > first:
                    seen.add(producer)
                    stack.append(producer)
        return False

    def _alone(self, end: Node) -> tuple[Node, ...]:
        """The node, and those that only serve it."""
        found, queue, seen = set[Node | None](), [-self.places[end]], {end}
        nodes = self.graph.nodes
        while queue:
            node = nodes[-heapq.heappop(queue)]
            users = [user for result in node.results for user in result.users]
            if node is not end and any(self._within(user) not in found for user in users):
                continue
            found.add(node)
            for value in _read(node):
                producer = value.producer
                if producer is not None and producer in self.places and producer not in seen:
                    seen.add(producer)
                    heapq.heappush(queue, -self.places[producer])
        return tuple([node for node in nodes if node in found])

    def _within(self, user: Node) -> Node | None:
        """The node of this graph that a reader is, or is nested in."""
        while user.graph is not None and user.graph is not self.graph:
            owner = user.graph.owner
            if owner is None:
                return None
            user = owner
        return user


def is_carried(graph: Graph, values: Sequence[Value | None]) -> bool:
    """Whether any of them is what a loop carries from one turn to the next."""
    if graph.owner is None or not graph.inputs:
        return False
    ends = (*graph.inputs, *graph.outputs)
    return any(value in ends for value in values)


def has_weights(node: Node) -> bool:
    """Whether it works on what it is given with constants of at least two axes, and not element by element."""
    if any(has_weights(inner) for nested in node.graphs for inner in nested.walk()):
        return True
    rule = lookup(node.op).channels
    if rule is None or rule.pointwise or rule.spreads or node.graphs:
        return False
    return any(v is not None and (v.rank or 0) >= _MATRIX and is_fixed(v) for v in node.operands)


def is_fixed(value: Value) -> bool:
    """Whether it is made of constants alone, as codes of weights are made numbers."""
    node = value.producer
    if value.constant is not None or node is None or node.graphs or not node.operands:
        return value.constant is not None
    return is_pure(node) and all(operand is None or is_fixed(operand) for operand in node.operands)


def _around(node: Node) -> Iterator[Node]:
    """The node, and those that it is nested in."""
    yield node
    owner = None if node.graph is None else node.graph.owner
    if owner is not None:
        yield from _around(owner)


def _read(node: Node) -> Sequence[Value]:
    """What a node reads, and those nested in it."""
    inner = [value for nested in node.graphs for each in (*nested.walk(), nested.returns) for value in each.operands]
    return [value for value in (*node.operands, *inner) if value is not None]


def _operand(node: Node, place: int) -> Value:
    value = node.operands[place]
    if value is None:
        raise ValueError(f"{node.label} lacks an operand")
    return value
