"""Operators that pick, join, place and permute: a result has the atoms of what it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.targets import rewritten, written
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker
from planish.ir.ops.indexing import slice_bounds, window
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.types import DType

_NOTHING = Shrunk({}, {})


def _extent(value: Value | None, axis: int) -> int | None:
    dim = None if value is None or value.shape is None else value.shape[axis]
    return dim if isinstance(dim, int) else None


def _track_transpose(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    if x is not None:
        order = node.get_ints("perm") or tuple(reversed(range(x.rank or 0)))
        t.give_all(node.result, [t.ids(x, axis) for axis in order])


def _track_concat(node: Node, t: Tracker) -> None:
    operands = [operand for operand in node.operands if operand is not None]
    rank = node.result.rank or 0
    along = normalize_axis(node, node.get_int("axis"), rank)
    for axis in range(rank):
        if axis != along:
            t.give(node.result, axis, t.unite(*[t.ids(operand, axis) for operand in operands]))
    extents = [_extent(operand, along) for operand in operands]
    if None in extents:
        return  # how they lie one behind the other is not known: the axis is not asked for
    parts = [t.ids(operand, along) for operand in operands]
    if any(part is not None for part in parts):
        filled = [
            t.frozen(extent or 0, "it joins an axis that stays as it is") if part is None else part
            for part, extent in zip(parts, extents, strict=True)
        ]
        t.give(node.result, along, np.concatenate(filled))


def _track_split(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    if x is None or x.shape is None:
        return
    along = normalize_axis(node, node.get_int("axis"), len(x.shape))
    sizes = [_extent(result, along) for result in node.results]
    known = [size for size in sizes if size is not None]
    for axis in range(len(x.shape)):
        if axis != along:
            for result in node.results:
                t.give(result, axis, t.ids(x, axis))
    if len(known) == len(sizes) and sum(known) == x.shape[along]:
        ids, start = t.ids(x, along), 0
        for result, size in zip(node.results, known, strict=True):
            t.give(result, along, None if ids is None else ids[start : start + size])
            start += size


def _shrink_split(node: Node, kept: Kept) -> Shrunk:
    x = node.operands[0]
    along = normalize_axis(node, node.get_int("axis"), 0 if x is None or x.rank is None else x.rank)
    if all(kept.positions(result, along) is None for result in node.results):
        return _NOTHING
    sizes = np.array([kept.extent(result, along) for result in node.results], np.int64)
    return Shrunk({1: sizes}, {"num_outputs": None})


def _slices(node: Node) -> dict[int, tuple[int, int, int]] | None:
    """From where to where, and by what step, each axis is sliced; None where the bounds are computed."""
    x = node.operands[0]
    if x is None or x.shape is None:
        return None
    bounds = slice_bounds(node, len(x.shape))
    if bounds is None:
        return None
    found: dict[int, tuple[int, int, int]] = {}
    for axis, start, end, step in bounds:
        first, last, _ = window(_extent(x, axis) or 0, start, end, step).indices(_extent(x, axis) or 0)
        found[axis] = (first, max(first, last), step)
    return found


def _track_slice(node: Node, t: Tracker) -> None:
    """A step other than 1 could not be told to take what stays."""
    x, found = node.operands[0], _slices(node)
    if x is None or found is None:
        return
    for axis in range(x.rank or 0):
        if axis not in found:
            t.give(node.result, axis, t.ids(x, axis))
        elif _extent(x, axis) is not None and found[axis][2] == 1:
            ids = t.ids(x, axis)
            t.give(node.result, axis, None if ids is None else ids[slice(*found[axis])])


def _shrink_slice(node: Node, kept: Kept) -> Shrunk:
    """Bounds count what stays before them."""
    x, found = node.operands[0], _slices(node)
    bounds = None if x is None or x.rank is None else slice_bounds(node, x.rank)
    if x is None or found is None or bounds is None:
        return _NOTHING
    starts, ends = [start for _, start, _, _ in bounds], [end for _, _, end, _ in bounds]
    for place, (axis, *_) in enumerate(bounds):
        positions = kept.positions(x, axis)
        if positions is not None:
            first, last, _ = found[axis]
            starts[place], ends[place] = (int(np.searchsorted(positions, bound)) for bound in (first, last))
    kinds = [DType.INT64 if v is None or v.dtype is None else v.dtype for v in node.operands[1:3]]
    return Shrunk({1: np.array(starts, kinds[0].numpy), 2: np.array(ends, kinds[1].numpy)}, {})


def _track_gather(node: Node, t: Tracker) -> None:
    x, indices = node.operands[0], node.operands[1]
    if x is None or indices is None or x.shape is None or indices.rank is None:
        return
    axis = normalize_axis(node, node.get_int("axis"), len(x.shape))
    before = [t.ids(x, place) for place in range(axis)]
    behind = [t.ids(x, place) for place in range(axis + 1, len(x.shape))]
    picked = _picked(node)
    if picked is not None:
        ids = t.ids(x, axis)
        middle = [None if ids is None else ids[picked]]
    elif indices.constant is not None:
        middle = [None] * indices.rank
    else:
        middle = [t.ids(indices, place) for place in range(indices.rank)]
    t.give_all(node.result, [*before, *middle, *behind])


def _picked(node: Node) -> Ids | None:
    """Constant indices along one axis, counted from the front."""
    x, indices = node.operands[0], node.operands[1]
    extent = _extent(x, node.get_int("axis"))
    tensor = None if indices is None else indices.constant
    if tensor is None or len(tensor.shape) != 1 or extent is None or not tensor.dtype.is_integer:
        return None
    found: Ids = np.array([place + extent if place < 0 else place for place in tensor.ints()], np.int64)
    return found if np.all((found >= 0) & (found < extent)) else None


def _shrink_gather(node: Node, kept: Kept) -> Shrunk:
    """Indices of what stays, as they are numbered then."""
    x, indices, picked = node.operands[0], node.operands[1], _picked(node)
    if x is None or indices is None or indices.dtype is None or picked is None or x.rank is None:
        return _NOTHING
    axis = normalize_axis(node, node.get_int("axis"), x.rank)
    positions, taken = kept.positions(x, axis), kept.positions(node.result, axis)
    if positions is None:
        return _NOTHING
    staying = picked if taken is None else picked[taken]
    return Shrunk({1: np.searchsorted(positions, staying).astype(indices.dtype.numpy)}, {})


def _track_pad(node: Node, t: Tracker) -> None:
    """What is put beside channels stays."""
    x = node.operands[0]
    pads, axes = constant_ints(node.operand(1)), constant_ints(node.operand(3))
    if x is None or x.rank is None or pads is None or (axes is None and node.operand(3) is not None):
        return
    named = range(x.rank) if axes is None else axes
    widths = {axis % x.rank: (pads[i], pads[i + len(named)]) for i, axis in enumerate(named)}
    for axis in range(x.rank):
        before, behind = widths.get(axis, (0, 0))
        if before == behind == 0:
            t.give(node.result, axis, t.ids(x, axis))
        elif min(before, behind) >= 0 and node.get_str("mode") == "constant" and _extent(x, axis) is not None:
            ids = t.ids(x, axis)
            sides = [t.frozen(width, "it is padded") for width in (before, behind)]
            t.give(node.result, axis, None if ids is None else np.concatenate([sides[0], ids, sides[1]]))


def _track_expand(node: Node, t: Tracker) -> None:
    """What is broadcast anew stays as it is."""
    x, numbers = node.operands[0], written(node.operands[1])
    if x is None or x.shape is None or numbers is None:
        return
    result = node.result.shape or ()
    for axis in range(-len(x.shape), 0):
        if x.shape[axis] == result[axis] and (len(numbers) < -axis or numbers[axis] is not None):
            t.give(node.result, axis, t.ids(x, axis))


def _shrink_expand(node: Node, kept: Kept) -> Shrunk:
    """An extent of 1 leaves the operand's as it is."""
    target = node.operands[1]
    numbers, rank = written(target) or [], node.result.rank or 0
    wanted = {
        place: 1
        for place in range(len(numbers))
        if numbers[place] is not None and kept.positions(node.result, place + rank - len(numbers)) is not None
    }
    return Shrunk({1: rewritten(target, wanted)} if wanted else {}, {})


