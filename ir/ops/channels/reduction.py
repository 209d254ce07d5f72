"""Reductions and poolings: a sum over channels is one of their consumers; windows and extremes leave channels alone."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.graph import Node
from planish.ir.ops.channels.targets import rewritten, written
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker
from planish.ir.ops.shape import constant_ints, normalize_axis


def _reduced(node: Node, rank: int) -> set[int] | None:
    """The axes that are reduced; None where they are computed."""
    axes = node.operand(1)
    if axes is None or axes.shape == (0,):
        return set() if node.get_int("noop_with_empty_axes") else set(range(rank))
    named = constant_ints(axes)
    return None if named is None else {normalize_axis(node, axis, rank) for axis in named}


def _track_reduction(node: Node, t: Tracker, *, adds: bool = False, averages: bool = False) -> None:
    """adds: an element of 0 changes nothing. averages: it changes what the sum is divided by."""
    x = node.operands[0]
    over = None if x is None or x.rank is None else _reduced(node, x.rank)
    if x is None or x.rank is None or over is None:
        return
    place, keeps = 0, bool(node.get_int("keepdims"))
    for axis in range(x.rank):
        if axis not in over:
            t.give(node.result, place, t.ids(x, axis))
        elif adds or averages:
            ids = t.ids(x, axis)
            if averages:
                t.inexact(ids, "a mean over the axis counts elements of 0, too")
        place += axis not in over or keeps


def _track_sum(node: Node, t: Tracker) -> None:
    _track_reduction(node, t, adds=True)


def _track_mean(node: Node, t: Tracker) -> None:
    _track_reduction(node, t, averages=True)


def _track_arg(node: Node, t: Tracker) -> None:
    """The place of an extreme element is one among all."""
    x = node.operands[0]
    if x is None or x.rank is None:
        return
    over, place = normalize_axis(node, node.get_int("axis"), x.rank), 0
    for axis in range(x.rank):
        if axis != over:
            t.give(node.result, place, t.ids(x, axis))
        place += axis != over or bool(node.get_int("keepdims"))


def _track_running_sum(node: Node, t: Tracker) -> None:
    x, over = node.operands[0], constant_ints(node.operands[1])
    if x is None or x.rank is None or not over:
        return
    for axis in range(x.rank):
        if axis != over[0] % x.rank:
            t.give(node.result, axis, t.ids(x, axis))


def _track_pool(node: Node, t: Tracker) -> None:
    """The second result of a MaxPool counts elements of the whole operand."""
    x = node.operands[0]
    if x is None or (x.rank or 0) < 3 or any(result.is_used for result in node.results[1:]):
        return
    for axis in (0, 1):
        t.give(node.result, axis, t.ids(x, axis))


def _untouched(node: Node) -> Sequence[int] | None:
    """The axes that a Resize leaves alone; None where that cannot be told."""
    x, scales, sizes = node.operands[0], node.operand(2), node.operand(3)
    if x is None or x.shape is None or node.get_str("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    rank = len(x.shape)
    named = [normalize_axis(node, axis, rank) for axis in node.get_ints("axes") or range(rank)]
    others = [axis for axis in range(rank) if axis not in named]
    if sizes is not None:
        numbers = written(sizes)
        if numbers is None or len(numbers) != len(named) or node.get_str("keep_aspect_ratio_policy") != "stretch":
            return None
        return others + [axis for axis, n in zip(named, numbers, strict=True) if n is not None and n == x.shape[axis]]
    if scales is None or scales.constant is None or scales.constant.size != len(named):
        return None
    factors: list[float] = scales.constant.array().reshape(-1).tolist()
    return others + [axis for axis, factor in zip(named, factors, strict=True) if factor == 1.0]


def _track_resize(node: Node, t: Tracker) -> None:
    for axis in _untouched(node) or ():
        t.give(node.result, axis, t.ids(node.operands[0], axis))


def _shrink_resize(node: Node, kept: Kept) -> Shrunk:
    x, sizes = node.operands[0], node.operand(3)
    if x is None or x.rank is None or sizes is None:
        return Shrunk({}, {})
    named = [axis % x.rank for axis in node.get_ints("axes") or range(x.rank)]
    wanted = {place: kept.extent(x, axis) for place, axis in enumerate(named) if kept.positions(x, axis) is not None}
    return Shrunk({3: rewritten(sizes, wanted)} if wanted else {}, {})


_ADDING = "ReduceSum ReduceL1 ReduceL2 ReduceSumSquare"
_OTHER = "ReduceMax ReduceMin ReduceProd ReduceLogSum ReduceLogSumExp"
_POOLS = "AveragePool GlobalLpPool LpPool"
_OF_ONE_NUMBER = "GlobalAveragePool GlobalMaxPool MaxPool"
CHANNELS: dict[str, Channels] = {
    **{name: Channels(_track_sum) for name in _ADDING.split()},
    **{name: Channels(_track_reduction) for name in _OTHER.split()},
    **{name: Channels(_track_pool) for name in _POOLS.split()},
    **{name: Channels(_track_pool, spreads=True) for name in _OF_ONE_NUMBER.split()},
    "ArgMax": Channels(_track_arg),
    "ArgMin": Channels(_track_arg),
    "CumSum": Channels(_track_running_sum),
    "ReduceMean": Channels(_track_mean, spreads=True),
    "Resize": Channels(_track_resize, _shrink_resize),
}
