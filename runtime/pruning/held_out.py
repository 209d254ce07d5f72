"""The samples that a reconstruction is not fitted to, which alone can tell how well it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from numpy.typing import ArrayLike

from planish.runtime.samples import Parts
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Run, Sample, Samples, Split, Task

EVERY = 3
"""Of so many samples the second is held out of the fit."""
T = TypeVar("T")


def is_held_out(number: int) -> bool:
    return number % EVERY == 1


def held_out(parts: Parts[T]) -> Parts[T]:
    """Those of the samples; all of them where there is but one."""
    items = [item for part in parts.parts for item in part]
    kept = [item for number, item in enumerate(items) if is_held_out(number)] or items
    return Parts(parts.runner, [[item] for item in kept], kept[0], len(kept))


def fitted(parts: Parts[T]) -> Parts[T]:
    """The others."""
    items = [item for part in parts.parts for item in part]
    kept = [item for number, item in enumerate(items) if not is_held_out(number)]
    return Parts(parts.runner, [[item] for item in kept], kept[0], len(kept))


class HeldOut(Task[object, object]):
    """A task whose calibration split is those of its samples."""

    def __init__(self, task: Task[object, object], parts: Parts[object]) -> None:
        self.task = task
        self.name, self.model, self.metrics = task.name, task.model, task.metrics
        self.places = cast("list[int]", [item for part in held_out(parts).parts for item in part])

    def samples(self, split: Split) -> Sequence[Sample[object]]:
        found = self.task.samples(split)
        return found if split == "test" else Samples(len(self.places), lambda index: found[self.places[index]])

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> object:
        return self.task.predict(run, feeds)

    def grade(self, predictions: Sequence[object], labels: Sequence[object]) -> ArrayLike:
        return self.task.grade(predictions, labels)

    def score(self, grades: Floats) -> Sequence[float]:
        return self.task.score(grades)

    def reference(self) -> Path | None:
        return self.task.reference()
