"""A model that runs in stages, so that all of its tensors can be seen while few are held.

ONNX Runtime keeps every output of a run until its end, so the tensors of a model cannot all be outputs of one run. Each
stage gives out its own, which go when they were looked at, or when the last stage that reads them has run. Every node
runs once, and weights are held once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

import numpy as np

from planish.runtime.cut import STAGE_BYTES, Plan
from planish.runtime.providers import Array, Target
from planish.runtime.session import Feed, Result, Session

Look = Callable[[str, Array], None]
"""Told a tensor's name and its elements, which are gone afterwards."""


class StagedSession:
    """The stages of a plan, opened; each gives the memory that it took back to the system.

    Raises:
        SessionError: a file of the plan is not what it was, or cannot be opened.
    """

    def __init__(self, plan: Plan, target: Target) -> None:
        for file in plan.stages:
            file.check()
        self._plan = plan
        self._sessions = [Session(file.path, target, arena=False) for file in plan.stages]

    def run(self, feeds: Mapping[str, Feed], look: Look) -> dict[str, Result]:
        """The model's outputs by name. `look` sees every tensor that a stage gives out, and the inputs.

        Raises:
            SessionError: a kernel failed.
        """
        live: dict[str, Feed | Result] = dict(feeds)
        given = 0
        for name, feed in feeds.items():
            if isinstance(feed, np.ndarray):
                look(name, feed)
        for opened, last in zip(self._sessions, self._plan.last, strict=True):
            given += _run_stage(opened, live, look)
            for name in last:
                live.pop(name, None)
            if given >= STAGE_BYTES:
                give_back()
                given = 0
        return {name: cast("Result", live[name]) for name in self._plan.outputs}


def give_back() -> None:
    """Let the C library return to the system what is freed but scattered among what is held.

    Without it, results of all sizes that come and go beside small ones that stay had a text recogniser's process grow
    to more than twice its size. glibc alone has this; elsewhere nothing happens.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    found.argtypes, found.restype = (ctypes.c_size_t,), ctypes.c_int
    return found


def _run_stage(opened: Session, live: dict[str, Feed | Result], look: Look) -> int:
    """The bytes of what it gave out."""
    names = [argument.name for argument in (*opened.inputs, *opened.overridable)]
    results = opened.run({name: cast("Feed", live[name]) for name in names if name in live})
    for argument, result in zip(opened.outputs, results, strict=True):
        if isinstance(result, np.ndarray) and argument.name not in live:
            look(argument.name, result)
        live[argument.name] = result
    return sum(result.nbytes for result in results if isinstance(result, np.ndarray))
