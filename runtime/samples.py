"""Samples to run a model on: a task's, a folder's, or whatever the caller has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

from planish.passes.errors import CalibrationError
from planish.runtime.errors import SessionError, TaskError
from planish.runtime.folder import read_sample
from planish.runtime.session import Feed
from planish.runtime.shards import shards
from planish.runtime.task import L, P, Run, Task

Feeds = Mapping[str, Feed]

_TOGETHER = 8
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Runner(Protocol[T_contra]):
    """Runs a model on one sample; it pickles, and travels to the processes that do the work."""

    def where(self, item: T_contra) -> str:
        """What to call the sample in an error."""
        ...

    def run(self, item: T_contra, run: Run) -> None: ...


@dataclass(frozen=True)
class Parts(Generic[T]):
    """The samples, or what to make them of, in stretches that are worked on together."""

    runner: Runner[T]
    parts: Iterable[Sequence[T]]
    first: T
    count: int
    """Of the parts; 0 where that is not known."""


def parts_of(samples: Task[P, L] | str | os.PathLike[str] | Iterable[Feeds], limit: int | None) -> Parts[object]:
    """samples: a task, of which the calibration split is taken; a folder of .npz files; or feeds one after the other.

    limit: so many samples, evenly spread over a task or a folder; the first ones of anything else.

    Raises:
        CalibrationError: there are none.
        TaskError: the task or the folder has no samples that can be read.
    """
    if limit is not None and limit < 1:
        raise CalibrationError(f"a limit of 1 or more samples is needed, not {limit}")
    if isinstance(samples, Task):
        indices = range(len(samples.samples("calibration")))
        none = f"task {samples.name!r} has no samples in its calibration split: give a folder of .npz files"
        return cast("Parts[object]", _known(TaskRunner(samples), indices, limit, none))
    if isinstance(samples, str | os.PathLike):
        folder = Path(samples)
        if not folder.is_dir():
            raise CalibrationError(f"{folder} is no folder of samples")
        files = sorted((folder / "calibration").glob("*.npz")) or sorted(folder.glob("*.npz"))
        files = [file.absolute() for file in files]
        none = f"no .npz file is in {folder} or {folder / 'calibration'}: write one for each sample, an array by input"
        return cast("Parts[object]", _known(FileRunner(), files, limit, none))
    return cast("Parts[object]", _stream(samples, limit))


def _known(runner: Runner[T], items: Sequence[T], limit: int | None, none: str) -> Parts[T]:
    if not items:
        raise CalibrationError(f"there are no samples to calibrate on: {none}")
    count = min(limit or len(items), len(items))
    chosen = [items[index * len(items) // count] for index in range(count)]
    found = shards(chosen)
    return Parts(runner, found, chosen[0], len(found))


def _stream(feeds: Iterable[Feeds], limit: int | None) -> Parts[tuple[int, Feeds]]:
    numbered = enumerate(islice(feeds, limit))
    first = next(numbered, None)
    if first is None:
        raise CalibrationError("there are no samples to calibrate on: the feeds that were given are empty")
    return Parts(FeedsRunner(), _together(chain((first,), numbered)), first, 0)


def _together(items: Iterator[T]) -> Iterator[Sequence[T]]:
    while part := list(islice(items, _TOGETHER)):
        yield part


@dataclass(frozen=True)
class TaskRunner(Generic[P, L]):
    task: Task[P, L]

    def where(self, item: int) -> str:
        return f"sample {item} of task {self.task.name!r}"

    def run(self, item: int, run: Run) -> None:
        feeds = self.task.samples("calibration")[item].feeds
        try:
            self.task.predict(run, feeds)
        except (SessionError, TaskError) as error:
            raise TaskError(f"{self.where(item)} does not fit the model: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise TaskError(
                f"{self.where(item)} does not fit the model: reading the outputs failed "
                f"({type(error).__name__}: {error})"
            ) from error


@dataclass(frozen=True)
class FileRunner:
    def where(self, item: Path) -> str:
        return str(item)

    def run(self, item: Path, run: Run) -> None:
        run(read_sample(item).feeds)


@dataclass(frozen=True)
class FeedsRunner:
    def where(self, item: tuple[int, Feeds]) -> str:
        return f"sample {item[0]}"

    def run(self, item: tuple[int, Feeds], run: Run) -> None:
        run(item[1])
