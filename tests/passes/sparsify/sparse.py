"""Models of one product and of two, and what sparsify makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from planish import ir, passes
from planish.passes import PassRecord
from planish.passes.quantize.calibration import Calibration
from planish.passes.sparsify.sparsify import Sparsify
from tests.passes.quantize.quantized import Array, net, node, normal, quantized

PASS = "sparsify"
W = normal(64, 40)
X = normal(3, 64, seed=5)
PRODUCT = [node("MatMul", ["x", "w"], ["y"], "product")]


def product(w: Array = W) -> onnx.ModelProto:
    return net(PRODUCT, {"w": w}, x=("N", w.shape[0]))


def weight_of(proto: onnx.ModelProto, name: str = "w") -> NDArray[np.float32]:
    (found,) = {
        value.constant for node in ir.load(proto).nodes for value in node.operands if value and value.name == name
    }
    assert found is not None
    return np.asarray(found.array(), np.float32)


def sparse(proto: onnx.ModelProto, options: str) -> onnx.ModelProto:
    after, record = quantized(proto, f"{PASS}{{least=1,{options}}}")
    assert [rewrite.rule for rewrite in record.rewrites] == ["zeros"]
    return after


def with_ranges(proto: onnx.ModelProto, wanted: Sparsify) -> tuple[onnx.ModelProto, PassRecord]:
    """A second run changes nothing."""
    graph = ir.load(proto)
    (record,) = passes.run(graph, (wanted,))
    after = ir.emit(graph)
    assert not passes.run(ir.load(after), (wanted,))[0].rewrites
    return after, record


def asked(options: str, ranges: Calibration | None = None) -> Sparsify:
    (plain,) = passes.parse(f"{PASS}{{{options}}}")
    assert isinstance(plain, Sparsify)
    return replace(plain, ranges=ranges)


CONVS: Mapping[str, tuple[NDArray[np.float32], Mapping[str, int | list[int]]]] = {
    "plain": (normal(24, 16, 3, 3), {}),
    "grouped": (normal(24, 4, 3, 3), {"group": 4}),
    "dilated": (normal(24, 16, 3, 3), {"dilations": [2, 2]}),
    "depthwise": (normal(16, 1, 3, 3), {"group": 16}),
    "pointwise": (normal(24, 16, 1, 1), {}),
}


def conv(name: str, w: Array | None = None) -> onnx.ModelProto:
    made = node("Conv", ["x", "w"], ["y"], "conv")
    made.attribute.extend([helper.make_attribute(key, value) for key, value in CONVS[name][1].items()])
    return net([made], {"w": CONVS[name][0] if w is None else w}, x=("N", 16, 9, 9))
