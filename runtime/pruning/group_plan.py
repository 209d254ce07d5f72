"""What is known of a model's groups before it is pruned: what their units matter by, and how much may go of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import Graph, Value
from planish.passes.prune.dependency import Group
from planish.passes.prune.graph_times import GraphTimes
from planish.passes.prune.importance import MEASURED
from planish.passes.prune.importance.unit_scores import UnitScores, group_keys
from planish.passes.prune.preparation import prepare
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
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
from planish.runtime.pruning.held_out import apart
from planish.runtime.pruning.seen_units import Seen, see
from planish.runtime.pruning.sensitivity import Sensitivity
from planish.runtime.samples import Parts

Doubles = NDArray[np.float64]
_LEVELS = (0.25, 0.5, 0.75)
"""Parts of a group that are taken to see what that does to the outputs."""
_STEPS = 32
"""A group shrinks in so many steps at most."""
_RUNS = 16
_LEAST = 1e-9
"""Noise that rounding makes."""
_HEADS = " (heads)"
Pruning = TypeVar("Pruning", bound=PruneChannels)


class Candidate(NamedTuple):
    """A group that may shrink, and the pass with scores that takes units of it, to which it has that name."""

    group: Group
    pruning: PruneChannels
    name: str


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
        if self.pruning.scores is not None:
            return self.pruning
        return self._scored(self.pruning, self.groups)

    @cached_property
    def measured_heads(self) -> PruneHeads:
        """The same of whole heads."""
        p = self.pruning
        found = PruneHeads(
            importance=p.importance, round_to=p.round_to, keep=p.keep, inexact=p.inexact, merge_bias=p.merge_bias,
            reduction=p.reduction, normalization=p.normalization, seed=p.seed,
        )  # fmt: skip
        return self._scored(found, self.heads)

    @cached_property
    def graph(self) -> Graph:
        graph = ir.load(self.form)
        prepare(graph, Run())
        return graph

    @cached_property
    def groups(self) -> Sequence[Group]:
        """Of what the pass takes."""
        return self.pruning.find(self.graph).groups

    @cached_property
    def heads(self) -> Sequence[Group]:
        """Groups of whole heads, on axes that groups of channels lie on, too."""
        if isinstance(self.pruning, PruneHeads):
            return ()
        return PruneHeads(inexact=self.pruning.inexact).find(self.graph).groups

    @cached_property
    def candidates(self) -> Mapping[str, Candidate]:
        """Groups by their keys; heads have others than channels."""
        heads = zip(group_keys(self.heads), self.heads, strict=True)
        channels = zip(group_keys(self.groups), self.groups, strict=True)
        found = {f"{name}{_HEADS}": Candidate(group, self.measured_heads, name) for name, group in heads}
        return found | {name: Candidate(group, self.measured, name) for name, group in channels}

    @cached_property
    def by_key(self) -> Mapping[str, Group]:
        return {key: candidate.group for key, candidate in self.candidates.items()}

    @cached_property
    def rivals(self) -> Mapping[str, Collection[str]]:
        """Of a group of heads those of their elements, and the other way round: they lie on one axis."""
        on: dict[tuple[Value, int], dict[str, PruneChannels]] = {}
        for key, candidate in self.candidates.items():
            for member in candidate.group.members:
                on.setdefault((member.value, member.axis), {})[key] = candidate.pruning
        found: dict[str, set[str]] = {key: set() for key in self.candidates}
        for keys in on.values():
            for key, pruning in keys.items():
                found[key] |= {other for other, another in keys.items() if another is not pruning}
        return found

    @cached_property
    def _apart(self) -> tuple[Parts[object], Parts[object]]:
        """Samples to fit to, and others to judge by: what is fitted to few hardly shows on these what it lacks."""
        return apart(self.samples, _RUNS)

    @cached_property
    def seen(self) -> Seen:
        return self._see(self._apart[0])

    @cached_property
    def judging(self) -> Seen:
        """The same of the samples that judge."""
        return self._see(self._apart[1])

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
        found = allocate(self.curves, wanted, part * wanted({}), self.rivals)
        return None if found is None else Ratios(tuple([(key, float(count)) for key, count in found.items()]))

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Of the groups that may shrink, the noise at the model's outputs by how many units are gone."""
        found: dict[str, Curve] = {}
        for number, (key, candidate) in enumerate(self.candidates.items()):
            self.progress(f"trying group {key}", number / max(len(self.candidates), 1))
            scores = candidate.pruning.scores_of(candidate.name, candidate.group)
            counts = fitting_counts(candidate.group, scores, self.pruning.round_to)
            if len(counts) < 2 or candidate.pruning.keeps(candidate.group):
                continue
            counts = counts[:: -(-len(counts) // _STEPS)]
            found[key] = Curve(candidate.group.size, tuple(counts), self._errors(candidate, scores, counts))
        return found

    def prunings(self, how: float | Ratios) -> Sequence[PruneChannels]:
        """What takes that much: of each group its own, heads first; or one part of every group but of heads."""
        if not isinstance(how, Ratios):
            return (replace(self.measured, ratio=how, ratios=None),)
        found: list[PruneChannels] = []
        gone = {key: count for key, count in how.parts if count}
        lost = {rival for key in gone for rival in self.rivals[key]}
        for pruning in (self.measured_heads, self.measured):
            mine = {key: candidate.name for key, candidate in self.candidates.items() if candidate.pruning is pruning}
            counts = {name: gone[key] for key, name in mine.items() if key in gone}
            scores = pruning.scores and _without(pruning.scores, {name for key, name in mine.items() if key in lost})
            found += [replace(pruning, ratios=Ratios.from_mapping(counts), scores=scores)] if counts else []
        return found

    def pruned(self, how: float | Ratios) -> Graph:
        graph = ir.load(self.form)
        passes.run(graph, tuple(self.prunings(how)))
        return graph

    def losses(self, how: float | Ratios) -> tuple[GroupLoss, ...]:
        """What goes of each group that loses units."""
        counts: dict[Group, int] = {}
        for pruning in self.prunings(how):
            groups = [each.group for each in self.candidates.values() if each.pruning.name == pruning.name]
            chosen, gone = pruning.choose(groups)
            counts |= {group: int(flags.sum()) for group, flags in zip(chosen, gone, strict=True)}
        return tuple([
            GroupLoss(each.name, each.group.size, counts[each.group], each.group.is_heads)
            for each in self.candidates.values()
            if counts.get(each.group)
        ])  # fmt: skip

    def part_of(self, losses: Sequence[GroupLoss]) -> float:
        """Of all units that may go, whole heads and their elements among them."""
        return sum(loss.gone for loss in losses) / max(sum(group.size for group in self.by_key.values()), 1)

    @cached_property
    def references(self) -> References:
        """Of samples whose outputs are finite."""
        found = record(self.form, self._apart[1], self.target, _RUNS)
        pairs = zip(found.feeds, found.outputs, strict=True)
        kept = [(feeds, outputs) for feeds, outputs in pairs if all(np.isfinite(array).all() for array in outputs)]
        return References(tuple([feeds for feeds, _ in kept]), tuple([outputs for _, outputs in kept]))

    def _see(self, samples: Parts[object]) -> Seen:
        return see(self.form, [*self.groups, *self.heads], samples, self.target, self.progress, grams=True)

    def _scored(self, pruning: Pruning, groups: Sequence[Group]) -> Pruning:
        wanted = pruning.importance
        if wanted not in MEASURED or not groups:
            return pruning
        if wanted != "taylor":
            units = dict(zip((*self.groups, *self.heads), self.seen.units, strict=True))
            seen = replace(self.seen, units=[units[group] for group in groups])
            return replace(pruning, scores=scores_of(groups, seen, (wanted,), str(self.form)))
        found = measure(
            self.form, self.samples, (wanted,), self.target, self.progress, inexact=pruning.inexact,
            whole_heads=isinstance(pruning, PruneHeads),
        )  # fmt: skip
        return replace(pruning, scores=found)

    def _errors(self, candidate: Candidate, scores: Doubles, counts: Sequence[int]) -> Doubles:
        """Measured at a few counts; between these as the losses go that the order of removal came with."""
        group, name = candidate.group, candidate.name
        one = Sensitivity(
            self.form, candidate.pruning, self.seen.grams, self.judging.grams, self.references, self.target, self.folder
        )
        tried = sorted({min(counts, key=lambda count: abs(count - level * group.size)) for level in _LEVELS} - {0})
        noises: list[float] = []
        for count in tried:
            (gone,) = select([group], [scores], [float(count)])
            is_told = bool(self.references.feeds)
            noises.append(one.noise(name, group, gone) if is_told else (count / group.size) ** 2)
        noise = np.maximum.accumulate(np.maximum(np.nan_to_num(noises, nan=1e9, posinf=1e9), _LEAST))
        places = np.array(counts, np.float64)
        if self.pruning.importance == "obs":
            losses = np.maximum(np.concatenate([[0.0], np.sort(scores)])[list(counts)], _LEAST)
            at = np.array([losses[counts.index(count)] for count in tried])
            shape = np.log(losses) + np.interp(places, tried, np.log(noise) - np.log(at))
        else:
            shape = np.interp(places, [*tried, group.size], np.log([*noise, max(1.0, noise[-1])]))
            shape += 2 * np.log(np.minimum(np.maximum(places, 1) / tried[0], 1))
        errors = np.minimum(np.maximum.accumulate(np.exp(shape)), max(1.0, noise[-1]))
        errors[0] = 0
        return errors


def _without(scores: UnitScores, names: Collection[str]) -> UnitScores:
    """Of the groups of these names nothing is known any more."""
    return replace(scores, groups={name: found for name, found in scores.groups.items() if name not in names})
