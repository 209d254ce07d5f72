"""Faults of exporters that leave no doubt of what was meant, repaired in the protobuf before it is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import onnx


def repair(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Give every value that a node defines a name of its own; one note for each name that was defined twice.

    Nodes run in order, so a reader meant the definition before it, and an output the last one, which keeps the name.
    Left alone are names that inputs or initializers have too, and those that are read before they are defined.
    """
    notes: list[str] = []
    used = {name for graph in _graphs(proto.graph) for name in _names(graph)}
    for graph in _graphs(proto.graph):
        counts = Counter(name for node in graph.node for name in node.output if name)
        given = {value.name for value in (*graph.input, *graph.initializer)}
        for name, count in counts.items():
            if count > 1 and name not in given and _is_clear(graph.node, name):
                notes.append(_rename_all_but_last(graph, name, count, used))
    return tuple(notes)


def _rename_all_but_last(graph: onnx.GraphProto, name: str, count: int, used: set[str]) -> str:
    current, found, last = name, 0, ""
    for node in graph.node:
        if current != name:
            _rename_reads(node, name, current)
        if name in node.output:
            found += 1
            current = name if found == count else _fresh(f"{name}_{found}", used)
            node.output[list(node.output).index(name)] = current
            last = node.name or node.op_type
    return f"value {name!r} was defined {count} times; the last definition, by {last}, keeps the name"


def _rename_reads(node: onnx.NodeProto, old: str, new: str) -> None:
    """In the node, and in the graphs that it holds, but for those with a value of that name of their own."""
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    for graph in _nested(node):
        if old in _names(graph, outputs=False):
            continue
        for inner in graph.node:
            _rename_reads(inner, old, new)
        for output in graph.output:
            output.name = new if output.name == old else output.name


def _is_clear(nodes: Sequence[onnx.NodeProto], name: str) -> bool:
    """Whether no node reads the name before one defines it, and none defines it twice by itself."""
    if any(list(node.output).count(name) > 1 for node in nodes):
        return False
    for node in nodes:
        if name in _reads(node):
            return False
        if name in node.output:
            return True
    return True


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for graph in _nested(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (output.name for output in graph.output)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for nested in _nested(node):
            yield from _graphs(nested)


def _nested(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _names(graph: onnx.GraphProto, *, outputs: bool = True) -> Iterator[str]:
    """What a graph defines, and, with `outputs`, every other name that it lists."""
    yield from (value.name for value in (*graph.input, *graph.initializer))
    for node in graph.node:
        yield from node.output
    if outputs:
        yield from (value.name for value in (*graph.output, *graph.value_info))


def _fresh(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    used.add(name)
    return name
