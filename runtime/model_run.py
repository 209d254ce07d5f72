"""What a task is handed to run: a model that tells of itself, whoever does the work and looks on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from planish.passes.errors import CalibrationError
from planish.runtime.providers import Array, Target
from planish.runtime.samples import Feeds, Parts
from planish.runtime.session import Argument, Result, Session
from planish.runtime.task import Outputs

T = TypeVar("T")


class Interface(Protocol):
    """What a model takes and tells of itself."""

    @property
    def inputs(self) -> Sequence[Argument]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class ModelRun:
    """A task's `Run`: it hands what the task feeds on to `work`."""

    face: Interface
    work: Callable[[Feeds], Outputs]

    @property
    def inputs(self) -> Sequence[Argument]:
        return self.face.inputs

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.face.metadata

    def __call__(self, feeds: Feeds, /) -> Outputs:
        return self.work(feeds)


def session_run(session: Session, look: Callable[[Feeds, Sequence[Result]], None]) -> ModelRun:
    """A session's; `look` is shown what goes into each run, and what comes out."""

    def work(feeds: Feeds) -> Outputs:
        results = session.run(feeds)
        look(feeds, results)
        names = (argument.name for argument in session.outputs)
        return Outputs(dict(zip(names, results, strict=True)), session.label)

    return ModelRun(session, work)


@dataclass(frozen=True)
class Face:
    """What a model takes and tells of itself, as ONNX Runtime knows it; it pickles, and holds no session."""

    label: str
    inputs: tuple[Argument, ...]
    overridable: tuple[Argument, ...]
    metadata: Mapping[str, str]

    @classmethod
    def of(cls, path: str | os.PathLike[str], target: Target) -> Face:
        opened = Session(path, target)
        return cls(opened.label, opened.inputs, opened.overridable, opened.metadata)

    def check(self, feeds: Feeds, where: str) -> None:
        """Raises CalibrationError, naming the sample, where the model does not take what is fed."""
        known = {argument.name: argument for argument in (*self.inputs, *self.overridable)}
        for name, feed in feeds.items():
            if name not in known:
                inputs = ", ".join(argument.name for argument in self.inputs) or "none"
                raise CalibrationError(
                    f"{where} feeds {name!r}, and {self.label} has no such input: its inputs are {inputs}"
                )
            if isinstance(feed, np.ndarray) and known[name].is_tensor:
                _check_tensor(feed, known[name], where)
        for argument in self.inputs:
            if feeds.get(argument.name) is None and not argument.is_optional:
                raise CalibrationError(f"{where} lacks the input {argument.name!r} ({argument.type}) of {self.label}")

    def shapes(self, parts: Parts[T]) -> dict[str, tuple[int, ...]]:
        """Of the inputs, in the first run on the first sample; nothing is run for it."""
        found: dict[str, tuple[int, ...]] = {}
        where = parts.runner.where(parts.first)

        def work(feeds: Feeds) -> Outputs:
            self.check(feeds, where)
            found.update({name: feed.shape for name, feed in feeds.items() if isinstance(feed, np.ndarray)})
            raise _SeenError

        with suppress(_SeenError):
            parts.runner.run(parts.first, ModelRun(self, work))
        return found


class _SeenError(Exception):
    pass


def _check_tensor(feed: Array, argument: Argument, where: str) -> None:
    if argument.element != "string" and feed.dtype != argument.dtype:
        raise CalibrationError(f"{where}: the input {argument.name!r} is {argument.dtype}, and {feed.dtype} is fed")
    shape = argument.shape
    fits = len(shape) == feed.ndim and all(
        dim == extent or not isinstance(dim, int) for dim, extent in zip(shape, feed.shape, strict=True)
    )
    if shape and not fits:
        wanted = ", ".join("any" if dim is None else str(dim) for dim in shape)
        raise CalibrationError(
            f"{where}: the input {argument.name!r} has the shape [{wanted}], and {list(feed.shape)} is fed"
        )
