"""Sessions in a process of their own: a kernel that crashes on hostile inputs fails one run, and not the caller."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

from planish.runtime.child import Child, serve
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result, Session

TIMEOUT_SECONDS = 120.0
# Threads that spin between runs would take the processor from the next session.
_CONFIG = {"session.intra_op.allow_spinning": "0"}


@dataclass(frozen=True)
class _Open:
    number: int
    model: str
    target: Target


@dataclass(frozen=True)
class _Run:
    number: int
    feeds: Mapping[str, Feed]


class _Worker:
    """The child's side."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}

    def answer(self, request: _Open | _Run) -> list[Result] | None:
        if isinstance(request, _Open):
            self._sessions[request.number] = Session(request.model, request.target, _CONFIG)
            return None
        if request.number not in self._sessions:
            raise SessionError("the session is not open")
        return self._sessions[request.number].run(request.feeds)


def main() -> None:
    """Answers requests on standard input until it closes."""
    serve(_Worker().answer)


class Host:
    """The process. It starts when first needed, and again after a crash: sessions then open anew on their next run."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`timeout_seconds`: for one answer, opening a session or one run."""
        self._timeout = timeout_seconds
        self._child: Child | None = None
        self._known: list[_Open] = []
        self._open: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.close()

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._child is None else self._child.pid

    def open(self, model: str | os.PathLike[str], target: Target) -> IsolatedSession:
        """Raises SessionError as `Session` does, and when opening the model ends or outlasts the process."""
        number = len(self._known)
        self._known.append(_Open(number, os.fspath(model), target))
        self._ensure(number)
        return IsolatedSession(self, number)

    def run(self, number: int, feeds: Mapping[str, Feed]) -> list[Result]:
        return cast("list[Result]", self._ensure(number).ask(_Run(number, feeds)))

    def _ensure(self, number: int) -> Child:
        """The process, alive, with that session open in it."""
        model = self._known[number].model
        if self._child is None or not self._child.alive:
            self._child = Child("planish.runtime.isolated", model, self._timeout)
            self._open.clear()
        self._child.subject = model
        if number not in self._open:
            self._child.ask(self._known[number])
            self._open.add(number)
        return self._child


@dataclass(frozen=True)
class IsolatedSession:
    host: Host
    number: int

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        """The outputs in the model's order; raises SessionError where they cannot be had, a crash among the reasons."""
        return self.host.run(self.number, feeds)
