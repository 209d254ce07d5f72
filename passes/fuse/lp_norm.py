"""What is divided by its own norm becomes an LpNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.moments import exponent, inverse_square_root, reduction, square, square_root
from planish.passes.fuse.walk import Root, claim, number, producer, reads_from
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_ROOTS = ("Pow", "Sqrt")
_NORMS = ("ReduceL1", "ReduceL2", "ReduceSum", *_ROOTS)
_GUARDS = ("Add", "Clip", "Expand", "Max")


class _Norm(NamedTuple):
    """The norm of a value, `p` 1 or 2, over axes, and the nodes that work it out."""

    p: int
    value: Value
    axes: tuple[int, ...]
    nodes: tuple[Node, ...]


@rule(
    Root(("Div", "Mul"), reach=5, where=reads_from("Div", "Reciprocal", *_NORMS, *_GUARDS)),
    contract=Contract.REASSOCIATES,
    needs="norms other than 0, which make NaN when divided by and 0 of LpNormalization, and squares that neither"
    " overflow nor vanish",
)
def lp_norm(m: Match) -> Value | None:
    """x / ReduceL2(x) -> LpNormalization(x, p = 2); x / ReduceL1(x) -> LpNormalization(x, p = 1)

    Along one axis, and also as Sqrt(ReduceSum(x * x)) and ReduceSum(Abs(x)). An element differs by as many of its
    roundings as there are terms.
    """
    found = _quotient(m)
    if found is None:
        return None
    if len(found.axes) != 1 or found.value.rank is None:
        return m.decline("the norm is over more than one axis")
    if found.value.dtype is None or not found.value.dtype.is_float:
        return m.decline("LpNormalization takes only floats")
    if not claim(m, found.nodes):
        return None
    return m.add("LpNormalization", (found.value,), {"axis": found.axes[0] - found.value.rank, "p": found.p})


def _quotient(m: Match) -> _Norm | None:
    left, right = m.root.operands
    if left is None or right is None:
        return None
    if m.root.op == "Div":
        found = _norm(right, m.graph)
        if found is None and _is_guarded(left, right, m.graph):
            return m.decline("the norm is bounded or shifted, and LpNormalization takes it as it is")
        return found if found is not None and found.value is left else None
    for value, factor in ((left, right), (right, left)):
        found = _inverse(factor, m.graph)
        if found is not None and found.value is value:
            return found
    return None


def _is_guarded(value: Value, divisor: Value, graph: Graph) -> bool:
    """Whether the divisor is a norm of the value behind what keeps it from being 0."""
    inner: Value | None = divisor
    for _ in _GUARDS:
        node = producer(inner, _GUARDS, graph)
        inner = inner if node is None else node.operand(0)
    found = _norm(inner, graph)
    return found is not None and found.value is value


def _norm(value: Value | None, graph: Graph) -> _Norm | None:
    node = producer(value, ("ReduceL1", "ReduceL2", "ReduceSum"), graph)
    if node is None:
        under = square_root(value, graph)
        return None if under is None else _of_squares(*under, graph)
    found = reduction(value, (node.op,), graph)
    if found is None:
        return None
    if node.op != "ReduceSum":
        return _Norm(2 if node.op == "ReduceL2" else 1, found.value, found.axes, found.nodes)
    size = producer(found.value, ("Abs",), graph)
    data = None if size is None else size.operand(0)
    return None if size is None or data is None else _Norm(1, data, found.axes, (*found.nodes, size))


def _inverse(value: Value, graph: Graph) -> _Norm | None:
    """One divided by a norm."""
    node = producer(value, ("Div", "Pow", "Reciprocal"), graph)
    if node is None:
        return None
    if node.op == "Pow":
        under = inverse_square_root(value, graph) if exponent(node) is not None else None
        return None if under is None else _of_squares(*under, graph)
    if node.op == "Div" and number(node.operand(0), node.result) != 1:
        return None
    found = _norm(node.operands[-1], graph)
    return None if found is None else found._replace(nodes=(node, *found.nodes))


def _of_squares(radicand: Value, nodes: tuple[Node, ...], graph: Graph) -> _Norm | None:
    """The norm as the root of a sum of squares."""
    node = producer(radicand, ("ReduceSum", "ReduceSumSquare"), graph)
    found = None if node is None else reduction(radicand, (node.op,), graph)
    if node is None or found is None:
        return None
    found = found._replace(nodes=(*nodes, *found.nodes))
    if node.op == "ReduceSumSquare":
        return _Norm(2, found.value, found.axes, found.nodes)
    inner = square(found.value, graph)
    return None if inner is None else _Norm(2, inner[0], found.axes, (*found.nodes, inner[1]))


@dataclass(frozen=True)
class FuseLpNorm(RulePass):
    """Fuse the quotient of a value and its own norm, along one axis, into LpNormalization.

    A norm that is kept from being 0, as torch's normalize does, stays: LpNormalization knows no such bound.
    """

    name: ClassVar[str] = "fuse-lp-norm"

    def rules(self) -> Sequence[Rule]:
        return (lp_norm,)
