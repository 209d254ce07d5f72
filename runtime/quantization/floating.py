"""What goes back to float, so that a budget holds: the nodes around the tensors whose codes cost most accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from glob import escape
from typing import NamedTuple

from planish.ir import Node
from planish.ir.ops.cost import reduction_length
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.plan import Plan
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.quantization.alone import Rounded
from planish.runtime.quantization.coding_switches import Switch
from planish.runtime.quantization.trials import Budget, Trial, Trials

_LEAST_PART = 0.01
"""Of all the work: a group that does less saves no more time by going back."""


class Group(NamedTuple):
    """Nodes that make and read one tensor: only where all of them are float is the tensor not rounded."""

    nodes: tuple[str, ...]
    noise: float
    """Of the outputs, where the tensor, or the weight of the node, alone is rounded."""


def groups(plan: Plan, costs: Mapping[Switch, float]) -> list[Group]:
    """One for each rounding, by what it costs alone."""
    around: dict[str, list[str]] = {value.name: [] for value in plan.parameters}
    for node, form in plan.forms.items():
        for value in (plan.made(node.results[0]), *form.reads(node)):
            if value in plan.parameters:
                around[value.name].append(node.results[0].name)
    found: list[Group] = []
    for switch, noise in costs.items():
        nodes = switch.values
        if switch.planned is not None:
            nodes = tuple(dict.fromkeys(name for value in switch.values for name in around[value]))
        found.append(Group(nodes, noise))
    return found


def works(plan: Plan, seen: Calibration) -> dict[str, float]:
    """Of the nodes, as parts of the graph's multiply-accumulates."""
    found = {node.results[0].name: _work(form.inner or node, seen) for node, form in plan.forms.items()}
    whole = sum(found.values()) or 1.0
    return {name: work / whole for name, work in found.items()}


def _work(node: Node, seen: Calibration) -> float:
    """Multiply-accumulates of a sample."""
    terms, made = reduction_length(node), seen.of(node.results[0])
    return float(made.count * terms) if made is not None and isinstance(terms, int) else 0.0


def order(found: Sequence[Group], work: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Nodes that go back to float together, those first that save most noise for the work that is lost.

    Greedily: what is float already counts no more, so that next to it less is lost for the next tensor. Noise of
    roundings that know nothing of each other adds up.
    """
    left, gone = list(found), set[str]()
    steps: list[tuple[str, ...]] = []
    while left:
        worth = {group.nodes: _worth(group, left, gone, work) for group in left}
        best = max(worth, key=worth.__getitem__)
        steps.append(tuple([name for name in best if name not in gone]))
        gone.update(best)
        left = [group for group in left if not gone.issuperset(group.nodes)]
    return steps


def _worth(group: Group, left: Sequence[Group], gone: set[str], work: Mapping[str, float]) -> float:
    after = gone.union(group.nodes)
    saved = sum(other.noise for other in left if after.issuperset(other.nodes))
    return saved / max(sum(work.get(name, 0.0) for name in group.nodes if name not in gone), _LEAST_PART)


def within(trials: Trials, budget: Budget, start: Trial) -> tuple[Trial, tuple[str, ...]]:
    """Round the weights better, then leave nodes float, until the budget holds; and which nodes those are.

    The least number of steps of `order` is found by doubling, then halving.
    """
    found = budget.graded(start)
    if budget.holds(found):
        return found, ()
    found = budget.graded(trials.rounded(found))
    going = [] if budget.holds(found) else steps(trials, found.quantizing)
    return _fewest(trials, budget, found, going) if going else (found, ())


def steps(trials: Trials, quantizing: QuantizeStatic) -> list[tuple[str, ...]]:
    """All nodes on codes, in the order in which they go back to float."""
    plan = quantizing.plan(trials.graph())
    if quantizing.ranges is None or not plan.forms:
        return []
    costs = Rounded.of(trials, quantizing).each()
    return order(groups(plan, costs), works(plan, quantizing.ranges))


def _fewest(
    trials: Trials, budget: Budget, found: Trial, steps: Sequence[tuple[str, ...]]
) -> tuple[Trial, tuple[str, ...]]:
    """The least number of steps to float after which the budget holds; all, where it never does."""

    def excluding(count: int) -> tuple[Trial, tuple[str, ...]]:
        names = tuple(dict.fromkeys(name for step in steps[:count] for name in step))
        trials.progress("leaving nodes float", 0.7 + 0.2 * count / len(steps))
        return budget.graded(
            trials.trial(without(found.quantizing, names), f"{found.candidate.name}-{len(names)}-float")
        ), names

    low, high = 0, 1
    best = excluding(high)
    while not budget.holds(best[0]) and high < len(steps):
        low, high = high, min(2 * high, len(steps))
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
