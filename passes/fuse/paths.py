"""How y = x * scale + shift passes through the nodes that may stand between arithmetic and a convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir import Node, Value
from planish.ir.dim import product
from planish.passes.fuse.affine import Affine
from planish.passes.rewrite import Match

Numbers = NDArray[np.float64]
REACH = 8
"""Nodes in a row that a map may pass, so that a change that far away gives a rule a new chance."""
_REGROUPING = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))


class Spread(NamedTuple):
    """y = x * scale + shift; both in double precision, of the rank of x, with an extent of 1 where they broadcast."""

    scale: Numbers
    shift: Numbers

    @property
    def is_uniform(self) -> bool:
        return self.scale.size == 1 and self.shift.size == 1

    @property
    def scales_up(self) -> bool:
        """No shift, and only positive factors: what every function with f(a * x) = a * f(x) for a > 0 lets through."""
        return not np.any(self.shift) and bool(np.all(self.scale > 0))

    def channels(self, count: int) -> Affine | None:
        """One scale and one shift for each index of axis 1; None where another axis matters."""
        if any(extent != 1 for part in self for axis, extent in enumerate(part.shape) if axis != 1):
            return None
        if any(part.size not in (1, count) for part in self):
            return None
        return Affine(*(np.broadcast_to(part.reshape(-1), (count,)) for part in self))


def spread_of(affine: Affine, rank: int) -> Spread:
    """A map of channels as one of a tensor of that rank."""
    shape = (1, -1, *(1,) * (rank - 2))
    return Spread(affine.scale.reshape(shape), affine.shift.reshape(shape))


def arithmetic(m: Match, node: Node) -> tuple[Value, Spread] | None:
    """The operand of an Add, Sub, Mul, Div or Neg that is not constant, and the map from it to the result.

    None where no operand or both are constant, where the constant changes the shape, varies along more than one axis or
    is not finite.
    """
    left, right = node.operand(0), node.operand(1)
    if node.op == "Neg" and left is not None and left.dtype is not None and left.dtype.is_float:
        return left, Spread(np.array(-1.0), np.array(0.0))
    if left is None or right is None or (left.constant is None) is (right.constant is None):
        return m.decline(f"no operand of {node.label} is constant")
    operand, number = (right, left) if right.constant is None else (left, right)
    tensor, shape = number.constant, operand.shape
    if tensor is None or shape is None or not tensor.dtype.is_float or operand.shape != node.result.shape:
        return m.decline(f"{node.label} may change the shape, or is no arithmetic of floats")
    if node.op == "Div" and number is left:
        return m.decline(f"{node.label} divides a constant")
    if len(tensor.shape) > len(shape) or sum(extent != 1 for extent in tensor.shape) > 1:
        return m.decline(f"the constant of {node.label} varies along more than one axis")
    constant = tensor.array().astype(np.float64)
    constant = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    one, none = np.ones_like(constant), np.zeros_like(constant)
    with np.errstate(all="ignore"):
        if node.op in ("Mul", "Div"):
            found = Spread(constant if node.op == "Mul" else 1 / constant, none)
        elif node.op == "Add":
            found = Spread(one, constant)
        else:
            found = Spread(-one, constant) if number is left else Spread(one, -constant)
    if not (np.isfinite(found.scale).all() and np.isfinite(found.shift).all()):
        return m.decline(f"the constant of {node.label} is not finite, or it divides by zero")
    return operand, found


def before(m: Match, node: Node, spread: Spread) -> Spread | None:
    """What must happen to the first operand of a node so that its result is mapped; None where nothing does."""
    if node.op == "Transpose":
        order = _order(node, spread)
        return Spread(*(part.transpose(np.argsort(order)) if part.size > 1 else part for part in spread))
    if node.op in _REGROUPING and not spread.is_uniform:
        return _regrouped(m, node, spread, node.result, node.operands[0])
    return _through(m, node, spread)


def after(m: Match, node: Node, spread: Spread) -> Spread | None:
    """What happens to the result of a node whose first operand is mapped; None where that is no such map."""
    if node.op == "Transpose":
        order = _order(node, spread)
        return Spread(*(part.transpose(order) if part.size > 1 else part for part in spread))
    if node.op in _REGROUPING and not spread.is_uniform:
        return _regrouped(m, node, spread, node.operands[0], node.result)
    return _through(m, node, spread)


def is_passable(node: Node) -> bool:
    """Whether some map may pass through the node; it has one result that is read."""
    return node.op in _PASSAGES and not any(other.is_used for other in node.results[1:])


def clone(m: Match, node: Node, first: Value) -> Value:
    """The node again, with another first operand; it counts as one of those that the rewrite replaces."""
    m.cover(node)
    return m.add(node.op, (first, *node.operands[1:]), node.attributes)


def _order(node: Node, spread: Spread) -> tuple[int, ...]:
    rank = max(part.ndim for part in spread)
    return node.get_ints("perm") or tuple(reversed(range(rank)))


def _through(m: Match, node: Node, spread: Spread) -> Spread | None:
    passage = _PASSAGES.get(node.op)
    if passage is None or not passage(node, spread):
        return m.decline(f"{node.label} ({node.op}) lets the scale or the shift not through")
    rank = node.result.rank
    if spread.is_uniform:
        return Spread(spread.scale.reshape(()), spread.shift.reshape(()))
    return spread if rank is not None and all(part.ndim in (0, rank) for part in spread) else None


def _regrouped(m: Match, node: Node, spread: Spread, here: Value | None, there: Value | None) -> Spread | None:
    """The map on the other side of a node that keeps the elements in order, where its axis is one there, too."""
    axes = {axis for part in spread for axis, extent in enumerate(part.shape) if extent != 1}
    if here is None or here.shape is None or there is None or there.shape is None or len(axes) != 1:
        return m.decline(f"the shapes around {node.label} are not known, or the constants vary along different axes")
    (axis,) = axes
    outer, extent = product(here.shape[:axis]), here.shape[axis]
    for place, other in enumerate(there.shape):
        if other == extent and product(there.shape[:place]) == outer:
            aligned = [-1 if index == place else 1 for index in range(len(there.shape))]
            return Spread(*(part.reshape(aligned) if part.size > 1 else part.reshape(()) for part in spread))
    return m.decline(f"{node.label} ({node.op}) cuts or joins the axis along which the constant varies")


def _uniform(node: Node, spread: Spread) -> bool:
    return spread.is_uniform


def _homogeneous(node: Node, spread: Spread) -> bool:
    return spread.scales_up


def _average(node: Node, spread: Spread) -> bool:
    """A window over zeros that count, or over the edge, mixes the shift with them."""
    if not _keeps_channels(node, spread):
        return False
    if not np.any(spread.shift) or node.op == "GlobalAveragePool":
        return True
    padded = node.get_str("auto_pad") not in ("NOTSET", "VALID") or any(node.get_ints("pads") or ())
    return not padded and not node.get_int("ceil_mode")


def _maximum(node: Node, spread: Spread) -> bool:
    return spread.scales_up and _keeps_channels(node, spread)


def _interpolation(node: Node, spread: Spread) -> bool:
    """Weights that sum to one, and no value from outside."""
    if node.get_str("mode") not in ("nearest", "linear") or not _keeps_channels(node, spread):
        return False
    return node.get_str("coordinate_transformation_mode") != "tf_crop_and_resize"


def _zero_padding(node: Node, spread: Spread) -> bool:
    """A scale alone, where what is put around is zero."""
    value = node.operand(2)
    fill = 0 if value is None else None if value.constant is None else value.constant.uniform()
    return node.get_str("mode") == "constant" and fill == 0 and not np.any(spread.shift) and spread.is_uniform


def _keeps_channels(node: Node, spread: Spread) -> bool:
    """Whether at most axis 1 matters, and the node leaves it alone."""
    operand = node.operands[0]
    if spread.is_uniform:
        return True
    if operand is None or operand.shape is None or node.result.shape is None or len(operand.shape) < 2:
        return False
    return operand.shape[1] == node.result.shape[1] and all(
        extent == 1 for part in spread for axis, extent in enumerate(part.shape) if axis != 1
    )


_PASSAGES: Mapping[str, Callable[[Node, Spread], bool]] = {
    "Abs": _homogeneous,
    "AveragePool": _average,
    "DepthToSpace": _uniform,
    "Expand": _uniform,
    "Flatten": _uniform,
    "Gather": _uniform,
    "GlobalAveragePool": _average,
    "GlobalMaxPool": _maximum,
    "LeakyRelu": _homogeneous,
    "MaxPool": _maximum,
    "Pad": _zero_padding,
    "Relu": _homogeneous,
    "Reshape": _uniform,
    "Resize": _interpolation,
    "Slice": _uniform,
    "SpaceToDepth": _uniform,
    "Squeeze": _uniform,
    "Tile": _uniform,
    "Transpose": lambda node, spread: True,
    "Unsqueeze": _uniform,
}
