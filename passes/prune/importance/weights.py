"""The weights of a group as matrices: a row for each unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from planish.ir.types import Array
from planish.passes.prune.dependency import Group, Member

Scores = NDArray[np.float64]
_MATRIX = 2


def filters(group: Group) -> Iterator[tuple[Member, Scores]]:
    """Each weight of at least two axes, as [units, elements] in double precision, elements of one unit in a row."""
    for member in group.constants:
        tensor = member.value.constant
        if tensor is not None and tensor.dtype.is_float and len(tensor.shape) >= _MATRIX and member.units.ndim == 1:
            rows = _rows(tensor.array(), member, group.size)
            if rows is not None:
                yield member, rows


def vectors(group: Group) -> Iterator[tuple[Member, Scores]]:
    """Each parameter of one axis, as [units, elements]."""
    for member in group.constants:
        tensor = member.value.constant
        if tensor is not None and tensor.dtype.is_float and len(tensor.shape) == 1:
            rows = _rows(tensor.array(), member, group.size)
            if rows is not None:
                yield member, rows


def _rows(array: Array, member: Member, size: int) -> Scores | None:
    """None where the units have not all as many indices."""
    places = np.flatnonzero(member.units >= 0)
    places = places[np.argsort(member.units[places], kind="stable")]
    if (
        not size
        or len(places) % size
        or (np.bincount(member.units[places], minlength=size) != len(places) // size).any()
    ):
        return None
    taken = np.moveaxis(array, member.axis, 0)[places].astype(np.float64)
    return taken.reshape(size, -1)
