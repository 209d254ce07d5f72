"""Reshape and its kin: an index is a number in mixed radix, whose digits are the indices of other axes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from planish.ir.dim import Dim, Shape
from planish.ir.graph import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.shape import origins
from planish.ir.ops.channels.targets import rewritten, written
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker

_COMPUTED = "the shape that it is given is computed, and could not be rewritten"
_UNALIGNED = "its axes are neither parts nor products of those of the result"
_PARTS = "the axes that it is made of stay"
Segment = tuple[list[int], list[int]]
"""Axes of the operand and of the result that hold the same elements."""


def _track_reshape(node: Node, t: Tracker) -> None:
    x, result = node.operands[0], node.result
    if x is None or x.shape is None or result.shape is None:
        return
    axes = [t.ids(x, axis) for axis in range(len(x.shape))]
    found: list[Ids | None] = [None] * len(result.shape)
    parts, left = segments(x.shape, result.shape)
    for old, new in parts:
        _relate(_Side(old, x.shape, axes), _Side(new, result.shape, found), t)
    for axis in left:
        t.freeze(axes[axis], _UNALIGNED)
    if node.op == "Reshape":
        _follow_target(node.operands[1], found, t)
    t.give_all(result, found)


def _follow_target(target: Value | None, found: list[Ids | None], t: Tracker) -> None:
    """An axis shrinks where the target is a number that can be rewritten, or with the axis whose extent it takes."""
    numbers, sources = written(target), origins(target)
    for axis, ids in enumerate(found):
        source = sources[axis] if axis < len(sources) else None
        if source is not None:
            found[axis] = t.unite(ids, t.ids(*source))
        elif numbers is None or axis >= len(numbers) or numbers[axis] is None:
            t.freeze(ids, _COMPUTED)


def segments(before: Shape, after: Shape) -> tuple[list[Segment], list[int]]:
    """The smallest runs of axes, of one element aside, with as many elements; and the operand's axes in none of them.

    Extents are compared as expressions, so that runs agree in every run of the model.
    """
    if 0 in before or 0 in after:
        return [], list(range(len(before)))
    old = [axis for axis, dim in enumerate(before) if dim != 1]
    new = [axis for axis, dim in enumerate(after) if dim != 1]
    found: list[Segment] = []
    while old and new:
        cut = _first_cut([before[axis] for axis in old], [after[axis] for axis in new])
        if cut is None:
            break
        found.append((old[: cut[0]], new[: cut[1]]))
        old, new = old[cut[0] :], new[cut[1] :]
    while old and new and before[old[-1]] == after[new[-1]]:
        found.append(([old.pop()], [new.pop()]))
    return found, old


def _first_cut(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[int, int] | None:
    """How many of the first axes of each side hold the same number of elements."""
    products: dict[Dim, int] = {}
    total: Dim = 1
    for place, dim in enumerate(before):
        total = total * dim
        products.setdefault(total, place + 1)
    total = 1
    for place, dim in enumerate(after):
        total = total * dim
        if total in products:
            return products[total], place + 1
    return None


class _Side(NamedTuple):
    """The axes of a segment, and the shape and the atoms of the tensor that they are of."""

    axes: list[int]
    shape: Shape
    ids: list[Ids | None]

    @property
    def sizes(self) -> list[int] | None:
        """None where one is not known."""
        found = [dim for axis in self.axes if isinstance(dim := self.shape[axis], int)]
        return found if len(found) == len(self.axes) else None


def _relate(old: _Side, new: _Side, t: Tracker) -> None:
    """Give the axes of a segment of the result the atoms of their digits."""
    if len(old.axes) == len(new.axes) == 1:
        new.ids[new.axes[0]] = old.ids[old.axes[0]]
        return
    if old.sizes is None or new.sizes is None:
        _relate_first(old, new, t)
        return
    places = _places(old.sizes, new.sizes)
    if places is None:
        for axis in old.axes:
            t.freeze(old.ids[axis], _UNALIGNED)
        return
    digits: dict[tuple[int, int], Ids | None] = {}
    for axis, own in zip(old.axes, _digits(old.sizes or (), places), strict=True):
        ids = old.ids[axis]
        if len(own) == 1:
            digits[own[0]] = ids
        else:
            digits.update({digit: None if ids is None else t.atoms.fresh(digit[1] // digit[0]) for digit in own})
            _radix(ids, own, digits, t)
    for axis, own in zip(new.axes, _digits(new.sizes or (), places), strict=True):
        if len(own) == 1:
            new.ids[axis] = digits[own[0]]
        elif any(digits[digit] is not None for digit in own):
            new.ids[axis] = t.atoms.fresh(own[0][1] // own[-1][0])
            _radix(new.ids[axis], own, digits, t)


def _relate_first(old: _Side, new: _Side, t: Tracker) -> None:
    """Of axes some of which are dynamic, the first is part of the first of the other side where it divides that."""
    for axis in old.axes[1:]:
        t.freeze(old.ids[axis], _UNALIGNED)
    a, b, ids = old.shape[old.axes[0]], new.shape[new.axes[0]], old.ids[old.axes[0]]
    if ids is None or not isinstance(a, int) or not isinstance(b, int) or (a % b and b % a):
        t.freeze(ids, _UNALIGNED)
    elif a % b == 0:
        new.ids[new.axes[0]] = t.atoms.fresh(b)
        t.radix(ids, [new.ids[new.axes[0]], None], [b, a // b], _PARTS)
    else:
        new.ids[new.axes[0]] = t.atoms.fresh(b)
        t.radix(new.ids[new.axes[0]], [ids, None], [a, b // a], _PARTS)


def _radix(
    merged: Ids | None, own: Sequence[tuple[int, int]], digits: dict[tuple[int, int], Ids | None], t: Tracker
) -> None:
    if merged is not None:
        t.radix(merged, [digits[digit] for digit in own], [high // low for low, high in own], _PARTS)


def _places(before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """What a step of each digit is worth, from 1 up to the number of elements; None where they do not divide."""
    found = sorted({*_worths(before), *_worths(after)})
    return found if all(high % low == 0 for low, high in pairwise(found)) else None


def _worths(extents: Sequence[int]) -> list[int]:
    found = [1]
    for extent in reversed(extents):
        found.append(found[-1] * extent)
    return found


def _digits(extents: Sequence[int], places: Sequence[int]) -> list[list[tuple[int, int]]]:
    """For each axis its digits, as from what to what a step is worth, the most significant first."""
    found: list[list[tuple[int, int]]] = []
    low = 1
    for extent in reversed(extents):
        high = low * extent
        inner = [place for place in places if low <= place <= high]
        found.append(list(pairwise(inner))[::-1])
        low = high
    return found[::-1]


def _shrink_reshape(node: Node, kept: Kept) -> Shrunk:
    """Numbers that the target names; 0 copies, and -1 works out, what is right by itself."""
    wanted = {
        axis: kept.extent(node.result, axis)
        for axis, number in enumerate(written(node.operands[1]) or ())
        if number is not None and number > 0 and kept.positions(node.result, axis) is not None
    }
    return Shrunk({1: rewritten(node.operands[1], wanted)} if wanted else {}, {})


CHANNELS: dict[str, Channels] = {
    "Flatten": Channels(_track_reshape, spreads=True),
    "Reshape": Channels(_track_reshape, _shrink_reshape, spreads=True),
    "Squeeze": Channels(_track_reshape, spreads=True),
    "Unsqueeze": Channels(_track_reshape, spreads=True),
}