def _track_tile(node: Node, t: Tracker) -> None:
    x, repeats = node.operands[0], constant_ints(node.operands[1])
    if x is None or repeats is None or len(repeats) != x.rank:
        return
    for axis, count in enumerate(repeats):
        ids = t.ids(x, axis)
        t.give(node.result, axis, None if ids is None or count < 1 else np.tile(ids, count))
        if count < 1:
            t.freeze(ids, "it is repeated no times")


def _track_depth_to_space(node: Node, t: Tracker) -> None:
    """[b * b * C, H, W] -> [C, b * H, b * W]; a channel of the result is made of b * b of the operand."""
    x, block = node.operands[0], node.get_int("blocksize")
    ids = t.ids(x, 1)
    if x is None or ids is None or len(ids) % (block * block):
        t.freeze(ids, "its blocks do not divide the channels")
        return
    rows = ids.reshape(block * block, -1) if node.get_str("mode") == "DCR" else ids.reshape(-1, block * block).T
    t.atoms.unite(rows[:1], rows)
    t.give(node.result, 0, t.ids(x, 0))
    t.give(node.result, 1, rows[0].copy())


def _track_space_to_depth(node: Node, t: Tracker) -> None:
    x, block = node.operands[0], node.get_int("blocksize")
    ids = t.ids(x, 1)
    t.give(node.result, 0, t.ids(x, 0))
    t.give(node.result, 1, None if ids is None else np.tile(ids, block * block))


def _track_pass_but(axes_of: Sequence[str]) -> Channels:
    """All axes pass but the one that an attribute names."""

    def track(node: Node, t: Tracker) -> None:
        x = node.operands[0]
        if x is None or x.rank is None:
            return
        worked = {normalize_axis(node, node.get_int(name), x.rank) for name in axes_of}
        for axis in range(x.rank):
            if axis not in worked:
                for result in node.results:
                    if result.rank == x.rank:
                        t.give(result, axis, t.ids(x, axis))

    return Channels(track)


CHANNELS: dict[str, Channels] = {
    "Concat": Channels(_track_concat, spreads=True),
    "DepthToSpace": Channels(_track_depth_to_space, spreads=True),
    "Expand": Channels(_track_expand, _shrink_expand, spreads=True),
    "Gather": Channels(_track_gather, _shrink_gather, spreads=True),
    "Pad": Channels(_track_pad),
    "ReverseSequence": _track_pass_but(("batch_axis", "time_axis")),
    "Slice": Channels(_track_slice, _shrink_slice, spreads=True),
    "SpaceToDepth": Channels(_track_space_to_depth, spreads=True),
    "Split": Channels(_track_split, _shrink_split, spreads=True),
    "Tile": Channels(_track_tile, spreads=True),
    "TopK": _track_pass_but(("axis",)),
    "Transpose": Channels(_track_transpose, spreads=True),
}
