"""Progress of long work: told by whoever works, drawn on a terminal and nowhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

Progress = Callable[[str, float], None]
"""Told what is being done, and which part of the whole is behind, 0 to 1."""

_EVERY_SECONDS = 0.1
_WIDTH = 24


def silent(what: str, part: float) -> None:
    """A progress that shows nothing."""


class ProgressBar:
    """One line on a terminal, redrawn in place and gone at the end; nothing where `stream` is none."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._next = 0.0
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, what: str, part: float) -> None:
        now = time.monotonic()
        if not self._live or (now < self._next and part < 1):
            return
        self._next = now + _EVERY_SECONDS
        full = round(min(max(part, 0.0), 1.0) * _WIDTH)
        room = shutil.get_terminal_size().columns - _WIDTH - 10
        line = f"[{'#' * full}{'.' * (_WIDTH - full)}] {part:4.0%} {what[: max(room, 0)]}"
        self._stream.write(f"\r\x1b[2K{line}")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._drawn = False
