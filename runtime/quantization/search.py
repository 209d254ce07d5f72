"""The whole walk: optimize, calibrate, quantize, widen, prove, measure, choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from planish import ir, passes
from planish.ir import Graph
from planish.ir.emit_file import check_target
from planish.passes.kernels import kernels_for
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.equalize_channels import EqualizeChannels
from planish.passes.quantize.linear_product import LinearProduct, linear_product
from planish.passes.quantize.lower_activations import LowerActivations
from planish.passes.quantize.plan import predictions
from planish.passes.quantize.quantize_dynamic import QuantizeDynamic
from planish.passes.quantize.quantize_static import QuantizeStatic, TargetName
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.calibrate import calibrate
from planish.runtime.compile import optimize
from planish.runtime.conv_times import ConvTimes, shape_of
from planish.runtime.coverage import Coverage, prove
from planish.runtime.fidelity import References, record
from planish.runtime.latency import LatencyReport
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.quantization.candidate import Candidate, QuantizeResult
from planish.runtime.quantization.floating import within, without
from planish.runtime.quantization.trials import Budget, Samples, Trial, Trials, metric_value, tables, tidy
from planish.runtime.report import interval_text
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.statistics import Interval
from planish.runtime.task import Task

_RUNS = 24
"""On which candidates are told apart."""
_EQUALIZING = 8
"""Samples that tell how far the channels of a tensor reach."""
_SMOOTH = 0.7
"""SmoothQuant's exponent (Xiao et al. 2022, arXiv 2211.10438), as it did best on a small encoder."""
_LONGER, _SHORTER = 3, 5
"""Than `seconds`: for a pair that was left open, and for one of those that were not chosen."""


def placement_of(target: Target) -> TargetName | None:
    """The policy for a target; None where it has no integer kernels that planish knows of."""
    if target.provider == "tensorrt":
        return "tensorrt"
    if target.provider != "cpu":
        return None
    return "cpu-arm" if target.architecture in ("aarch64", "arm64") else "cpu-x86"


