"""Whether two nested graphs compute the same."""

from __future__ import annotations

from collections.abc import Mapping

from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import Attribute, OpaqueAttribute
from planish.ir.ops.table import is_pure
from planish.ir.tensor import Tensor

_LARGEST = 256


def same_graphs(first: Graph, second: Graph, known: Mapping[Value, Value] | None = None) -> bool:
    """Whether two graphs of pure nodes give the same results wherever they run; False where that is not plain to see.

    known: values of the second graph's surroundings that are those of the first's.
    """
    if len(first.inputs) != len(second.inputs) or len(first.outputs) != len(second.outputs):
        return False
    nodes, others = _computing(first), _computing(second)
    if len(nodes) != len(others) or len(nodes) > _LARGEST:
        return False
    same = dict(known or {}) | dict(zip(second.inputs, first.inputs, strict=True))
    for node, other in zip(nodes, others, strict=True):
        if not _same_nodes(node, other, same):
            return False
        same.update(zip(other.results, node.results, strict=True))
    return all(_same_values(a, b, same) for a, b in zip(first.outputs, second.outputs, strict=True))


def _computing(graph: Graph) -> list[Node]:
    """The nodes in order, without constants, which are compared where they are read, and without dead nodes."""
    dead: set[Node] = set()
    for node in reversed(graph.nodes):
        if is_pure(node) and all(result.readers.keys() <= dead for result in node.results):
            dead.add(node)
    return [node for node in graph.nodes if node.op != "Constant" and node not in dead]


def _same_nodes(node: Node, other: Node, same: Mapping[Value, Value]) -> bool:
    if node.op != other.op or len(node.operands) != len(other.operands) or len(node.results) != len(other.results):
        return False
    if not is_pure(node) or not is_pure(other) or node.attributes.keys() != other.attributes.keys():
        return False
    if not all(_same_values(a, b, same) for a, b in zip(node.operands, other.operands, strict=True)):
        return False
    return all(_same_attributes(a, other.attributes[name], same) for name, a in node.attributes.items())


def _same_values(a: Value | None, b: Value | None, same: Mapping[Value, Value]) -> bool:
    if a is None or b is None or a is b:
        return a is b
    if same.get(b) is a:
        return True
    return a.constant is not None and b.constant is not None and same_tensors(a.constant, b.constant)


def same_tensors(a: Tensor, b: Tensor) -> bool:
    """Whether two constants hold the same bytes; weights outside of the model are not read for it."""
    if a is b:
        return True
    if a.dtype is not b.dtype or a.shape != b.shape or a.dtype is DType.STRING:
        return False
    return a.raw() == b.raw() if a.in_memory and b.in_memory else a.identity == b.identity


def _same_attributes(a: Attribute, b: Attribute, same: Mapping[Value, Value]) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_tensors(a, b)
    if isinstance(a, Graph) and isinstance(b, Graph):
        return same_graphs(a, b, same)
    if isinstance(a, (Tensor, Graph, OpaqueAttribute)) or isinstance(b, (Tensor, Graph, OpaqueAttribute)):
        return False
    if isinstance(a, tuple) and any(isinstance(part, (Tensor, Graph)) for part in a):
        return False
    return type(a) is type(b) and repr(a) == repr(b)
