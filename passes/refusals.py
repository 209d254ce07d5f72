"""Nested graphs that could not run as they are: runtimes find out when they open a model, if they can see it then.

A branch that is never taken, or the body of a loop that never runs, may be wrong. While the shapes in it stay unknown
to a runtime, the model opens; a rewrite that makes them known would have it refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planish.ir import Node, Value


def forget_what_is_gone(refused: dict[Node, None]) -> bool:
    """Drop the nodes that went with the graphs that held them; whether there were any."""
    gone = [node for node in refused if not _is_there(node)]
    for node in gone:
        del refused[node]
    return bool(gone)


def _is_there(node: Node) -> bool:
    graph = node.graph
    while graph is not None and graph.owner is not None:
        graph = graph.owner.graph
    return graph is not None


def leading_to(refused: Iterable[Node]) -> set[Node]:
    """The nodes that what cannot run is made of, itself among them: these stay as they are."""
    found: set[Node] = set()
    queue = list(refused)
    while queue:
        node = queue.pop()
        if node in found:
            continue
        found.add(node)
        inside = [inner for nested in node.graphs for inner in (*nested.walk(), nested.returns)]
        operands = [operand for reader in (node, *inside) for operand in reader.operands]
        queue += [operand.producer for operand in operands if operand is not None and operand.producer is not None]
    return found


Reading = Mapping[Node, tuple[Value | None, ...]]


def reading(values: Iterable[Value]) -> Reading:
    """What the readers of some values read."""
    return {reader: reader.operands for value in values for reader in value.readers}


def read_again(before: Reading) -> None:
    """Let nodes read what they read before."""
    for reader, operands in before.items():
        for index, operand in enumerate(operands):
            if reader.graph is not None:
                reader.graph.set_operand(reader, index, operand)


def forget_unread(values: Iterable[Value]) -> None:
    """Take constants that nothing came to read out of the nested graphs that were to give them back."""
    for value in values:
        if value.producer is None and value.graph is not None and value.graph.owner is not None and not value.is_used:
            value.graph.erase(value)
            value.graph = None
