"""A model whose float constants stand one step beside their place: how far its results move is its own conditioning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from planish import ir
from planish.ir import Graph, Value
from planish.ir.graph import RETURN, constant
from planish.ir.types import DType
from planish.runtime.isolated import Host, IsolatedSession
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result

_LARGEST = 1 << 28
_SHAKEN = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)


class Shaken:
    """Runs a model with shaken constants; it is made when it first runs."""

    def __init__(self, host: Host, model: Path, target: Target, folder: Path) -> None:
        """`folder` takes the shaken model."""
        self._open = lambda: host.open(_save(model, folder / "shaken.onnx"), target)
        self._session: IsolatedSession | None = None

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        if self._session is None:
            self._session = self._open()
        return self._session.run(feeds)


def _save(source: Path, target: Path) -> Path:
    graph = ir.load(source, functions="inline")
    shake(graph)
    ir.save(graph, target, external_data="always")
    return target


def shake(graph: Graph) -> None:
    """Move each element of the graph's float constants to the next number above or below, by a fixed random choice.

    Left alone: constants of whole numbers, which may be scales of extents, exponents and bounds; weights that are not
    in memory or take more than 256 MiB; and what the model gives back as it is.
    """
    rng = np.random.default_rng(0)
    for value in _constants(graph):
        tensor = value.constant
        if tensor is None or tensor.dtype not in _SHAKEN or not tensor.in_memory or tensor.nbytes > _LARGEST:
            continue
        array = cast("NDArray[np.floating]", tensor.fresh_array())
        if not np.all(array == np.rint(array)):
            aim = np.where(rng.integers(0, 2, array.shape, np.int8) == 0, -np.inf, np.inf).astype(array.dtype)
            graph.replace_all_uses_with(value, constant(np.nextafter(array, aim), value.name))


def _constants(graph: Graph) -> list[Value]:
    found: dict[Value, None] = {}
    for node in graph.walk():
        for operand in node.operands:
            if operand is not None and operand.constant is not None and operand not in graph.defaults:
                found[operand] = None
    return [value for value in found if all(user.op != RETURN for user in value.users)]
