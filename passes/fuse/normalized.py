"""What LayerNormalization and RMSNormalization share: how they are made, and how they take in scale, bias and Casts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.graph import Attribute
from planish.passes.fuse.moments import elements
from planish.passes.fuse.walk import number
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Match

x, w, b = Var("x"), Var("w"), Var("b")
_NARROW = (DType.FLOAT16, DType.BFLOAT16)
STASHED = (DType.FLOAT, *_NARROW)
"""Element types whose statistics are worked out in single precision, as `stash_type` says by default."""


def layer(norm: str) -> Op:
    """The picture of a normalisation."""
    operands = (x, w, Maybe(b)) if norm == "LayerNormalization" else (x, w)
    return Op(norm, operands)


def trailing_extents(m: Match, value: Value, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The extents of the axes, where these are the last ones and their extents are known; else declines."""
    if axes != tuple(range((value.rank or 0) - len(axes), value.rank or 0)):
        return m.decline("the normalised axes are not the last ones")
    extents = elements(value, axes)
    if len(extents) != len(axes) or 0 in extents:
        return m.decline("an extent of the normalised axes is not known, so that no scale of that shape can be made")
    return extents


def ones(m: Match, extents: tuple[int, ...], dtype: DType) -> Value:
    """A scale that changes nothing."""
    return m.constant(np.ones(extents, dtype.numpy), "ones")


def parameter(m: Match, value: Value, extents: tuple[int, ...], rank: int) -> Value | None:
    """A scale or bias of exactly the normalised extents, for data of some rank; None where the value cannot be one."""
    if value.shape == extents:
        return value
    tensor = value.constant
    if tensor is None or len(tensor.shape) > rank:
        return None
    outer = max(len(tensor.shape) - len(extents), 0)
    if any(extent != 1 for extent in tensor.shape[:outer]):
        return None
    inner = tensor.shape[outer:]
    if any(a not in (1, aim) for a, aim in zip(inner[::-1], extents[::-1], strict=False)):
        return None
    array = np.broadcast_to(tensor.array().reshape(inner), extents)
    return m.constant(np.ascontiguousarray(array), value.name)


def normalised_extents(node: Node) -> tuple[int, ...] | None:
    """The extents that a normalisation's scale must have; None where they are not known."""
    data = node.operand(0)
    if data is None or data.rank is None:
        return None
    axes = tuple(range(data.rank))[node.get_int("axis") :]
    extents = elements(data, axes)
    return extents if len(extents) == len(axes) else None


def is_ones(value: Value) -> bool:
    """Whether a scale changes nothing."""
    return number(value, value) == 1


def take_in_scale(m: Match, node: Node, scale: Value) -> Value | None:
    """norm(x, 1) * scale -> norm(x, scale)"""
    extents, data = normalised_extents(node), m[x]
    if extents is None or data.rank is None or not is_ones(m[w]):
        return m.decline("the normalisation has a scale already, or its extents are not known")
    bias = m.get(b)
    if bias is not None and number(bias, bias) != 0:
        return m.decline("the normalisation has a bias, which would have to be scaled")
    found = parameter(m, scale, extents, data.rank)
    if found is None:
        return m.decline("the factor is not of the normalised extents")
    return m.add(node.op, (data, found), node.attributes)


def take_in_cast(m: Match, node: Node, data: Value) -> Value | None:
    """Cast(norm(Cast(x))) -> norm(x), where the inner type is that of the statistics and the outer one is narrower."""
    outer, inner = data.dtype, node.result.dtype
    if outer is None or outer not in _NARROW or inner is not DType.FLOAT or m.root.result.dtype is not outer:
        return None
    operands: list[Value | None] = [data]
    for operand in node.operands[1:]:
        if operand is None:
            continue
        narrow = None if operand.constant is None else _narrowed(m, operand, outer)
        if narrow is None:
            return m.decline("scale or bias do not fit the narrower element type")
        operands.append(narrow)
    attributes: Mapping[str, Attribute] = {**node.attributes, "stash_type": int(DType.FLOAT)}
    return m.add(node.op, operands, attributes)


def _narrowed(m: Match, value: Value, dtype: DType) -> Value | None:
    """A constant in another element type, where it loses nothing."""
    wide = m.array(value)
    with np.errstate(all="ignore"):
        narrow = wide.astype(dtype.numpy)
    return m.constant(narrow, value.name) if np.array_equal(narrow.astype(wide.dtype), wide) else None
