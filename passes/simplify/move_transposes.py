"""Transposes move to where they meet and cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rewrite, rule
from planish.passes.run import Run
from planish.passes.simplify.moving import (
    EXTREMES,
    MOVABLE,
    SUMS,
    Moved,
    Order,
    add_moved,
    composed,
    inverse,
    is_one,
    is_straight,
    keeps_bits,
    moved,
    order_of,
    transposed_constant,
)

x = Var("x")
_REGION = 8
_LARGE = 1 << 16
_FINITE = "sums that do not overflow in any order"


@dataclass(frozen=True)
class _Plan:
    """How to have a value transposed: by whom, and how many more Transposes that takes than before."""

    value: Value
    order: Order
    kind: Literal["as it is", "constant", "behind a Transpose", "through a node", "by a Transpose"]
    cost: int = 0
    explicit: int = 0
    parts: Moved | None = None
    operands: Mapping[int, _Plan] | None = None


class _Planner:
    """Looks up from a Transpose for the ones that it would meet, through at most `_REGION` nodes."""

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self.left = _REGION

    def plan(self, value: Value, order: Order) -> _Plan | None:
        """The cheapest way found; None where there is none, for the rank's sake or a large constant's."""
        shape = value.shape
        if shape is None or len(shape) > len(order):
            return None
        if is_one(shape):
            return _Plan(value, order, "as it is")
        if value.constant is not None:
            fits = value.has_one_use or value.constant.size <= _LARGE
            return _Plan(value, order, "constant") if fits else None
        if len(shape) != len(order):
            return None
        straight = _Plan(value, order, "by a Transpose", 1, 1)
        node = value.producer
        if node is None:
            return straight
        if node.op == "Transpose":
            return _behind(value, node, order) or straight
        through = self.through(value, node, order)
        return straight if through is None or through.cost >= straight.cost else through

    def through(self, value: Value, node: Node, order: Order) -> _Plan | None:
        if node.op not in MOVABLE or not value.has_one_use or node.graph is not value.users[0].graph or not self.left:
            return None
        parts = moved(node, order) if keeps_bits(node) or not self.exact else None
        if parts is None:
            return None
        self.left -= 1
        operands = self.operands(node, parts, order)
        if operands is None:
            return None
        cost, explicit = (sum(map(part, operands.values())) for part in (_cost, _explicit))
        return _Plan(value, order, "through a node", cost, explicit, parts, operands)

    def operands(self, node: Node, parts: Moved, order: Order) -> dict[int, _Plan] | None:
        found: dict[int, _Plan] = {}
        for place in parts.places:
            operand = node.operands[place]
            plan = None if operand is None else self.plan(operand, order)
            if plan is None:
                return None
            found[place] = plan
        return found


def _cost(plan: _Plan) -> int:
    return plan.cost


def _explicit(plan: _Plan) -> int:
    return plan.explicit


def _behind(value: Value, node: Node, order: Order) -> _Plan | None:
    """A Transpose of what is transposed already: none is left where the axes come back, else one."""
    inner = order_of(node)
    if inner is None or node.operands[0] is None:
        return None
    spared = int(value.has_one_use)
    left = int(not is_straight(composed(inner, order)))
    return _Plan(value, order, "behind a Transpose", left - spared, left)


def _build(m: Match, plan: _Plan) -> Value:
    value, node = plan.value, plan.value.producer
    if plan.kind == "constant":
        return transposed_constant(m, value, plan.order)
    if plan.kind == "behind a Transpose" and node is not None and node.operands[0] is not None:
        m.cover(node)
        order = composed(order_of(node) or (), plan.order)
        return node.operands[0] if is_straight(order) else m.add("Transpose", (node.operands[0],), {"perm": order})
    if plan.kind == "through a node" and node is not None and plan.parts is not None:
        m.cover(node)
        operands = {place: _build(m, operand) for place, operand in (plan.operands or {}).items()}
        return add_moved(m, node, plan.parts, operands)
    return value if plan.kind == "as it is" else m.add("Transpose", (value,), {"perm": plan.order})


def _movable_above(node: Node) -> bool:
    operand = node.operands[0]
    producer = None if operand is None else operand.producer
    return producer is not None and (producer.op in MOVABLE or producer.op == "Transpose")


class _Up(Op):
    """The picture of a Transpose that looks up over as many nodes as a plan may hold."""

    __slots__ = ()

    @property
    def depth(self) -> int:
        return _REGION + 2


_through = _Up("Transpose", (x,), where=_movable_above)


@rule(_through, contract=Contract.EXACT)
def cancel_above(m: Match) -> Value | None:
    """Transpose(Add(Transpose(x), k)) -> Add(x, k'), through nodes that work out each element alike wherever it stands

    The Transpose goes up where fewer are left when it has met those above: at most one, in another place. Constants
    are transposed for good.
    """
    return _cancel_above(m, exact=True)


@rule(_through, contract=Contract.REASSOCIATES)
def cancel_above_rounding(m: Match) -> Value | None:
    """Transpose(Softmax(Transpose(x))) -> Softmax(x), through nodes too whose rounding may depend on the place"""
    return _cancel_above(m, exact=False) if _meets_rounding(m[x]) else None


def _meets_rounding(value: Value) -> bool:
    """Whether a node that rounds as the place asks is in reach: without one the exact rule has had its say."""
    queue, left = [value], _REGION
    while queue and left:
        node = queue.pop().producer
        if node is None or node.op not in MOVABLE:
            continue
        if not keeps_bits(node):
            return True
        left -= 1
        queue += [operand for operand in node.operands if operand is not None and operand.has_one_use]
    return False


def _cancel_above(m: Match, *, exact: bool) -> Value | None:
    order = order_of(m.root)
    if order is None:
        return m.decline("the rank of what is transposed is unknown")
    plan = _Planner(exact=exact).plan(m[x], order)
    if plan is None or plan.kind not in ("through a node", "behind a Transpose") or plan.cost >= 1 or plan.explicit > 1:
        return m.decline("no Transpose is spared by moving this one up")
    return _build(m, plan)


def _transposes_of(node: Node) -> list[Node]:
    found = [operand.producer for operand in node.operands if operand is not None and operand.has_one_use]
    return [producer for producer in found if producer is not None and producer.op == "Transpose"]


def _reads_transposed(node: Node) -> bool:
    return any(
        operand is not None and operand.producer is not None and operand.producer.op == "Transpose"
        for operand in node.operands
    )


_movable = Op(tuple(sorted(MOVABLE)), where=_reads_transposed)


@rule(_movable, contract=Contract.EXACT)
def join_below(m: Match) -> Value | None:
    """Add(Transpose(x), Transpose(y)) -> Transpose(Add(x, y)), and what else spares a Transpose below

    A single Transpose goes down too where a reader of the result transposes it back.
    """
    return _join_below(m, exact=True)


@rule(_movable, contract=Contract.REASSOCIATES)
def join_below_rounding(m: Match) -> Value | None:
    """Softmax(Transpose(x)) -> Transpose(Softmax(x)), where a reader transposes back, rounding as the place asks"""
    return _join_below(m, exact=False)


def _join_below(m: Match, *, exact: bool) -> Value | None:
    node, above = m.root, _transposes_of(m.root)
    order = order_of(above[0]) if above else None
    if order is None or (exact and not keeps_bits(node)):
        return m.decline("every Transpose above is read elsewhere too, or its rank is unknown")
    parts = moved(node, inverse(order))
    planner = _Planner(exact=exact)
    planner.left = 0
    operands = None if parts is None else planner.operands(node, parts, inverse(order))
    if parts is None or operands is None or any(plan.explicit for plan in operands.values()):
        return m.decline("the operands are not all constant or transposed alike")
    back = not node.result.has_one_use and any(_undoes(user, node, order) for user in node.result.users)
    met = sum(plan.kind == "behind a Transpose" for plan in operands.values())
    if min(len(above), met) + back < 2:
        return m.decline("no Transpose is spared by moving this one down")
    if node.op != "Concat" and all(transpose.result.shape != node.result.shape for transpose in above):
        return m.decline("the result may be larger than what is transposed now")
    made = add_moved(m, node, parts, {place: _build(m, plan) for place, plan in operands.items()})
    return m.add("Transpose", (made,), {"perm": order})


def _undoes(user: Node, node: Node, order: Order) -> bool:
    return user.op == "Transpose" and user.graph is node.graph and order_of(user) == inverse(order)


_transpose = Op("Transpose", (x,))
_axes = Var("axes")


@rule(Op(tuple(sorted(SUMS | EXTREMES)), (_transpose, _axes)), contract=Contract.REASSOCIATES, needs=_FINITE)
def reduce_transposed(m: Match) -> Value | None:
    """ReduceMean(Transpose(x), axes) -> ReduceMean(x, axes'), a Transpose of the smaller result behind it if need be

    Of floats only sums: ONNX Runtime finds another extreme beside a NaN when it goes along another axis. Of integers
    only extremes: their sums saturate.
    """
    order, axes, dtype = order_of(m[_transpose]), constant_ints(m[_axes]), m[x].dtype
    if order is None or not axes or dtype is None or m.root.result.rank is None:
        return m.decline("the rank, the axes or the element type are unknown")
    if m.root.op not in (SUMS if dtype.is_float else EXTREMES if dtype.is_integer else ()):
        return m.decline("the result depends on the order in which the elements come")
    gone = {order[normalize_axis(m.root, axis, len(order))] for axis in axes}
    reduced = m.add(m.root.op, (m[x], m.constant(np.array(sorted(gone), np.int64))), m.root.attributes)
    if m.root.get_int("keepdims"):
        rest = order
    else:
        left = [axis for axis in range(len(order)) if axis not in gone]
        rest = tuple([left.index(axis) for axis in order if axis not in gone])
    if is_straight(rest):
        return reduced
    return m.add("Transpose", (reduced,), {"perm": rest})


@dataclass(frozen=True)
class MoveTransposes(RulePass):
    """Move Transposes past other nodes where fewer of them are left then, or where they have less to move.

    They go up to meet others, down only from operands that are transposed alike or to one that undoes them, and behind
    reductions. A Transpose never moves for nothing, so the order of other passes cannot make it go to and fro.
    """

    name: ClassVar[str] = "move-transposes"

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Look again after changes: whether one moves down depends on readers too, which the driver does not follow."""
        done = -1
        while done != len(run.rewrites) and not run.exhausted:
            done = len(run.rewrites)
            rewrite(graph, self.rules(), run, start)
            start = None

    def rules(self) -> Sequence[Rule]:
        return (cancel_above, cancel_above_rounding, join_below, join_below_rounding, reduce_transposed)
