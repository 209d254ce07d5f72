"""Taking channels out of a graph: weights sliced, the attributes and shapes that count channels rewritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir import Graph, GraphError, Node, Value
from planish.ir.graph import Attribute, constant
from planish.ir.infer import check, infer
from planish.ir.ops.channels.tracker import Shrunk
from planish.ir.ops.table import lookup
from planish.ir.tensor import SPOOL_BYTES, ArrayTensor
from planish.ir.types import Array, TensorType
from planish.passes.prune.removal import Removal
from planish.passes.replacing import erase_dead, merge_origins
from planish.passes.run import Run

SUFFIX = "_pruned"
"""Of the names of values that shrank."""


def slice_channels(graph: Graph, removal: Removal, run: Run) -> None:
    """Remove units from a graph, whose values that shrink get other names: what was known of these holds no more.

    Raises GraphError where a type no longer follows; the graph is then not to be used.
    """
    changes = {node: changed for node in graph.walk() if (changed := _shrunk(node, removal)) is not None}
    expected = {value: _expected(value, removal) for value in removal.values if value.constant is None}
    for value in removal.values:
        if value.constant is not None:
            _replace_constant(graph, value, sliced(value, removal))
    news: dict[Value, Value] = {}
    for node, changed in changes.items():
        new = _changed(node, changed, news)
        run.log.append(new)
        news.update(zip(node.results, new.results, strict=True) if new is not node else ())
    for old, type in expected.items():
        value = news.get(old, old)
        value.type = type
        value.name = f"{value.name}{SUFFIX}" if value.name else ""
    for node in graph.walk():
        _refresh(node)
        run.log.append(node)


def sliced(value: Value, removal: Removal) -> Array:
    """What stays of a constant; axes that shrink block by block before the first axis does."""
    if value.constant is None:
        raise GraphError(f"{value} is no constant")
    array = value.constant.array()
    for axis in sorted(removal.values[value], reverse=True):
        stays = removal.staying[value, axis]
        if stays.ndim == 1:
            array = np.compress(stays, array, axis)
        else:
            parts = np.split(array, len(stays), axis=0)
            array = np.concatenate([np.compress(row, part, axis) for row, part in zip(stays, parts, strict=True)])
    return np.ascontiguousarray(array)


def _shrunk(node: Node, removal: Removal) -> Shrunk | None:
    """What changes in a node beside its weights; None for nothing."""
    rule = lookup(node.op).channels
    if rule is None or rule.shrink is None:
        return None
    if not any(value in removal.values for value in (*node.operands, *node.results) if value is not None):
        return None
    found = rule.shrink(node, removal)
    return found if found.operands or found.attributes else None


def _expected(value: Value, removal: Removal) -> TensorType:
    """The type of a value without the channels that go."""
    type = value.tensor_type
    if type is None or type.shape is None:
        raise GraphError(f"{value} has no shape to shrink", value.producer)
    return type._replace(shape=tuple([
        dim if removal.positions(value, axis) is None else removal.extent(value, axis)
        for axis, dim in enumerate(type.shape)
    ]))  # fmt: skip


def _replace_constant(graph: Graph, old: Value, array: Array) -> None:
    """Where the constant was an initializer, the new one is, of the same graph."""
    spool, home = graph.root.spool, old.graph
    tensor = spool.put(array) if spool is not None and array.nbytes >= SPOOL_BYTES else ArrayTensor(array)
    if home is not None and old in home.initializers:
        graph.replace_all_uses_with(old, home.add_initializer(old.name, tensor))
        home.erase(old)
    else:
        graph.replace_all_uses_with(old, constant(tensor, old.name))
        if old.producer is not None:
            erase_dead(old.producer)


def _changed(node: Node, changed: Shrunk, news: Mapping[Value, Value]) -> Node:
    """The node with its new operands, and in a node of its own where attributes change."""
    graph = node.graph
    if graph is None:
        raise GraphError("a node that is in no graph cannot shrink", node)
    for position, given in changed.operands.items():
        value = _operand(graph, node, given, news)
        if position < len(node.operands):
            graph.set_operand(node, position, value)
    missing = {position: given for position, given in changed.operands.items() if position >= len(node.operands)}
    if not missing and all(node.attributes.get(name) == value for name, value in changed.attributes.items()):
        return node
    attributes: dict[str, Attribute] = dict(node.attributes)
    for name, value in changed.attributes.items():
        attributes.pop(name, None)
        if value is not None:
            attributes[name] = value
    operands = [*node.operands, *[_operand(graph, node, missing[position], news) for position in sorted(missing)]]
    new = Node(node.op, operands, attributes, [result.name for result in node.results], node.name)
    new.origin, new.source = merge_origins((node,)), node.source
    graph.insert(new, before=node)
    for old, result in zip(node.results, new.results, strict=True):
        result.type = old.type
        result.source = old.source
        graph.replace_all_uses_with(old, result)
    graph.erase(node)
    return new


def _operand(graph: Graph, node: Node, given: Array | tuple[Value | Array, ...], news: Mapping[Value, Value]) -> Value:
    if not isinstance(given, tuple):
        return constant(given)
    parts = [news.get(part, part) if isinstance(part, Value) else constant(part) for part in given]
    if len(parts) == 1:
        return parts[0]
    joined = Node("Concat", parts, {"axis": 0})
    joined.origin = merge_origins((node,))
    graph.insert(joined, before=node)
    return joined.result


def _refresh(node: Node) -> None:
    """Work out anew what small integer vectors hold, and hold the expected types against the operators' own."""
    for result in node.results:
        if result.constant is None:
            result.elements = None
    infer(node)
    check(node)
