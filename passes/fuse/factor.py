"""A constant factor on its way through a graph: one number, or one for each place on an axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.passes.fuse.affine import Channels

LAYOUT = frozenset(("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that move elements and drop none: a number that multiplies all may pass them either way."""
REACH = 8
"""Nodes on the way of a factor, at most."""


class Factor(NamedTuple):
    """Numbers in double precision, [1] where `axis` is None, else one for each place on that axis, from the front."""

    values: Channels
    axis: int | None = None

    def before(self, node: Node) -> Factor | None:
        """What must multiply the first operand of a node that moves elements, so that its result is multiplied."""
        if self.axis is None:
            return self if node.op in LAYOUT else None
        order = _order(node)
        return None if order is None else self._replace(axis=order[self.axis])

    def after(self, node: Node) -> Factor | None:
        """What multiplies the result of a node that moves elements when its first operand is multiplied."""
        if self.axis is None:
            return self if node.op in LAYOUT else None
        order = _order(node)
        return None if order is None else self._replace(axis=order.index(self.axis))

    def aligned(self, rank: int) -> Channels:
        """The numbers in a shape of that rank, which broadcasts over all axes but the factor's own."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = len(self.values)
        return self.values.reshape(shape)


def _order(node: Node) -> tuple[int, ...] | None:
    if node.op != "Transpose" or node.result.rank is None:
        return None
    return node.get_ints("perm") or tuple(reversed(range(node.result.rank)))


def factor_of(node: Node) -> tuple[Value, Factor] | None:
    """What a Mul or Div by a constant multiplies, and with what; None where the constant would broadcast it."""
    left, right = node.operands[:2]
    if left is None or right is None:
        return None
    data, constant = (right, left) if node.op == "Mul" and right.constant is None else (left, right)
    tensor, shape = constant.constant, data.shape
    if tensor is None or data.constant is not None or shape is None or len(tensor.shape) > len(shape):
        return None
    axes = [axis - len(tensor.shape) for axis, extent in enumerate(tensor.shape) if extent != 1]
    if len(axes) > 1 or not tensor.dtype.is_float or any(shape[axis] != tensor.shape[axis] for axis in axes):
        return None
    values = tensor.array().astype(np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        values = 1 / values if node.op == "Div" else values
    if not np.isfinite(values).all():
        return None
    return data, Factor(values, axes[0] + len(shape) if axes else None)


def way_up(value: Value, ends: frozenset[str], through: frozenset[str] = LAYOUT) -> list[Node] | None:
    """The nodes from the one that makes `value` up to the next whose operator is among `ends`, each read only there.

    The way goes over operators that move elements, and over others of `through` that have one computed operand.
    """
    found: list[Node] = []
    while len(found) < REACH:
        node = value.producer
        if node is None or not value.has_one_use or node.graph is not value.users[0].graph:
            return None
        found.append(node)
        if node.op in ends:
            return found
        computed = [operand for operand in node.operands if operand is not None and operand.constant is None]
        if node.op in LAYOUT:
            computed = [operand for operand in computed if operand is node.operands[0]]
        if node.op not in through or len(computed) != 1:
            return None
        value = computed[0]
    return None
