"""Softmax and its logarithm, spelled out with exponentials and sums, become one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.moments import Mean, reduction
from planish.passes.fuse.walk import Root, claim, number, producer, reads_from
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x = Var("x")
_NO_OVERFLOW = "sums of exponentials that neither overflow nor vanish"


class _Shifted(NamedTuple):
    """x - ReduceMax(x, axes), and the nodes that work it out."""

    x: Value
    axes: tuple[int, ...]
    nodes: tuple[Node, ...]


@rule(
    Root(("Div", "Mul"), reach=5, where=reads_from("Div", "ReduceSum", "Reciprocal", "Reshape", "Unsqueeze")),
    contract=Contract.REASSOCIATES,
    needs=_NO_OVERFLOW,
)
def softmax(m: Match) -> Value | None:
    """e = Exp(x - ReduceMax(x)); e / ReduceSum(e) -> Softmax(x)

    Along one axis. An element differs by as many of its roundings as |x - ReduceMax(x)| and the number
    of terms come to.
    """
    found = _ratio(m.root, m.graph)
    if found is None:
        return None
    part, total, nodes = found
    over, under = producer(part, ("Exp",), m.graph), producer(total.value, ("Exp",), m.graph)
    axis = _axis(m, total)
    if over is None or under is None or axis is None:
        return None
    nodes = (*nodes, *total.nodes, over, under)
    data = over.operands[0]
    shifted, other = (_less_maximum(node.operands[0], total.axes[0], m.graph) for node in (over, under))
    if data is not under.operands[0]:
        if shifted is None or other is None or (shifted.x, shifted.axes) != (other.x, other.axes):
            return m.decline("the exponentials that are divided and summed are not the same")
        data, nodes = shifted.x, (*nodes, *shifted.nodes, *other.nodes)
    elif shifted is None:
        return m.decline("without the maximum taken off first the exponentials overflow where those of Softmax do not")
    elif _is_read_by(data, nodes):
        data, nodes = shifted.x, (*nodes, *shifted.nodes)
    if not claim(m, nodes):
        return None
    return m.add("Softmax", (data,), {"axis": axis})


@rule(
    Root("Sub", reach=6, where=reads_from("Add", "Log", "ReduceLogSum", "ReduceLogSumExp", "Reshape", "Unsqueeze")),
    contract=Contract.REASSOCIATES,
    needs=_NO_OVERFLOW,
)
def log_softmax(m: Match) -> Value | None:
    """x - Log(ReduceSum(Exp(x))) -> LogSoftmax(x)

    Of x or of x - ReduceMax(x), also with ReduceLogSum and ReduceLogSumExp. Along one axis. An element differs by some
    roundings of |x| and |ReduceMax(x)|.
    """
    data = m.root.operands[0]
    found = _log_sum(m.root.operands[1], m.graph)
    if data is None or found is None:
        return None
    total, added = found
    axis = _axis(m, total)
    if axis is None:
        return None
    nodes = total.nodes
    shifted = _less_maximum(total.value, total.axes[0], m.graph)
    if added is not None:
        if shifted is None or shifted.x is not data or added.producer not in shifted.nodes[1:]:
            return m.decline("the maximum that is added is not the one that was taken away")
        nodes = (*nodes, *shifted.nodes)
    elif data is not total.value:
        return m.decline("the sum is of other data than what it is taken from")
    elif shifted is None and not any(node.op == "ReduceLogSumExp" for node in nodes):
        return m.decline(
            "without the maximum taken off first the exponentials overflow where those of LogSoftmax do not"
        )
    elif shifted is not None and _is_read_by(data, (m.root, *nodes)):
        data, nodes = shifted.x, (*nodes, *shifted.nodes)
    return m.add("LogSoftmax", (data,), {"axis": axis}) if claim(m, nodes) else None


inner = Op("Softmax", (x,))
log_inner = Op("LogSoftmax", (x,))


@rule(Op("Log", (inner,)), contract=Contract.APPROXIMATE, needs="results of Softmax that do not vanish")
def log_of_softmax(m: Match) -> Value | None:
    """Log(Softmax(x)) -> LogSoftmax(x)

    An element differs by some roundings of itself, and is finite where the Softmax vanishes and its logarithm is not.
    """
    return m.add("LogSoftmax", (m[x],), m[inner].attributes)


@rule(Op("Exp", (log_inner,)), contract=Contract.REASSOCIATES)
def exp_of_log_softmax(m: Match) -> Value | None:
    """Exp(LogSoftmax(x)) -> Softmax(x)"""
    return m.add("Softmax", (m[x],), m[log_inner].attributes)


def _ratio(root: Node, graph: Graph) -> tuple[Value, Mean, tuple[Node, ...]] | None:
    """What is divided, the sum that it is divided by, and the nodes of an inverse that it is multiplied by instead."""
    if len(root.operands) != 2:
        return None
    left, right = root.operands
    orders = ((left, right),) if root.op == "Div" else ((left, right), (right, left))
    for part, under in orders:
        nodes: tuple[Node, ...] = ()
        if root.op == "Mul":
            inverse = producer(under, ("Reciprocal", "Div"), graph)
            if inverse is None or (inverse.op == "Div" and number(inverse.operand(0), inverse.result) != 1):
                continue
            nodes = (inverse,)
        total = reduction(nodes[0].operands[-1] if nodes else under, ("ReduceSum",), graph)
        if part is not None and total is not None:
            return part, total, nodes
    return None


def _less_maximum(value: Value | None, axis: int, graph: Graph) -> _Shifted | None:
    """x - ReduceMax(x) along an axis: less the maximum of other axes too, all of it might vanish."""
    node = producer(value, ("Sub",), graph)
    found = None if node is None else reduction(node.operand(1), ("ReduceMax",), graph)
    if node is None or found is None or node.operand(0) is not found.value or found.axes != (axis,):
        return None
    return _Shifted(found.value, found.axes, (node, *found.nodes))


def _is_read_by(value: Value | None, nodes: Sequence[Node]) -> bool:
    return value is not None and all(reader in nodes for reader in value.readers)


def _log_sum(value: Value | None, graph: Graph) -> tuple[Mean, Value | None] | None:
    """Log(ReduceSum(Exp(z))) as what is summed, z, and what is added to the logarithm."""
    found = _plain_log_sum(value, graph)
    if found is not None:
        return found, None
    node = producer(value, ("Add",), graph)
    for one, other in () if node is None else (node.operands, node.operands[::-1]):
        found = _plain_log_sum(one, graph)
        if node is not None and found is not None:
            return found._replace(nodes=(node, *found.nodes)), other
    return None


def _plain_log_sum(value: Value | None, graph: Graph) -> Mean | None:
    found = reduction(value, ("ReduceLogSumExp",), graph)
    if found is not None:
        return found
    node = producer(value, ("Log",), graph)
    nodes = () if node is None else (node,)
    found = (
        reduction(value, ("ReduceLogSum",), graph)
        if node is None
        else reduction(node.operand(0), ("ReduceSum",), graph)
    )
    exponential = None if found is None else producer(found.value, ("Exp",), graph)
    data = None if exponential is None else exponential.operand(0)
    if found is None or exponential is None or data is None:
        return None
    return Mean(data, found.axes, (*nodes, *found.nodes, exponential))


def _axis(m: Match, total: Mean) -> int | None:
    """The one axis that is summed over, counted from the back."""
    if len(total.axes) != 1 or total.value.rank is None:
        return m.decline("the sum is over more than one axis")
    return total.axes[0] - total.value.rank


@dataclass(frozen=True)
class FuseSoftmax(RulePass):
    """Fuse spelled-out softmax into Softmax, and its logarithm into LogSoftmax, along one axis."""

    name: ClassVar[str] = "fuse-softmax"

    def rules(self) -> Sequence[Rule]:
        return (softmax, log_softmax, log_of_softmax, exp_of_log_softmax)
