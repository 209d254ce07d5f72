"""Products and convolutions of codes: a code at the zero point adds nothing to a sum, as 0 does."""

from __future__ import annotations

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.linear import shrink_convolution, track_convolution, track_product
from planish.ir.ops.channels.tracker import Channels, Tracker

_BY_PLACE = "it has a scale or a zero point for each row, or for each column of each matrix"


def _track_integer_product(node: Node, t: Tracker) -> None:
    """MatMulInteger(a, b, zero of a, zero of b)."""
    a, b = node.operand(0), node.operand(1)
    track_product(node, a, b, t)
    _by_row(a, (node.operand(2),), t)
    _by_channel(b, -1, (node.operand(3),), t)


def _track_quantized_product(node: Node, t: Tracker) -> None:
    """QLinearMatMul(a, its scale, its zero, b, its scale, its zero, scale of the result, its zero)."""
    a, b = node.operand(0), node.operand(3)
    track_product(node, a, b, t)
    _by_row(a, (node.operand(1), node.operand(2), node.operand(6), node.operand(7)), t)
    _by_channel(b, -1, (node.operand(4), node.operand(5)), t)


def _track_integer_convolution(node: Node, t: Tracker) -> None:
    """ConvInteger(x, w, zero of x, zero of w)."""
    w = node.operand(1)
    track_convolution(node, (node.operand(0), w, None), t)
    _by_channel(w, 0, (node.operand(3),), t)


def _track_quantized_convolution(node: Node, t: Tracker) -> None:
    """QLinearConv(x, its scale, its zero, w, its scale, its zero, scale of the result, its zero, bias)."""
    w = node.operand(3)
    track_convolution(node, (node.operand(0), w, node.operand(8)), t)
    _by_channel(w, 0, (node.operand(4), node.operand(5)), t)


def _by_channel(value: Value | None, axis: int, parameters: tuple[Value | None, ...], t: Tracker) -> None:
    """A number for each index of an axis goes with it."""
    for parameter in parameters:
        if _is_one(parameter) or parameter is None or value is None:
            continue
        if parameter.rank == 1:
            t.unite(t.ids(value, axis), t.ids(parameter, 0))
        else:
            _keep(value, t)


def _by_row(value: Value | None, parameters: tuple[Value | None, ...], t: Tracker) -> None:
    if value is not None and not all(_is_one(parameter) for parameter in parameters):
        _keep(value, t)


def _keep(value: Value, t: Tracker) -> None:
    for axis in range(value.rank or 0):
        t.freeze(t.ids(value, axis), _BY_PLACE)


def _is_one(parameter: Value | None) -> bool:
    return parameter is None or parameter.shape in ((), (1,))


CHANNELS: dict[str, Channels] = {
    "ConvInteger": Channels(_track_integer_convolution, shrink_convolution),
    "MatMulInteger": Channels(_track_integer_product),
    "QLinearConv": Channels(_track_quantized_convolution, shrink_convolution),
    "QLinearMatMul": Channels(_track_quantized_product),
}
