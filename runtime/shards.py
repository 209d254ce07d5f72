"""Work on a model spread over processes and machines: pure functions of a model's file and a shard of indices.

joblib runs them, so `joblib.parallel_config(backend="loky", n_jobs=4)`, or "dask" with a cluster behind it, moves them
without a change here. Results come back in the order of the indices, whoever worked on them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import PicklingError
from typing import Protocol, TypeVar, cast

import joblib

from planish.runtime.errors import SessionError
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.session import Session

R = TypeVar("R")
S = TypeVar("S")

_SHARDS = 64
"""At most: enough to keep a small cluster busy, and to lose little when a worker dies."""
_SESSIONS = 2
"""Kept open in one process."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFile:
    """A model as workers are told of it: a file that they can read too, and the hash of what it must hold."""

    path: str
    data_files: tuple[str, ...]
    sha256: str
    """Of the file and its external data, one after the other."""

    @staticmethod
    def of(path: Path, data_files: Sequence[Path]) -> ModelFile:
        files = tuple(str(file.absolute()) for file in (path, *data_files))
        return ModelFile(files[0], files[1:], _sha256(files))

    def check(self) -> None:
        """Raises SessionError where the file does not hold what it held when the work began."""
        try:
            found = _sha256((self.path, *self.data_files))
        except OSError as error:
            raise SessionError(f"a worker cannot read {self.path}: {error.strerror or error}") from error
        if found != self.sha256:
            raise SessionError(
                f"{self.path} has changed since the work on it began, or is another file where it is done"
            )


@lru_cache(maxsize=_SESSIONS)
def session(model: ModelFile, target: Target) -> Session:
    """The one session of this process for that content and target.

    Raises:
        SessionError: the file does not hold what it held when the work began, or cannot be opened on the target.
    """
    model.check()
    return Session(model.path, target)


def spread(
    work: Callable[[Sequence[int]], R], indices: Sequence[int], *, jobs: int | None, progress: Progress, what: str
) -> list[R]:
    """What `work` gives for each of at most 64 shards of consecutive indices, in their order.

    work: a function of indices alone, and it pickles. jobs: processes, as joblib counts them; None is its own setting.

    Raises:
        SessionError: a process died, as one that is out of memory does, or `work` does not pickle.
    """
    parts = shards(indices)
    return list(stream(work, parts, len(parts), jobs=jobs, progress=progress, what=what))


def shards(items: Sequence[S]) -> list[Sequence[S]]:
    """At most 64 stretches of the items."""
    size = math.ceil(len(items) / _SHARDS)
    return [items[start : start + size] for start in range(0, len(items), size or 1)]


def stream(
    work: Callable[[S], R], parts: Iterable[S], count: int, *, jobs: int | None, progress: Progress, what: str
) -> Iterator[R]:
    """What `work` gives for each part, in their order, as soon as it is there; a few are under way ahead of the caller.

    parts: taken one by one, so that they need not all be there at once. count: how many; 0 where that is not known.

    Raises:
        SessionError: as `spread` does.
    """
    api = cast("_Joblib", joblib)

    def calls() -> Iterator[object]:  # joblib takes the next one when there is room for it
        for number, part in enumerate(parts):
            progress(what, number / count if count else 0.0)
            yield api.delayed(work)(part)

    try:
        yield from cast("Iterable[R]", _parallel(api, jobs)(calls()))
    except (BrokenExecutor, PicklingError) as error:
        reason = " ".join(str(error).split())
        raise SessionError(f"{what}: a process died at the work, or could not take it: {reason}") from error


def _parallel(api: _Joblib, jobs: int | None) -> Callable[[Iterable[object]], Iterable[object]]:
    try:
        return api.Parallel(n_jobs=jobs, return_as="generator")
    except ValueError:  # the backend hands out everything at the end, as multiprocessing and Ray's do
        return api.Parallel(n_jobs=jobs)


class _Joblib(Protocol):
    """What is used of the module, whose own types are not known."""

    def delayed(self, function: Callable[..., object], /) -> Callable[..., object]: ...
    @property
    def Parallel(self) -> Callable[..., Callable[[Iterable[object]], Iterable[object]]]: ...  # noqa: N802


def _sha256(files: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        with Path(name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
