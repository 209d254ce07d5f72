"""The whole walk: bring into form, prune, reconstruct, optimize, judge, and the most that holds the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from planish import ir
from planish.ir import Graph
from planish.ir.emit_file import check_target
from planish.passes.prune.graph_times import BLOCK
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import optimize
from planish.runtime.inspect import inspect
from planish.runtime.latency import LatencyReport
from planish.runtime.model_run import Face
from planish.runtime.operator_times import OperatorTimes
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.pruning.candidate import PruneCandidate, PruneResult
from planish.runtime.pruning.forms import Shapes, in_form, macs, ratio_for
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.pruning.held_out import fitted
from planish.runtime.pruning.stage import Stage, joined
from planish.runtime.pruning.worth import Worth
from planish.runtime.reconstruct import LayerReport, Samples, reconstruct
from planish.runtime.samples import parts_of

_AIMS = 4
_NEARLY = 1.02
"""Of the time that was asked for: it cannot be told more exactly."""
_TRIALS = 5
"""The ratio is found to a part of 2^-5."""


@dataclass(frozen=True)
class Goal:
    """At most one of them: the part of each group that goes; of the multiply-accumulates, the time or the parameters
    that stays.

    Without any it is the most that holds the budget.
    """

    ratio: float | None = None
    macs: float | None = None
    latency: float | None = None
    params: float | None = None

    @property
    def part(self) -> float | None:
        """That stays of what can be counted."""
        return self.macs if self.params is None else self.params

    def __str__(self) -> str:
        if self.macs is not None:
            return f"its multiply-accumulates to {self.macs:g} of what they are"
        if self.params is not None:
            return f"its parameters to {self.params:g} of what they are"
        return f"it to {self.latency:g} of the optimized model's time"


@dataclass(frozen=True)
class Trial:
    path: Path
    candidate: PruneCandidate
    extents: tuple[tuple[int, ...], ...] = ()
    """Of the weights, before optimization."""


@dataclass(frozen=True)
class Search:
    source: Path
    result: Path
    samples: Samples
    pruning: PruneChannels
    target: Target
    folder: Path
    max_drop: float
    reconstructing: bool
    uniform: bool
    steps: int
    limit: int | None
    goal: Goal
    seconds: float
    """For measuring a pair of models."""
    cache: Path | None
    progress: Progress
    tried: list[Trial] = field(default_factory=list[Trial])

    def run(self) -> PruneResult:
        check_target(ir.load(self.source), self.result)
        self.progress("optimizing", 0.0)
        optimize(self.source, self.optimized, target=self.target)
        ir.save(in_form(self.source, self.pruning.importance, self.target), self.form)
        found = self._to(self.goal)
        if isinstance(found, str):
            return self._refused(found)
        if found is None or found.path == self.optimized or not found.candidate.drop <= self.max_drop:
            return self._refused(self._obstacle())
        self.progress("measuring", 0.9)
        against = self._latency(self.optimized, found.path)
        chosen = replace(found.candidate, latency=self._latency(self.source, found.path))
        if against.high < 1:
            hint = (
                "" if self.pruning.round_to % BLOCK == 0 else f"; with round-to={BLOCK} whole blocks of channels stay"
            )
            return self._refused(f"it is slower than the optimized model: {against.ratio:.3f} times as fast{hint}")
        return self._done(found.path, "", [*self._others(found), chosen])

    @property
    def optimized(self) -> Path:
        return self.folder / "optimized.onnx"

    @property
    def form(self) -> Path:
        """What is pruned."""
        return self.folder / "form.onnx"

    # What is tried

    def _to(self, goal: Goal) -> Trial | str | None:
        """What was asked for, or why it cannot be had."""
        if goal.ratio is not None:
            return self._trial(goal.ratio, f"pruned-{goal.ratio:.3g}")
        if goal.part is None and goal.latency is None:
            return self._most()
        part = goal.part if goal.part is not None else self._aim(goal.latency or 1.0)
        trial = None if part is None else self._to_part(part)
        why = "" if self._plan.curves or self.uniform else ": no group may shrink, or the samples say nothing of any"
        return trial or f"no ratio brings {goal}{why}"

    def _to_part(self, part: float) -> Trial | None:
        """To a part of the cost, in steps of which each is measured anew; None where that cannot be."""
        if not self._allocates:
            ratio = self._how(part)
            return None if ratio is None else self._trial(ratio, f"pruned-{ratio:.3g}")
        name, stage, whole = f"pruned-to-{part:.3g}x", Stage(self.form, self._plan), self._plan.cost({})
        for step in range(1, self.steps):
            how = stage.plan.ratios(part ** (step / self.steps) * whole / stage.plan.cost({}))
            if how is None:
                return None
            stage = self._after(stage, how, f"{name}-step-{step}")
        how = stage.plan.ratios(part * whole / stage.plan.cost({}))
        return None if how is None else self._trial(how, name, stage)

    def _after(self, stage: Stage, how: Ratios, name: str) -> Stage:
        raw, form = self.folder / f"{name}-raw.onnx", self.folder / f"{name}.onnx"
        ir.save(stage.plan.pruned(how), raw)
        self._refit(stage.form, raw, form)
        return Stage(form, self._plan_of(form), joined(stage.losses, stage.plan.losses(how)))

    def _aim(self, part: float) -> float | None:
        """What part of the cost to ask for to take that part of the optimized model's time: less, where the pruned one,
        measured, takes more. None where that is not found.

        Weights do not matter for that, so that nothing is fitted yet.
        """
        aim, raw, fast = part, self.folder / "aimed-raw.onnx", self.folder / "aimed.onnx"
        for turn in range(_AIMS):
            self.progress(f"aiming at {aim:.2f} of the time", 0.1 + 0.1 * turn)
            how = self._how(aim)
            if how is None:
                return None
            ir.save(self._plan.pruned(how), raw)
            optimize(raw, fast, target=self.target)
            taken = 1 / self._latency(self.optimized, fast).ratio
            if taken <= part * _NEARLY:
                return aim
            aim *= part / taken
        return None

    def _how(self, part: float) -> float | Ratios | None:
        """How much must go for a part of the cost; None where that cannot be had."""
        if self._allocates:
            return self._plan.ratios(part)
        return ratio_for(part, self.form, self._plan.measured, self._shapes if self.goal.params is None else None)

    @property
    def _allocates(self) -> bool:
        return not self.uniform and bool(self._plan.curves) and self._plan.cost({}) > 0

    def _most(self) -> Trial | None:
        """By bisection, as if more pruning never did better."""
        low, high, best = 0.0, 1.0, None
        for turn in range(_TRIALS):
            middle = (low + high) / 2
            self.progress(f"pruning {middle:.0%}", 0.1 + 0.8 * turn / _TRIALS)
            is_part = self._allocates
            trial = self._to_part(1 - middle) if is_part else self._trial(middle, f"pruned-{middle:.3g}")
            if trial is not None and trial.candidate.drop <= self.max_drop:
                low, best = middle, trial
            else:
                high = middle
        return best

    def _trial(self, how: float | Ratios, name: str, stage: Stage | None = None) -> Trial:
        """The optimized model where nothing goes; the same trial again where as much goes as once before."""
        stage = stage or Stage(self.form, self._plan)
        graph = stage.plan.pruned(how)
        extents = _extents(graph)
        if extents == _extents(ir.load(self.form)):
            return Trial(self.optimized, self._floats[1])
        known = next((trial for trial in self.tried if trial.extents == extents), None)
        if known is not None:
            return known
        path, raw, form = (self.folder / f"{name}{end}.onnx" for end in ("", "-raw", "-fitted"))
        ir.save(graph, raw)
        losses = joined(stage.losses, stage.plan.losses(how))
        layers = self._refit(stage.form, raw, form)
        optimize(form, path, target=self.target)
        ratio = how if isinstance(how, float) else self._plan.part_of(losses)
        trial = Trial(path, replace(self._candidate(name, path, ratio, layers), groups=losses), extents)
        self.tried.append(trial)
        return trial

    def _refit(self, original: Path, raw: Path, form: Path) -> tuple[LayerReport, ...]:
        """Write to `form` what reconstruction makes of a pruned model, or that model."""
        if not self.reconstructing:
            ir.save(ir.load(raw), form)
            return ()
        found = reconstruct(
            original, raw, self.samples, output=form, target=self.target, limit=self.limit, progress=self.progress
        )
        return found.layers

    # What it is worth

    @cached_property
    def worth(self) -> Worth:
        return Worth(self.source, self.samples, self.limit, self.target)

    @cached_property
    def _plan(self) -> GroupPlan:
        return self._plan_of(self.form)

    def _plan_of(self, form: Path) -> GroupPlan:
        """Measured on samples that nothing is judged on; scores that were given are of the first model."""
        samples = fitted(parts_of(self.samples, self.limit))
        pruning = self.pruning if form == self.form else replace(self.pruning, scores=None)
        return GroupPlan(
            form, pruning, samples, self._shapes, self.target, self.folder, self.progress, self._times,
            self.goal.params is not None,
        )  # fmt: skip

    @property
    def _times(self) -> OperatorTimes | None:
        return None if self.goal.latency is None else OperatorTimes(self.target, self.cache)

    @cached_property
    def _shapes(self) -> Shapes:
        return Face.of(self.source, self.target).shapes(self.worth.parts)

    @cached_property
    def _floats(self) -> tuple[PruneCandidate, PruneCandidate]:
        return (self._candidate("as it came", self.source, 0.0), self._candidate("optimized", self.optimized, 0.0))

    def _candidate(self, name: str, path: Path, ratio: float, layers: tuple[LayerReport, ...] = ()) -> PruneCandidate:
        value, seen = self.worth.value(path), inspect(path)
        drop = self.worth.drop(value)
        return PruneCandidate(name, ratio, seen.parameters, macs(path, self._shapes), seen.bytes, value, drop, layers)

    def _latency(self, a: Path, b: Path) -> LatencyReport:
        feeds = self.worth.references.alike(MIN_FEEDS)
        return benchmark(a, b, feeds, target=self.target, budget_seconds=self.seconds)

    # What comes of it

    def _obstacle(self) -> str:
        """Why nothing was found; and what the best of those that missed the budget lost."""
        best = min((trial.candidate for trial in self.tried), key=lambda each: each.drop, default=None)
        if best is None:
            return "none of its channels can go; `planish inspect --groups` says what keeps them, and round-to may"
        return f"nothing of it can be pruned within the budget: {best.name} loses {best.drop:.4f}"

    def _others(self, found: Trial | None) -> list[PruneCandidate]:
        others = [trial.candidate for trial in self.tried if trial is not found]
        return sorted(others, key=lambda each: each.ratio)

    def _refused(self, reason: str) -> PruneResult:
        return self._done(self.optimized, reason, self._others(None))

    def _done(self, model: Path, reason: str, tried: Sequence[PruneCandidate]) -> PruneResult:
        ir.save(ir.load(model), self.result)
        self.progress("done", 1.0)
        return PruneResult(
            self.source, self.result, not reason, reason, self.worth.metric, self.worth.judged, self.max_drop,
            (*self._floats, *tried),
        )  # fmt: skip


def _extents(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Of all constants that nodes read, in the order of the nodes."""
    operands = [operand for node in graph.walk() for operand in node.operands if operand is not None]
    return tuple([operand.constant.shape for operand in operands if operand.constant is not None])
