"""Which nodes are converted: those that may be, in regions that are worth the Casts at their borders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planish.ir import Node, Value
from planish.ir.graph import RETURN
from planish.ir.types import DType

WEIGHT = 256
"""Elements of a constant that make a region worth it whatever its Casts: so much smaller is the model."""
Free = Mapping[Node, tuple[int, ...]]


def regions(free: Free) -> list[list[Node]]:
    """The free nodes, those that one value connects together; regions and nodes in the order of the graph."""
    home = {node: node for node in free}

    def root(node: Node) -> Node:
        while home[node] is not node:
            home[node] = home[home[node]]
            node = home[node]
        return node

    for node, slots in free.items():
        for position in slots:
            operand = node.operands[position]
            if operand is not None and operand.producer in home:
                home[root(node)] = root(operand.producer)
    found: dict[Node, list[Node]] = {}
    for node in free:
        found.setdefault(root(node), []).append(node)
    return list(found.values())


def is_worth_it(region: Iterable[Node], free: Free) -> bool:
    """Whether a region has more nodes than Casts at its borders, or holds weights."""
    inside = set(region)
    before: set[Value] = set()
    behind: set[Value] = set()
    for node in inside:
        for position in free[node]:
            operand = node.operands[position]
            if operand is None:
                continue
            if operand.constant is not None:
                if operand.constant.size >= WEIGHT:
                    return True
            elif operand.producer not in inside:
                before.add(operand)
        behind.update(r for r in node.results if r.dtype is DType.FLOAT and _is_read_outside(r, free))
    return len(inside) > len(before) + len(behind)


def _is_read_outside(value: Value, free: Free) -> bool:
    return any(use.user.op == RETURN or use.position not in free.get(use.user, ()) for use in value.uses)
