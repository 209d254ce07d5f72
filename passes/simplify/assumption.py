"""What would follow if an If took one of its branches: whether its readers could go on with that result."""

from __future__ import annotations

from collections.abc import Iterator

from planish.ir import Graph, GraphError, Node, Value
from planish.ir.graph import RETURN
from planish.ir.infer import infer
from planish.ir.ops import reference
from planish.ir.ops.table import lookup

_WINDOW = 256
_LENIENT = frozenset(("Concat", "ConcatFromSequence"))
"""ONNX Runtime passes over an empty vector among their operands, whatever the ranks of the others."""


def must_fail(node: Node, branch: Graph) -> bool:
    """Whether every run in which this If takes `branch` fails at a node that is sure to run after it.

    Types and elements are worked out along the nodes behind the If, from those of the branch's outputs.
    """
    if node.graph is None or len(branch.outputs) != len(node.results):
        return False
    assumption = _Assumption(node.graph)
    for result, output in zip(node.results, branch.outputs, strict=True):
        assumption.assume(result, output)
    return not assumption.holds(_behind(node))


def _behind(node: Node) -> Iterator[Node]:
    """The nodes that follow in the same graph, as far as is worth a look."""
    following = node.after
    for _ in range(_WINDOW):
        if following.op == RETURN:
            return
        yield following
        following = following.after


class _Assumption:
    """`known` are stand-ins for the values that are something else, or known better, if it holds."""

    def __init__(self, graph: Graph) -> None:
        self.scratch = Graph("assumption", outer=graph.root)
        self.known: dict[Value, Value] = {}

    def assume(self, value: Value, like: Value) -> None:
        """That a value has the type and the elements of another."""
        like = self.known.get(like, like)
        stand_in = Value(value.name, like.type)
        stand_in.elements = like.elements
        self.known[value] = stand_in

    def holds(self, nodes: Iterator[Node] | tuple[Node, ...]) -> bool:
        """Whether the nodes can run; False only where one that is needed cannot."""
        for node in nodes:
            if node.graphs:
                if not self._branches(node):
                    return False
            elif any(operand in self.known for operand in node.operands) and not self._node(node):
                return False
        return True

    def _node(self, node: Node) -> bool:
        operands = [None if operand is None else self.known.get(operand, operand) for operand in node.operands]
        clone = Node(node.op, operands, node.attributes, len(node.results), node.name)
        clone.graph = self.scratch
        if self._refuses(clone):
            return node.op in _LENIENT or not _is_needed(node)
        for result, found in zip(node.results, clone.results, strict=True):
            if found.type is not None:
                self.known[result] = found
        return True

    def _refuses(self, clone: Node) -> bool:
        try:
            infer(clone)
        except GraphError:
            return True
        return lookup(clone.op).infer is None and reference.refuses(clone)

    def _branches(self, node: Node) -> bool:
        """Goes into the branch that an If takes, where the assumption decides it."""
        condition = node.operand(0) if node.op == "If" else None
        decided = None if condition is None else self.known.get(condition, condition).elements
        if decided is None or len(decided) != 1 or not isinstance(decided[0], int):
            return True
        taken = node.subgraph("then_branch" if decided[0] else "else_branch")
        if not self.holds(taken.nodes):
            return False
        for result, output in zip(node.results, taken.outputs, strict=False):
            self.assume(result, output)
        return True


def _is_needed(node: Node) -> bool:
    """Whether an output hangs on the node; what none hangs on may be left out by whoever runs the model."""
    seen: set[Node] = set()
    queue = [node]
    while queue:
        current = queue.pop()
        if current.op == RETURN:
            owner = current.graph.owner if current.graph is not None else None
            if owner is None:
                return True
            current = owner
        for result in current.results:
            for user in result.users:
                if user not in seen:
                    seen.add(user)
                    queue.append(user)
    return False
