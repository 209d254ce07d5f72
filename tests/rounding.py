"""How far rounding alone may move the results of a net of convolutions, matrix products and arithmetic on channels.

A computed sum of n products differs from the exact one by at most n u / (1 - n u) times the sum of their magnitudes, u
being half the step above 1 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). That sum is what the
net gives when everything in it is made positive: weights, inputs, means and subtrahends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from planish.ir import DType
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Session
from tests.hostile import Limits

Array = NDArray[np.generic]
_MEAN = 3
_MONOTONE = frozenset(
    (
        *(
            "Abs",
            "Add",
            "AveragePool",
            "BatchNormalization",
            "Concat",
            "Constant",
            "Conv",
            "ConvTranspose",
            "DepthToSpace",
            "Div",
        ),
        *(
            "Gemm",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "Identity",
            "If",
            "LeakyRelu",
            "MatMul",
            "MaxPool",
            "Mul",
            "Neg",
        ),
        *("Flatten", "Pad", "Relu", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    )
)


def rounding_bounds(proto: onnx.ModelProto, feeds: Mapping[str, Feed], terms: int) -> Sequence[NDArray[np.float64]]:
    """For each output, the most that two ways of computing it may differ; `terms` counts what is behind an element."""
    positive = onnx.ModelProto()
    positive.CopyFrom(proto)
    _make_positive(positive.graph)
    magnitudes = {name: np.abs(feed) if isinstance(feed, np.ndarray) else feed for name, feed in feeds.items()}
    session = Session(positive.SerializeToString(), Target(threads=1, optimization="disabled"))
    bounds: list[NDArray[np.float64]] = []
    for result, output in zip(session.run(magnitudes), proto.graph.output, strict=True):
        if not isinstance(result, np.ndarray):
            raise TypeError(f"output {output.name} is no tensor")
        limits = Limits.of(DType(output.type.tensor_type.elem_type))
        unit = limits.epsilon / 2
        error = terms * unit / (1 - terms * unit)
        # Both ways round, and so does the sum of magnitudes.
        bounds.append(2 * error * (1 + error) * result.astype(np.float64) + terms * limits.subnormal)
    return bounds


def _make_positive(graph: onnx.GraphProto, around: Mapping[str, Array] | None = None) -> None:
    """`around`: the constants that a nested graph sees."""
    made = dict(around or {}) | {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        nearest = node.op_type == "Resize" and any(attribute.s == b"nearest" for attribute in node.attribute)
        if node.op_type not in _MONOTONE and not nearest:
            raise ValueError(f"nothing is known of how {node.op_type} rounds")
        node.op_type = {"Sub": "Add", "Neg": "Identity"}.get(node.op_type, node.op_type)
        for attribute in node.attribute:
            if attribute.name in ("alpha", "beta"):
                attribute.f = abs(attribute.f)
            if attribute.HasField("g"):
                _make_positive(attribute.g, made)
        if node.op_type == "BatchNormalization":
            name = f"{node.input[_MEAN]}_subtracted_by_{node.output[0]}"
            graph.initializer.append(numpy_helper.from_array(-np.abs(made[node.input[_MEAN]]), name))
            node.input[_MEAN] = name
    for tensor in graph.initializer:
        array = made.get(tensor.name)
        if array is not None and DType(tensor.data_type).is_float:
            tensor.CopyFrom(numpy_helper.from_array(np.abs(array), tensor.name))
