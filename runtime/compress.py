"""Pruning and quantizing a model within one budget of accuracy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from planish import ir
from planish.ir.emit_file import check_target
from planish.passes.errors import PipelineError
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.benchmark import MIN_FEEDS, benchmark
from planish.runtime.compile import ModelPath, optimize
from planish.runtime.inspect import inspect
from planish.runtime.latency import LatencyReport
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.prune import prune
from planish.runtime.pruning.worth import Worth
from planish.runtime.quantize import quantize
from planish.runtime.reconstruct import Samples
from planish.runtime.task import Task

_SHARES = (0.8, 0.5, 0.25)
"""Of the budget, what pruning may take: codes of 8 bits cost little."""


@dataclass(frozen=True)
class CompressCandidate:
    name: str
    path: Path = field(repr=False)
    bytes: int
    parameters: int
    value: float
    """Of the metric on samples that no weight was fitted to."""
    drop: float
    latency: LatencyReport | None = None
    """Of the model as it came against this one."""

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "bytes": self.bytes,
            "parameters": self.parameters,
            "value": self.value,
            "drop": self.drop,
            "latency": None if self.latency is None else self.latency.as_dict(),
        }


@dataclass(frozen=True)
class CompressResult:
    source: Path
    target: Path
    metric: str
    """What the budget is on."""
    judged: int
    """Samples that the metric is of."""
    max_drop: float
    candidates: tuple[CompressCandidate, ...]
    """The model as it came, the optimized one, and what was tried; the last is what was chosen."""
    notes: tuple[str, ...]
    """Why pruning or quantizing came to nothing, where one did."""

    @property
    def chosen(self) -> CompressCandidate:
        return self.candidates[-1]

    def as_dict(self) -> dict[str, object]:
        return {
            "source": str(self.source),
            "target": str(self.target),
            "metric": self.metric,
            "judged": self.judged,
            "max_drop": self.max_drop,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
            "notes": list(self.notes),
        }


def compress(
    source: ModelPath,
    target_path: ModelPath,
    samples: Samples,
    *,
    max_drop: float = 0.01,
    macs: float | None = None,
    pruning: PruneChannels | None = None,
    target: Target | None = None,
    limit: int | None = None,
    seconds: float = 10.0,
    cache: Path | None = None,
    progress: Progress = silent,
) -> CompressResult:
    """Write the fastest of what pruning, reconstruction and quantization make of a model within one budget.

    Pruning may take a part of the budget, 80 % at first, and quantization what is left of it then; where both together
    lose more than all of it, pruning gets less. The model quantized alone, pruned alone, and only optimized stand
    beside, and what is surely slower than the optimized one is not chosen.

    Args:
        samples: a task, whose main metric on its calibration split the budget is on; or a folder of .npz files, or
            feeds, for which it is on the cosine between outputs. It is judged on a third of them, to which no weight is
            fitted.
        max_drop: how far metric or cosine may fall, in all.
        macs: the part of the multiply-accumulates that pruning leaves; None: as few as its part of the budget allows.
        pruning: as `prune` takes it.
        limit: so many samples; None for all.
        seconds: for measuring a pair of models.
        cache: a folder where times of kernels are kept for the next model.

    Raises:
        CalibrationError, PipelineError, GraphError, PassError, SessionError, TaskError: as `prune` and `quantize`.
    """
    if macs is not None and not 0 < macs <= 1:
        raise PipelineError(f"compress takes a part of the multiply-accumulates from 0 to 1, not {macs}")
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    if not isinstance(samples, Task | str | os.PathLike | Sequence):
        samples = tuple(samples)  # they are gone through more than once
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        worth = Worth(Path(source), samples, limit, where)
        walk = _Walk(worth, Path(target_path), Path(folder), max_drop, macs, pruning, seconds, cache, progress)
        return walk.run()


@dataclass(frozen=True)
class _Walk:
    worth: Worth
    result: Path
    folder: Path
    max_drop: float
    macs: float | None
    pruning: PruneChannels | None
    seconds: float
    cache: Path | None
    progress: Progress
    notes: list[str] = field(default_factory=list[str])

    def run(self) -> CompressResult:
        source = self.worth.source
        check_target(ir.load(source), self.result)
        optimize(source, self.folder / "optimized.onnx", target=self.worth.target)
        came, optimized = self._judged("as it came", source), self._judged("optimized", self.folder / "optimized.onnx")
        tried = [found for found in (self._quantized(optimized, "quantized", self.max_drop), *self._pruned()) if found]
        measured = [replace(each, latency=self._latency(source, each.path)) for each in (optimized, *tried)]
        chosen = self._chosen(optimized, measured)
        ir.save(ir.load(chosen.path), self.result)
        self.progress("done", 1.0)
        others = [each for each in measured if each.path != chosen.path]
        return CompressResult(
            source, self.result, self.worth.metric, self.worth.judged, self.max_drop, (came, *others, chosen),
            tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip

    def _pruned(self) -> list[CompressCandidate]:
        """Pruned models, and what quantizing makes of each, until one of these holds the budget."""
        found: list[CompressCandidate] = []
        for share in _SHARES if self.macs is None else (1.0,):
            name = f"pruned-{len(found) // 2 + 1}"
            path = self.folder / f"{name}.onnx"
            result = prune(
                self.worth.source, path, self.worth.samples, macs=self.macs, pruning=self.pruning,
                max_drop=share * self.max_drop, target=self.worth.target, limit=self.worth.limit,
                seconds=self.seconds, progress=self.progress,
            )  # fmt: skip
            if not result.pruned:
                self.notes.append(f"not pruned: {result.reason}")
                break
            alone = self._judged(name, path)
            both = self._quantized(alone, f"{name}-quantized", self.max_drop - max(alone.drop, 0.0))
            found += [each for each in (alone, both) if each is not None]
            if both is not None and self._holds(both):
                break
        return found

    def _quantized(self, of: CompressCandidate, name: str, max_drop: float) -> CompressCandidate | None:
        if max_drop <= 0:
            return None
        path = self.folder / f"{name}.onnx"
        result = quantize(
            of.path, path, self.worth.samples, max_drop=max_drop, target=self.worth.target, limit=self.worth.limit,
            seconds=self.seconds, cache=self.cache, progress=self.progress,
        )  # fmt: skip
        if not result.quantized:
            self.notes.append(f"{of.name}, not quantized: {result.reason}")
            return None
        return self._judged(name, path)

    def _judged(self, name: str, path: Path) -> CompressCandidate:
        value, seen = self.worth.value(path), inspect(path)
        return CompressCandidate(name, path, seen.bytes, seen.parameters, value, self.worth.drop(value))

    def _holds(self, candidate: CompressCandidate) -> bool:
        return candidate.drop <= self.max_drop

    def _latency(self, a: Path, b: Path) -> LatencyReport:
        feeds = self.worth.references.alike(MIN_FEEDS)
        return benchmark(a, b, feeds, target=self.worth.target, budget_seconds=self.seconds)

    def _chosen(self, optimized: CompressCandidate, measured: Sequence[CompressCandidate]) -> CompressCandidate:
        """The fastest that holds the budget and is not surely slower than the optimized model, which itself will do."""
        holding = [each for each in measured if each.path == optimized.path or self._holds(each)]
        for each in sorted(holding, key=lambda each: -(each.latency.ratio if each.latency else 0)):
            if each.path == optimized.path or self._latency(optimized.path, each.path).high >= 1:
                return each
        return measured[0]
