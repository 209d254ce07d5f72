"""Windows that slide over spatial axes: what convolutions and poolings share."""

from __future__ import annotations

from typing import NamedTuple

from planish.ir.dim import Dim, Shape, ceil_div, floor_div, is_nonnegative, windows
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.operator import unknown_dim


class Axis(NamedTuple):
    """One spatial axis and the window on it; `span` is how much of it a dilated kernel covers."""

    extent: Dim
    span: Dim
    begin: int
    end: int
    stride: int
    dilation: int

    @property
    def room(self) -> Dim:
        """How far the window can move."""
        return self.extent + (self.begin + self.end) - self.span


def axes(node: Node, extents: Shape, kernel: Shape) -> list[Axis]:
    """The spatial axes; padding is 0 under `auto_pad`, which leaves no room for `pads`."""
    count = len(extents)
    strides, dilations = _per_axis(node, "strides", count, 1), _per_axis(node, "dilations", count, 1)
    pads = _per_axis(node, "pads", 2 * count, 0) if node.get_str("auto_pad") == "NOTSET" else (0,) * (2 * count)
    sides = zip(extents, kernel, pads[:count], pads[count:], strides, dilations, strict=True)
    return [Axis(extent, (k - 1) * d + 1, begin, end, stride, d) for extent, k, begin, end, stride, d in sides]


def convolved(node: Node, extents: Shape, kernel: Shape) -> list[Dim]:
    """Spatial extents of a convolution's result. ONNX Runtime refuses an input smaller than the kernel."""
    if _is_same(node):
        return [_same(node, axis) for axis in axes(node, extents, kernel)]
    rooms = [(axis.room, axis.stride) for axis in axes(node, extents, kernel)]
    return [
        unknown_dim(node) if isinstance(room, int) and room < 0 else floor_div(room, stride) + 1
        for room, stride in rooms
    ]


def pooled(node: Node, extents: Shape, kernel: Shape) -> list[Dim]:
    """Spatial extents of a pooling's result.

    A window larger than its padded axis gives what ONNX Runtime gives: its division rounds towards zero.
    """
    if _is_same(node):
        return [_same(node, axis) for axis in axes(node, extents, kernel)]
    if node.get_int("ceil_mode"):
        return [_ceil_count(node, axis) for axis in axes(node, extents, kernel)]
    return [windows(axis.room, axis.stride) for axis in axes(node, extents, kernel)]


def transposed(node: Node, extents: Shape, kernel: Shape) -> list[Dim]:
    """Spatial extents of a transposed convolution's result."""
    if node.get_ints("output_shape"):
        return list(_per_axis(node, "output_shape", len(extents), 0))
    extra, same = _per_axis(node, "output_padding", len(extents), 0), _is_same(node)
    found: list[Dim] = []
    for axis, more in zip(axes(node, extents, kernel), extra, strict=True):
        goal, surplus = axis.extent * axis.stride, axis.span + more - axis.stride
        dim = _cut(node, goal, surplus) if same else goal + surplus - axis.begin - axis.end
        found.append(dim if not isinstance(dim, int) or dim >= 0 else unknown_dim(node))
    return found


def _per_axis(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    """An attribute with one int for each side of each spatial axis, or for each axis."""
    found = node.get_ints(name)
    if not found:
        return (default,) * count
    if len(found) != count:
        raise GraphError(f"{node.op} needs {count} ints in {name}, and has {list(found)}", node)
    return found


def _is_same(node: Node) -> bool:
    return node.get_str("auto_pad").startswith("SAME")


def _same(node: Node, axis: Axis) -> Dim:
    """`auto_pad` SAME_UPPER or SAME_LOWER; runtimes disagree on what it pads for a dilated kernel."""
    return ceil_div(axis.extent, axis.stride) if axis.dilation == 1 else unknown_dim(node)


def _ceil_count(node: Node, axis: Axis) -> Dim:
    """A last window that would begin in the end padding is dropped; unknown where that depends on a symbol."""
    count = ceil_div(axis.room, axis.stride) + 1
    beyond = (count - 1) * axis.stride - axis.extent - axis.begin
    if isinstance(beyond, int):
        return count - 1 if beyond >= 0 else count
    return count if is_nonnegative(axis.span - axis.end - axis.stride) else unknown_dim(node)


def _cut(node: Node, goal: Dim, surplus: Dim) -> Dim:
    """`auto_pad` cuts a transposed convolution down to `goal`, and never pads it up to that."""
    if is_nonnegative(surplus):
        return goal
    return goal + surplus if isinstance(surplus, int) else unknown_dim(node)
