"""Which nodes a Transpose may pass, and what they become behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Shape
from planish.ir.graph import Attribute
from planish.ir.ops import elementwise
from planish.ir.ops.shape import constant_ints, normalize_axis
from planish.ir.ops.table import OPERATORS
from planish.passes.rewrite import Match

Order = tuple[int, ...]
"""The axes of an operand in the order in which its Transpose puts them."""

_AXIS = frozenset(("Concat", "Hardmax", "LogSoftmax", "LpNormalization", "Softmax"))
_WHOLE = frozenset(("InstanceNormalization", "LRN", "MeanVarianceNormalization", "ReverseSequence"))
_FIRST = frozenset(("CastLike", "Clip", "DequantizeLinear", "Pad", "QuantizeLinear", "Slice"))
_ELEMENTWISE = frozenset(elementwise.OPERATORS) - _AXIS - _WHOLE
_EXACT = frozenset(("Concat", "PRelu", "Pad", "Slice"))
MOVABLE = _ELEMENTWISE | _AXIS | _FIRST | {"LayerNormalization"}
_KEEPING = _EXACT | {op for op in MOVABLE if op in OPERATORS and OPERATORS[op].exact}
SUMS = frozenset(("ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"))
EXTREMES = frozenset(("ReduceMax", "ReduceMin"))


class Moved(NamedTuple):
    """A node behind a Transpose: which of its operands are to be transposed, and the node's other parts."""

    places: Sequence[int]
    constants: Mapping[int, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]
    attributes: Mapping[str, Attribute]


def order_of(node: Node) -> Order | None:
    """The order of a Transpose; None when it takes the rank, which is unknown."""
    rank = node.result.rank
    return node.get_ints("perm") or (None if rank is None else tuple(reversed(range(rank))))


def inverse(order: Order) -> Order:
    return tuple([order.index(axis) for axis in range(len(order))])


def composed(inner: Order, outer: Order) -> Order:
    """The order of Transpose(Transpose(x, inner), outer)."""
    return tuple([inner[axis] for axis in outer])


def is_straight(order: Order) -> bool:
    return list(order) == sorted(order)


def keeps_bits(node: Node) -> bool:
    """Whether ONNX Runtime works out each element with the same bits wherever it stands."""
    return node.op in _KEEPING


def moved(node: Node, order: Order) -> Moved | None:
    """What Transpose(node, order) becomes when its operands are transposed instead; None where it cannot be."""
    if node.op not in MOVABLE or len(node.results) != 1 or node.result.rank != len(order):
        return None
    everywhere = [place for place, operand in enumerate(node.operands) if operand is not None]
    if node.op in _AXIS:
        axis = normalize_axis(node, node.get_int("axis"), len(order))
        return Moved(everywhere, {}, {**node.attributes, "axis": order.index(axis)})
    if node.op == "LayerNormalization":
        axis = normalize_axis(node, node.get_int("axis"), len(order))
        stays = all(order[place] == place for place in range(axis, len(order)))
        return Moved((0,), {}, {**node.attributes, "axis": axis}) if stays else None
    if node.op == "Slice":
        return _moved_slice(node, order)
    if node.op == "Pad":
        return _moved_pad(node, order)
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return _moved_quantize(node, order)
    return Moved((0,) if node.op in _FIRST else everywhere, {}, node.attributes)


def _moved_slice(node: Node, order: Order) -> Moved | None:
    starts, axes = node.operand(1), node.operand(3)
    if axes is None:
        count = None if starts is None or not starts.shape else starts.shape[0]
        found = tuple(range(count)) if isinstance(count, int) else None
    else:
        found = constant_ints(axes)
    if found is None:
        return None
    axis = [order.index(normalize_axis(node, axis, len(order))) for axis in found]
    return Moved((0,), {3: np.array(axis, np.int64)}, node.attributes)


def _moved_pad(node: Node, order: Order) -> Moved | None:
    pads, rank = constant_ints(node.operand(1)), len(order)
    if pads is None or node.operand(3) is not None or len(pads) != 2 * rank:
        return None
    turned = [pads[axis + end] for end in (0, rank) for axis in order]
    return Moved((0,), {1: np.array(turned, np.int64)}, node.attributes)


def _moved_quantize(node: Node, order: Order) -> Moved | None:
    scale = node.operand(1)
    if scale is None or scale.rank not in (0, 1) or node.get_int("block_size"):
        return None
    if scale.rank == 0:
        return Moved((0,), {}, node.attributes)
    axis = normalize_axis(node, node.get_int("axis"), len(order))
    return Moved((0,), {}, {**node.attributes, "axis": order.index(axis)})


def add_moved(m: Match, node: Node, parts: Moved, operands: Mapping[int, Value]) -> Value:
    """The node behind a Transpose, on operands that are transposed already."""
    last = max((len(node.operands) - 1, *parts.constants))
    found: list[Value | None] = [node.operand(place) for place in range(last + 1)]
    for place, array in parts.constants.items():
        found[place] = m.constant(array)
    for place, value in operands.items():
        found[place] = value
    made = m.add(node.op, found, parts.attributes)
    made.name = node.result.name
    return made


def is_one(shape: Shape) -> bool:
    """Whether a tensor surely has one element, which broadcasts anywhere."""
    return shape.count(1) == len(shape)


def transposed_constant(m: Match, value: Value, order: Order) -> Value:
    """A constant of a rank of at most that of the order, as it broadcasts to a tensor transposed so."""
    array = m.array(value)
    full = array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order)
    spare = 0
    while array.ndim < full.ndim - spare and full.shape[spare] == 1:
        spare += 1
    return m.constant(np.ascontiguousarray(full.reshape(full.shape[spare:])), value.name)
