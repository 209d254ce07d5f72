"""How well a model does on a task: its metrics with their intervals, the same bits wherever the work is done."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar, cast

import numpy as np

from planish import ir
from planish.runtime.difference import is_float
from planish.runtime.errors import SessionError, TaskError
from planish.runtime.files import Model, at_path, repaired
from planish.runtime.model_run import session_run
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.session import Result, Session
from planish.runtime.shards import ModelFile, session, spread
from planish.runtime.statistics import Estimate, estimates
from planish.runtime.task import Floats, L, Metric, P, Sample, Split, Task

P_co = TypeVar("P_co", covariant=True)

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation(Generic[P_co]):
    task: str
    model: str
    split: Split
    metrics: tuple[Metric, ...]
    estimates: tuple[Estimate, ...]
    """Of each metric, with the ends of its 95 % interval."""
    samples: int
    groups: int
    """What the interval is over: samples that share a source count once."""
    with_nan: int
    """Samples for which an output held a NaN; they are graded as the task reads them."""
    seconds: float
    target: Target
    placement: Mapping[str, int]
    """Nodes by ONNX Runtime's provider name, as the session that did the work assigned them."""
    predictions: tuple[P_co, ...] = field(repr=False)
    """In the order of the samples."""
    labels: tuple[object, ...] = field(repr=False)
    """What they were graded against: those of the samples or of the reference model, shuffled where that was wished."""

    @property
    def metric(self) -> Metric:
        return self.metrics[0]

    @property
    def value(self) -> float:
        return self.estimates[0].value

    @property
    def low(self) -> float:
        return self.estimates[0].low

    @property
    def high(self) -> float:
        return self.estimates[0].high

    def as_dict(self) -> dict[str, object]:
        """Without predictions and labels; a value that is NaN, and an end that nothing bounds, is None."""
        return {
            "task": self.task,
            "model": self.model,
            "split": self.split,
            "metrics": [
                {
                    "name": metric.name,
                    "unit": metric.unit,
                    "higher_is_better": metric.higher_is_better,
                    "value": _finite(estimate.value),
                    "low": _finite(estimate.low),
                    "high": _finite(estimate.high),
                }
                for metric, estimate in zip(self.metrics, self.estimates, strict=True)
            ],
            "confidence": CONFIDENCE,
            "samples": self.samples,
            "groups": self.groups,
            "samples_with_nan": self.with_nan,
            "seconds": self.seconds,
            "target": self.target.as_dict(),
            "placement": dict(self.placement),
        }


def evaluate(
    model: Model,
    task: Task[P, L],
    *,
    target: Target | None = None,
    split: Split = "test",
    limit: int | None = None,
    jobs: int | None = None,
    shuffle_labels: int | None = None,
    progress: Progress = silent,
) -> Evaluation[P]:
    """The task's metrics on its samples, one run at a time.

    Args:
        target: 0 threads mean one here, so that the bits depend neither on the number of cores nor on what else runs.
        limit: evaluate on so many samples, evenly spread over the split.
        jobs: processes; None is what `joblib.parallel_config` says, else one. Workers elsewhere read the same files.
        shuffle_labels: a seed by which labels change places, to see what the metrics are by chance.

    Raises:
        GraphError: the model is not valid.
        SessionError: ONNX Runtime cannot open it, or the provider does not run it.
        TaskError: the task and the model do not fit each other, or the task has no samples.
    """
    begin = time.perf_counter()
    target = target or Target()
    target = replace(target, threads=target.threads or 1)
    chosen, reference = _choose(task, split, limit), task.reference()
    with ExitStack() as stack:

        def answer(model: Model, target: Target, what: str) -> list[_Shard[P, L]]:
            work = partial(_answers, _model_file(stack, model), task, split, target)
            return spread(work, chosen, jobs=jobs, progress=progress, what=f"running {task.name}{what}")

        shards = answer(model, target, "")
        like = None if reference is None else answer(reference, Target(threads=1), " on its reference model")
    answers = [answer for shard in shards for answer in shard.answers]
    labels = _labels(task, chosen, answers) if like is None else cast("list[L]", _predictions(like))
    if shuffle_labels is not None:
        order: list[int] = np.random.default_rng(shuffle_labels).permutation(len(labels)).tolist()
        labels = [labels[place] for place in order]
    predictions = tuple(_predictions(shards))
    grades = _grades(task, predictions, labels)
    groups = [answer.group for answer in answers]
    found = estimates(partial(_score, task), grades, groups, [metric.range for metric in task.metrics], CONFIDENCE)
    return Evaluation(
        task=task.name,
        model=str(model) if not isinstance(model, ir.Graph) else f"graph {model.name}",
        split=split,
        metrics=task.metrics,
        estimates=tuple(found),
        samples=len(answers),
        groups=len({group for group in groups if group is not None}) + groups.count(None),
        with_nan=sum(answer.has_nan for answer in answers),
        seconds=time.perf_counter() - begin,
        target=target,
        placement=shards[0].placement,
        predictions=predictions,
        labels=tuple(labels),
    )


