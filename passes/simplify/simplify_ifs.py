"""Ifs that need not branch, or not so often, or give back less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Graph, Node, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rewrite, rule
from planish.passes.run import Run
from planish.passes.simplify.assumption import must_fail
from planish.passes.simplify.inline_constant_if import inline_branch, nameable
from planish.passes.simplify.same_graph import same_graphs, same_tensors

c = Var("c")
_FEW_ELEMENTS = 64
_SELECTED_EXACTLY = (DType.INT64, DType.INT32, DType.UINT8)


def _then(node: Node) -> Graph:
    return node.subgraph("then_branch")


def _else(node: Node) -> Graph:
    return node.subgraph("else_branch")


@rule(Op("If", (c,)), contract=Contract.EXACT)
def enclosed(m: Match) -> tuple[Value, ...] | None:
    """If(c) inside a branch of If(c) or If(Not(c)) -> the nodes of the branch that it then takes"""
    condition, positive = _without_not(m[c])
    for graph, owner in _enclosing(m.graph):
        outer = owner.operand(0)
        if owner.op != "If" or outer is None:
            continue
        same, outer_positive = _without_not(outer)
        if same is condition:
            return inline_branch(m, taken=(graph is _then(owner)) == (positive == outer_positive))
    return None


def _enclosing(graph: Graph) -> Iterator[tuple[Graph, Node]]:
    """The graph and each one around it, but the outermost, with the nodes that they are nested in."""
    around: Graph | None = graph
    while around is not None and around.owner is not None:
        yield around, around.owner
        around = around.owner.graph


def _without_not(value: Value) -> tuple[Value, bool]:
    """What a chain of Nots stands on, and whether the value is that or its opposite."""
    positive = True
    while value.producer is not None and value.producer.op == "Not":
        operand = value.producer.operand(0)
        if operand is None:
            break
        value, positive = operand, not positive
    return value, positive


@rule(Op("If", (c,)), contract=Contract.EXACT)
def same_branches(m: Match) -> tuple[Value, ...] | None:
    """If(c) whose branches compute the same -> their nodes"""
    if not same_graphs(_then(m.root), _else(m.root)):
        return None
    return inline_branch(m, taken=True)


@rule(Op("If", (c,)), contract=Contract.EXACT, needs="a run that does not fail")
def branch_that_fails(m: Match) -> tuple[Value, ...] | None:
    """If(c) after one branch of which the model must fail -> the nodes of the other

    A node that always runs behind the If could not take what that branch gives back, because of its rank or extents.
    """
    then, other = _then(m.root), _else(m.root)
    if all(a.type == b.type for a, b in zip(then.outputs, other.outputs, strict=False)):
        return None
    if must_fail(m.root, then):
        return None if must_fail(m.root, other) else inline_branch(m, taken=False)
    if must_fail(m.root, other):
        return inline_branch(m, taken=True)
    return m.decline("what follows could take the result of either branch")


@rule(Op("If", (Op("Not", (c,), shared=True),)), contract=Contract.EXACT)
def negated(m: Match) -> tuple[Value, ...] | None:
    """If(Not(c), a, b) -> If(c, b, a)"""
    return _rebuilt(m, m[c], _else(m.root), _then(m.root)).results


def _rebuilt(m: Match, condition: Value, then: Graph, other: Graph) -> Node:
    """An If that takes over the graphs of the root."""
    attributes = {**m.root.attributes, "then_branch": then, "else_branch": other}
    return m.add_node(Node("If", (condition,), attributes, len(then.outputs)))


@rule(Op("If", (c,)), contract=Contract.EXACT)
def results(m: Match) -> tuple[Value, ...] | None:
    """y, z = If(c, a, b), with z unread or the same from both branches -> y = If(c, a, b), with that in place of z"""
    then, other = _then(m.root), _else(m.root)
    if not len(m.root.results) == len(then.outputs) == len(other.outputs):
        return m.decline("a branch gives back another number of values than the If")
    kept: list[int] = []
    replaced = list(m.root.results)
    for index, result in enumerate(m.root.results):
        same = _same(m, then.outputs[index], other.outputs[index]) if result.is_used else None
        if same is not None:
            replaced[index] = nameable(m, result, same)
        elif result.is_used:
            kept.append(index)
    if len(kept) == len(replaced):
        return None
    if not kept:
        return tuple(replaced)
    for branch in (then, other):
        outputs, names = branch.outputs, branch.output_names
        branch.set_results((), ())
        branch.set_results([outputs[i] for i in kept], [names[i] for i in kept])
    smaller = _rebuilt(m, m[c], then, other)
    for index, result in zip(kept, smaller.results, strict=True):
        replaced[index] = result
    return tuple(replaced)


def _same(m: Match, a: Value, b: Value) -> Value | None:
    """What two results of branches are alike, as a value that the graph around them sees."""
    a, b = _source(a), _source(b)
    if a is b:
        return None if a.graph is not None and a.graph.owner is m.root else a
    if a.constant is None or b.constant is None or not same_tensors(a.constant, b.constant):
        return None
    return m.constant(a.constant.array(), a.name) if a.constant.in_memory else None


def _source(value: Value) -> Value:
    """The value behind Identities."""
    while value.producer is not None and value.producer.op == "Identity":
        operand = value.producer.operand(0)
        if operand is None:
            break
        value = operand
    return value


@rule(Op("If", (c,)), contract=Contract.EXACT)
def selection(m: Match) -> Value | None:
    """If(c) that gives back one captured value or another -> Where(c, a, b), for a few integers"""
    then, other = _then(m.root), _else(m.root)
    if len(m.root.results) != 1 or len(then.outputs) != 1 or len(other.outputs) != 1:
        return None
    a, b = _source(then.outputs[0]), _source(other.outputs[0])
    if _is_inside(m, a) or _is_inside(m, b):
        return None
    if a.dtype is not b.dtype or a.dtype not in _SELECTED_EXACTLY:
        return m.decline("Where gives the bits of a branch for integers alone")
    shape, rank = a.shape, m[c].rank
    if shape is None or shape != b.shape or rank is None or rank > len(shape):
        return m.decline("the two values differ in shape, or the condition would change it")
    size = 1
    for dim in shape:
        size = size * dim if isinstance(dim, int) else _FEW_ELEMENTS + 1
    if size > _FEW_ELEMENTS or any(not _runs_only_values(branch) for branch in (then, other)):
        return m.decline("the branches compute something, or the values are large or of unknown size")
    return m.add("Where", (m[c], a, b))


def _is_inside(m: Match, value: Value) -> bool:
    return value.graph is not None and value.graph.owner is m.root


def _runs_only_values(branch: Graph) -> bool:
    return all(node.op in ("Identity", "Constant") for node in branch.nodes)


@dataclass(frozen=True)
class SimplifyIfs(RulePass):
    """Take the branch of an If that an enclosing If, or what the readers can take, decides; drop results that are
    unread or the same from both branches; and turn a choice between a few integers into a Where.
    """

    name: ClassVar[str] = "simplify-ifs"

    def rules(self) -> Sequence[Rule]:
        return (enclosed, results, same_branches, branch_that_fails, negated, selection)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """What decides an If may lie far behind it, so all are looked at again after any change."""
        done = -1
        while done < len(run.rewrites) and not run.exhausted:
            done = len(run.rewrites)
            rewrite(graph, self.rules(), run, [node for node in graph.walk() if node.op == "If"])
