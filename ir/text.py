"""Text form."""

from planish.ir.graph import Graph


def text(graph: Graph) -> str:
    return "\n".join(node.line() for node in graph.walk())
