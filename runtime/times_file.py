"""Times of kernels by what they depend on: measured once for a target on a machine, and kept between runs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from planish.runtime.providers import Target, version
from planish.runtime.session import Feed, Session

_RUNS, _LEAST_SECONDS = 5, 0.01


class TimesFile:
    """Seconds by key, as many for each key as `width` says; of the same processor, ONNX Runtime, and threads.

    What cannot be read counts as not there, and what cannot be written is measured again the next time.
    """

    def __init__(self, name: str, width: int, target: Target, folder: Path | None) -> None:
        """folder: where the file lies; None keeps nothing."""
        self.target = target
        self.machine = _machine(target)
        self.path = None if folder is None else folder / f"{name}-{self.machine}.json"
        self.seconds: dict[str, tuple[float, ...]] = _read(self.path, width)

    def keep(self, key: str, seconds: tuple[float, ...]) -> None:
        self.seconds[key] = seconds
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{secrets.token_hex(4)}")
            with temporary.open("w") as file:
                json.dump({"target": asdict(self.target), "seconds": self.seconds}, file, default=str)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError:
            self.path = None


def best_seconds(session: Session, feeds: Mapping[str, Feed]) -> float:
    """The shortest of a few runs, after one that does not count."""
    session.run(feeds)
    best, begin = float("inf"), time.perf_counter()
    runs = 0
    while runs < _RUNS or time.perf_counter() - begin < _LEAST_SECONDS:
        start = time.perf_counter()
        session.run(feeds)
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best


def _machine(target: Target) -> str:
    """A digest of the processor, ONNX Runtime and the threads."""
    try:
        info = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        lines = [line for line in info.splitlines() if line.startswith(("model name", "flags", "Features"))]
    except OSError:
        lines = [platform.processor()]
    text = "\n".join([*lines, platform.machine(), version(), target.provider, str(target.threads)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path | None, width: int) -> dict[str, tuple[float, ...]]:
    if path is None:
        return {}
    try:
        content: object = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    seconds = cast("Mapping[str, object]", content).get("seconds") if isinstance(content, dict) else None
    if not isinstance(seconds, dict):
        return {}
    found = cast("Mapping[str, object]", seconds)
    return {key: times for key, value in found.items() if (times := _times(value, width)) is not None}


def _times(value: object, width: int) -> tuple[float, ...] | None:
    """So many positive numbers; None where they are none."""
    if not isinstance(value, list) or len(numbers := cast("list[object]", value)) != width:
        return None
    found = tuple([float(number) for number in numbers if isinstance(number, int | float)])
    return found if len(found) == width and min(found) > 0 and math.isfinite(max(found)) else None
