"""Makes a model that fails smaller while it fails in the same way, where hypothesis is too slow or cannot look on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx

from planish import ir
from planish.ir import Graph, GraphError, Node, TensorType, Value

Fails = Callable[[onnx.ModelProto], bool]
_ROUNDS = 4


def reduced(proto: onnx.ModelProto, fails: Fails) -> onnx.ModelProto:
    """The smallest model found by leaving out outputs, cutting nodes off behind new inputs, and skipping nodes."""
    best = proto
    for _ in range(_ROUNDS):
        before = len(best.SerializeToString())
        for change in (_fewer_outputs, _cuts, _skips):
            best = _improved(best, change, fails)
        if len(best.SerializeToString()) == before:
            break
    return best


def _improved(best: onnx.ModelProto, change: Callable[[Graph, int], bool], fails: Fails) -> onnx.ModelProto:
    """Try each place of a kind in turn; places behind one that was taken move up."""
    place = 0
    while True:
        try:
            graph = ir.load(best)
        except GraphError:  # it fails because it cannot be loaded, and there is no graph to make smaller
            return best
        try:
            if not change(graph, place):
                return best
            _sweep(graph)
            found = ir.emit(graph)
        except GraphError:
            place += 1
            continue
        if found.ByteSize() < best.ByteSize() and fails(found):
            best = found
        else:
            place += 1


def _fewer_outputs(graph: Graph, place: int) -> bool:
    """Leave out one output."""
    if place >= len(graph.outputs):
        return False
    keep = [index for index in range(len(graph.outputs)) if index != place]
    if not keep:
        raise GraphError("a graph needs an output")
    graph.set_results(tuple(graph.outputs[i] for i in keep), tuple(graph.output_names[i] for i in keep))
    return True


def _cuts(graph: Graph, place: int) -> bool:
    """Make the result of a node an input; those far down first, which cuts off most."""
    nodes = [node for node in graph.nodes if len(node.results) == 1 and isinstance(node.result.type, TensorType)][::-1]
    if place >= len(nodes):
        return False
    old = nodes[place].result
    type = old.type
    if not isinstance(type, TensorType) or type.shape is None or old in graph.outputs:
        raise GraphError("no input can stand for it")
    taken = {value.name for value in graph.inputs}
    name = next(f"cut{number}" for number in range(len(taken) + 1) if f"cut{number}" not in taken)
    graph.replace_all_uses_with(old, graph.add_input(name, type))
    return True


def _skips(graph: Graph, place: int) -> bool:
    """Let the readers of a node read one of its operands of the same type."""
    found = list(_same_type(graph))
    if place >= len(found):
        return False
    node, operand = found[place]
    if node.result in graph.outputs and operand.producer is None:
        raise GraphError("an output would be an input")
    graph.replace_all_uses_with(node.result, operand)
    return True


def _same_type(graph: Graph) -> Iterator[tuple[Node, Value]]:
    for node in graph.walk():
        for operand in node.operands:
            if operand is not None and len(node.results) == 1 and operand.type == node.result.type:
                yield node, operand


def _sweep(graph: Graph) -> None:
    """Nodes, inputs and initializers that nothing reads go."""
    for node in reversed(list(graph.nodes)):
        if not any(result.is_used for result in node.results):
            graph.erase(node)
    for value in [value for value in graph.initializers if value not in graph.defaults and not value.is_used]:
        graph.erase(value)
    graph.inputs = tuple(value for value in graph.inputs if value.is_used or value in graph.defaults)
