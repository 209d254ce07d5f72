"""A model of one product, whose weights a test gives."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planish.runtime.session import Session
from tests.equivalence import PLAIN

Array = NDArray[np.generic]
X = np.random.default_rng(7).normal(0, 1, (3, 32)).astype(np.float32)


def product(w: Array, opset: int = 21) -> onnx.ModelProto:
    """y = Relu(x) w"""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", w.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", w.shape[1]])],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def results(proto: onnx.ModelProto) -> NDArray[np.float64]:
    (found,) = Session(proto.SerializeToString(), PLAIN).run({"x": X})
    assert isinstance(found, np.ndarray)
    return found.astype(np.float64)
