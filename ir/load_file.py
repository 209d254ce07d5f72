"""File -> ModelProto and the weights that it was parsed without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from planish.ir import wire
from planish.ir.errors import GraphError

_HUGE_PAGE = 2 << 20


def read_model(path: Path) -> tuple[onnx.ModelProto, Mapping[str, memoryview]]:
    """The protobuf in a file, and by name the raw data of its large initializers, which it lacks.

    These are read once and copied no more. External data are left where they are.
    """
    try:
        data = _read(path)
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        rest, weights = wire.take_out(data)
    except wire.MalformedError:  # which protobuf says for itself
        rest, weights = bytes(data), dict[str, memoryview]()
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(rest)
    except DecodeError:
        raise GraphError(f"{path}: is not an ONNX model, or is cut off (protobuf cannot parse it)") from None
    return proto, weights


def _read(path: Path) -> memoryview:
    """All of a file; a large one into memory of numpy's, which comes in huge pages and takes half the time."""
    size = path.stat().st_size
    if size < _HUGE_PAGE:  # pipes, too
        return memoryview(path.read_bytes())
    with path.open("rb", buffering=0) as file:
        view, done = np.empty(size, np.uint8).data, 0
        while done < size and (count := file.readinto(view[done:])):
            done += count
    return view[:done].toreadonly()
