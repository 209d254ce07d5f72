"""Normalizations: exact where their statistics are of one channel, or of a block of channels that vanishes whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker
from planish.ir.ops.shape import normalize_axis

_MEAN = "its statistics are taken over the axis, with zeros or without"


def _pass(node: Node, x: Value, axes: Iterable[int], t: Tracker) -> None:
    for axis in axes:
        t.give(node.result, axis, t.ids(x, axis))


def _parameters(node: Node, x: Value, t: Tracker) -> None:
    """Each parameter has an element for each index of axis 1."""
    ids = t.ids(x, 1)
    for parameter in node.operands[1:]:
        if parameter is not None and parameter.rank == 1:
            t.unite(ids, t.ids(parameter, 0))


def _track_batch(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    if x is None or (x.rank or 0) < 2 or node.get_int("training_mode") or any(r.is_used for r in node.results[1:]):
        return
    _parameters(node, x, t)
    _pass(node, x, range(x.rank or 0), t)


def _track_instance(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    if x is None or (x.rank or 0) < 3:
        return
    _parameters(node, x, t)
    _pass(node, x, (0, 1), t)


def _track_group(node: Node, t: Tracker) -> None:
    """Whole groups may vanish; of a group, only where the result need not be exact, and then as many of each."""
    x = node.operands[0]
    channels = None if x is None or x.shape is None or len(x.shape) < 3 else x.shape[1]
    groups = node.get_int("num_groups")
    if x is None or not isinstance(channels, int) or channels % groups:
        return
    _parameters(node, x, t)
    _pass(node, x, (0, 1), t)
    ids = t.ids(x, 1)
    if ids is None or groups == channels:
        return
    rows = ids.reshape(groups, -1)
    if t.allows_inexact:
        t.equal_counts(ids, groups, f"the {groups} groups of {node.label}")
        t.inexact(ids, _MEAN)
    else:
        t.atoms.unite(rows[:, :1], rows)


def _shrink_group(node: Node, kept: Kept) -> Shrunk:
    """As many groups as whole ones stay; all of them where some of each do."""
    x = node.operands[0]
    channels = None if x is None or x.shape is None else x.shape[1]
    positions = kept.positions(x, 1)
    if positions is None or not isinstance(channels, int):
        return Shrunk({}, {})
    groups = node.get_int("num_groups")
    return Shrunk({}, {"num_groups": len(set((positions // (channels // groups)).tolist()))})


def _over_last(node: Node, parameters: Sequence[Value | None], t: Tracker, text: str) -> None:
    """Statistics over the axes from `axis` on; the parameters are aligned with the last axes."""
    x = node.operands[0]
    if x is None or x.shape is None or any(result.is_used for result in node.results[1:]):
        return
    first = normalize_axis(node, node.get_int("axis"), len(x.shape))
    _pass(node, x, range(len(x.shape)), t)
    for axis in range(first, len(x.shape)):
        t.inexact(t.ids(x, axis), text)
    for parameter in parameters:
        for axis in range(-(parameter.rank or 0) if parameter is not None else 0, 0):
            if parameter is not None and parameter.shape is not None and parameter.shape[axis] != 1:
                t.unite(t.ids(x, axis), t.ids(parameter, axis))


def _track_layer(node: Node, t: Tracker) -> None:
    _over_last(node, node.operands[1:], t, _MEAN)


def _track_lp(node: Node, t: Tracker) -> None:
    """A norm is a sum, to which zeros add nothing."""
    x = node.operands[0]
    if x is not None:
        _pass(node, x, range(x.rank or 0), t)


def _track_local_response(node: Node, t: Tracker) -> None:
    """A window slides over axis 1."""
    x = node.operands[0]
    if x is not None:
        _pass(node, x, [axis for axis in range(x.rank or 0) if axis != 1], t)


def _track_mean_variance(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    over = {axis % max(x.rank or 1, 1) for axis in node.get_ints("axes") or ()} if x is not None else set[int]()
    if x is not None:
        _pass(node, x, [axis for axis in range(x.rank or 0) if axis not in over], t)


def _track_softmax(node: Node, t: Tracker) -> None:
    """Every element counts, one that is 0 too: it is worth exp(0)."""
    x = node.operands[0]
    if x is None or x.shape is None:
        return
    over = normalize_axis(node, node.get_int("axis"), len(x.shape))
    _pass(node, x, range(len(x.shape)), t)
    t.inexact(t.ids(x, over), "a softmax counts elements of 0, too")


def _track_hardmax(node: Node, t: Tracker) -> None:
    x = node.operands[0]
    if x is None or x.shape is None:
        return
    over = normalize_axis(node, node.get_int("axis"), len(x.shape))
    _pass(node, x, [axis for axis in range(len(x.shape)) if axis != over], t)


CHANNELS: dict[str, Channels] = {
    "BatchNormalization": Channels(_track_batch, pointwise=True),
    "GroupNormalization": Channels(_track_group, _shrink_group),
    "Hardmax": Channels(_track_hardmax),
    "InstanceNormalization": Channels(_track_instance),
    "LRN": Channels(_track_local_response),
    "LayerNormalization": Channels(_track_layer),
    "LogSoftmax": Channels(_track_softmax),
    "LpNormalization": Channels(_track_lp),
    "MeanVarianceNormalization": Channels(_track_mean_variance),
    "RMSNormalization": Channels(_track_layer),
    "Softmax": Channels(_track_softmax),
}
