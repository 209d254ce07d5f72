"""Run a model on samples and keep what its tensors held, in bounded memory and the same bits wherever it is done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from planish import ir
from planish.passes.errors import CalibrationError
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.runtime.cut import Plan, cut, size_of
from planish.runtime.files import Model, at_path, repaired
from planish.runtime.model_run import Face, ModelRun
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.samples import Feeds, Runner, parts_of
from planish.runtime.session import Feed
from planish.runtime.shards import stream
from planish.runtime.staged import StagedSession, give_back
from planish.runtime.task import L, Outputs, P, Task
from planish.runtime.watching import Watch, Watching, found_grams, watch

T = TypeVar("T")


def calibrate(
    model: Model,
    samples: Task[P, L] | str | os.PathLike[str] | Iterable[Mapping[str, Feed]],
    *,
    grams: Collection[str] = (),
    tensors: Collection[str] | None = None,
    target: Target | None = None,
    jobs: int | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Statistics of the model's float tensors over the samples, by the names that they have in its file.

    Counts, extremes, channels and histograms do not depend on the order of the samples. Means, variances and Gram
    matrices do in their last bits, so shards, which follow from the number of samples alone, are merged in their order.

    Args:
        samples: a task, of which the calibration split is taken; a folder of .npz files, an array for each input; or
            feeds one after the other, which are taken as they are needed.
        grams: names or patterns (`*`) of the tensors that products with constant weights make or take, for which Gram
            matrices are kept. tensors: the same for statistics; None means all.
        target: 0 threads mean one here, so that the bits depend neither on the number of cores nor on what else runs.
        jobs: processes; None is what `joblib.parallel_config` says, else one. Workers elsewhere read the same files.
        limit: so many samples, evenly spread over a task or a folder; the first ones of an iterable.

    Raises:
        CalibrationError: there are no samples, one does not fit the model's inputs, a name is unknown, or a tensor
            holds nothing but NaN.
        GraphError: the model is not valid.
        SessionError: ONNX Runtime cannot run it.
        TaskError: the task and the model do not fit each other, or a sample cannot be read.
    """
    target = target or Target()
    target = replace(target, threads=target.threads or 1)
    name = f"graph {model.name}" if isinstance(model, ir.Graph) else str(model)
    parts = parts_of(samples, limit)
    with ExitStack() as stack:
        path = at_path(stack, model, "graph.onnx")
        graph = ir.load(path)
        path = repaired(stack, path, graph)
        watched = watch(graph, tensors, grams)
        face = Face.of(path, target)
        shapes = face.shapes(parts)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        plan = cut(graph, watched.names, size_of(shapes, graph), folder)
        give_back()
        work = partial(_observe, _Work(plan, watched, face, target), parts.runner)
        found = Watching(watched)
        try:
            for part in stream(
                work, parts.parts, parts.count, jobs=jobs, progress=progress, what=f"calibrating {name}"
            ):
                found.merge(part)
                del part  # before the next one is made
        finally:
            _open.cache_clear()
    return _result(name, found, watched)


@lru_cache(maxsize=1)
def _open(plan: Plan, target: Target) -> StagedSession:
    return StagedSession(plan, target)


@dataclass(frozen=True)
class _Work:
    plan: Plan
    watched: Watch
    face: Face
    target: Target


def _observe(work: _Work, runner: Runner[T], items: Sequence[T]) -> Watching:
    """What was seen of some samples: a pure function, whichever process calls it."""
    watching = Watching(work.watched)
    opened = _open(work.plan, work.target)
    for item in items:
        where = runner.where(item)

        def run(feeds: Feeds, where: str = where) -> Outputs:
            work.face.check(feeds, where)
            return Outputs(opened.run(feeds, watching.look), work.face.label)

        runner.run(item, ModelRun(work.face, run))
        watching.samples += 1
    return watching


def _result(model: str, found: Watching, watched: Watch) -> Calibration:
    tensors = {name: observer.statistics() for name, observer in found.tensors.items()}
    warnings = [line for name, seen in tensors.items() for line in _doubts(name, seen)]
    for name, seen in tensors.items():
        if seen.count and seen.nans == seen.count:
            raise CalibrationError(
                f"tensor {name!r} of {model} holds nothing but NaN in {found.samples} samples: the model or the "
                "samples are broken"
            )
    return Calibration(tensors, found_grams(found), model, found.samples, (*warnings, *watched.notes))


def _doubts(name: str, seen: TensorStatistics) -> list[str]:
    kinds = [f"{count} {kind}" for count, kind in ((seen.nans, "NaN"), (seen.infs, "infinities")) if count]
    if kinds:
        return [f"tensor {name!r} holds {' and '.join(kinds)} in {seen.count} elements, which no range is made of"]
    return [] if seen.count else [f"tensor {name!r} was never made, or was always empty"]
