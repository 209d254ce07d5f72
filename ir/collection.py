"""Python's cyclic garbage collector, paused while a graph is built or walked as a whole."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Generator[None]:
    """Graphs are large, long-lived and full of cycles: collecting while one grows costs a third of the time and frees
    nothing. The collector is as it was afterwards."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
