"""What to-qoperator writes of a model, held against what ONNX Runtime makes of it as it was, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.passes import PassRecord
from planish.passes.kernels import Kernels, kernels_for
from planish.runtime.providers import Target
from planish.runtime.session import Session
from tests.equivalence import PLAIN, op_types
from tests.passes.quantize.coded_layers import Layers
from tests.passes.quantize.quantized import far

PASS = "to-qoperator"
CONTRIB = kernels_for("cpu", ("com.microsoft",))
OPTIMIZED = Target(threads=1)
Array = NDArray[np.generic]
RNG = np.random.default_rng(0)


def hostile(shape: tuple[int, ...]) -> Sequence[NDArray[np.float32]]:
    """Ties between codes, both ends and beyond, both zeros, subnormals, infinities and NaN."""
    special = [
        0.0,
        -0.0,
        1e-42,
        -1e-42,
        0.025,
        0.075,
        -0.125,
        6.35,
        6.4,
        -6.4,
        -6.45,
        1e30,
        -1e30,
        np.inf,
        -np.inf,
        np.nan,
    ]
    mixed = np.resize(np.array(special, np.float32), shape)
    normal = RNG.normal(0, 2, shape).astype(np.float32)
    return normal, normal * np.float32(100), normal * np.float32(1e-3), mixed, np.full(shape, -3.0, np.float32)


def written(proto: onnx.ModelProto, kernels: Kernels | None = CONTRIB) -> tuple[list[str], PassRecord, onnx.ModelProto]:
    """Operators without their domain, conversions and Identity left out; a second run changes nothing."""
    graph = ir.load(proto)
    (record,) = passes.run(graph, PASS, kernels=kernels)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    again = ir.load(after)
    assert not any(found.rewrites for found in passes.run(again, PASS, kernels=kernels))
    return (
        [op for op in op_types(after.graph) if "quantizelinear" not in op.lower() and op != "Identity"],
        record,
        after,
    )


def same_bits(before: onnx.ModelProto, after: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """As ONNX Runtime makes of the model as it was, both where it optimizes what came of it and where it does not."""
    sessions = [Session(before.SerializeToString(), OPTIMIZED, {"session.qdqisint8allowed": "1"})]
    sessions += [Session(after.SerializeToString(), target) for target in (OPTIMIZED, PLAIN)]
    for x in hostile(shape):
        found = [np.asarray(session.run({"x": x})[0]) for session in sessions]
        for other in found[1:]:
            assert np.array_equal(found[0], other, equal_nan=True)


def check(layers: Layers, y: str, shape: tuple[int, ...], expected: list[str], rank: int | None = None) -> None:
    """The operators that are written, and the bits, with the first extent open, and 0, too."""
    proto = layers.model(y, ("N", *shape[1:]), rank)
    ops, record, after = written(proto)
    assert ops == expected
    assert record.rewrites
    same_bits(proto, after, shape)
    if shape[0] > 1:
        same_bits(proto, after, (1, *shape[1:]))
    back = ir.load(after)
    passes.run(back, "remove-quantization")
    assert not any("QLinear" in node.op or "QGemm" in node.op or "Integer" in node.op for node in back.nodes)
    x = hostile(shape)[0]
    near, had = (
        np.asarray(Session(model.SerializeToString(), PLAIN).run({"x": x})[0], np.float64)
        for model in (ir.emit(back), proto)
    )
    assert far(had, near) < 0.1 or np.abs(had - near).max() < 0.05
