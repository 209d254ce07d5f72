"""Q and DQ: a scale for each index of an axis follows it; a code stands for 0 as well as the real number does."""

from __future__ import annotations

from planish.ir.graph import Node
from planish.ir.ops.channels.tracker import Channels, Tracker
from planish.ir.ops.shape import normalize_axis


def _track_linear(node: Node, t: Tracker) -> None:
    """Blocks of one scale are of a number of elements: the axis stays."""
    x = node.operands[0]
    if x is None or x.rank is None:
        return
    parameters = [operand for operand in node.operands[1:3] if operand is not None and operand.shape not in ((), (1,))]
    along = normalize_axis(node, node.get_int("axis"), x.rank) if parameters and x.rank else -1
    blocked = bool(node.get_int("block_size"))
    for axis in range(x.rank):
        if axis == along and blocked:
            continue
        if axis == along:
            t.unite(t.ids(x, axis), *[t.ids(parameter, 0) for parameter in parameters])
        elif blocked:
            for parameter in parameters:
                t.unite(t.ids(x, axis), t.ids(parameter, axis))
        t.give(node.result, axis, t.ids(x, axis))


def _track_dynamic(node: Node, t: Tracker) -> None:
    """The range holds 0 anyway."""
    x = node.operands[0]
    if x is not None:
        t.give_all(node.results[0], [t.ids(x, axis) for axis in range(x.rank or 0)])


CHANNELS: dict[str, Channels] = {
    "DequantizeLinear": Channels(_track_linear),
    "DynamicQuantizeLinear": Channels(_track_dynamic),
    "QuantizeLinear": Channels(_track_linear),
}
