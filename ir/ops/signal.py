"""Operators on signals over time."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.dim import Dim, floor_div
from planish.ir.graph import Node
from planish.ir.ops.operator import Operator, unknown_dim
from planish.ir.types import TensorType, Type


def _infer_stft(node: Node) -> Sequence[Type | None]:
    """signal [batch, length, 1 or 2] gives [batch, frames, frequencies, 2]."""
    signal, step, window, frame = (node.operand(i) for i in range(4))
    if signal is None or signal.dtype is None:
        return (None,)
    if signal.shape is None or signal.rank != 3:
        return (TensorType(signal.dtype),)
    batch, length, _ = signal.shape
    size: Dim | None = length
    if frame is not None or window is not None:
        known = frame.elements if frame is not None else window.shape if window is not None else None
        size = known[0] if known else None
    stride = step.elements[0] if step is not None and step.elements else None
    frames = unknown_dim(node) if size is None or not stride else floor_div(length - size, stride) + 1
    bins = unknown_dim(node) if size is None else floor_div(size, 2) + 1 if node.get_int("onesided") else size
    return (TensorType(signal.dtype, (batch, frames, bins, 2)),)


OPERATORS: dict[str, Operator] = {"STFT": Operator(_infer_stft)}
