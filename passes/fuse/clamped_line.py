"""A straight line between two bounds: what the hard activations are made of.

    bounded(k * x + c, 0, height)

is spelled with Clip, with Relu, Max and Min in either order, and with the scale before or behind the shift.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.walk import Line, line, number, producer, with_number

BOUNDS = ("Clip", "Max", "Min", "Relu")


class ClampedLine(NamedTuple):
    """A line, no less than 0 and no more than `height`, and the nodes that work it out."""

    line: Line
    height: float
    nodes: tuple[Node, ...]

    def over_height(self) -> tuple[float, float]:
        """Slope and intercept of the same divided by its height."""
        return self.line.slope / self.height, self.line.intercept / self.height


def clamped_line(value: Value | None, graph: Graph, of: Value | None = None) -> ClampedLine | None:
    """The clamped line that a value is, from 0 to a positive height; `of` is the x at which to stop, where it is known.

    A line of slope 1 through 0 is only x, and none.
    """
    bounded = _bounded(value, graph)
    if bounded is None:
        return None
    inner, least, largest, nodes = bounded
    if least != 0 or not 0 < largest < inf:
        return None
    found = line(inner, graph, of)
    if not found.nodes or not found.slope or not isfinite(found.slope) or not isfinite(found.intercept):
        return None
    if of is not None and found.value is not of:
        return None
    return ClampedLine(found, largest, (*nodes, *found.nodes))


def _bounded(value: Value | None, graph: Graph) -> tuple[Value, float, float, tuple[Node, ...]] | None:
    """What up to two nodes bound, and the interval; None where the bounds of the two do not meet."""
    first = _bounds(value, graph)
    if first is None:
        return None
    inner, least, largest, node = first
    second = _bounds(inner, graph)
    if second is None or not inner.has_one_use:
        return inner, least, largest, (node,)
    least, largest = max(least, second[1]), min(largest, second[2])
    return (second[0], least, largest, (node, second[3])) if least <= largest else None


def _bounds(value: Value | None, graph: Graph) -> tuple[Value, float, float, Node] | None:
    node = producer(value, BOUNDS, graph)
    inner = None if node is None else node.operand(0)
    if node is None or inner is None:
        return None
    if node.op == "Relu":
        return inner, 0.0, inf, node
    if node.op == "Clip":
        ends = node.operand(1), node.operand(2)
        least = -inf if ends[0] is None else number(ends[0], inner)
        largest = inf if ends[1] is None else number(ends[1], inner)
        return None if least is None or largest is None else (inner, least, largest, node)
    found = with_number(node)
    if found is None:
        return None
    return (found[0], found[1], inf, node) if node.op == "Max" else (found[0], -inf, found[1], node)
