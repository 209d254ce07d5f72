"""Walking up from the root of a match, where one meaning has too many spellings for a picture of each.

A recogniser takes a value and gives back what it found together with the nodes that it passed; `claim` makes these part
of the match once the rule knows that all of it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from planish.ir import DType, Graph, Node, Value
from planish.ir.ops.broadcast import broadcasts_to
from planish.passes.pattern import Op
from planish.passes.rewrite import Match

EPSILON = {DType.FLOAT16: 2.0**-10, DType.BFLOAT16: 2.0**-7, DType.FLOAT: 2.0**-23, DType.DOUBLE: 2.0**-52}
"""The step above 1."""
_STEPS = 2
_PARTS = 2
_PRODUCTS = 4


class Root(Op):
    """The picture of a root from which the rule walks on by itself, over at most `reach` nodes in a row."""

    __slots__ = ("reach",)

    def __init__(self, ops: str | Sequence[str], *, reach: int, where: Callable[[Node], bool] | None = None) -> None:
        super().__init__(ops, where=where)
        self.reach = reach

    @property
    def depth(self) -> int:
        return self.reach


class Scaled(NamedTuple):
    """`value * factor`, made by `node`."""

    value: Value
    factor: float
    node: Node


class Shifted(NamedTuple):
    """`value + term`, made by `node`."""

    value: Value
    term: float
    node: Node


def producer(value: Value | None, ops: Iterable[str], graph: Graph) -> Node | None:
    """The node of this graph whose first result the value is, where its operator is one of `ops`."""
    node = None if value is None or value.index else value.producer
    return node if node is not None and node.op in ops and node.graph is graph else None


def reads_from(*ops: str) -> Callable[[Node], bool]:
    """A quick test of a node: whether an operand is made by one of these operators."""
    found = frozenset(ops)

    def test(node: Node) -> bool:
        for operand in node.operands:
            if operand is not None and operand.producer is not None and operand.producer.op in found:
                return True
        return False

    return test


def leads_to(*ops: str, through: Iterable[str], levels: int) -> Callable[[Node], bool]:
    """A quick test of a node: whether one of these operators is behind it, with at most `levels` others between."""
    found, between = frozenset(ops), frozenset(through)

    def test(node: Node, left: int = levels) -> bool:
        for operand in node.operands:
            made = None if operand is None else operand.producer
            if made is None:
                continue
            if made.op in found or (left and made.op in between and test(made, left - 1)):
                return True
        return False

    return test


def number(value: Value | None, like: Value) -> float | None:
    """What every element of a constant of floats equals, where it cannot change the shape of `like` by broadcasting."""
    tensor = None if value is None else value.constant
    if tensor is None or not tensor.dtype.is_float or not tensor.in_memory:
        return None
    if tensor.shape and (like.shape is None or not broadcasts_to(tensor.shape, like.shape)):
        return None
    return tensor.uniform()


def with_number(node: Node) -> tuple[Value, float] | None:
    """The operands of a node of two, one of which is a number; the number may come first only where they commute."""
    if len(node.operands) != 2:
        return None
    left, right = node.operands
    if left is None or right is None:
        return None
    found = number(right, left)
    if found is not None:
        return left, found
    found = number(left, right) if node.op in ("Add", "Mul", "Max", "Min") else None
    return None if found is None else (right, found)


def scaled(value: Value | None, graph: Graph) -> Scaled | None:
    """x * k, k * x or x / k."""
    node = producer(value, ("Mul", "Div"), graph)
    found = None if node is None else with_number(node)
    if node is None or found is None:
        return None
    x, factor = found
    if node.op == "Div":
        if not factor:
            return None
        factor = 1 / factor
    return Scaled(x, factor, node)


def shifted(value: Value | None, graph: Graph) -> Shifted | None:
    """x + c, c + x or x - c."""
    node = producer(value, ("Add", "Sub"), graph)
    found = None if node is None else with_number(node)
    if node is None or found is None:
        return None
    return Shifted(found[0], -found[1] if node.op == "Sub" else found[1], node)


class Line(NamedTuple):
    """slope * value + intercept, and the nodes that work it out."""

    value: Value
    slope: float
    intercept: float
    nodes: tuple[Node, ...]


def line(value: Value, graph: Graph, of: Value | None = None) -> Line:
    """Take at most one scale and one shift off a value; more of them could cancel each other out.

    Goes no further than `of`, nor past what is read twice.
    """
    slope, intercept = 1.0, 0.0
    nodes: list[Node] = []
    kinds: set[str] = set()
    while value is not of and (not nodes or value.has_one_use):
        scale, shift = scaled(value, graph), shifted(value, graph)
        if scale is not None and "scale" not in kinds:
            slope *= scale.factor
            value = scale.value
            nodes.append(scale.node)
            kinds.add("scale")
        elif shift is not None and "shift" not in kinds:
            intercept += shift.term * slope
            value = shift.value
            nodes.append(shift.node)
            kinds.add("shift")
        else:
            break
    return Line(value, slope, intercept, tuple(nodes))


class Product(NamedTuple):
    """factor * left * right, and the nodes that work it out."""

    factor: float
    left: Value
    right: Value
    nodes: tuple[Node, ...]


def product(root: Node, graph: Graph) -> Product | None:
    """The root as a number times two values, multiplied in any order."""
    factor, parts = 1.0, list[Value]()
    nodes: list[Node] = []
    queue: list[Value | None] = [root.result]
    while queue:
        value = queue.pop()
        if value is None or len(parts) + len(queue) >= _PARTS:
            return None
        node = producer(value, ("Mul", "Div"), graph) if value is root.result or value.has_one_use else None
        scale = None if node is None or len(nodes) >= _PRODUCTS else scaled(value, graph)
        if scale is not None:
            factor *= scale.factor
            nodes.append(scale.node)
            queue.append(scale.value)
        elif node is not None and node.op == "Mul" and not parts and not queue:
            nodes.append(node)
            queue += node.operands
        else:
            parts.append(value)
    return Product(factor, parts[0], parts[1], tuple(nodes)) if len(parts) == _PARTS else None


def same(found: float | None, expected: float, dtype: DType | None, *, steps: float = _STEPS) -> bool:
    """Whether two numbers differ by no more than a few roundings to the element type."""
    epsilon = None if dtype is None else EPSILON.get(dtype)
    return found is not None and epsilon is not None and abs(found - expected) <= steps * epsilon * abs(expected)


def claim(m: Match, nodes: Iterable[Node]) -> bool:
    """Make the nodes part of the match; declines where another node reads what one of them gives."""
    inside = dict.fromkeys((m.root, *nodes))
    for node in inside:
        for result in node.results if node is not m.root else ():
            if any(reader not in inside for reader in result.readers):
                m.decline(f"{result} is read by another node, or is an output of the graph")
                return False
    for node in inside:
        if node is not m.root:
            m.cover(node)
    return True
