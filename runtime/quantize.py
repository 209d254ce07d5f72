"""Quantizing a model within a budget of accuracy: what is integer is faster and proved, the rest stays float."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import NamedTuple

from planish import ir, passes
from planish.ir import Graph
from planish.ir.emit_file import check_target
from planish.passes.kernels import kernels_for
from planish.passes.manager import Stage
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.equalize_channels import EqualizeChannels
from planish.passes.quantize.linear_product import LinearProduct, linear_product
from planish.passes.quantize.lower_activations import LowerActivations
from planish.passes.quantize.plan import predictions
from planish.passes.quantize.quantize_dynamic import QuantizeDynamic
from planish.passes.quantize.quantize_static import Method, QuantizeStatic, TargetName
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.calibrate import calibrate
from planish.runtime.compile import ModelPath, optimize
from planish.runtime.conv_times import ConvTimes, shape_of
from planish.runtime.coverage import Coverage, prove
from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import Fidelity, References, record
from planish.runtime.latency import LatencyReport
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.report import interval_text
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.statistics import Interval
from planish.runtime.task import Task

Samples = Task[object, object] | str | os.PathLike[str] | Iterable[Feeds]
"""What calibrate takes: a task, a folder of .npz files, or feeds."""
_METHODS: tuple[tuple[Method, float], ...] = (
    ("minmax", 100.0),
    ("percentile", 99.999),
    ("percentile", 99.995),
    ("percentile", 99.99),
    ("percentile", 99.95),
    ("mse", 100.0),
)
_RUNS = 24
"""On which candidates are told apart."""
_EQUALIZING = 8
"""Samples that tell how far the channels of a tensor reach."""
_ROUNDING = 16
"""Samples that tell what weights are multiplied with."""
_TRIES = 12
_SMOOTH = 0.7
"""SmoothQuant's exponent (Xiao et al. 2022, arXiv 2211.10438), as it did best on a small encoder."""
_LONGER = 3


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    name: str
    bytes: int
    fidelity: Fidelity
    integer: int = 0
    """Nodes that work on codes."""
    drop: float | None = None
    """Of the metric, or of the cosine where there are no labels; None where it was not asked."""
    latency: LatencyReport | None = None
    """Of the model as it came against this one."""


@dataclass(frozen=True)
class QuantizeResult:
    source: Path
    target: Path
    quantized: bool
    """Whether the result is quantized; else it is the optimized float model, and `reason` says why."""
    reason: str
    metric: str
    """What the budget is on."""
    base: float
    """Of the float model."""
    max_drop: float
    candidates: tuple[Candidate, ...]
    """The model as it came, the optimized one, and what was tried of the quantized ones."""
    excluded: tuple[str, ...]
    """Nodes that stay float for the sake of accuracy."""
    coverage: Coverage | None
    """Which nodes were to be integer, and which are, as ONNX Runtime made them; None where nothing was quantized."""

    @property
    def chosen(self) -> Candidate:
        return self.candidates[-1] if self.quantized else self.candidates[1]


class _Trial(NamedTuple):
    quantizing: QuantizeStatic
    path: Path
    candidate: Candidate


def quantize(
    source: ModelPath,
    target_path: ModelPath,
    samples: Samples,
    *,
    max_drop: float = 0.005,
    target: Target | None = None,
    only: str = "*",
    exclude: str = "",
    limit: int | None = None,
    seconds: float = 10.0,
    cache: Path | None = None,
    progress: Progress = silent,
) -> QuantizeResult:
    """Write the fastest model whose accuracy drops by no more than `max_drop`, the optimized float one if that is it.

    The whole is quantized first; then what costs most accuracy goes back to float, until the budget holds.

    Args:
        samples: a task, whose main metric on its calibration split the budget is on; or a folder of .npz files, or
            feeds, for which it is on the cosine between the float model's outputs and the quantized one's.
        only, exclude: patterns of nodes, joined by |, that may be quantized, and that may not.
        limit: so many samples; None for all.
        seconds: for measuring a pair of models.
        cache: a folder where times of kernels are kept for the next model.

    Raises:
        CalibrationError: there are no samples, or they do not fit the model.
        GraphError, PassError, SessionError, TaskError: as `optimize`, `calibrate` and `evaluate`.
    """
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        return _Search(Path(source), Path(target_path), samples, where, folder, max_drop, limit, progress).run(
            only, exclude, seconds, cache
        )


