"""Means, mean squares and what is divided by their root: what the normalisations are made of."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from planish.ir import DType, Graph, Node, Value
from planish.ir.ops.shape import constant_ints
from planish.passes.fuse.walk import number, producer, same, scaled, with_number

_HALF, _MINUS_HALF = 0.5, -0.5


class Mean(NamedTuple):
    """The mean of `value` over axes counted from the front, and the nodes behind it.

    `kept` is whether the axes stay as extents of one; else the result is of lower rank, or was reshaped.
    """

    value: Value
    axes: tuple[int, ...]
    nodes: tuple[Node, ...]
    kept: bool = True


class Quotient(NamedTuple):
    """numerator / sqrt(mean(value ** 2, axes) + epsilon), and the nodes that work it out.

    Where it is `centred`, it is the value less its mean that is squared.
    """

    numerator: Value
    value: Value
    axes: tuple[int, ...]
    epsilon: float
    nodes: tuple[Node, ...]
    centred: bool = False


def mean(value: Value | None, graph: Graph) -> Mean | None:
    """ReduceMean, or ReduceSum over as many elements as its factor says; axes stay as extents of one."""
    return _kept(value, _mean(value, graph))


def reduction(value: Value | None, ops: tuple[str, ...], graph: Graph) -> Mean | None:
    """What one of these reductions is of; axes stay as extents of one, if only by way of a Reshape."""
    return _kept(value, _reduction(value, ops, graph))


def _mean(value: Value | None, graph: Graph) -> Mean | None:
    found = _reduction(value, ("ReduceMean",), graph)
    return _summed(value, "ReduceSum", graph) if found is None else found


def _mean_square(value: Value | None, graph: Graph) -> Mean | None:
    """The mean of the squares of a value."""
    found = _summed(value, "ReduceSumSquare", graph)
    if found is not None:
        return found
    found = _mean(value, graph)
    inner = None if found is None else square(found.value, graph)
    if found is None or inner is None:
        return None
    return found._replace(value=inner[0], nodes=(*found.nodes, inner[1]))


def _variance(value: Value | None, graph: Graph) -> Mean | None:
    """mean(x ** 2) - mean(x) ** 2, no less than 0, as JAX works it out: x."""
    inner, nodes = _behind_reshape(value, graph)
    floor = producer(inner, ("Max", "Relu"), graph)
    if floor is not None:
        found = (floor.operand(0), 0) if floor.op == "Relu" else with_number(floor)
        if found is None or found[1] != 0:
            return None
        inner, nodes = found[0], (*nodes, floor)
    node = producer(inner, ("Sub",), graph)
    if node is None:
        return None
    squares, squared = _mean_square(node.operands[0], graph), square(node.operands[1], graph)
    centre = None if squared is None else _mean(squared[0], graph)
    if squares is None or squared is None or centre is None or (centre.value, centre.axes) != squares[:2]:
        return None
    if centre.kept != squares.kept:
        return None
    return squares._replace(
        nodes=(*nodes, node, *squares.nodes, squared[1], *centre.nodes), kept=squares.kept and not nodes
    )


def _summed(value: Value | None, op: str, graph: Graph) -> Mean | None:
    """A sum over as many elements as its factor says."""
    outer, nodes = _behind_reshape(value, graph)
    scale = scaled(outer, graph)
    found = None if scale is None else _reduction(scale.value, (op,), graph)
    if scale is None or found is None or not _averages(found, scale.factor):
        return None
    return found._replace(nodes=(*nodes, scale.node, *found.nodes), kept=found.kept and not nodes)


def _behind_reshape(value: Value | None, graph: Graph) -> tuple[Value | None, tuple[Node, ...]]:
    node = producer(value, ("Reshape", "Unsqueeze"), graph)
    return (value, ()) if node is None else (node.operand(0), (node,))


def _reduction(value: Value | None, ops: tuple[str, ...], graph: Graph) -> Mean | None:
    inner, nodes = _behind_reshape(value, graph)
    node = producer(inner, ops, graph)
    found = None if node is None else reduced(node, (*nodes, node))
    return None if found is None else found._replace(kept=found.kept and not nodes)


def _kept(value: Value | None, found: Mean | None) -> Mean | None:
    """The mean, where the axes surely stay as extents of one."""
    if found is None or found.kept or value is None or found.value.shape is None:
        return found
    kept = tuple(1 if axis in found.axes else extent for axis, extent in enumerate(found.value.shape))
    return found._replace(kept=True) if value.shape == kept else None


def square(value: Value | None, graph: Graph) -> tuple[Value, Node] | None:
    """x * x or x ** 2: x, and the node."""
    node = producer(value, ("Mul", "Pow"), graph)
    base = None if node is None else node.operand(0)
    if node is None or base is None:
        return None
    if node.op == "Mul":
        return (base, node) if len(node.operands) == 2 and node.operands[1] is base else None
    return (base, node) if exponent(node) == 2 else None


def exponent(node: Node) -> float | None:
    """The number that a Pow raises to, where it cannot change the shape; it may be an integer."""
    base, operand = node.operand(0), node.operand(1)
    if base is None or operand is None or operand.constant is None:
        return None
    if operand.constant.dtype.is_integer and not operand.constant.shape:
        return float(operand.constant.ints()[0])
    return number(operand, base)


class Centred(NamedTuple):
    """x less its mean over some axes, and the nodes that work it out."""

    x: Value
    axes: tuple[int, ...]
    nodes: tuple[Node, ...]


def squared_centre(found: Quotient, graph: Graph) -> Centred | None:
    """What is squared under the root, as a value less its mean."""
    if found.centred:
        return Centred(found.value, found.axes, ())
    return centred(found.value, graph, either=True)


def centred(value: Value, graph: Graph, *, either: bool = False) -> Centred | None:
    """x - mean(x); `either` allows mean(x) - x, whose square is the same."""
    node = producer(value, ("Sub",), graph)
    if node is None:
        return None
    left, right = node.operands
    for data, centre in ((left, right), (right, left))[: 2 if either else 1]:
        found = mean(centre, graph)
        if found is not None and found.value is data:
            return Centred(found.value, found.axes, (node, *found.nodes))
    return None


def quotient(root: Node, graph: Graph) -> Quotient | None:
    """What is divided by a root of a mean square, or multiplied by the inverse of one."""
    if len(root.operands) != 2:
        return None
    left, right = root.operands
    if left is None or right is None:
        return None
    if root.op == "Div":
        return _over(left, square_root(right, graph), graph)
    for numerator, factor in ((left, right), (right, left)):
        found = _over(numerator, inverse_square_root(factor, graph), graph)
        if found is not None:
            return found
    return None


def scaled_quotient(root: Node, graph: Graph) -> tuple[Quotient, Value] | None:
    """numerator * (scale / sqrt(...)), and the scale."""
    for numerator, factor in (root.operands, root.operands[::-1]) if root.op == "Mul" else ():
        found = scaled_inverse(factor, graph)
        if found is not None and numerator is not None and found[1] is not None:
            return found[0]._replace(numerator=numerator), found[1]
    return None


def scaled_inverse(value: Value | None, graph: Graph) -> tuple[Quotient, Value | None] | None:
    """1 / sqrt(mean square + epsilon), times a scale or alone; its numerator is the value itself."""
    alone = None if value is None else _over(value, inverse_square_root(value, graph), graph)
    if alone is not None:
        return alone, None
    node = producer(value, ("Mul",), graph)
    for inverse, scale in () if node is None else (node.operands, node.operands[::-1]):
        found = None if inverse is None else _over(inverse, inverse_square_root(inverse, graph), graph)
        if node is not None and found is not None:
            return found._replace(nodes=(node, *found.nodes)), scale
    return None


def _over(numerator: Value, under: tuple[Value, tuple[Node, ...]] | None, graph: Graph) -> Quotient | None:
    if under is None:
        return None
    radicand, nodes = under
    epsilon = 0.0
    node = producer(radicand, ("Add",), graph)
    if node is not None:
        found = with_number(node)
        if found is None:
            return None
        radicand, epsilon = found
        nodes = (*nodes, node)
    squares = _kept(radicand, _mean_square(radicand, graph))
    variance = None if squares is not None else _kept(radicand, _variance(radicand, graph))
    found = squares or variance
    if found is None or not 0 <= epsilon < 1:
        return None
    return Quotient(numerator, found.value, found.axes, epsilon, (*nodes, *found.nodes), variance is not None)


def square_root(value: Value | None, graph: Graph) -> tuple[Value, tuple[Node, ...]] | None:
    """The square root of what, and the node."""
    node = producer(value, ("Sqrt", "Pow"), graph)
    radicand = None if node is None else node.operand(0)
    if node is None or radicand is None or (node.op == "Pow" and exponent(node) != _HALF):
        return None
    return radicand, (node,)


def inverse_square_root(value: Value | None, graph: Graph) -> tuple[Value, tuple[Node, ...]] | None:
    """One divided by the square root of what, and the nodes."""
    node = producer(value, ("Reciprocal", "Div", "Pow"), graph)
    first = None if node is None else node.operand(0)
    if node is None or first is None:
        return None
    if node.op == "Pow":
        return (first, (node,)) if exponent(node) == _MINUS_HALF else None
    if node.op == "Div" and number(first, node.result) != 1:
        return None
    found = square_root(node.operand(1 if node.op == "Div" else 0), graph)
    return None if found is None else (found[0], (node, *found[1]))


def reduced(node: Node, nodes: tuple[Node, ...]) -> Mean | None:
    """The operand of a reduction, whose axes must be known, as must be the rank."""
    value = node.operand(0)
    if value is None or value.rank is None:
        return None
    operand = node.operand(1)
    named = () if operand is None else constant_ints(operand)
    if named is None or (not named and node.get_int("noop_with_empty_axes")):
        return None
    axes = {axis % value.rank for axis in named} if named else range(value.rank)
    return Mean(value, tuple(sorted(axes)), nodes, bool(node.get_int("keepdims")))


def _averages(found: Mean, factor: float) -> bool:
    """Whether a sum times a factor is the mean."""
    extents = [extent for extent in elements(found.value, found.axes) if extent]
    return len(extents) == len(found.axes) and same(factor, 1 / prod(extents), found.value.dtype or DType.UNDEFINED)


def elements(value: Value, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The extents of some axes that are known, in order."""
    shape = value.shape or ()
    extents = [shape[axis] for axis in axes]
    return tuple([extent for extent in extents if isinstance(extent, int)])
