"""An arm of a benchmark: one model in a process of its own, asked for one block of runs at a time.

Two sessions in one process disturb each other, as do idle ones whose threads still spin; so an arm answers only once
its threads are quiet.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import numpy as np
from numpy.typing import NDArray

from planish.runtime.child import Child, serve
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Binding, Feed, Session

_SETTLE_STEP_SECONDS = 0.002
_SETTLE_LIMIT_SECONDS = 0.25


@dataclass(frozen=True)
class Open:
    model: str
    target: Target
    config: Mapping[str, str]
    feeds: Sequence[Mapping[str, Feed]]
    """What the runs rotate through; empty to create the session and no more."""


@dataclass(frozen=True)
class Opened:
    creation_seconds: float
    first_run_seconds: float
    """NaN without feeds."""
    placement: Mapping[str, int]


@dataclass(frozen=True)
class Bind:
    """Answered with why the feeds cannot be bound, or with nothing."""


@dataclass(frozen=True)
class Block:
    """Timed runs, after one that is not: at least `runs` and at least `seconds` of them."""

    bound: bool
    start: int
    """Which of the feeds comes first."""
    runs: int
    seconds: float


@dataclass(frozen=True)
class Weigh:
    """Asks for the memory."""


@dataclass(frozen=True)
class Memory:
    """In bytes; None where the system does not tell (it is Linux that does)."""

    baseline: int | None
    """Resident before the session was created: the interpreter, numpy and ONNX Runtime."""
    peak: int | None
    """The highest resident size since then (VmHWM)."""
    proportional: int | None
    """Now, each shared page counted by its share (PSS)."""


Request = Open | Bind | Block | Weigh


class _Worker:
    """The child's side."""

    def __init__(self) -> None:
        self._baseline: int | None = None
        self._session: Session | None = None
        self._feeds: tuple[Mapping[str, Feed], ...] = ()
        self._bindings: tuple[Binding, ...] = ()

    def answer(self, request: Request) -> object:
        match request:
            case Open():
                return self._open(request)
            case Bind():
                return self._bind()
            case Block():
                return self._block(request)
            case Weigh():
                status = Path("/proc/self/status")
                return Memory(
                    self._baseline, _proc_bytes(status, "VmHWM"), _proc_bytes(status.with_name("smaps_rollup"), "Pss")
                )

    def _open(self, request: Open) -> Opened:
        self._feeds = tuple(request.feeds)
        self._baseline = _proc_bytes(Path("/proc/self/status"), "VmRSS")
        _reset_peak()
        self._session = Session(request.model, request.target, request.config)
        first = float("nan")
        if self._feeds:
            start = time.perf_counter()
            self._session.run(self._feeds[0])
            first = time.perf_counter() - start
        return Opened(self._session.creation_seconds, first, self._session.placement())

    def _opened(self) -> Session:
        if self._session is None:
            raise SessionError("no model is open yet")
        return self._session

    def _bind(self) -> str | None:
        try:
            self._bindings = tuple(map(self._opened().bind, self._feeds))
        except SessionError as error:
            return str(error)
        return None

    def _block(self, request: Block) -> NDArray[np.float64]:
        runs = self._runs(request.bound)
        seconds: list[float] = []
        position = request.start
        runs[position % len(runs)]()  # brings back into the caches what the other arms drove out
        deadline = time.perf_counter() + request.seconds
        while len(seconds) < request.runs or time.perf_counter() < deadline:
            run = runs[position % len(runs)]
            position += 1
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return np.asarray(seconds)

    def _runs(self, bound: bool) -> list[Callable[[], object]]:
        if bound:
            return [binding.run for binding in self._bindings]
        session = self._opened()
        return [lambda feeds=feeds: session.run(feeds) for feeds in self._feeds]


def main() -> None:
    """Answers requests on standard input until it closes."""
    serve(_Worker().answer, _settle)


def _settle() -> None:
    """Waits until this process's threads no longer spin, as those of ONNX Runtime do for some 40 ms after a run."""
    deadline = time.perf_counter() + _SETTLE_LIMIT_SECONDS
    while time.perf_counter() < deadline:
        wall, used = time.perf_counter(), time.process_time()
        time.sleep(_SETTLE_STEP_SECONDS)
        if time.process_time() - used < 0.2 * (time.perf_counter() - wall):
            return


def _proc_bytes(file: Path, field: str) -> int | None:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # the peak then counts from the start of the process, where nothing larger was held


class Arm:
    """The parent's side.

    Raises:
        SessionError: in every method: the child reports a failure, dies, or does not answer within `timeout_seconds`.
    """

    def __init__(self, model: str | os.PathLike[str], timeout_seconds: float) -> None:
        self._model = os.fspath(model)
        self._child = Child("planish.runtime.arm", self._model, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def close(self) -> None:
        """Kills the child and collects it; happens by itself when the arm is dropped or the interpreter ends."""
        self._child.close()

    def open(self, target: Target, config: Mapping[str, str], feeds: Sequence[Mapping[str, Feed]]) -> Opened:
        return cast("Opened", self._child.ask(Open(self._model, target, config, feeds)))

    def bind(self) -> str | None:
        """Why inputs and outputs cannot be bound, or None when `block` may be asked for bound runs."""
        return cast("str | None", self._child.ask(Bind()))

    def block(self, *, bound: bool, start: int, runs: int, seconds: float) -> NDArray[np.float64]:
        """The seconds that each run took, in order."""
        return cast("NDArray[np.float64]", self._child.ask(Block(bound, start, runs, seconds)))

    def memory(self) -> Memory:
        return cast("Memory", self._child.ask(Weigh()))
