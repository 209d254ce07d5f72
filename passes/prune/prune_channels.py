"""Channels that matter least vanish from every tensor that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from planish.ir import Graph, Node
from planish.ir.ops.channels.atoms import Flags
from planish.ir.ops.channels.tracker import Reason
from planish.passes.errors import PipelineError
from planish.passes.manager import Pass
from planish.passes.prune.budget import EXTENT, Budget, StepCosts, budget_of, check_amounts
from planish.passes.prune.carried import add_to_biases, added_elements, carried
from planish.passes.prune.dependency import Dependencies, Group, dependencies
from planish.passes.prune.importance import CRITERIA, Importance, Normalization, Reduction, measured, score
from planish.passes.prune.importance.unit_scores import UnitScores, group_keys
from planish.passes.prune.operator_table import OperatorTable
from planish.passes.prune.preparation import prepare, restore
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import Scope, Scores, removal_steps, select
from planish.passes.prune.slicing import slice_channels
from planish.passes.prune.unit_cost import parameter_cost
from planish.passes.prune.walk import readers
from planish.passes.replacing import merge_origins
from planish.passes.run import Run


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove the units that matter least: filters, hidden units, elements of heads, with all that hangs on them.

    What is left computes what the model would without the weights of these units, within rounding: what their biases
    add to other layers moves into the biases of these where it is the same everywhere (merge-bias), and units of which
    it is not go as if they held 0. Its accuracy is another matter: evaluate it. Units over which a mean, a variance or
    a softmax is taken stay, unless `inexact` lets them go.
    Contract: APPROXIMATE, without a bound.

    ratio: the part of the units that goes, of each group (scope=local) or of all units (scope=global), where one
    threshold on what they matter decides; each group keeps one at least; a half where nothing else says how much goes.
    importance: what a unit matters by; l1 and l2 norms, bn-scale, geometric-median, random; obs, hessian and others by
    what was measured of it. reduction: how the weights of one unit count together. normalization: what makes groups
    comparable. round_to: as many channels go as leave a multiple of it, none where that cannot be. keep: groups with a
    node or value whose name fits one of these globs, separated by |, stay. seed: of random. scores: what was measured
    of the units, a file. ratios: a file of the part or the number of units that goes of each group by its name, instead
    of ratio and scope.

    macs, params: instead of ratio, the part of the multiply-accumulates or of the parameters that may stay. Units go
    one after the other, in the order in which a growing ratio takes them, the fewest that get there; where all that may
    go do not, it is an error, and nothing goes. Parameters are the elements of constants of floats, and of codes of at
    most 8 bits. Multiply-accumulates are those of convolutions, matrix products and recurrent layers; within nested
    graphs they count once, in nodes of open shapes not at all, with a note. extent: what an extent that inputs leave
    open counts as for that; one of first axes alone counts as 1. latency: the same of the time, the sum of what
    operators take by themselves. times: what that is for the counts of channels on the way, a file, which
    `planish profile-target MODEL --pipeline` measures.
    """

    name: ClassVar[str] = "prune-channels"
    lossy: ClassVar[bool] = True

    usual: ClassVar[float] = 0.5
    """The ratio where nothing else says how much goes."""

    ratio: float | None = None
    importance: Importance = "l2"
    scope: Scope = "local"
    round_to: int = 1
    keep: str = ""
    inexact: bool = False
    merge_bias: bool = True
    reduction: Reduction = "mean"
    normalization: Normalization = "mean"
    seed: int = 0
    scores: UnitScores | None = None
    ratios: Ratios | None = None
    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    times: OperatorTable | None = None
    extent: int = EXTENT

    def __post_init__(self) -> None:
        if self.ratio is not None and not 0 <= self.ratio <= 1:
            raise PipelineError(f"{self.name} takes ratio from 0 to 1, not {self.ratio}")
        if self.round_to < 1:
            raise PipelineError(f"{self.name} takes round-to of at least 1, not {self.round_to}")
        amounts = {"ratio": self.ratio, "ratios": self.ratios, **self.parts}
        check_amounts(self.name, amounts, self.extent, self.times)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Once for all: a second turn in one run would take the same part of what is left."""
        if start is not None or run.exhausted or not run.allows("APPROXIMATE") or self.takes_nothing:
            return
        if self.importance not in CRITERIA and self.scores is None:
            raise PipelineError(f"importance={self.importance} takes scores, which runtime.importance measures")
        before = parameter_cost(graph, {})({})
        copies = prepare(graph, run)
        self.prune(graph, run, before)
        restore(copies)

    @property
    def budget(self) -> Budget | None:
        return budget_of(self.parts, self.extent, self.times)

    @property
    def parts(self) -> dict[str, float | None]:
        """That may stay, by what they are of."""
        return {"macs": self.macs, "params": self.params, "latency": self.latency}

    @property
    def takes_nothing(self) -> bool:
        return self.ratio == 0 or 1 in self.parts.values()

    def prune(self, graph: Graph, run: Run, before: float) -> None:
        """before: parameters of the graph before it was prepared."""
        found, budget = self.find(graph), self.budget
        for reason in dict.fromkeys(part.reason for part in found.frozen if part.reason.is_inexact):
            run.note(f"{reason.node} keeps its channels: {reason.text}; inexact=true lets them go")
        if budget is None:
            groups, chosen = self.choose(found.groups)
        else:
            groups, chosen = self.within(budget, graph, found, run, before)
        removal = Removal(groups, [self.taken(group, gone, run) for group, gone in zip(groups, chosen, strict=True)])
        if removal.is_empty:
            return
        additions = carried(graph, removal).additions if self.merge_bias else ()
        slice_channels(graph, removal, run)
        add_to_biases(additions)

    def choose(self, all_groups: Sequence[Group]) -> tuple[list[Group], list[Flags]]:
        """The groups of a graph that may shrink, and of each what goes by ratio or ratios."""
        keyed, scores = self.judged(all_groups)
        usual = self.usual if self.ratio is None else self.ratio
        ratio = usual if self.ratios is None else [self.ratios.of(key) for key in keyed]
        groups = list(keyed.values())
        return groups, select(groups, scores, ratio, scope=self.scope, round_to=self.round_to)

    def within(
        self, budget: Budget, graph: Graph, found: Dependencies, run: Run, before: float
    ) -> tuple[list[Group], list[Flags]]:
        """The same by a budget: the fewest units; raises PipelineError where all are not enough."""
        keyed, scores = self.judged(found.groups)
        groups = list(keyed.values())
        steps = removal_steps(groups, scores, scope=self.scope, round_to=self.round_to)
        costs = StepCosts(budget.cost(graph, keyed), keyed, steps)
        costs.require(self.times)
        whole = before if budget.option == "params" else budget.whole(costs.cost, run)
        for count in range(costs.fewest(budget, whole), len(steps) + 1):
            chosen = select(groups, scores, costs.gone(count))
            if budget.allows(costs.left(count) + self.added(budget, graph, Removal(groups, chosen)), whole):
                return groups, chosen
        raise budget.missed(costs.left(len(steps)), whole, self.holders(found))

    def judged(self, all_groups: Sequence[Group]) -> tuple[dict[str, Group], list[Scores]]:
        """The groups that no name keeps, by their keys, and what their units matter by."""
        keyed = zip(group_keys(all_groups), all_groups, strict=True)
        found = {key: group for key, group in keyed if not self.keeps(group)}
        return found, [self.scores_of(key, group) for key, group in found.items()]

    def added(self, budget: Budget, graph: Graph, removal: Removal) -> int:
        """Parameters of biases that the removal would bring."""
        if budget.option != "params" or not self.merge_bias or removal.is_empty:
            return 0
        return added_elements(graph, carried(graph, removal).additions)

    def holders(self, found: Dependencies) -> list[str]:
        """What keeps units: options, and the nodes that hold the most of them."""
        options = [f"keep={self.keep}"] if self.keep else []
        options += [f"round-to={self.round_to}"] if self.round_to > 1 else []
        reasons: Counter[Reason] = Counter()
        for frozen in found.frozen:
            reasons[frozen.reason] += frozen.count
        return [*options, *[f"{reason.node}: {reason.text}" for reason, _ in reasons.most_common(2)]]

    def find(self, graph: Graph) -> Dependencies:
        """What may go together."""
        return dependencies(graph, inexact=self.inexact)

    def taken(self, group: Group, gone: Flags, run: Run) -> Flags:
        """What goes of a group, recorded as one rewrite; nothing once the limit is reached."""
        if not gone.any() or run.exhausted:
            return np.zeros_like(gone)
        nodes = dict.fromkeys(node for member in group.constants for node in readers(member.value))
        run.record("remove-units", merge_origins(nodes), group.name)
        for reason in group.rough:
            run.note(f"{reason.node}: {reason.text}; without {gone.sum()} units it gives something else")
        return gone

    def scores_of(self, key: str, group: Group) -> Scores:
        if self.importance in CRITERIA:
            return score(
                group, self.importance, reduction=self.reduction, normalization=self.normalization, seed=self.seed
            )
        found = UnitScores({}) if self.scores is None else self.scores
        return measured(self.importance, found.of(key, self.importance, group.size), self.normalization)

    def keeps(self, group: Group) -> bool:
        """Whether a name of the group is one of those that stay."""
        patterns = [pattern for pattern in self.keep.split("|") if pattern]
        if not patterns:
            return False
        names = {member.value.name for member in group.members}
        names |= {node.label for member in group.members for node in readers(member.value)}
        names |= {member.value.producer.label for member in group.members if member.value.producer is not None}
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
