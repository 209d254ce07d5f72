"""Models as they are named on the command line: a file, or `zoo:NAME`, or only that name where no such file is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from planish.runtime.bindings import Binding
from planish.runtime.cli.failures import CommandError
from planish.runtime.progress import Progress
from planish.runtime.task import Task

ZOO_PREFIX = "zoo:"


class _ZooBinding(Protocol):
    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def fixed(self) -> Mapping[str, int]: ...


class Wheel(Protocol):
    @property
    def requirement(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def licence_source(self) -> str: ...
    @property
    def homepage(self) -> str: ...


class ZooModel(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def wheel(self) -> Wheel: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def inputs(self) -> str: ...
    @property
    def is_lowered(self) -> bool: ...
    @property
    def bindings(self) -> Sequence[_ZooBinding]: ...
    @property
    def ranges(self) -> Mapping[str, tuple[int, int]]: ...


class _Fetch(Protocol):
    def __call__(self, name: str, *, progress: Callable[[str], None]) -> Path: ...


class _Zoo(Protocol):
    """planish.models.zoo, which this package may load but not import."""

    ZOO: Mapping[str, ZooModel]
    ZooError: type[Exception]
    fetch: _Fetch


class _Tasks(Protocol):
    """planish.models.tasks, which this package may load but not import."""

    def load(self, name: str) -> Task[object, object]: ...


class _Fetching(Protocol):
    """planish.models.fetch, which this package may load but not import."""

    def cache_folder(self) -> Path: ...


class Source(NamedTuple):
    """A model's file, and the inputs that it is known to accept."""

    path: Path
    bindings: tuple[Binding, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = {}


def zoo_models() -> Mapping[str, ZooModel]:
    return _zoo().ZOO


def fetch(name: str, progress: Progress) -> Path:
    """The file of a zoo model, downloaded if it is not in the cache. Raises CommandError."""
    zoo = _zoo()
    try:
        return zoo.fetch(name, progress=lambda line: progress(line, 0.0))
    except zoo.ZooError as error:
        raise CommandError(str(error)) from error


def locate(text: str, progress: Progress) -> Source:
    """The model that `text` names. Raises CommandError for a zoo model that cannot be had."""
    name = text.removeprefix(ZOO_PREFIX)
    if name == text and (Path(text).exists() or name not in zoo_models()):
        return Source(Path(text))
    path = fetch(name, progress)
    model = zoo_models()[name]
    known = tuple(Binding(binding.shapes, binding.fixed) for binding in model.bindings)
    return Source(path, known, model.ranges)


def load_task(name: str) -> Task[object, object]:
    """The task of that name, or a class of the caller's own as module:Class. Raises TaskError."""
    if ":" in name:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it, and for the processes that do the work
    return cast("_Tasks", import_module("planish.models.tasks")).load(name)


def samples_of(arguments: argparse.Namespace) -> Task[object, object] | Path:
    """The task or the folder that the samples are of. Raises TaskError where there is no such task."""
    return Path(arguments.inputs) if arguments.task is None else load_task(arguments.task)


def model_of(arguments: argparse.Namespace, samples: Task[object, object] | Path, progress: Progress) -> Path:
    """The model that was named, else the one that the task is for. Raises CommandError where there is neither."""
    model = arguments.model or (samples.model if isinstance(samples, Task) else "")
    if not model:
        raise CommandError(
            f"say which model to {arguments.command}: samples of your own are for no model in particular"
        )
    return locate(model, progress).path


def user_cache() -> Path | None:
    """The folder in the user's cache for what was measured on this machine; None where there is none."""
    try:
        return cast("_Fetching", import_module("planish.models.fetch")).cache_folder() / "times"
    except OSError:
        return None


def _zoo() -> _Zoo:
    return cast("_Zoo", import_module("planish.models.zoo"))
