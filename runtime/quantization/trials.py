"""Trying: a graph quantized in one way or another, how near it comes to the float model, and whether that will do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from planish import ir, passes
from planish.ir import Graph
from planish.passes.kernels import kernels_for
from planish.passes.manager import Stage
from planish.passes.quantize.quantize_static import Method, QuantizeStatic
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.runtime.calibrate import calibrate
from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import Fidelity, References
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.quantization.candidate import Candidate
from planish.runtime.samples import Feeds
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
_ROUNDING = 32
"""Samples that tell what weights are multiplied with."""


class Trial(NamedTuple):
    quantizing: QuantizeStatic
    path: Path
    candidate: Candidate


@dataclass(frozen=True)
class Budget:
    """How far the task's main metric may fall on its calibration split; without labels, the outputs' cosine."""

    samples: Samples
    target: Target
    limit: int | None
    max_drop: float
    base: float
    """Of the float model."""
    tried: list[Trial] = field(default_factory=list[Trial])
    """What was graded."""

    @property
    def metric(self) -> str:
        return self.samples.metrics[0].name if isinstance(self.samples, Task) else "cosine"

    def graded(self, trial: Trial) -> Trial:
        drop = self._drop(trial.path, trial.candidate.fidelity)
        found = trial._replace(candidate=replace(trial.candidate, drop=drop))
        self.tried[:] = [*(other for other in self.tried if other.path != found.path), found]
        return found

    def holds(self, trial: Trial) -> bool:
        return trial.candidate.drop is not None and trial.candidate.drop <= self.max_drop

    def _drop(self, model: Path, fidelity: Fidelity) -> float:
        if not isinstance(self.samples, Task):
            return 1 - fidelity.cosine
        value = metric_value(self.samples, model, self.target, self.limit)
        return self.base - value if self.samples.metrics[0].higher_is_better else value - self.base


def metric_value(task: Task[object, object], model: Path, target: Target, limit: int | None) -> float:
    return evaluate(model, task, target=target, split="calibration", limit=limit).value


@dataclass(frozen=True)
class Trials:
    """Of one graph, `float_path`, which is ready to be quantized."""

    float_path: Path
    folder: Path
    samples: Samples
    references: References
    target: Target
    limit: int | None
    progress: Progress

    def graph(self) -> Graph:
        return ir.load(self.float_path)

    def build(self, stages: Sequence[Stage], name: str) -> tuple[Path, int]:
        """The model, and how many of its nodes the first of the stages let work on codes."""
        graph = self.graph()
        kernels = kernels_for(self.target.provider, self.target.domains)
        records = passes.run(graph, (*stages, *passes.parse("lower-add"), *tidy()), kernels=kernels)
        path = self.folder / f"{name}.onnx"
        ir.save(graph, path)
        return path, sum(rewrite.rule != "hold-float" for rewrite in records[0].rewrites)

    def trial(self, quantizing: QuantizeStatic, name: str) -> Trial:
        path, integer = self.build((quantizing, *tables(quantizing.only, quantizing.exclude)), name)
        fidelity = self.references.fidelity(path, self.target)
        return Trial(quantizing, path, Candidate(name, path.stat().st_size, fidelity, integer))

    def with_best_ranges(self, quantizing: QuantizeStatic, suffix: str = "") -> Trial:
        """By the method whose outputs have the least noise."""
        found: list[Trial] = []
        for place, (method, part) in enumerate(_METHODS):
            self.progress("choosing ranges", 0.4 + 0.1 * place / len(_METHODS))
            trial = replace(quantizing, method=method, percentile=part if part < 100 else quantizing.percentile)
            found.append(self.trial(trial, f"{method}{f'-{part:g}' if part < 100 else ''}{suffix}"))
        return min(found, key=lambda trial: trial.candidate.fidelity.noise)

    def rounded(self, trial: Trial) -> Trial:
        """With weights rounded for the outputs, and the ranges that go with them, where that is better."""
        quantizing = trial.quantizing
        if quantizing.ranges is None:
            return trial
        if not quantizing.ranges.grams:
            self.progress("gathering Gram matrices", 0.5)
            few = min(self.limit or _ROUNDING, _ROUNDING)
            seen = calibrate(self.float_path, self.samples, target=self.target, limit=few, tensors=(), grams=("*",))
            quantizing = replace(quantizing, ranges=replace(quantizing.ranges, grams=seen.grams))
        self.progress("rounding weights", 0.55)
        made = self.with_best_ranges(replace(quantizing, rounding="gram"), "-gram")
        return made if made.candidate.fidelity.noise < trial.candidate.fidelity.noise else trial


def tables(only: str, exclude: str) -> tuple[Stage, ...]:
    """What stores tables of embeddings in 8 bits, with a scale for each row: half a step is a part in 254 of a row."""
    return (QuantizeWeights(only="Gather", exclude=exclude),) if only == "*" else ()


def tidy() -> tuple[Stage, ...]:
    return passes.parse("merge-duplicate-constants,remove-dead-nodes")
