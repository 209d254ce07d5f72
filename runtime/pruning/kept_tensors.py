"""Tensors that are kept for a while, of many runs: some in memory, the others in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planish.runtime.providers import Array
from planish.runtime.session import Feed

MOST_BYTES = 128 << 20
"""Of tensors in memory."""


class _File(NamedTuple):
    path: Path
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def read(self) -> Array:
        return np.fromfile(self.path, np.uint8).view(self.dtype).reshape(self.shape)


class KeptTensors:
    """By run and name. What is not a tensor of numbers stays in memory."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        """folder: for the files; it is made here."""
        folder.mkdir()
        self._folder = folder
        self._most = most_bytes
        self._held = self._made = 0
        self._tensors: dict[str, dict[int, Feed | _File]] = {}

    def put(self, run: int, name: str, tensor: Feed) -> None:
        self._tensors.setdefault(name, {})[run] = self._stored(tensor) if isinstance(tensor, np.ndarray) else tensor

    def get(self, run: int, names: Iterable[str]) -> dict[str, Feed]:
        """Those of the names that were put."""
        found: dict[str, Feed] = {}
        for name in names:
            if run in self._tensors.get(name, {}):
                kept = self._tensors[name][run]
                found[name] = kept.read() if isinstance(kept, _File) else kept
        return found

    def drop(self, names: Iterable[str]) -> None:
        """Of all runs."""
        for name in names:
            for kept in self._tensors.pop(name, {}).values():
                if isinstance(kept, _File):
                    kept.path.unlink()
                elif isinstance(kept, np.ndarray):
                    self._held -= _bytes(kept)

    def _stored(self, tensor: Array) -> Array | _File:
        if tensor.dtype.hasobject or self._held + tensor.nbytes <= self._most:
            self._held += _bytes(tensor)
            return tensor
        path = self._folder / f"tensor-{self._made}"
        self._made += 1
        with path.open("wb") as stream:
            stream.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
        return _File(path, tensor.dtype, tensor.shape)


def _bytes(tensor: Array) -> int:
    return 0 if tensor.dtype.hasobject else tensor.nbytes
