"""Normalizations: a tensor scaled and shifted by statistics that are given or taken from itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.dim import Dim
from planish.ir.errors import GraphError
from planish.ir.graph import Node
from planish.ir.ops.elementwise import element_type
from planish.ir.ops.linear import FLOATS, single, sums_fit
from planish.ir.ops.operator import Operator
from planish.ir.ops.shape import normalize_axis
from planish.ir.types import Array, DType, TensorType, Type

Types = Sequence[Type | None]


def _check_channels(node: Node) -> None:
    """The parameters of a normalization over axis 1 have one element for each channel."""
    x = node.operands[0]
    if x is None or x.shape is None:
        return
    channels: Dim = x.shape[1] if len(x.shape) > 1 else 1
    for parameter in node.operands[1:]:
        shape = parameter.shape if parameter is not None else None
        if shape is None or not isinstance(channels, int):
            continue
        if len(shape) != 1 or (isinstance(shape[0], int) and shape[0] != channels):
            raise GraphError(f"{node.op} of {channels} channels has a parameter of shape {list(shape)}", node)


def _infer_batch(node: Node) -> Types:
    """In training mode, also the running mean and variance."""
    _check_channels(node)
    x, mean, variance = node.operand(0), node.operand(3), node.operand(4)
    found = [None if operand is None else operand.type for operand in (x, mean, variance)]
    return found[: len(node.results)]


def _infer_group(node: Node) -> Types:
    x = node.operands[0]
    if x is not None and x.shape is not None and len(x.shape) > 1:
        channels, groups = x.shape[1], node.get_int("num_groups")
        if groups < 1 or (isinstance(channels, int) and channels % groups):
            raise GraphError(f"GroupNormalization of {channels} channels in {groups} groups", node)
    _check_channels(node)
    return (None if x is None else x.type,)


def _infer_layer(node: Node) -> Types:
    """The mean and the inverse deviation keep the axes before `axis`, in the precision that they were computed in."""
    x = node.operands[0]
    type = None if x is None else x.tensor_type
    statistic = TensorType(element_type(node, "stash_type"))
    if type is not None and type.shape is not None:
        axis = normalize_axis(node, node.get_int("axis"), len(type.shape))
        statistic = statistic._replace(shape=(*type.shape[:axis], *(1,) * (len(type.shape) - axis)))
    return (type, statistic, statistic)[: len(node.results)]


def _infer_rms(node: Node) -> Types:
    """The element type is the scale's."""
    x, scale = node.operands
    if scale is None or scale.dtype is None:
        return (None,)
    if x is not None and x.shape is not None:
        normalize_axis(node, node.get_int("axis"), len(x.shape))
    return (TensorType(scale.dtype, None if x is None else x.shape),)


def _fold_batch(node: Node, arrays: Sequence[Array | None]) -> Sequence[Array] | None:
    """Inference alone: (x - mean) * scale / sqrt(variance + epsilon) + bias; None where a step could overflow."""
    given = [array.astype(np.float64) for array in arrays if array is not None]
    if node.get_int("training_mode") or len(given) != 5 or arrays[0] is None or given[0].ndim < 2:
        return None
    if DType.of(arrays[0]) not in FLOATS:
        return None
    across = (-1, *(1,) * (given[0].ndim - 2))
    x, (scale, bias, mean, variance) = given[0], (parameter.reshape(across) for parameter in given[1:])
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + single(node, "epsilon"))
    sizes = np.concatenate([part.ravel() for part in (x, mean, np.ones(1))])
    if not sums_fit(sizes, factor, 2, arrays[0].dtype) or not sums_fit(bias, np.ones(1), 2, arrays[0].dtype):
        return None
    with np.errstate(over="ignore"):
        return [((x - mean) * factor + bias).astype(arrays[0].dtype)]


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": Operator(_infer_batch, fold=_fold_batch),
    "GroupNormalization": Operator(_infer_group),
    "LayerNormalization": Operator(_infer_layer),
    "RMSNormalization": Operator(_infer_rms),
}