@dataclass(frozen=True)
class Search:
    source: Path
    result: Path
    samples: Samples
    target: Target
    folder: Path
    max_drop: float
    limit: int | None
    progress: Progress

    def run(self, only: str, exclude: str, seconds: float, cache: Path | None) -> QuantizeResult:
        check_target(ir.load(self.source), self.result)
        self.progress("optimizing", 0.0)
        optimized = self.folder / "optimized.onnx"
        optimize(self.source, optimized, target=self.target)
        references = record(self.source, parts_of(self.samples, self.limit), self.target, _RUNS)
        budget = self._budget()
        float_ones = [
            Candidate(name, path.stat().st_size, references.fidelity(path, self.target))
            for name, path in (("as it came", self.source), ("optimized", optimized))
        ]

        def done(
            model: Path,
            reason: str,
            tried: Sequence[Candidate],
            excluded: Sequence[str],
            coverage: Coverage | None = None,
        ) -> QuantizeResult:
            ir.save(ir.load(model), self.result)
            self.progress("done", 1.0)
            return QuantizeResult(
                self.source, self.result, not reason, reason, budget.metric, budget.base, self.max_drop,
                (*float_ones, *tried), tuple(excluded), None if reason else coverage,
            )  # fmt: skip

        policy = placement_of(self.target)
        if policy is None:
            return done(
                optimized,
                f"{self.target.provider} has no integer kernels: the optimized model is the faster one",
                (),
                (),
            )
        trials, calibration = self._prepared(references)
        quantizing = QuantizeStatic(ranges=calibration, target=policy, only=only, exclude=exclude)
        quantizing = replace(quantizing, shift=self._shifted(trials.graph(), calibration, quantizing, cache))
        feeds = references.alike(MIN_FEEDS)
        found, excluded, coverage = self._chosen(trials, budget, quantizing, feeds, seconds)
        others = self._front(budget, found, feeds, seconds)
        if not found.candidate.integer or not budget.holds(found):
            reason = "nothing of it can be quantized within the budget"
            return done(optimized, reason, (*others, found.candidate), excluded)
        self.progress("measuring", 0.95)
        latency = self._latency(self.source, found.path, feeds, seconds)
        tried = (*others, replace(found.candidate, latency=latency))
        against = self._latency(optimized, found.path, feeds, seconds)
        if against.low <= 1:
            times = interval_text(Interval(against.ratio, against.low, against.high))
            reason = f"it is not surely faster than the optimized float model: {times} times"
            return done(optimized, reason, tried, excluded)
        return done(found.path, "", tried, excluded, coverage)

    def _chosen(
        self, trials: Trials, budget: Budget, quantizing: QuantizeStatic, feeds: Sequence[Feeds], seconds: float
    ) -> tuple[Trial, tuple[str, ...], Coverage | None]:
        """The fastest that holds the budget or, where none does, what came nearest; and what it leaves float."""
        start = trials.with_best_ranges(quantizing)
        dynamic = self._dynamic(trials, budget, quantizing)
        if dynamic is None:
            found, excluded = within(trials, budget, start)
        else:
            found, excluded = budget.graded(start), ()
            is_slower = not found.candidate.integer or not budget.holds(found)
            if is_slower or self._latency(found.path, dynamic.path, feeds, seconds).ratio > 1:
                return dynamic, (), None
        if not found.candidate.integer:
            return found, excluded, None
        return self._proved(trials, budget, found, excluded)

    def _budget(self) -> Budget:
        base = 1.0
        if isinstance(self.samples, Task):
            base = metric_value(self.samples, self.source, self.target, self.limit)
        return Budget(self.samples, self.target, self.limit, self.max_drop, base)

    # What is to be quantized, and for which ranges

    def _prepared(self, references: References) -> tuple[Trials, Calibration]:
        """The graph in the form that is quantized, with its channels equalized, and what its tensors hold."""
        graph = ir.load(self.source)
        kernels = kernels_for(self.target.provider, self.target.domains)
        passes.run(graph, (*passes.parse("simplify,fuse"), LowerActivations(), *tidy()), kernels=kernels)
        path = self.folder / "float.onnx"
        ir.save(graph, path)
        few = min(self.limit or _EQUALIZING, _EQUALIZING)
        self.progress("calibrating", 0.1)
        seen = calibrate(path, self.samples, target=self.target, limit=few)
        graph = ir.load(path)
        passes.run(graph, (EqualizeChannels(ranges=seen), *tidy()), kernels=kernels)
        path = self.folder / "equalized.onnx"
        ir.save(graph, path)
        seen = calibrate(path, self.samples, target=self.target, limit=self.limit)
        trials = Trials(path, self.folder, self.samples, references, self.target, self.limit, self.progress)
        return trials, seen

    def _shifted(self, graph: Graph, seen: Calibration, quantizing: QuantizeStatic, cache: Path | None) -> str:
        """The convolutions that are faster with weights whose zero point is 1, as a pattern."""
        if quantizing.target != "cpu-x86":
            return ""
        times = ConvTimes(self.target, cache)
        found: list[str] = []
        for node in quantizing.plan(graph).forms:
            shape = shape_of(node, seen)
            if shape is not None and times.prefers_shift(shape):
                found.append(escape(node.result.name))
        return "|".join(found)

    def _proved(
        self, trials: Trials, budget: Budget, trial: Trial, excluded: tuple[str, ...]
    ) -> tuple[Trial, tuple[str, ...], Coverage]:
        """What ONNX Runtime made of the nodes that were to be integer; what did not make it is left float."""

        def proof(found: Trial) -> Coverage:
            return prove(found.path, predictions(found.quantizing.plan(trials.graph())), self.target)

        coverage = proof(trial)
        if coverage.is_whole:
            return trial, excluded, coverage
        less = without(trial.quantizing, [failed.prediction.node for failed in coverage.failures])
        found = budget.graded(trials.trial(less, f"{trial.candidate.name}-proved"))
        if not found.candidate.integer or not budget.holds(found):
            return trial, excluded, coverage
        return found, excluded, proof(found)

    # What else there is

    def _dynamic(self, trials: Trials, budget: Budget, like: QuantizeStatic) -> Trial | None:
        """Matrix products on codes of ranges that each run finds; None where it has convolutions, or misses the budget.

        Outliers of channels behind a LayerNormalization move into the weights, those of rows elsewhere are divided out.
        """
        graph = trials.graph()
        if any(node.op == "Conv" for node in graph.walk()):
            return None
        found = [product for node in graph.nodes if isinstance(product := linear_product(node), LinearProduct)]
        rows = [p.node.result.name for p in found if p.x.producer is None or p.x.producer.op != "LayerNormalization"]
        quantizing = QuantizeDynamic(
            only=like.only, exclude=like.exclude, ranges=like.ranges, smooth=_SMOOTH, rows="|".join(map(escape, rows))
        )
        path, integer = trials.build((quantizing, *tables(like.only, like.exclude)), "dynamic")
        if not integer:
            return None
        fidelity = trials.references.fidelity(path, self.target)
        trial = budget.graded(Trial(like, path, Candidate("dynamic", path.stat().st_size, fidelity, integer)))
        return trial if budget.holds(trial) else None

    # What it gains

    def _front(self, budget: Budget, found: Trial, feeds: Sequence[Feeds], seconds: float) -> list[Candidate]:
        """What else was graded, with the latency of each, measured more briefly; the fastest first."""
        measured: list[Candidate] = []
        for trial in budget.tried:
            if trial.path == found.path or not trial.candidate.integer:
                continue
            self.progress(f"measuring {trial.candidate.name}", 0.9)
            latency = benchmark(self.source, trial.path, feeds, target=self.target, budget_seconds=seconds / _SHORTER)
            measured.append(replace(trial.candidate, latency=latency))
        return sorted(measured, key=lambda candidate: -(candidate.latency.ratio if candidate.latency else 0))

    def _latency(self, a: Path, b: Path, feeds: Sequence[Feeds], seconds: float) -> LatencyReport:
        """Of b against a; measured once more, and longer, where the first time leaves open which is faster."""
        found = benchmark(a, b, feeds, target=self.target, budget_seconds=seconds)
        if found.low <= 1 < found.ratio:
            found = benchmark(a, b, feeds, target=self.target, budget_seconds=_LONGER * seconds)
        return found
