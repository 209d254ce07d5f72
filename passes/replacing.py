"""What replacing a value by another one takes with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planish.ir import Node, Value
from planish.ir.graph import RETURN, Graph
from planish.ir.infer import infer
from planish.ir.ops.table import is_pure


def needs_copy(value: Value, graph: Graph, created: Sequence[Node] = ()) -> bool:
    """Whether `graph` could give `value` back only through an Identity: it has a fixed name, or lies elsewhere."""
    if value in graph.returns.operands:
        return True
    if value.constant is not None and value.producer is None:
        return graph.owner is not None and value.is_used
    return value.producer is None or (value.graph is not graph and value.producer not in created)


def keep_in_nested(old: Value, new: Value) -> None:
    """A new constant that a nested graph gives back belongs to that graph."""
    for user in old.users:
        if user.op == RETURN and user.graph is not None and user.graph.owner is not None and new.producer is None:
            user.graph.initializers[new] = None
            new.graph = user.graph


def merge_origins(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The source nodes behind some nodes, each once."""
    found: dict[str, None] = {}
    for node in nodes:
        found.update(dict.fromkeys(node.origin or (node.label,)))
    return tuple(found)


def erase_dead(node: Node) -> list[Value]:
    """Erase a node that nothing reads, and what only it kept alive; the values that have a single reader left."""
    left: dict[Value, None] = {}
    queue = [node]
    while queue:
        dead = queue.pop()
        if dead.graph is None or any(result.is_used for result in dead.results):
            continue
        operands = [operand for operand in dead.operands if operand is not None]
        for nested in dead.graphs:
            operands += [o for inner in (*nested.walk(), nested.returns) for o in inner.operands if o is not None]
        dead.graph.erase(dead)
        for operand in operands:
            producer = operand.producer
            if producer is not None and producer.graph is not None and not operand.is_used and is_pure(producer):
                queue.append(producer)
            else:
                left[operand] = None
    return [value for value in left if value.has_one_use]


def erase_unread(values: Iterable[Value]) -> None:
    """Erase the initializers among them that nothing reads any more."""
    for value in values:
        if not value.is_used and value.graph is not None and value in value.graph.initializers:
            value.graph.erase(value)


def replace_node(old: Node, new: Node) -> None:
    """Put a node in the place of one of a single result, under its names and with its origin."""
    graph = old.graph
    if graph is None:
        raise ValueError(f"{old.label} is in no graph")
    graph.insert(new, before=old)
    infer(new)
    new.result.name, new.name, new.origin = old.result.name, old.name, merge_origins((old,))
    graph.replace_all_uses_with(old.result, new.result)
    erase_dead(old)
