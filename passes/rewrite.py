"""Rules and the driver that fires them: a worklist that revisits only what a rewrite touched.

The driver is the greedy one of MLIR's canonicalizer: every node is looked at once, and again only after something
within reach of a picture around it changed; so the cost is proportional to the nodes and the rewrites, not to rounds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from planish.ir import GraphError, Node, Value
from planish.ir.graph import RETURN, Attribute, Graph, constant
from planish.ir.infer import equal_extents, infer, inherit, refresh
from planish.ir.tensor import SPOOL_BYTES
from planish.ir.types import Array
from planish.passes.errors import PassError
from planish.passes.halves import moves_rounding
from planish.passes.opset import Opsets
from planish.passes.pattern import Bindings, Op
from planish.passes.refusals import forget_unread, forget_what_is_gone, leading_to, read_again, reading
from planish.passes.replacing import erase_dead, keep_in_nested, merge_origins, needs_copy
from planish.passes.run import Run

_REWRITES_PER_NODE = 64
_FEW = 8
"""The part of all nodes, as a divisor, that costs less to look around than the whole graph costs to look through."""
Replacement = Value | tuple[Value, ...] | None
Pair = tuple[Value, Value]
"""A value and what replaces it."""


class Contract(Enum):
    """What a rewrite may change in the results."""

    EXACT = "same bits"
    REASSOCIATES = "float rounding only"
    APPROXIMATE = "within a stated bound"


@dataclass(frozen=True)
class Rule:
    """A picture, what it becomes, and what that may cost."""

    name: str
    pattern: Op
    contract: Contract
    apply: Callable[[Match], Replacement]
    summary: str
    needs: str = ""


def rule(pattern: Op, *, contract: Contract, needs: str = "") -> Callable[[Callable[[Match], Replacement]], Rule]:
    """Make a rule of a function from a match to the value that replaces the root's result; None declines.

    Its name and its docstring, which draws the rewrite, are the rule's.
    needs: what must hold for the contract, in words (finite values, a known range).
    """

    def decorate(apply: Callable[[Match], Replacement]) -> Rule:
        return Rule(apply.__name__.replace("_", "-"), pattern, contract, apply, inspect.getdoc(apply) or "", needs)

    return decorate


class Match(Bindings):
    """A place where a picture fits, and the means to build what replaces it."""

    __slots__ = ("covered", "created", "fires", "others", "reason", "root", "run")

    def __init__(self, root: Node, run: Run) -> None:
        super().__init__()
        self.root = root
        self.run = run
        self.created: list[Node] = []
        self.covered: list[Node] = []
        self.others: list[Pair] = []
        self.reason = ""
        self.fires = False

    @property
    def graph(self) -> Graph:
        """The graph that holds the root."""
        if self.root.graph is None:
            raise GraphError("a rule went on after its root was erased", self.root)
        return self.root.graph

    def decline(self, reason: str) -> None:
        """Leave the place alone and say why."""
        self.reason = reason

    def cover(self, node: Node) -> None:
        """Count a node outside of the picture, which a rule found by walking, among those that it rewrites."""
        self.covered.append(node)

    def also(self, old: Value, new: Value) -> None:
        """Replace a value that is none of the root's results, too, in this graph and behind the root."""
        self.others.append((old, new))

    @property
    def sources(self) -> tuple[Node, ...]:
        """All nodes that the rewrite is about, the root first."""
        return (*self.nodes, *self.covered)

    def add(
        self, op: str, operands: Sequence[Value | None], attributes: Mapping[str, Attribute] | None = None
    ) -> Value:
        """A new node before the root; its only result."""
        return self.add_node(Node(op, operands, attributes)).result

    def add_node(self, node: Node) -> Node:
        """Put a new node before the root and infer its types."""
        self.graph.insert(node, before=self.root)
        self.created.append(node)
        infer(node)
        return node

    def constant(self, array: Array, name: str = "") -> Value:
        """A new constant. Large ones leave memory when the model keeps its own weights outside of it."""
        spool = self.graph.root.spool
        return constant(spool.put(array) if spool is not None and array.nbytes >= SPOOL_BYTES else array, name)

    def array(self, value: Value) -> Array:
        """The elements of a constant, not to be written to."""
        if value.constant is None:
            raise GraphError(f"{value} is no constant", self.root)
        return value.constant.array()

    def inline(self, nested: Graph) -> tuple[Value, ...]:
        """Move the nodes of a graph nested in the root before the root, its constants with them; its results."""
        for value in nested.initializers:
            value.graph = None
        nested.initializers.clear()
        for node in nested.nodes:
            self.graph.insert(node, before=self.root)
            self.created.append(node)
        return nested.outputs