def placement_of(target: Target) -> TargetName | None:
    """The policy for a target; None where it has no integer kernels that planish knows of."""
    if target.provider == "tensorrt":
        return "tensorrt"
    if target.provider != "cpu":
        return None
    return "cpu-arm" if target.architecture in ("aarch64", "arm64") else "cpu-x86"


@dataclass
class _Search:
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
        references = record(self.source, parts_of(self._samples(), self.limit), self.target, _RUNS)
        metric, base = self._base()
        float_ones = [
            Candidate("as it came", self.source.stat().st_size, references.fidelity(self.source, self.target)),
            Candidate("optimized", optimized.stat().st_size, references.fidelity(optimized, self.target)),
        ]
        policy = placement_of(self.target)

        def done(reason: str, candidates: Sequence[Candidate], excluded: Sequence[str] = ()) -> QuantizeResult:
            ir.save(ir.load(optimized), self.result)
            return QuantizeResult(
                self.source, self.result, False, reason, metric, base, self.max_drop,
                (*float_ones, *candidates), tuple(excluded), None,
            )  # fmt: skip

        if policy is None:
            return done(f"{self.target.provider} has no integer kernels: the optimized model is the faster one", ())
        graph, calibration = self._prepared()
        quantizing = QuantizeStatic(ranges=calibration, target=policy, only=only, exclude=exclude)
        quantizing = replace(quantizing, shift=self._shifted(graph, calibration, quantizing, cache))
        tried = self._methods(quantizing, references)
        best = min(tried, key=lambda found: found.candidate.fidelity.noise)
        found, excluded = self._within(best, references, base)
        coverage: Coverage | None = None
        if found.candidate.integer:
            found, coverage = self._proved(found, references, base)
        feeds = references.alike(MIN_FEEDS)
        dynamic = self._dynamic(graph, quantizing, references, base)
        if dynamic is not None and self._is_better(dynamic, found, feeds, seconds):
            found, excluded, coverage = dynamic, [], None
        if not found.candidate.integer:
            return done("nothing of it can be quantized within the budget", [found.candidate], excluded)
        self.progress("measuring", 0.9)
        latency = self._latency(self.source, found.path, feeds, seconds)
        candidate = replace(found.candidate, latency=latency)
        against = self._latency(optimized, found.path, feeds, seconds)
        if against.low <= 1:
            times = interval_text(Interval(against.ratio, against.low, against.high))
            return done(f"it is not surely faster than the optimized float model: {times} times", [candidate], excluded)
        ir.save(ir.load(found.path), self.result)
        self.progress("done", 1.0)
        return QuantizeResult(
            self.source, self.result, True, "", metric, base, self.max_drop,
            (*float_ones, candidate), tuple(excluded), coverage,
        )  # fmt: skip

    def _samples(self) -> Samples:
        if not isinstance(self.samples, Task | str | os.PathLike | Sequence):
            self.samples = tuple(self.samples)  # they are gone through more than once
        return self.samples

    # What is to be quantized, and for which ranges

    def _prepared(self) -> tuple[Graph, Calibration]:
        """The graph in the form that is quantized, with its channels equalized, and what its tensors hold."""
        graph = ir.load(self.source)
        kernels = kernels_for(self.target.provider, self.target.domains)
        passes.run(graph, (*passes.parse("simplify,fuse"), LowerActivations(), *_tidy()), kernels=kernels)
        path = self.folder / "float.onnx"
        ir.save(graph, path)
        few = min(self.limit or _EQUALIZING, _EQUALIZING)
        self.progress("calibrating", 0.1)
        seen = calibrate(path, self._samples(), target=self.target, limit=few)
        graph = ir.load(path)
        passes.run(graph, (EqualizeChannels(ranges=seen), *_tidy()), kernels=kernels)
        path = self.folder / "equalized.onnx"
        ir.save(graph, path)
        seen = calibrate(path, self._samples(), target=self.target, limit=self.limit)
        return ir.load(path), seen

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

    def _build(self, stages: Sequence[Stage], name: str) -> tuple[Path, int]:
        """The model, and how many of its nodes the first of the stages let work on codes."""
        graph = ir.load(self.folder / "equalized.onnx")
        kernels = kernels_for(self.target.provider, self.target.domains)
        records = passes.run(graph, (*stages, *passes.parse("lower-add"), *_tidy()), kernels=kernels)
        path = self.folder / f"{name}.onnx"
        ir.save(graph, path)
        return path, len(records[0].rewrites)

    def _methods(self, quantizing: QuantizeStatic, references: References) -> list[_Trial]:
        found: list[_Trial] = []
        for place, (method, part) in enumerate(_METHODS):
            self.progress("choosing ranges", 0.4 + 0.1 * place / len(_METHODS))
            trial = replace(quantizing, method=method, percentile=part if part < 100 else quantizing.percentile)
            found.append(self._trial(trial, method if part == 100 else f"{method}-{part:g}", references))
        return found

    def _trial(self, quantizing: QuantizeStatic, name: str, references: References) -> _Trial:
        path, integer = self._build((quantizing,), name)
        fidelity = references.fidelity(path, self.target)
        return _Trial(quantizing, path, Candidate(name, path.stat().st_size, fidelity, integer))

    def _rounded(self, trial: _Trial, references: References) -> _Trial:
        """With weights rounded for the outputs, where that is better."""
        quantizing = trial.quantizing
        if quantizing.rounding == "nearest" and quantizing.ranges is not None and not quantizing.ranges.grams:
            self.progress("gathering Gram matrices", 0.5)
            few = min(self.limit or _ROUNDING, _ROUNDING)
            graph = self.folder / "equalized.onnx"
            seen = calibrate(graph, self._samples(), target=self.target, limit=few, tensors=(), grams=("*",))
            quantizing = replace(quantizing, ranges=replace(quantizing.ranges, grams=seen.grams))
        self.progress("rounding weights", 0.55)
        made = self._trial(replace(quantizing, rounding="gram"), f"{trial.candidate.name}-gram", references)
        return made if made.candidate.fidelity.noise < trial.candidate.fidelity.noise else trial

    def _dynamic(self, graph: Graph, like: QuantizeStatic, references: References, base: float) -> _Trial | None:
        """Matrix products on codes of ranges that each run finds; None where it has convolutions, or misses the budget.

        Outliers of channels behind a LayerNormalization move into the weights, those of rows elsewhere are divided out.
        """
        if any(node.op == "Conv" for node in graph.walk()):
            return None
        found = [product for node in graph.nodes if isinstance(product := linear_product(node), LinearProduct)]
        rows = [p.node.result.name for p in found if p.x.producer is None or p.x.producer.op != "LayerNormalization"]
        quantizing = QuantizeDynamic(
            only=like.only, exclude=like.exclude, ranges=like.ranges, smooth=_SMOOTH, rows="|".join(map(escape, rows))
        )
        path, integer = self._build((quantizing, QuantizeWeights(only="Gather")), "dynamic")
        if not integer:
            return None
        fidelity = references.fidelity(path, self.target)
        trial = self._graded(_Trial(like, path, Candidate("dynamic", path.stat().st_size, fidelity, integer)), base)
        return trial if self._holds(trial) else None

    def _is_better(self, dynamic: _Trial, other: _Trial, feeds: Sequence[Feeds], seconds: float) -> bool:
        if not other.candidate.integer or not self._holds(other):
            return True
        return self._latency(other.path, dynamic.path, feeds, seconds).ratio > 1

    def _latency(self, a: Path, b: Path, feeds: Sequence[Feeds], seconds: float) -> LatencyReport:
        """Of b against a; measured once more, and longer, where the first time leaves open which is faster."""
        found = benchmark(a, b, feeds, target=self.target, budget_seconds=seconds)
        if found.low <= 1 < found.ratio:
            found = benchmark(a, b, feeds, target=self.target, budget_seconds=_LONGER * seconds)
        return found

    # The budget

    def _base(self) -> tuple[str, float]:
        if not isinstance(self.samples, Task):
            return "cosine", 1.0
        return self.samples.metrics[0].name, self._value(self.samples, self.source)

    def _value(self, task: Task[object, object], model: Path) -> float:
        return evaluate(model, task, target=self.target, split="calibration", limit=self.limit).value

    def _drop(self, model: Path, fidelity: Fidelity, base: float) -> float:
        if not isinstance(self.samples, Task):
            return 1 - fidelity.cosine
        value = self._value(self.samples, model)
        return base - value if self.samples.metrics[0].higher_is_better else value - base

    def _graded(self, trial: _Trial, base: float) -> _Trial:
        drop = self._drop(trial.path, trial.candidate.fidelity, base)
        return trial._replace(candidate=replace(trial.candidate, drop=drop))

    def _holds(self, trial: _Trial) -> bool:
        return trial.candidate.drop is not None and trial.candidate.drop <= self.max_drop

    def _within(self, trial: _Trial, references: References, base: float) -> tuple[_Trial, list[str]]:
        """Round the weights better, then leave nodes float, those first that cost most, until the budget holds."""
        found = self._graded(trial, base)
        if self._holds(found):
            return found, []
        found = self._graded(self._rounded(trial, references), base)
        if self._holds(found):
            return found, []
        quantizing = found.quantizing
        order = self._sensitivities(trial, references)
        excluded: list[str] = []
        step = max(1, len(order) // _TRIES)
        while order and found.candidate.integer and not self._holds(found):
            excluded += order[:step]
            order = order[step:]
            less = replace(quantizing, exclude="|".join(filter(None, (quantizing.exclude, *map(escape, excluded)))))
            self.progress("leaving nodes float", 0.7 + 0.2 * len(excluded) / (len(excluded) + len(order)))
            found = self._graded(self._trial(less, "partly", references), base)
        return found, excluded

    def _proved(self, trial: _Trial, references: References, base: float) -> tuple[_Trial, Coverage]:
        """What ONNX Runtime made of the nodes that were to be integer; what did not make it is left float."""
        graph = ir.load(self.folder / "equalized.onnx")
        coverage = prove(trial.path, predictions(trial.quantizing.plan(graph)), self.target)
        if coverage.is_whole:
            return trial, coverage
        failed = "|".join(escape(proof.prediction.node) for proof in coverage.failures)
        less = replace(trial.quantizing, exclude="|".join(filter(None, (trial.quantizing.exclude, failed))))
        found = self._graded(self._trial(less, "proved", references), base)
        if not found.candidate.integer or not self._holds(found):
            return trial, coverage
        return found, prove(found.path, predictions(less.plan(ir.load(self.folder / "equalized.onnx"))), self.target)

    def _sensitivities(self, trial: _Trial, references: References) -> list[str]:
        """Products by how much less noise there is where each stays float, most first; all rounded to nearest."""
        quantizing, graph = trial.quantizing, ir.load(self.folder / "equalized.onnx")
        names = [node.result.name for node, form in quantizing.plan(graph).forms.items() if form.anchor]
        few = References(references.feeds[::2], references.outputs[::2])
        gains: dict[str, float] = {}
        for place, name in enumerate(names):
            self.progress(f"how much {name} costs", 0.6 + 0.1 * place / len(names))
            less = replace(quantizing, exclude="|".join(filter(None, (quantizing.exclude, escape(name)))))
            gains[name] = -few.fidelity(self._build((less,), "without")[0], self.target).noise
        return sorted(names, key=lambda name: -gains[name])


def _tidy() -> tuple[Stage, ...]:
    return passes.parse("merge-duplicate-constants,remove-dead-nodes")
