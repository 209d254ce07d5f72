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
    items = _items(parts)
    return _of(parts, [item for number, item in enumerate(items) if is_held_out(number)] or items)


def fitted(parts: Parts[T]) -> Parts[T]:
    """The others."""
    return _of(parts, [item for number, item in enumerate(_items(parts)) if not is_held_out(number)])


def apart(parts: Parts[T], most: int) -> tuple[Parts[T], Parts[T]]:
    """Samples to learn from, and others to judge by: so many at most, evenly spread, and no more than a third.

    Of one sample both are that one.
    """
    items = _items(parts)
    count = max(min(most, len(items) // EVERY), 1)
    places = {(2 * index + 1) * len(items) // (2 * count) for index in range(count)}
    others = [item for place, item in enumerate(items) if place not in places]
    return _of(parts, others or items), _of(parts, [items[place] for place in sorted(places)])


def _items(parts: Parts[T]) -> list[T]:
    return [item for part in parts.parts for item in part]


def _of(parts: Parts[T], items: Sequence[T]) -> Parts[T]:
    return Parts(parts.runner, [[item] for item in items], items[0], len(items))


class HeldOut(Task[object, object]):
    """A task whose calibration split is those of its samples."""

    def __init__(self, task: Task[object, object], parts: Parts[object]) -> None:
        self.task = task
        self.name, self.model, self.metrics = task.name, task.model, task.metrics
        self.places = cast("list[int]", _items(held_out(parts)))

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
