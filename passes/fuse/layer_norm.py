"""Layer normalisation, spelled out with means and a root, becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.moments import (
    Centred,
    Quotient,
    centred,
    mean,
    quotient,
    scaled_inverse,
    scaled_quotient,
    squared_centre,
)
from planish.passes.fuse.normalized import (
    STASHED,
    b,
    layer,
    normalised_extents,
    ones,
    parameter,
    take_in_cast,
    take_in_scale,
    trailing_extents,
    w,
    x,
)
from planish.passes.fuse.walk import Root, claim, number, producer, reads_from
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_NEEDS = "squares that do not overflow, and means that do not exceed the deviation so far that rounding covers it"
_NORM = "LayerNormalization"
factor, term, raw = Var("factor"), Var("term"), Var("raw")
norm = layer(_NORM)


@rule(
    Root(("Div", "Mul"), reach=9, where=reads_from("Div", "Mul", "Pow", "Reciprocal", "Sqrt")),
    contract=Contract.REASSOCIATES,
    needs=_NEEDS,
)
def layer_norm(m: Match) -> Value | None:
    """d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + epsilon) -> LayerNormalization(x, 1)

    Also d * (scale / Sqrt(...)), and with the variance as ReduceMean(x * x) - ReduceMean(x) ** 2. Squares, roots,
    quotients and means in any spelling. An element differs by as many roundings of |x| over the deviation as there are
    elements behind a mean.
    """
    alone = quotient(m.root, m.graph)
    found, scale = (alone, None) if alone is not None else scaled_quotient(m.root, m.graph) or (None, None)
    if found is None:
        return None
    difference, squared = centred(found.numerator, m.graph), squared_centre(found, m.graph)
    if difference is None or squared is None:
        return None
    return _layer_norm(m, found, (difference, squared), scale, None)


@rule(Root(("Add", "Sub"), reach=9, where=reads_from("Mul")), contract=Contract.REASSOCIATES, needs=_NEEDS)
def distributed_layer_norm(m: Match) -> Value | None:
    """r = scale / Sqrt(variance + epsilon); x * r + (bias - mean * r) -> LayerNormalization(x, scale, bias)

    As TensorFlow and Keras write it. An element differs by as many roundings of |x| over the deviation as there are
    elements behind a mean.
    """
    found = _distributed(m.root, m.graph)
    if found is None:
        return None
    parts = scaled_inverse(found.factor, m.graph)
    if parts is None:
        return None
    inverse, scale = parts
    squared = squared_centre(inverse, m.graph)
    centre = mean(found.mean, m.graph)
    if squared is None or centre is None or squared.x is not found.x or centre.value is not found.x:
        return None
    difference = Centred(found.x, centre.axes, (*centre.nodes, *found.nodes))
    return _layer_norm(m, inverse, (difference, squared), scale, found.bias)


@rule(Op("Mul", (norm, factor), commutes=True), contract=Contract.REASSOCIATES)
def layer_norm_scale(m: Match) -> Value | None:
    """LayerNormalization(x, 1) * factor -> LayerNormalization(x, factor)"""
    return take_in_scale(m, m[norm], m[factor])


@rule(Op("Add", (norm, term), commutes=True), contract=Contract.REASSOCIATES)
def layer_norm_bias(m: Match) -> Value | None:
    """LayerNormalization(x, w) + term -> LayerNormalization(x, w, term)"""
    node, data, bias = m[norm], m[x], m.get(b)
    extents = normalised_extents(node)
    if extents is None or data.rank is None or (bias is not None and number(bias, bias) != 0):
        return m.decline("the normalisation has a bias already, or its extents are not known")
    found = parameter(m, m[term], extents, data.rank)
    if found is None:
        return m.decline("the term is not of the normalised extents")
    return m.add(_NORM, (data, m[w], found), node.attributes)


inner = Op(_NORM, (Op("Cast", (raw,), shared=True), w))
inner_with_bias = Op(_NORM, (Op("Cast", (raw,), shared=True), w, b))


@rule(Op("Cast", (inner,)), contract=Contract.REASSOCIATES)
def layer_norm_cast(m: Match) -> Value | None:
    """Cast(LayerNormalization(Cast(x), w)) -> LayerNormalization(x, w) of half precision, statistics in single"""
    return take_in_cast(m, m[inner], m[raw])


@rule(Op("Cast", (inner_with_bias,)), contract=Contract.REASSOCIATES)
def layer_norm_bias_cast(m: Match) -> Value | None:
    """Cast(LayerNormalization(Cast(x), w, b)) -> LayerNormalization(x, w, b) of half precision, statistics in single"""
    return take_in_cast(m, m[inner_with_bias], m[raw])


class _Distributed(NamedTuple):
    """x * factor + (bias - mean * factor), and the nodes that work it out."""

    x: Value
    factor: Value
    mean: Value | None
    bias: Value | None
    nodes: tuple[Node, ...]


def _layer_norm(
    m: Match, found: Quotient, parts: tuple[Centred, Centred], scale: Value | None, bias: Value | None
) -> Value | None:
    difference, squared = parts
    data = difference.x
    if data is not squared.x or not difference.axes == squared.axes == found.axes:
        return m.decline("mean and variance are of other data, or over other axes")
    if data.dtype is None or data.dtype not in STASHED or data.rank is None:
        return m.decline(
            "LayerNormalization works in single precision, and the element type is not one of that or less"
        )
    extents = trailing_extents(m, data, found.axes)
    if extents is None:
        return None
    weight = ones(m, extents, data.dtype) if scale is None else parameter(m, scale, extents, data.rank)
    shift = None if bias is None else parameter(m, bias, extents, data.rank)
    if weight is None or (shift is None and bias is not None):
        return m.decline("scale or bias are not of the normalised extents")
    if not claim(m, (*found.nodes, *difference.nodes, *squared.nodes)):
        return None
    operands = (data, weight) if shift is None else (data, weight, shift)
    return m.add(_NORM, operands, {"axis": -len(extents), "epsilon": found.epsilon})


def _distributed(root: Node, graph: Graph) -> _Distributed | None:
    """The parts of x * factor + (bias - mean * factor), in the orders in which it is written."""
    for one, other in (root.operands, root.operands[::-1])[: 2 if root.op == "Add" else 1]:
        left = producer(one, ("Mul",), graph)
        for rest in () if left is None else _subtracted(root, other, graph):
            found = None if left is None else _shared_factor(left, rest, graph)
            if found is not None:
                return found
    return None


def _shared_factor(left: Node, rest: _Subtracted, graph: Graph) -> _Distributed | None:
    right = producer(rest.product, ("Mul",), graph)
    if right is None:
        return None
    for data, factor in (left.operands, left.operands[::-1]):
        if data is None or factor is None or factor not in right.operands:
            continue
        centre = right.operands[1 - right.operands.index(factor)]
        if not rest.negated:
            return _Distributed(data, factor, centre, rest.bias, (left, right, *rest.nodes))
        negation = producer(centre, ("Neg",), graph)
        if negation is not None:
            return _Distributed(data, factor, negation.operand(0), rest.bias, (left, right, *rest.nodes, negation))
    return None


class _Subtracted(NamedTuple):
    """bias - product, or bias + product where the product is `negated`; and the nodes that work it out."""

    product: Value | None
    negated: bool
    bias: Value | None
    nodes: tuple[Node, ...]


def _subtracted(root: Node, value: Value | None, graph: Graph) -> Sequence[_Subtracted]:
    """What may be meant by the value that a root adds or subtracts."""
    if root.op == "Sub":
        return (_Subtracted(value, False, None, ()),)
    node = producer(value, ("Add", "Sub"), graph)
    if node is None:
        return (_Subtracted(value, True, None, ()),)
    first, second = node.operands
    if node.op == "Sub":
        return (_Subtracted(second, False, first, (node,)),)
    return (_Subtracted(first, True, second, (node,)), _Subtracted(second, True, first, (node,)))


@dataclass(frozen=True)
class FuseLayerNorm(RulePass):
    """Fuse layer normalisation, in the spellings of exporters, into LayerNormalization of opset 17.

    Over the last axes, whose extents must be known. Scale, bias, and Casts to single precision and back are taken in.
    """

    name: ClassVar[str] = "fuse-layer-norm"

    def rules(self) -> Sequence[Rule]:
        return (
            layer_norm,
            distributed_layer_norm,
            layer_norm_scale,
            layer_norm_bias,
            layer_norm_cast,
            layer_norm_bias_cast,
        )
