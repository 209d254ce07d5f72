"""Layers without a skip that give the type that they take, one behind another of the same operators and weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from planish.ir import Graph, Node, Value
from planish.ir.ops.table import is_pure
from planish.passes.prune.residual import Block, all_graphs, has_weights, is_carried, is_fixed

_MOST = 32
"""Nodes of a layer."""
Signature = tuple[tuple[str, tuple[tuple[int, ...] | None, ...]], ...]


def repeated_layers(graph: Graph, blocks: Collection[Block]) -> tuple[Block, ...]:
    """Layers of which the one before or behind is alike; none has a node of a residual block, or of another layer."""
    taken = {node for block in blocks for node in (*block.nodes, block.end)}
    found: list[Block] = []
    for nested in all_graphs(graph):
        layers = [layer for node in nested.nodes if (layer := _layer(nested, node, taken)) is not None]
        by_end = {layer.end.result: layer for layer in layers}
        pairs = [(by_end[layer.skip], layer) for layer in layers if layer.skip in by_end]
        alike = {layer for pair in pairs if _signature(pair[0]) == _signature(pair[1]) for layer in pair}
        for layer in layers:
            nodes = {*layer.nodes, layer.end}
            if layer in alike and nodes.isdisjoint(taken):
                taken |= nodes
                found.append(layer)
    return tuple(found)


def _layer(graph: Graph, end: Node, taken: Collection[Node]) -> Block | None:
    """The fewest nodes before and with this one that read one value of its result's type, and have weights."""
    type = end.results[0].tensor_type if len(end.results) == 1 else None
    if type is None or type.shape is None or end.graphs or not is_pure(end) or end in taken:
        return None
    nodes = [end]
    while len(nodes) <= _MOST:
        read = list(_read(nodes))
        values = dict.fromkeys(value for _, _, value in read)
        if len(values) == 1 and any(has_weights(node) for node in nodes):
            node, place, skip = read[0]
            if skip.tensor_type == type:
                carried = is_carried(graph, (skip, end.result))
                return None if carried else Block(end, (node, place), tuple(reversed(nodes[1:])))
        before = _only_read_by(nodes, values, taken)
        if before is None:
            return None
        nodes.append(before)
    return None


def _read(nodes: Sequence[Node]) -> Iterator[tuple[Node, int, Value]]:
    """What they read that is not made of constants, and not by themselves."""
    for node in nodes:
        for place, value in enumerate(node.operands):
            if value is not None and value.producer not in nodes and not is_fixed(value):
                yield node, place, value


def _only_read_by(nodes: Sequence[Node], values: Collection[Value], taken: Collection[Node]) -> Node | None:
    """A node that makes one of the values, and that nothing else reads."""
    for value in values:
        node = value.producer
        if node is None or node in taken or node.graph is not nodes[0].graph or node.graphs or not is_pure(node):
            continue
        if all(user in nodes for result in node.results for user in result.users):
            return node
    return None


def _signature(layer: Block) -> Signature:
    return tuple([
        (node.op, tuple([None if v is None or not is_fixed(v) else _extents(v) for v in node.operands]))
        for node in (*layer.nodes, layer.end)
    ])  # fmt: skip


def _extents(value: Value) -> tuple[int, ...]:
    return tuple([dim if isinstance(dim, int) else -1 for dim in value.shape or ()])
