"""The opset of a graph under rewrite: kept, unless a node that a pass makes needs a newer one that all can take."""

from __future__ import annotations

from collections.abc import Iterable

from planish.ir import Graph, GraphError, Node
from planish.ir.ops.forms import lower_form, lowest_opset
from planish.ir.ops.schema import parse_key


class Opsets:
    """Raises the standard opset of one graph where new nodes ask for it."""

    def __init__(self) -> None:
        self._blocked = 1 << 30

    def admit(self, nodes: Iterable[Node]) -> bool:
        """Let the graph's opset be the lowest that can express the nodes, which are in it; whether there is one.

        There is none where a node that was there before, in an old version of its operator, cannot be said in it.
        """
        for node in nodes:
            if node.source is not None or node.graph is None:
                continue
            root = node.graph.root
            opset = root.opset_imports.get("", 0)
            needed = lowest_opset(node, opset) if opset and not parse_key(node.op).domain else opset
            if needed >= self._blocked:
                return False
            if needed > opset:
                if not _can_be(root, needed):
                    self._blocked = needed
                    return False
                root.opset_imports[""] = needed
        return True


def _can_be(graph: Graph, opset: int) -> bool:
    """Whether every node can be expressed in an opset."""
    try:
        for node in graph.walk():
            if not parse_key(node.op).domain:
                lower_form(node, opset)
    except GraphError:
        return False
    return True
