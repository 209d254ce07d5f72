"""Normalisations with one scale and one bias a channel, axis 1: how they take these in."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Node, Value
from planish.passes.fuse.walk import number
from planish.passes.rewrite import Match


def channel_extents(shape: tuple[int, ...], rank: int) -> int | None:
    """How many channels a constant tells apart beside data of that rank; None where it tells other axes apart too."""
    if len(shape) > rank:
        return None
    aligned = (1,) * (rank - len(shape)) + shape
    return aligned[1] if all(extent == 1 for axis, extent in enumerate(aligned) if axis != 1) else None


def uniform(m: Match, value: float, channels: int, dtype: DType) -> Value:
    """A scale or bias that is the same for all channels."""
    return m.constant(np.full(channels, value, dtype.numpy), "ones" if value else "zeros")


def take_in_scale(m: Match, node: Node, scale: Value) -> Value | None:
    """norm(x, 1, 0) * scale -> norm(x, scale, 0)"""
    data, weight, bias = node.operands[:3]
    if not is_uniform(weight, 1) or not is_uniform(bias, 0):
        return m.decline("the normalisation has a scale or a bias already")
    found = _parameter(m, scale, data)
    return None if found is None else m.add(node.op, (data, found, bias), node.attributes)


def take_in_bias(m: Match, node: Node, term: Value) -> Value | None:
    """norm(x, w, 0) + term -> norm(x, w, term)"""
    data, weight, bias = node.operands[:3]
    if not is_uniform(bias, 0):
        return m.decline("the normalisation has a bias already")
    found = _parameter(m, term, data)
    return None if found is None else m.add(node.op, (data, weight, found), node.attributes)


def is_uniform(value: Value | None, expected: float) -> bool:
    """Whether every element of a constant is that number."""
    return value is not None and number(value, value) == expected


def _parameter(m: Match, value: Value, data: Value | None) -> Value | None:
    """A constant as one number for each channel of the data."""
    shape = None if data is None else data.shape
    channels = None if shape is None or not shape[1:] else shape[1]
    tensor = value.constant
    if tensor is None or shape is None or not isinstance(channels, int):
        return m.decline("scale or bias are computed, or the number of channels is not known")
    if channel_extents(tensor.shape, len(shape)) not in (1, channels):
        return m.decline("scale or bias are not one number for each channel")
    return m.constant(np.broadcast_to(tensor.array().reshape(-1), (channels,)).copy(), value.name)