@dataclass(frozen=True)
class _Answer(Generic[P, L]):
    prediction: P
    label: L | None
    group: Hashable
    has_nan: bool


@dataclass(frozen=True)
class _Shard(Generic[P, L]):
    answers: list[_Answer[P, L]]
    placement: Mapping[str, int]


def _choose(task: Task[P, L], split: Split, limit: int | None) -> list[int]:
    count = len(task.samples(split))
    if limit is not None and limit < 1:
        raise TaskError(f"task {task.name!r} needs a limit of 1 or more samples, not {limit}")
    if not count:
        raise TaskError(f"task {task.name!r} has no samples in its {split} split")
    taken = count if limit is None else min(limit, count)
    return [index * count // taken for index in range(taken)]


def _model_file(stack: ExitStack, model: Model) -> ModelFile:
    path = at_path(stack, model, "graph.onnx")
    graph = ir.load(path)
    return ModelFile.of(repaired(stack, path, graph), graph.data_files)


def _labels(task: Task[P, L], chosen: Sequence[int], answers: Sequence[_Answer[P, L]]) -> list[L]:
    for index, answer in zip(chosen, answers, strict=True):
        if answer.label is None:
            raise TaskError(f"sample {index} of task {task.name!r} has no label, and the task has no reference model")
    return [cast("L", answer.label) for answer in answers]


def _predictions(shards: Sequence[_Shard[P, L]]) -> list[P]:
    return [answer.prediction for shard in shards for answer in shard.answers]


def _answers(file: ModelFile, task: Task[P, L], split: Split, target: Target, indices: Sequence[int]) -> _Shard[P, L]:
    """What the model says of some samples: a pure function, whichever process calls it."""
    opened = session(file, target)
    samples = task.samples(split)
    return _Shard([_answer(opened, task, samples[index], index) for index in indices], opened.placement())


def _answer(opened: Session, task: Task[P, L], sample: Sample[L], index: int) -> _Answer[P, L]:
    seen_nan = False

    def look(_: object, results: Sequence[Result]) -> None:
        nonlocal seen_nan
        seen_nan = seen_nan or any(map(_has_nan, results))

    where = f"task {task.name!r} does not fit {opened.label} at sample {index}"
    try:
        prediction = task.predict(session_run(opened, look), sample.feeds)
    except (SessionError, TaskError) as error:
        raise TaskError(f"{where}: {error}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TaskError(f"{where}: reading the outputs failed ({type(error).__name__}: {error})") from error
    return _Answer(prediction, sample.label, sample.group, seen_nan)


def _has_nan(result: Result) -> bool:
    if isinstance(result, list):
        return any(map(_has_nan, result))
    if isinstance(result, dict):
        return any(map(_has_nan, result.values()))
    if not is_float(result):
        return False
    array = np.asarray(result)
    return bool(np.isnan(array if array.dtype.kind in "fc" else array.astype(np.float32)).any())


def _grades(task: Task[P, L], predictions: Sequence[P], labels: Sequence[L]) -> Floats:
    given = task.grade(predictions, labels)
    try:
        grades = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise TaskError(f"task {task.name!r} gave grades that are no numbers of one shape: {error}") from error
    if grades.shape[:1] != (len(predictions),):
        raise TaskError(f"task {task.name!r} gave grades of shape {grades.shape} for {len(predictions)} samples")
    return grades


def _score(task: Task[P, L], grades: Floats) -> Sequence[float]:
    values = task.score(grades)
    if len(values) != len(task.metrics):
        raise TaskError(f"task {task.name!r} names {len(task.metrics)} metrics and scores {len(values)}")
    return values


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
