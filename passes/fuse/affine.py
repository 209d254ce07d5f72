"""Per-channel scale and shift: what BatchNormalization and arithmetic with constants share, and how it is absorbed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish.ir import DType, Node, Value
from planish.ir.types import Array
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Match

Channels = NDArray[np.float64]
_LEAST_NORMAL = {DType.FLOAT16: 2.0**-14, DType.BFLOAT16: 2.0**-126, DType.FLOAT: 2.0**-126, DType.DOUBLE: 2.0**-1022}


class Affine(NamedTuple):
    """y = x * scale + shift over axis 1; both of shape [channels], in double precision."""

    scale: Channels
    shift: Channels


data, gamma, beta, mean, variance = Var("data"), Const("gamma"), Const("beta"), Const("mean"), Const("variance")


def batch_norm(inner: Op) -> Op:
    """The picture of a BatchNormalization of a node."""
    return Op("BatchNormalization", (inner, gamma, beta, mean, variance))


def batch_norm_affine(m: Match) -> Affine | None:
    """What the BatchNormalization at the root does to each channel; None where it is in training or not finite."""
    return batch_norm_map(m, m.root)


def batch_norm_map(m: Match, node: Node) -> Affine | None:
    """What a BatchNormalization with constant parameters does to each channel."""
    if node.get_int("training_mode") or any(statistic.is_used for statistic in node.results[1:]):
        return m.decline("the BatchNormalization is in training mode, or its running statistics are read")
    tensors = [operand.constant for operand in node.operands[1:] if operand is not None]
    if len(tensors) != len(node.operands) - 1 or any(tensor is None for tensor in tensors):
        return m.decline("the parameters of the BatchNormalization are computed")
    g, b, mu, var = (tensor.array().astype(np.float64) for tensor in tensors if tensor is not None)
    with np.errstate(all="ignore"):
        scale = g / np.sqrt(var + node.get_float("epsilon"))
        shift = b - mu * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return m.decline("scale or shift of the BatchNormalization is not finite")
    return Affine(scale, shift)


def per_channel(value: Value, channels: int, rank: int) -> Channels | None:
    """A constant that holds one number for all, or one for each channel on axis 1 of a tensor of that rank.

    None where it would broadcast any other axis or raise the rank.
    """
    tensor = value.constant
    if tensor is None or not tensor.dtype.is_float or len(tensor.shape) > rank or tensor.size not in (1, channels):
        return None
    aligned = (1,) * (rank - len(tensor.shape)) + tensor.shape
    if any(extent != 1 for axis, extent in enumerate(aligned) if axis != 1) or aligned[1] not in (1, channels):
        return None
    return np.broadcast_to(tensor.array().astype(np.float64).reshape(-1), (channels,))


def pads_with_zeros(conv: Node) -> bool:
    """Whether a convolution may put zeros around its operand."""
    if conv.get_str("auto_pad") not in ("NOTSET", "VALID"):
        return True
    return conv.get_str("auto_pad") == "NOTSET" and any(conv.get_ints("pads") or ())


def scaled(m: Match, weight: Value, factors: Channels, view: tuple[int, ...] | None = None) -> Value | None:
    """A weight times factors, one for each channel, that broadcast to it or to its `view`, as a new constant.

    Worked out in double precision and rounded once. None where a channel overflows, or where its largest weight leaves
    the normal numbers, below which digits are lost.
    """
    tensor = weight.constant
    if tensor is None:
        return None
    array = tensor.fresh_array().reshape(view or tensor.shape)
    across = tuple(axis for axis, extent in enumerate(factors.shape) if extent == 1)
    before = _largest(array, across)
    with np.errstate(all="ignore"):
        expected = before * np.abs(factors)
        np.multiply(array, factors, out=array, casting="unsafe")
    least = _LEAST_NORMAL[tensor.dtype]
    if np.any((before >= least) & (expected > 0) & (expected < least)):
        return m.decline("the scaled weight leaves the normal numbers of its element type")
    if np.isfinite(before).all() and not np.isfinite(_largest(array, across)).all():
        return m.decline("the scaled weight overflows its element type")
    return m.constant(array.reshape(tensor.shape), weight.name)


def _largest(array: Array, across: tuple[int, ...]) -> Channels:
    """The largest magnitude of each channel, without a copy of the array."""
    largest = np.maximum(array.max(across, keepdims=True, initial=0), -array.min(across, keepdims=True, initial=0))
    return largest.astype(np.float64)


def shifted(m: Match, bias: Value | None, affine: Affine, like: Value) -> Value | None:
    """The bias after an affine map of what it is added to, [channels], in the element type of `like`."""
    tensor = like.constant
    if tensor is None or (bias is not None and bias.constant is None):
        return None
    before = np.zeros_like(affine.shift) if bias is None else m.array(bias).astype(np.float64)
    with np.errstate(all="ignore"):
        array = (before * affine.scale + affine.shift).astype(tensor.dtype.numpy)
    if not np.isfinite(array).all():
        return m.decline("the shifted bias overflows its element type")
    return m.constant(array, bias.name if bias is not None else f"{like.name}_bias")


def absorb_into_conv(m: Match, conv: Node, affine: Affine) -> Value | None:
    """The convolution whose output channels are mapped, in place of `conv`: weight [M, C/group, *k], bias [M]."""
    weight, bias = conv.operands[1], conv.operand(2)
    if weight is None or weight.constant is None or (bias is not None and bias.constant is None):
        return m.decline("weight or bias of the convolution is computed")
    shape = weight.constant.shape
    if shape[0] != len(affine.scale):
        return m.decline("the convolution has another number of output channels")
    new_weight = _scaled_unless_one(m, weight, affine.scale.reshape(-1, *[1] * (len(shape) - 1)))
    new_bias = shifted(m, bias, affine, weight)
    if new_weight is None or new_bias is None:
        return None
    return m.add("Conv", (conv.operands[0], new_weight, new_bias), conv.attributes)


def absorb_into_conv_transpose(m: Match, conv: Node, affine: Affine) -> Value | None:
    """The transposed convolution whose output channels are mapped: weight [C, M/group, *k], bias [M]."""
    weight, bias = conv.operands[1], conv.operand(2)
    if weight is None or weight.constant is None or (bias is not None and bias.constant is None):
        return m.decline("weight or bias of the convolution is computed")
    group, shape = conv.get_int("group"), weight.constant.shape
    if shape[1] * group != len(affine.scale):
        return m.decline("the convolution has another number of output channels")
    spatial = shape[2:]
    factors = affine.scale.reshape(group, 1, shape[1], *[1] * len(spatial))
    view = (group, shape[0] // group, shape[1], *spatial)
    new_weight = _scaled_unless_one(m, weight, factors, view)
    new_bias = shifted(m, bias, affine, weight)
    if new_weight is None or new_bias is None:
        return None
    return m.add("ConvTranspose", (conv.operands[0], new_weight, new_bias), conv.attributes)


def _scaled_unless_one(m: Match, weight: Value, factors: Channels, view: tuple[int, ...] | None = None) -> Value | None:
    """A shift alone leaves the weight as it is, unread."""
    return weight if np.all(factors == 1) else scaled(m, weight, factors, view)
