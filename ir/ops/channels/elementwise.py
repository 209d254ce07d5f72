"""Operators that work element by element: aligned axes are one, a broadcast axis of one element is none."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.dim import Dim
from planish.ir.graph import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Channels, Tracker


def track_same(node: Node, t: Tracker) -> None:
    """All results have the shape of the first operand, whose other operands are scalars or say nothing of it."""
    x = node.operands[0]
    if x is None:
        return
    axes = [t.ids(x, axis) for axis in range(x.rank or 0)]
    for result in node.results:
        if result.rank == len(axes):
            t.give_all(result, axes)


def track_broadcast(node: Node, t: Tracker) -> None:
    operands = [operand for operand in node.operands if operand is not None]
    broadcast(node.result, operands, t)


def broadcast(result: Value, operands: Sequence[Value], t: Tracker, leave: int = 0) -> None:
    """Unite what is aligned from the last axis on, up to the first `leave` axes of the result."""
    for axis in range(leave - (result.rank or 0), 0):
        t.give(result, axis, aligned(operands, axis, t))


def aligned(operands: Sequence[Value], axis: int, t: Tracker) -> Ids | None:
    """The atoms of an axis, counted from the end, of what these broadcast to."""
    parts: list[Ids | None] = []
    dims: list[Dim] = []
    for operand in operands:
        if operand.shape is None or len(operand.shape) < -axis:
            continue
        ids, dim = t.ids(operand, axis), operand.shape[axis]
        if dim != 1:
            parts.append(ids)
            dims.append(dim)
    if not parts:
        return None
    if any(dim != dims[0] for dim in dims):
        for part in parts:
            t.freeze(part, "it meets an axis of an extent that is not known")
        return None
    return t.unite(*parts)


def _track_cast_like(node: Node, t: Tracker) -> None:
    """Of the second operand, the element type alone is read."""
    track_same(node, t)
    like = node.operands[1]
    for axis in range(0 if like is None or like.rank is None else like.rank):
        t.ids(like, axis)


_SAME = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu "
    "com.microsoft::Gelu com.microsoft::QuickGelu"
)
_BROADCAST = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min "
    "Mod Mul Or PRelu Pow Sub Sum Where Xor "
    "com.microsoft::BiasGelu com.microsoft::FastGelu"
)
CHANNELS: dict[str, Channels] = {
    **{name: Channels(track_same, pointwise=True) for name in _SAME.split()},
    **{name: Channels(track_broadcast, pointwise=True) for name in _BROADCAST.split()},
    "CastLike": Channels(_track_cast_like),
}
