"""What arithmetic makes of one value: a polynomial of at most the third degree, however it is spelled."""

from __future__ import annotations

from typing import NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.walk import number, producer

_DEGREES = 4
_NODES = 10
_OPS = ("Add", "Div", "Mul", "Pow", "Sub")
Coefficients = tuple[float, ...]


class Polynomial(NamedTuple):
    """The coefficients of x, the constant one first, and the nodes that work it out."""

    coefficients: Coefficients
    nodes: tuple[Node, ...]


def polynomial(value: Value | None, x: Value, graph: Graph) -> Polynomial | None:
    """The value as a polynomial of x.

    None where terms could cancel each other out: in a sum, all degrees must be even or all odd, and no sign differ.
    """
    nodes: dict[Node, None] = {}
    found = _of(value, x, graph, nodes)
    return None if found is None else Polynomial(found, tuple(nodes))


def _of(value: Value | None, x: Value, graph: Graph, nodes: dict[Node, None]) -> Coefficients | None:
    if value is x:
        return (0.0, 1.0)
    constant = number(value, x)
    if constant is not None:
        return (constant,)
    node = producer(value, _OPS, graph)
    if node is None or len(node.operands) != 2 or len(nodes) >= _NODES:
        return None
    nodes[node] = None
    left = _of(node.operands[0], x, graph, nodes)
    right = None if left is None else _exponent(node, x) if node.op == "Pow" else _of(node.operands[1], x, graph, nodes)
    if left is None or right is None:
        return None
    if node.op == "Pow":
        return _power(left, right)
    if node.op == "Div":
        return _product(left, (1 / right[0],)) if len(right) == 1 and right[0] else None
    if node.op == "Mul":
        return _product(left, right)
    return _sum(left, right if node.op == "Add" else tuple(-c for c in right))


def _exponent(node: Node, x: Value) -> Coefficients | None:
    """The exponent, which may be an integer beside a base of floats."""
    operand = node.operands[1]
    tensor = None if operand is None else operand.constant
    if tensor is not None and tensor.dtype.is_integer and not tensor.shape:
        return (float(tensor.ints()[0]),)
    found = number(operand, x)
    return None if found is None else (found,)


def _power(base: Coefficients, exponent: Coefficients) -> Coefficients | None:
    if exponent not in ((2.0,), (3.0,)):
        return None
    square = _product(base, base)
    return square if exponent == (2.0,) or square is None else _product(square, base)


def _product(left: Coefficients, right: Coefficients) -> Coefficients | None:
    if len(left) + len(right) - 1 > _DEGREES:
        return None
    found = [0.0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            found[i + j] += a * b
    return tuple(found)


def _sum(left: Coefficients, right: Coefficients) -> Coefficients | None:
    width = max(len(left), len(right))
    pairs = [(_at(left, degree), _at(right, degree)) for degree in range(width)]
    terms = [(degree, c) for degree, pair in enumerate(pairs) for c in pair if c]
    if len({degree % 2 for degree, _ in terms}) > 1 or len({c > 0 for _, c in terms}) > 1:
        return None
    return tuple(a + b for a, b in pairs)


def _at(coefficients: Coefficients, degree: int) -> float:
    return coefficients[degree] if degree < len(coefficients) else 0.0
