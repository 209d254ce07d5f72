"""The whole walk: bring into form, prune, reconstruct, optimize, judge, and the most that holds the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from planish import ir
from planish.ir import Graph
from planish.ir.emit_file import check_target
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import optimize
from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import References, record
from planish.runtime.inspect import inspect
from planish.runtime.latency import LatencyReport
from planish.runtime.model_run import Face
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.pruning.candidate import PruneCandidate, PruneResult
from planish.runtime.pruning.forms import Shapes, in_form, macs, pruned, ratio_for
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.pruning.held_out import HeldOut, fitted, held_out
from planish.runtime.reconstruct import LayerReport, Samples, reconstruct
from planish.runtime.samples import Parts, parts_of
from planish.runtime.task import Task

_RUNS = 24
"""On which the cosine of outputs is told."""
_BLOCK = 16
"""Channels that ONNX Runtime's convolutions take at once, at most."""
_TRIALS = 5
"""The ratio is found to a part of 2^-5."""


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
    limit: int | None
    progress: Progress
    tried: list[Trial] = field(default_factory=list[Trial])

    def run(self, ratio: float | None, part: float | None, seconds: float) -> PruneResult:
        """ratio, part of the multiply-accumulates: what to prune to; without either the most that holds the budget."""
        check_target(ir.load(self.source), self.result)
        self.progress("optimizing", 0.0)
        optimize(self.source, self.optimized, target=self.target)
        ir.save(in_form(self.source, self.pruning.importance, self.target), self.form)
        found = self._to(ratio, part)
        if isinstance(found, str):
            return self._refused(found)
        if found is None or found.path == self.optimized or found.candidate.drop > self.max_drop:
            return self._refused(self._obstacle())
        self.progress("measuring", 0.9)
        feeds = self.references.alike(MIN_FEEDS)

        def latency(a: Path) -> LatencyReport:
            return benchmark(a, found.path, feeds, target=self.target, budget_seconds=seconds)

        against = latency(self.optimized)
        chosen = replace(found.candidate, latency=latency(self.source))
        if against.high < 1:
            hint = (
                "" if self.pruning.round_to % _BLOCK == 0 else f"; with round-to={_BLOCK} whole blocks of channels stay"
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

    def _to(self, ratio: float | None, part: float | None) -> Trial | str | None:
        """What was asked for, or why it cannot be had."""
        if ratio is not None:
            return self._trial(ratio, f"pruned-{ratio:.3g}")
        if part is None:
            return self._most()
        how = self._how(part)
        if how is None:
            return f"no ratio brings its multiply-accumulates to {part:g} of what they are"
        return self._trial(how, f"pruned-{how:.3g}" if isinstance(how, float) else f"pruned-to-{part:.3g}x")

    def _how(self, part: float) -> float | Ratios | None:
        """How much must go for a part of the multiply-accumulates; None where that cannot be had."""
        if self._allocates:
            return self._plan.ratios(part)
        return ratio_for(part, self.form, self._plan.measured, self._shapes)

    @property
    def _allocates(self) -> bool:
        return not self.uniform and self.pruning.ratios is None and bool(self._plan.curves) and self._plan.cost({}) > 0

    def _most(self) -> Trial | None:
        """By bisection, as if more pruning never did better."""
        low, high, best = 0.0, 1.0, None
        for turn in range(_TRIALS):
            middle = (low + high) / 2
            self.progress(f"pruning {middle:.0%}", 0.1 + 0.8 * turn / _TRIALS)
            how = self._plan.ratios(1 - middle) if self._allocates else middle
            name = f"pruned-{middle:.3g}" if isinstance(how, float) else f"pruned-to-{1 - middle:.3g}x"
            trial = None if how is None else self._trial(how, name)
            if trial is not None and trial.candidate.drop <= self.max_drop:
                low, best = middle, trial
            else:
                high = middle
        return best

    def _trial(self, how: float | Ratios, name: str) -> Trial:
        """The optimized model where nothing goes; the same trial again where as much goes as once before."""
        graph = pruned(self.form, self._plan.measured, how)
        extents = _extents(graph)
        if extents == _extents(ir.load(self.form)):
            return Trial(self.optimized, self._floats[1])
        known = next((trial for trial in self.tried if trial.extents == extents), None)
        if known is not None:
            return known
        path, raw = self.folder / f"{name}.onnx", self.folder / f"{name}-raw.onnx"
        ir.save(graph, raw)
        losses = self._plan.losses(how)
        layers: tuple[LayerReport, ...] = ()
        if self.reconstructing:
            found = reconstruct(
                self.form, raw, self.samples, target=self.target, limit=self.limit, progress=self.progress
            )
            layers = found.layers
            ir.save(found.graph, raw)
        optimize(raw, path, target=self.target)
        ratio = how if isinstance(how, float) else self._plan.part_of(losses)
        trial = Trial(path, replace(self._candidate(name, path, ratio, layers), groups=losses), extents)
        self.tried.append(trial)
        return trial

    # What it is worth

    @property
    def _parts(self) -> Parts[object]:
        return held_out(parts_of(self.samples, self.limit))

    @cached_property
    def _plan(self) -> GroupPlan:
        """Measured on samples that nothing is judged on."""
        samples = fitted(parts_of(self.samples, self.limit))
        return GroupPlan(self.form, self.pruning, samples, self._shapes, self.target, self.folder, self.progress)

    @cached_property
    def references(self) -> References:
        return record(self.source, self._parts, self.target, _RUNS)

    @cached_property
    def _judged(self) -> HeldOut | None:
        return HeldOut(self.samples, parts_of(self.samples, self.limit)) if isinstance(self.samples, Task) else None

    @cached_property
    def _shapes(self) -> Shapes:
        return Face.of(self.source, self.target).shapes(self._parts)

    @cached_property
    def _floats(self) -> tuple[PruneCandidate, PruneCandidate]:
        return (self._candidate("as it came", self.source, 0.0), self._candidate("optimized", self.optimized, 0.0))

    @cached_property
    def _base(self) -> float:
        return self._value(self.source)

    def _value(self, path: Path) -> float:
        if self._judged is None:
            return self.references.fidelity(path, self.target).cosine
        return evaluate(path, self._judged, target=self.target, split="calibration").value

    def _candidate(self, name: str, path: Path, ratio: float, layers: tuple[LayerReport, ...] = ()) -> PruneCandidate:
        value = self._value(path)
        rises = self._judged is None or self._judged.metrics[0].higher_is_better
        drop = self._base - value if rises else value - self._base
        seen = inspect(path)
        return PruneCandidate(name, ratio, seen.parameters, macs(path, self._shapes), seen.bytes, value, drop, layers)

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
        metric = "cosine" if self._judged is None else self._judged.metrics[0].name
        judged = len(self.references.feeds) if self._judged is None else len(self._judged.places)
        return PruneResult(
            self.source, self.result, not reason, reason, metric, judged, self.max_drop, (*self._floats, *tried)
        )


def _extents(graph: Graph) -> tuple[tuple[int, ...], ...]:
    """Of all constants that nodes read, in the order of the nodes."""
    operands = [operand for node in graph.walk() for operand in node.operands if operand is not None]
    return tuple([operand.constant.shape for operand in operands if operand.constant is not None])