def rewrite(
    graph: Graph, rules: Iterable[Rule], run: Run, start: Sequence[Node] | None = None, *, readers_first: bool = False
) -> None:
    """Fire the rules wherever they match, in this graph and those nested in it, until none does.

    start: the nodes to look at first; None means all. readers_first: look at a node after those that read it, so that
    what they no longer need is gone before anything is made of it.
    """
    if start is not None and len(start) * _FEW < run.size:
        driver = _Driver(rules, run)
        nodes = [*driver.around(start)]
    else:
        driver = _Driver(rules, run, run.operators_of(graph))
        nodes = run.nodes_of(graph, driver.roots()) if driver.rules else ()
    driver.drive(reversed(nodes) if readers_first else nodes)


def trial(rule: Rule, match: Match) -> None:
    """Ask a rule whose picture fits whether it would fire; the match says how it went, and the graph is as it was."""
    driver = _Driver((rule,), match.run)
    root = match.graph.root
    imports = dict(root.opset_imports)
    driver.propose(rule, match)
    driver.undo(match)
    root.opset_imports = imports


class _Driver:
    def __init__(self, rules: Iterable[Rule], run: Run, present: Set[str] | None = None) -> None:
        """present: the operators of the graph, where they are known."""
        self.run = run
        self.all = tuple(rules)
        self.worklist: dict[Node, None] = {}
        self.refused = 0
        self.frozen: set[Node] = set()
        self.present = present
        self.arm()

    @cached_property
    def opsets(self) -> Opsets:
        return Opsets(self.run.kernels, self.run.newest_opset)

    def arm(self) -> None:
        """Leave out the rules that may not fire, and those whose pictures need an operator that the graph lacks."""
        present, rules = self.present, self.all
        if present is not None:
            rules = [rule for rule in rules if rule.pattern.may_stand_among(present)]
        self.rules = tuple([rule for rule in rules if self.run.allows(rule.contract.name)])
        self.reach = 0
        self.by_op: dict[str, tuple[Rule, ...]] = {}

    def roots(self) -> Set[str] | None:
        """The operators that some picture has at its root; None for all of them."""
        found: set[str] = set()
        for rule in self.rules:
            if not rule.pattern.ops:
                return None
            found |= rule.pattern.ops
        return found

    def rules_of(self, op: str) -> tuple[Rule, ...]:
        """The rules whose picture may have a node of this operator at its root."""
        found = tuple([rule for rule in self.rules if not rule.pattern.ops or op in rule.pattern.ops])
        self.by_op[op] = found
        return found

    def drive(self, start: Iterable[Node]) -> None:
        queue = [] if self.run.exhausted else list(start)
        bound = len(self.run.rewrites) + _REWRITES_PER_NODE * (len(queue) + 1)
        while queue:
            for node in queue:
                rules = self.by_op.get(node.op)
                if rules is None:
                    rules = self.rules_of(node.op)
                if rules and node.graph is not None and node.op != RETURN:
                    fired = self.visit(node, rules)
                    if fired and self.run.exhausted:
                        return
            if len(self.run.rewrites) > bound:
                raise PassError(
                    self.run.pass_name, "", queue[-1], RuntimeError("its rules undo each other without end")
                )
            queue = list(self.worklist)
            self.worklist.clear()

    def visit(self, node: Node, rules: Sequence[Rule]) -> bool:
        """Fire the first of the rules that fits; whether one did."""
        if self.is_frozen(node):
            return False
        for rule in rules:
            if not rule.pattern.may_match(node):
                continue
            match = Match(node, self.run)
            if match.bind(rule.pattern, node) and self.may_change(match) and self.fire(rule, match):
                return True
        return False

    def may_change(self, match: Match) -> bool:
        """Whether no node that matched leads to what could not run; a nested graph may be inlined."""
        if any(map(self.is_frozen, match.nodes)):
            return False
        return not (match.root.graphs and self.run.fp == "strict" and self.moves_rounding(match, ()))

    def is_frozen(self, node: Node) -> bool:
        """Whether a node leads to one of a nested graph that could not run."""
        refused = {} if node.graph is None else node.graph.refused
        if len(refused) != self.refused:
            forget_what_is_gone(refused)
            self.refused, self.frozen = len(refused), leading_to(refused)
        return node in self.frozen

    def fire(self, rule: Rule, match: Match) -> bool:
        refused = len(match.graph.refused)
        pairs = self.propose(rule, match)
        if match.fires:
            before = reading(old for old, _ in pairs)
            affected = self.substitute(match, pairs)
            if len(match.graph.refused) > refused and not match.root.graphs:
                read_again(before)
                forget_unread([new for _, new in pairs])
                match.fires = False
                match.reason = "a nested graph could not run then, and runtimes refuse it even where it never runs"
            else:
                self.replace(rule, match, pairs, affected)
        if not match.fires:
            self.undo(match)
        return match.fires

    def propose(self, rule: Rule, match: Match) -> Sequence[Pair]:
        """What the rule would replace by what, built but not used; `match.fires` where it may be."""
        try:
            found = rule.apply(match)
        except Exception as error:
            raise PassError(self.run.pass_name, rule.name, match.root, error) from error
        values = () if found is None else found if isinstance(found, tuple) else (found,)
        pairs = [*zip(match.root.results, values, strict=False), *match.others]
        if pairs and not self.may_replace(pairs, match):
            match.reason = "the result is an output, which would need a copy to keep its name"
        elif pairs:
            match.reason = self.opsets.obstacle(match.created, match.sources) if match.created else ""
            if not match.reason and self.run.fp == "strict" and self.moves_rounding(match, pairs):
                match.reason = "the target works out half precision in single, and would round in other places"
            match.fires = not match.reason
        return pairs

    def moves_rounding(self, match: Match, pairs: Sequence[Pair]) -> bool:
        if pairs and all(new.constant is not None for _, new in pairs):
            return False
        opset = match.graph.root.opset_imports.get("", 0)
        return moves_rounding(match.sources, [old for old, _ in pairs], self.run.kernels, opset)

    def may_replace(self, pairs: Iterable[Pair], match: Match) -> bool:
        """Whether the replacement spares a node: an output that is only another name for a value needs a copy."""
        for old, new in pairs:
            for user in old.users:
                if user.op == RETURN and user.graph is not None and needs_copy(new, user.graph, match.created):
                    return False
        return True

    def undo(self, match: Match) -> None:
        for node in reversed(match.created):
            match.graph.erase(node)

    def substitute(self, match: Match, pairs: Sequence[Pair]) -> dict[Node, None]:
        """Let what replaces be read; the nodes that this affects."""
        affected: dict[Node, None] = dict.fromkeys(match.created)
        for old, new in pairs:
            if new.producer is not None and new.producer not in affected:
                new.producer.origin = merge_origins((new.producer, *match.sources))
            keep_in_nested(old, new)
            if match.graph.owner is None:  # what holds in a nested graph holds only where it runs
                self.run.equal.update(equal_extents(new.type, old.type))
            news = inherit(new, old)
            readers = old.users
            match.graph.replace_all_uses_with(old, new)
            if news:
                affected.update(dict.fromkeys(refresh(readers)))
            affected.update(dict.fromkeys(readers))
        return affected

    def replace(self, rule: Rule, match: Match, pairs: Sequence[Pair], affected: dict[Node, None]) -> None:
        root, refused = match.root, match.graph.refused
        sources = merge_origins(match.sources)
        for node in match.created:
            if node.source is None:
                node.origin = sources
        for old, new in pairs:
            if not new.name:
                new.name = old.name
        made = {node.op for node in match.created}
        if self.present is not None and not made <= self.present:
            self.present = self.present | made
            self.arm()
        self.run.record(rule.name, sources, pairs[0][1].name)
        replaced = {old.producer: None for old, _ in reversed(pairs) if old.producer is not None} | {root: None}
        for node in replaced:
            for operand in erase_dead(node):
                affected.update(dict.fromkeys(operand.users))
        if forget_what_is_gone(refused):  # and with it what kept other nodes as they are
            affected.update(dict.fromkeys(self.frozen))
        self.touch(affected)

    def touch(self, affected: Iterable[Node]) -> None:
        """Queue what changed, and every node from which a picture can reach it."""
        front = [node for node in affected if node.graph is not None]
        self.run.log.extend(front)
        self.worklist.update(self.around(front))

    def around(self, nodes: Iterable[Node]) -> dict[Node, None]:
        """Some nodes, every one from which a picture can reach them, and those that make what they read.

        The last because some rules ask who reads a result.
        """
        self.reach = self.reach or max([rule.pattern.depth for rule in self.rules], default=1)
        front = dict.fromkeys(nodes)
        found: dict[Node, None] = {}
        for node in front:
            for operand in node.operands:
                if operand is not None and operand.producer is not None:
                    found[operand.producer] = None
        reached = dict(front)
        for _ in range(self.reach - 1):
            readers: dict[Node, int] = {}
            for node in front:
                for result in node.results:
                    readers.update(result.readers)
            front = {node: None for node in readers if node not in reached}
            reached.update(front)
        found.update(reached)
        return found
