"""Operands that hold extents (the target of a Reshape or Expand, the sizes of a Resize), and how they are rewritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir.graph import Value
from planish.ir.ops.shape import constant_ints
from planish.ir.types import Array


def pieces(target: Value | None) -> list[Value] | None:
    """The vectors that a target is joined of, itself where it is constant; None where that is not known."""
    if target is None or target.rank != 1:
        return None
    if target.constant is not None:
        return [target]
    joined = target.producer
    if joined is None or joined.op != "Concat":
        return None
    found = [part for part in joined.operands if part is not None and _length(part) is not None]
    return found if len(found) == len(joined.operands) else None


def written(target: Value | None) -> list[int | None] | None:
    """What a target asks for on each axis: None where it is computed; None at all where it cannot be rewritten."""
    parts = pieces(target)
    if parts is None:
        return None
    found: list[int | None] = []
    for part in parts:
        numbers = constant_ints(part)
        found += [None] * (_length(part) or 0) if numbers is None or part.constant is None else numbers
    return found


def rewritten(target: Value | None, wanted: Mapping[int, int]) -> tuple[Value | Array, ...]:
    """The pieces of a target that asks for other numbers on some axes, all of which are constant now."""
    found: list[Value | Array] = []
    place = 0
    for part in pieces(target) or ():
        length = _length(part) or 0
        numbers = constant_ints(part)
        if numbers is None or not any(place <= axis < place + length for axis in wanted):
            found.append(part)
        else:
            found.append(np.array([wanted.get(place + i, number) for i, number in enumerate(numbers)], np.int64))
        place += length
    return tuple(found)


def _length(value: Value) -> int | None:
    if value.shape is None or len(value.shape) != 1:
        return None
    return value.shape[0] if isinstance(value.shape[0], int) else None
