"""The one node that brings a value into another shape with its elements in their order, for every binding."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Dim, Shape, is_positive, product
from planish.ir.ops.shape import constant_ints
from planish.passes.rewrite import Match

RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
UNSAYABLE = "the new shape has more than one dim that is neither known nor a copy, so only a computed one could say it"


def reshaped_to(m: Match, x: Value, target: Shape, never_empty: Collection[Dim] = ()) -> Value | None:
    """x itself where it has that shape, else a Reshape, Unsqueeze, Squeeze or Flatten of it; None when none can say it.

    x must hold as many elements as the target. never_empty: dims that the model as it is does not take as 0.
    """
    if x.shape == target:
        return x
    spelled = spell(x.shape, target, never_empty)
    if spelled is not None:
        return m.add("Reshape", (x, m.constant(np.array(spelled, np.int64))))
    if x.shape is None:
        return None
    for op, axes in (
        ("Unsqueeze", inserted_ones(x.shape, target)),
        ("Squeeze", inserted_ones(target, x.shape)),
    ):
        if axes is not None:
            return m.add(op, (x, m.constant(np.array(axes, np.int64))))
    cut = _flattened_at(x.shape, target)
    return None if cut is None else m.add("Flatten", (x,), {"axis": cut})


def spell(shape: Shape | None, target: Shape, never_empty: Collection[Dim] = ()) -> list[int] | None:
    """What a Reshape of a tensor of `shape` would be given: known extents, 0 for a dim that is copied, at most one -1.

    ONNX Runtime works no dim out of nothing, so that beside -1 nothing may be empty, but what `never_empty` holds.
    """
    spelled = [_extent(shape, axis, dim) for axis, dim in enumerate(target)]
    known = [extent for extent in spelled if extent is not None]
    if len(known) != len(spelled) or known.count(-1) > 1:
        return None
    rest = [dim for dim, extent in zip(target, known, strict=True) if extent != -1]
    if -1 in known and not all(is_positive(dim) or dim in never_empty for dim in rest):
        return None
    return known


def _extent(shape: Shape | None, axis: int, dim: Dim) -> int | None:
    if shape is not None and axis < len(shape) and shape[axis] == dim:
        return dim if isinstance(dim, int) and dim else 0
    if not isinstance(dim, int):
        return -1
    return dim or None


def never_empty(node: Node) -> set[Dim]:
    """The dims of a Reshape that works one out by -1, which fails when another one is 0."""
    target, shape = node.operand(1), node.result.shape
    asked = None if target is None or node.op != "Reshape" else target.elements
    if shape is None or asked is None or -1 not in asked:
        return set()
    return {dim for dim, extent in zip(shape, asked, strict=True) if extent != -1}


def _flattened_at(shape: Shape, target: Shape) -> int | None:
    """The axis at which Flatten makes `target` of a tensor of `shape`."""
    if len(target) != 2:
        return None
    for cut in range(len(shape) + 1):
        if product(shape[:cut]) == target[0] and product(shape[cut:]) == target[1]:
            return cut
    return None


def inserted_ones(shape: Shape, target: Shape) -> list[int] | None:
    """The axes of `target` that are 1 and that `shape` lacks, where that is all in which they differ."""
    rest = list(shape)
    found: list[int] = []
    for axis, dim in enumerate(target):
        if rest and rest[0] == dim:
            rest.pop(0)
        elif dim == 1:
            found.append(axis)
        else:
            return None
    return None if rest else found


def axes_from_front(value: Value | None, rank: int | None) -> list[int] | None:
    """Constant axes counted from the front, ascending; negative ones only where the rank is known."""
    axes = constant_ints(value)
    if axes is None or (rank is None and any(axis < 0 for axis in axes)):
        return None
    return sorted(axis + (rank or 0) if axis < 0 else axis for axis in axes)


def outer_of(axes: Sequence[int], others: Sequence[int]) -> list[int]:
    """Where `axes`, counted without the ascending `others`, stand when those are counted too."""
    found: list[int] = []
    for axis in axes:
        place = axis
        for other in others:
            place += other <= place
        found.append(place)
    return found
