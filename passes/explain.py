"""Why a rule did not fire: the places where it came closest, what failed there, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from planish.ir import Graph, Node, Value
from planish.ir.graph import RETURN
from planish.passes.manager import Pass, RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Match, Rule, trial
from planish.passes.run import Run

_SHOWN = 3


@dataclass(frozen=True)
class Attempt:
    """How far a rule came at one place: `matched` nodes of its picture or behind it, then `reason`.

    `node` is where it failed. An empty reason says that it would fire.
    """

    rule: str
    root: Node
    matched: int
    node: Node
    reason: str
    advice: str = ""


def explain(graph: Graph, rules: Iterable[Rule], run: Run | None = None) -> list[Attempt]:
    """The attempts that came closest, one for each rule and reason; the graph stays as it is.

    Where a rule would fire, that attempt stands first, with an empty reason.
    """
    state = run or Run()
    closest: dict[tuple[str, str], Attempt] = {}
    for rule in rules:
        for node in tuple(graph.walk()):
            if node.op == RETURN or (rule.pattern.ops and node.op not in rule.pattern.ops):
                continue
            attempt = _attempt(rule, node, state)
            key = (rule.name, attempt.reason if attempt.matched > 1 else "")
            if key not in closest or attempt.matched > closest[key].matched:
                closest[key] = attempt
    return sorted(closest.values(), key=_closeness)


def closest_of(graph: Graph, rules: Mapping[bool, Iterable[Rule]], run: Run) -> list[Attempt]:
    """As `explain`, of rules by whether their pass is lossy: these fire where they are asked for, as here they are."""
    found = [attempt for lossy, each in rules.items() for attempt in explain(graph, each, replace(run, lossy=lossy))]
    return sorted(found, key=_closeness)


def _closeness(attempt: Attempt) -> tuple[bool, int]:
    return bool(attempt.reason), -attempt.matched


def rules_of(passes: Iterable[Pass], pattern: str) -> list[Rule]:
    """The rules whose own name, or whose pass's, fits a pattern such as `fuse-gelu` or `*gelu*`."""
    found: list[Rule] = []
    for stage in passes:
        if isinstance(stage, RulePass):
            found += [
                rule for rule in stage.rules() if fnmatchcase(stage.name, pattern) or fnmatchcase(rule.name, pattern)
            ]
    return found


def _attempt(rule: Rule, node: Node, run: Run) -> Attempt:
    trace = _Trace(node, run)
    if not run.allows(rule.contract.name):
        reason = f"its contract, {rule.contract.value}, is not allowed by fp={run.fp}"
        return Attempt(rule.name, node, 1, node, reason, "choose another --fp")
    if not trace.match(rule.pattern, node):
        return Attempt(rule.name, node, trace.furthest, trace.failed, trace.why, trace.advice)
    if node.graphs:
        return Attempt(rule.name, node, trace.furthest, node, "what holds nested graphs is not tried")
    trial(rule, trace)
    matched = len(set(trace.sources))
    reason = trace.reason if not trace.fires else ""
    if not trace.fires and not reason:
        reason = "the rule declines here, and does not say why"
    return Attempt(rule.name, node, matched, node, reason)


class _Trace(Match):
    """A match that remembers where it got furthest before it failed."""

    __slots__ = ("advice", "failed", "furthest", "why")

    def __init__(self, root: Node, run: Run) -> None:
        super().__init__(root, run)
        self.furthest, self.failed, self.why, self.advice = 0, root, "", ""

    def match(self, pattern: Op, node: Node) -> bool:
        found = super().match(pattern, node)
        if not found:
            self._note(node, *_at_node(pattern, node))
        return found

    def part(self, part: Var | Op, operand: Value, user: Node) -> bool:
        found = super().part(part, operand, user)
        if not found:
            self._note(user, *_at_operand(part, operand, user))
        return found

    def _note(self, node: Node, why: str, advice: str) -> None:
        reached = len(set(self.nodes) | {self.root})
        if reached > self.furthest:
            self.furthest, self.failed, self.why, self.advice = reached, node, why, advice


def _at_node(pattern: Op, node: Node) -> tuple[str, str]:
    if pattern.ops and node.op not in pattern.ops:
        return f"{node.label} is {node.op}, not {_either(pattern.ops)}", ""
    if pattern.where is not None and not pattern.where(node):
        return f"{node.label} ({node.op}) is not of the kind that the rule looks for", ""
    count = len(pattern.operands or ())
    if len(node.operands) > count:
        return f"{node.label} has {len(node.operands)} operands, and the rule takes {count}", ""
    return _first_misfit(pattern, node)


def _first_misfit(pattern: Op, node: Node) -> tuple[str, str]:
    """The first operand that cannot be what the picture has there."""
    for part, operand in zip(pattern.operands or (), node.operands, strict=False):
        if operand is None or pattern.commutes:
            continue
        wanted = isinstance(part, Const) and operand.constant is None
        if wanted or (isinstance(part, Op) and (operand.producer is None or operand.producer.op not in part.ops)):
            return _at_operand(part, operand, node)
    return f"the operands of {node.label} ({node.op}) are not those of {pattern!r}", ""


def _at_operand(part: Var | Maybe | Op, operand: Value, user: Node) -> tuple[str, str]:
    producer = operand.producer
    if isinstance(part, Maybe):
        return _at_operand(part.part, operand, user)
    if isinstance(part, Const):
        graph = user.graph.root if user.graph is not None else None
        if graph is not None and operand in graph.defaults:
            return f"{operand} can be overridden by the caller", f"take {operand} out of the model's inputs"
        return f"{operand} is computed, not constant", "run simplify first, or export it as a constant"
    if isinstance(part, Var):
        return f"{operand} is not the value that stands elsewhere in {user.label}", ""
    if producer is None:
        return f"{operand} is an input or a constant, not the result of {_either(part.ops)}", ""
    if producer.op not in part.ops:
        return f"{operand} is made by {producer.op}, not by {_either(part.ops)}", ""
    if producer.graph is not user.graph:
        return f"{operand} is made outside of the graph that reads it", ""
    if not part.shared and not operand.has_one_use:
        others = [other.label for other in operand.users if other is not user and other.op != RETURN]
        readers = ", ".join(others[:_SHOWN]) or "the model's outputs"
        return f"{operand} is also read by {readers}", "it must have one reader, and be no output, to vanish"
    return f"the operands of {producer.label} ({producer.op}) are not those of {part!r}", ""


def _either(ops: Iterable[str]) -> str:
    return " or ".join(sorted(ops)) or "any operator"
