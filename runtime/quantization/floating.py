"""What goes back to float, so that a budget holds: the nodes around the tensors whose codes cost most accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from glob import escape
from typing import NamedTuple

from planish.ir import Node
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.plan import Plan
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.cost import reduction_length
from planish.runtime.fidelity import References
from planish.runtime.quantization.trials import Budget, Trial, Trials

_SPARSE = 4
"""Every so many of the references tell how much a group costs: noise is no matter of a few samples."""
_LEAST_PART = 0.01
"""Of all the work: a group that does less saves no more time by going back."""


class Group(NamedTuple):
    """Nodes that make and read one tensor: only where all of them are float is the tensor not rounded."""

    nodes: tuple[str, ...]
    work: float
    """Of them, as a part of the graph's multiply-accumulates."""


def groups(plan: Plan, seen: Calibration) -> list[Group]:
    """One for each tensor of codes, and for each node whose weights are codes."""
    work = {node: _work(form.inner or node, seen) for node, form in plan.forms.items()}
    whole = sum(work.values()) or 1.0
    around: dict[tuple[Node, ...], None] = {(node,): None for node, form in plan.forms.items() if form.anchor}
    for value in plan.parameters:
        near = [node for node in plan.forms if plan.made(node.results[0]) is value]
        near += [node for node, form in plan.forms.items() if value in form.reads(node)]
        around[tuple(dict.fromkeys(near))] = None
    return [
        Group(tuple([node.result.name for node in nodes]), sum(work[node] for node in nodes) / whole)
        for nodes in around
        if nodes
    ]


def _work(node: Node, seen: Calibration) -> float:
    """Multiply-accumulates of a sample."""
    terms, made = reduction_length(node), seen.of(node.results[0])
    return float(made.count * terms) if made is not None and isinstance(terms, int) else 0.0


def within(trials: Trials, budget: Budget, start: Trial) -> tuple[Trial, tuple[str, ...]]:
    """Round the weights better, then leave nodes float, until the budget holds; and which nodes those are.

    In the order of what leaving a group float saves in noise for what it costs in work, all measured one by one: noise
    of roundings that know nothing of each other adds up. The least number of groups is found by doubling, then halving.
    """
    found = budget.graded(start)
    if budget.holds(found):
        return found, ()
    found = budget.graded(trials.rounded(start))
    if budget.holds(found):
        return found, ()
    order = _ordered(trials, found)
    if not order:
        return found, ()

    def excluding(count: int) -> tuple[Trial, tuple[str, ...]]:
        names = tuple(dict.fromkeys(name for group in order[:count] for name in group.nodes))
        trials.progress("leaving nodes float", 0.7 + 0.2 * count / len(order))
        return budget.graded(
            trials.trial(without(found.quantizing, names), f"{found.candidate.name}-{len(names)}-float")
        ), names

    low, high = 0, 1
    best = excluding(high)
    while not budget.holds(best[0]) and high < len(order):
        low, high = high, min(2 * high, len(order))
        best = excluding(high)
    if not budget.holds(best[0]):
        return best
    while high - low > 1:
        middle = (low + high) // 2
        tried = excluding(middle)
        low, high, best = (low, middle, tried) if budget.holds(tried[0]) else (middle, high, best)
    return best


def without(quantizing: QuantizeStatic, names: Sequence[str]) -> QuantizeStatic:
    """The pass with more nodes left float."""
    return replace(quantizing, exclude="|".join(filter(None, (quantizing.exclude, *map(escape, names)))))


def _ordered(trials: Trials, found: Trial) -> list[Group]:
    """All groups, those first that save most noise for their work."""
    quantizing = found.quantizing
    if quantizing.ranges is None:
        return []
    every = trials.references
    few = References(every.feeds[::_SPARSE], every.outputs[::_SPARSE])
    base = few.fidelity(found.path, trials.target).noise
    candidates = groups(quantizing.plan(trials.graph()), quantizing.ranges)
    worth: dict[Group, float] = {}
    for place, group in enumerate(candidates):
        trials.progress(f"how much {group.nodes[0]} costs", 0.6 + 0.1 * place / len(candidates))
        path, _ = trials.build((without(quantizing, group.nodes),), "without")
        saved = base - few.fidelity(path, trials.target).noise
        worth[group] = saved / max(group.work, _LEAST_PART) if saved > 0 else saved
    return sorted(candidates, key=lambda group: -worth[group])
