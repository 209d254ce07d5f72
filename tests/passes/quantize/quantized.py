"""Models around weights that a test gives, and what passes that quantize make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.passes import Kernels, PassRecord
from planish.runtime.providers import Target
from planish.runtime.session import Session
from tests.equivalence import PLAIN, op_types, same_interface

Array = NDArray[np.generic]
Doubles = NDArray[np.float64]
node = helper.make_node


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


def net(
    nodes: Sequence[NodeProto],
    weights: Mapping[str, Array],
    *,
    x: Sequence[int | str | None] = ("N", 32),
    dtype: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
    rank: int | None = None,
) -> onnx.ModelProto:
    """Of an input x to outputs of the same rank, or of `rank`."""
    dims = [None] * (len(x) if rank is None else rank)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, x)],
        [helper.make_tensor_value_info(name, result, dims) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def quantized(
    proto: onnx.ModelProto, pipeline: str, *, kernels: Kernels | None = None
) -> tuple[onnx.ModelProto, PassRecord]:
    """The model, valid, with the interface that it had; a second run changes nothing."""
    graph = ir.load(proto)
    (record,) = passes.run(graph, pipeline, kernels=kernels)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    same_interface(proto, after, opset=False)
    (again,) = passes.run(ir.load(after), pipeline, kernels=kernels)
    assert not again.rewrites
    return after, record


def results(proto: onnx.ModelProto, x: Array, target: Target = PLAIN) -> Doubles:
    found = Session(proto.SerializeToString(), target).run({"x": x})[0]
    assert isinstance(found, np.ndarray)
    return found.astype(np.float64)


def far(before: Doubles, after: Doubles) -> float:
    """Relative, by norms."""
    assert before.shape == after.shape
    return float(np.linalg.norm(after - before) / max(float(np.linalg.norm(before)), 1e-30))


def initializers(proto: onnx.ModelProto) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {t.name: (TensorProto.DataType.Name(t.data_type), tuple(t.dims)) for t in proto.graph.initializer}


class SavingOptions(Protocol):
    """What is used of ONNX Runtime's options, which have no types."""

    log_severity_level: int
    optimized_model_filepath: str


def fused_kernels(proto: onnx.ModelProto, folder: Path) -> list[str]:
    """The operators that ONNX Runtime makes of a model."""
    path = folder / "optimized.onnx"
    options = cast("Callable[[], SavingOptions]", vars(onnxruntime)["SessionOptions"])()
    options.log_severity_level, options.optimized_model_filepath = 4, str(path)
    open_session = cast("Callable[..., object]", onnxruntime.InferenceSession)
    open_session(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return op_types(onnx.load_from_string(path.read_bytes()).graph)
