"""Convolutions and matrix products with what may follow them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from planish.ir import DType

Weights: TypeAlias = NDArray[np.float64]
_NAMES = {DType.FLOAT: "float", DType.FLOAT16: "float16", DType.DOUBLE: "double", DType.INT32: "int32"}


def net(
    body: str,
    weights: Mapping[str, Weights],
    given: str,
    result: str,
    *,
    opset: int = 17,
    dtype: DType = DType.FLOAT,
    single: Collection[str] = (),
    overridable: Collection[str] = (),
    outputs: str = "",
) -> onnx.ModelProto:
    """A model that makes `y` of `x`, both of `dtype` and of shapes given as text.

    weights: initializers in that type too, but for the `single` ones, which are in single precision.
    overridable: those of them that are inputs as well. outputs: further ones, as text.
    """
    name = _NAMES[dtype]
    types = {weight: DType.FLOAT if weight in single else dtype for weight in weights}
    constants = ", ".join(f"{_NAMES[types[weight]]}[1] {weight} = {{0}}" for weight in weights)
    held = f"<{constants}>" if constants else ""
    text = f"g ({name}[{given}] x) => ({name}[{result}] y{outputs}) {held} {{ {body} }}"
    found = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for tensor in found.graph.initializer:
        array = weights[tensor.name].astype(types[tensor.name].numpy)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        if tensor.name in overridable:
            found.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return found


def normal(*shape: int, seed: int = 0) -> Weights:
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape)


def statistics(channels: int) -> dict[str, Weights]:
    """Parameters of a BatchNormalization: scales of both signs, one of them zero, and means that are far from zero."""
    rng = np.random.default_rng(channels)
    scale = rng.normal(0, 2, channels)
    scale[0], scale[-1] = 0, -1.5
    return {
        "s": scale,
        "o": rng.normal(0, 3, channels),
        "m": rng.normal(0, 10, channels),
        "v": rng.uniform(0.01, 4, channels),
    }
