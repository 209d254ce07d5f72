"""What is known of a model's groups before it is pruned: what their units matter by, and how much may go of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import Graph
from planish.passes.prune.dependency import Group, dependencies
from planish.passes.prune.graph_times import GraphTimes
from planish.passes.prune.importance import MEASURED
from planish.passes.prune.importance.unit_scores import group_keys
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.selection import fitting_counts, select
from planish.passes.prune.unit_cost import Cost, mac_cost, parameter_cost
from planish.passes.run import Run
from planish.runtime.bindings import Binding, Symbols
from planish.runtime.fidelity import References, record
from planish.runtime.importance import measure, scores_of
from planish.runtime.operator_times import OperatorTimes
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.pruning.allocation import Curve, allocate
from planish.runtime.pruning.candidate import GroupLoss
from planish.runtime.pruning.forms import amounted
from planish.runtime.pruning.seen_units import Seen, see
from planish.runtime.pruning.sensitivity import Sensitivity
from planish.runtime.samples import Parts

Doubles = NDArray[np.float64]
_LEVELS = (0.25, 0.5, 0.75)
"""Parts of a group that are taken to see what that does to the outputs."""
_STEPS = 32
"""A group shrinks in so many steps at most."""
_RUNS = 8
_LEAST = 1e-9
"""Noise that rounding makes."""


@dataclass(frozen=True)
class GroupPlan:
    """form: the file of the model. samples: those that nothing is judged on. shapes: of the inputs of a run."""

    form: Path
    pruning: PruneChannels
    samples: Parts[object]
    shapes: Mapping[str, tuple[int, ...]]
    target: Target
    folder: Path
    progress: Progress
    times: OperatorTimes | None = None
    """What the cost of a model is made of; None for its multiply-accumulates."""
    of_parameters: bool = False
    """Whether parameters are the cost instead."""

    @cached_property
    def measured(self) -> PruneChannels:
        """The pass with its scores: those that it came with, or what samples say."""
        wanted = self.pruning.importance
        if wanted not in MEASURED or self.pruning.scores is not None:
            return self.pruning
        if wanted == "taylor":
            found = measure(
                self.form, self.samples, (wanted,), self.target, self.progress, inexact=self.pruning.inexact
            )
            return replace(self.pruning, scores=found)
        return replace(self.pruning, scores=scores_of(self.groups, self.seen, (wanted,), str(self.form)))

    @cached_property
    def graph(self) -> Graph:
        graph = ir.load(self.form)
        prepare(graph, Run())
        return graph

    @cached_property
    def groups(self) -> Sequence[Group]:
        return dependencies(self.graph, inexact=self.pruning.inexact).groups

    @cached_property
    def by_key(self) -> Mapping[str, Group]:
        return dict(zip(group_keys(self.groups), self.groups, strict=True))

    @cached_property
    def seen(self) -> Seen:
        return see(self.form, self.groups, self.samples, self.target, self.progress, grams=True)

    @cached_property
    def cost(self) -> Cost:
        if self.of_parameters:
            return parameter_cost(self.graph, self.by_key)
        extents = Symbols(self.graph).of(Binding(self.shapes))
        if self.times is None:
            return mac_cost(self.graph, self.by_key, extents)
        return GraphTimes(self.graph, self.by_key, extents, self.times)

    def ratios(self, part: float, cost: Cost | None = None) -> Ratios | None:
        """How much goes of each group for a part of the cost, by default in multiply-accumulates; None where that
        cannot be had."""
        wanted = cost or self.cost
        found = allocate(self.curves, wanted, part * wanted({}))
        return None if found is None else Ratios(tuple([(key, float(count)) for key, count in found.items()]))

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Of the groups that may shrink, the noise at the model's outputs by how many units are gone."""
        sensitivity = Sensitivity(self.form, self.measured, self.seen.grams, self.references, self.target, self.folder)
        found: dict[str, Curve] = {}
        for number, (key, group) in enumerate(self.by_key.items()):
            self.progress(f"trying group {key}", number / max(len(self.by_key), 1))
            scores = self.measured.scores_of(key, group)
            counts = fitting_counts(group, scores, self.pruning.round_to)
            if len(counts) < 2 or self.measured.keeps(group):
                continue
            step = -(-len(counts) // _STEPS)
            counts = counts[::step]
            found[key] = Curve(group.size, tuple(counts), self._errors(sensitivity, key, group, scores, counts))
        return found

    def losses(self, how: float | Ratios) -> tuple[GroupLoss, ...]:
        """What goes of each group that loses units."""
        groups, gone = amounted(self.measured, how).choose(self.groups)
        counts = {id(group): int(flags.sum()) for group, flags in zip(groups, gone, strict=True)}
        found = [GroupLoss(key, group.size, counts.get(id(group), 0)) for key, group in self.by_key.items()]
        return tuple([loss for loss in found if loss.gone])

    def part_of(self, losses: Sequence[GroupLoss]) -> float:
        """Of all units that may go."""
        return sum(loss.gone for loss in losses) / max(sum(group.size for group in self.groups), 1)

    @cached_property
    def references(self) -> References:
        """Of samples whose outputs are finite."""
        found = record(self.form, self.samples, self.target, _RUNS)
        pairs = zip(found.feeds, found.outputs, strict=True)
        kept = [(feeds, outputs) for feeds, outputs in pairs if all(np.isfinite(array).all() for array in outputs)]
        return References(tuple([feeds for feeds, _ in kept]), tuple([outputs for _, outputs in kept]))

    def _errors(
        self, sensitivity: Sensitivity, key: str, group: Group, scores: Doubles, counts: Sequence[int]
    ) -> Doubles:
        """Measured at a few counts; between these as the losses go that the order of removal came with."""
        tried = sorted({min(counts, key=lambda count: abs(count - level * group.size)) for level in _LEVELS} - {0})
        noises: list[float] = []
        for count in tried:
            (gone,) = select([group], [scores], [float(count)])
            is_told = bool(self.references.feeds)
            noises.append(sensitivity.noise(key, group, gone) if is_told else (count / group.size) ** 2)
        noise = np.maximum.accumulate(np.maximum(np.nan_to_num(noises, nan=1e9, posinf=1e9), _LEAST))
        places = np.array(counts, np.float64)
        if self.pruning.importance == "obs":
            losses = np.maximum(np.concatenate([[0.0], np.sort(scores)])[list(counts)], _LEAST)
            at = np.array([losses[counts.index(count)] for count in tried])
            shape = np.log(losses) + np.interp(places, tried, np.log(noise) - np.log(at))
        else:
            shape = np.interp(places, [*tried, group.size], np.log([*noise, max(1.0, noise[-1])]))
            shape += 2 * np.log(np.minimum(np.maximum(places, 1) / tried[0], 1))
        errors = np.maximum.accumulate(np.exp(shape))
        errors[0] = 0
        return errors
