"""Whether new nodes can be: the opset that expresses them, and a kernel of the target that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planish.ir import Graph, GraphError, Node, Value
from planish.ir.ops.forms import lower_form, lowest_opset, write_as_operand
from planish.ir.ops.schema import STANDARD_DOMAINS, is_function, parse_key
from planish.passes.kernels import Kernels

_NEVER = 1 << 30
_FOREIGN_VERSION = 1


class Opsets:
    """Raises the standard opset of one graph where new nodes ask for it and the target can run them there."""

    def __init__(self, kernels: Kernels, newest: int | None = None) -> None:
        """newest: the opset beyond which none may be raised."""
        self.kernels = kernels
        self._newest = _NEVER if newest is None else newest
        self._blocked = _NEVER

    def obstacle(self, created: Iterable[Node], replaced: Sequence[Node]) -> str:
        """Let the graph's opset be the lowest that can express the new nodes, which are in it; why it cannot be.

        It cannot where a node that was there before, in an old version of its operator, has no newer form, and where
        the target has no kernel for a new node though it could run all those that it replaces. A new node of a domain
        that is not standard needs a target that allows it, and the graph then imports the domain, unless it stands for
        a node of its own kind; so may one that took over the nested graphs of such a node.
        """
        raised, domains = 0, dict[str, Graph]()
        for node in created:
            if node.source is not None or node.graph is None:
                continue
            if (parse_key(node.op).domain or node.graphs) and any(old.op == node.op for old in replaced):
                continue
            root = node.graph.root
            opset = root.opset_imports.get("", 0)
            needed = opset
            domain = parse_key(node.op).domain
            if opset and not domain:
                needed = lowest_opset(node, min(opset, self._newest))
            if needed > self._newest:
                return f"{node.op} needs opset {needed}, and {self._newest} was asked for"
            needed = max(needed, opset)
            if needed >= self._blocked:
                return f"{node.op} needs opset {needed}, in which some node has no form"
            foreign = domain not in STANDARD_DOMAINS
            if not self.kernels.runs(node, needed) and (foreign or all(self.kernels.runs(o, opset) for o in replaced)):
                return self.kernels.lack(node)
            if foreign:
                domains[domain] = root
            raised = max(raised, needed if needed > opset else 0)
        if raised:
            root = replaced[0].graph.root if replaced[0].graph is not None else None
            if root is None or not self.raise_to(root, raised):
                self._blocked = raised
                return f"opset {raised} is needed, in which some node has no form or no kernel"
        for domain, root in domains.items():
            root.opset_imports.setdefault(domain, _FOREIGN_VERSION)
        return ""

    def raise_to(self, graph: Graph, opset: int) -> bool:
        """Write the graph in a newer opset, if each node has a form there, and a kernel where it has one now.

        A runtime may run a function of types without a kernel by its body, but not where a newer opset has other
        versions of the operators in that.
        """
        before = graph.opset_imports[""]
        operands: list[Value | None] = []
        try:
            for node in graph.walk():
                if parse_key(node.op).domain:
                    continue
                operands += lower_form(node, opset).operands
                if self.kernels.runs(node, opset):
                    continue
                if self.kernels.runs(node, before) or is_function(node.op, before):
                    return False
        except GraphError:
            return False
        graph.opset_imports[""] = opset
        for operand in operands:
            if operand is not None:
                write_as_operand(operand)
        return True
