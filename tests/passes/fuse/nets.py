"""Convolutions and matrix products with what may follow them, written so that the numbers are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.equivalence import model

Array = NDArray[np.generic]


def net(
    body: str, weights: Mapping[str, Array], *, given: str, result: str, opset: int = 17, dtype: str = "float"
) -> onnx.ModelProto:
    """A model of one input `x` and one output `y`, whose weights stand in the initializers."""
    held = ", ".join(
        f"{_TYPES[array.dtype.name]}[{','.join(map(str, array.shape))}] {name} = {{{_zeros(array)}}}"
        for name, array in weights.items()
    )
    found = model(f"g ({dtype}[{given}] x) => ({dtype}[{result}] y) <{held}> {{ {body} }}", opset)
    for tensor in found.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return found


_TYPES = {"float32": "float", "float16": "float16", "float64": "double", "int64": "int64", "int32": "int32"}


def _zeros(array: Array) -> str:
    return ",".join(["0"] * array.size)


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> Array:
    return np.random.default_rng([seed, *shape]).normal(0, 1, shape).astype(dtype)


def statistics(channels: int, dtype: str = "float32") -> dict[str, Array]:
    """Parameters of a BatchNormalization: scales of both signs, one of them zero, and means that are far from zero."""
    rng = np.random.default_rng(channels)
    scale = rng.normal(0, 2, channels)
    scale[0], scale[-1] = 0, -1.5
    return {
        "s": scale.astype(dtype),
        "o": rng.normal(0, 3, channels).astype(dtype),
        "m": rng.normal(0, 10, channels).astype(dtype),
        "v": rng.uniform(0.01, 4, channels).astype(dtype),
    }
