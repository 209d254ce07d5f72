"""Zeros in the place of channels: the graph that one without them is held against must itself be right."""

from __future__ import annotations

import numpy as np

from planish import ir
from planish.ir import DType, Graph
from planish.passes.prune.dependency import Dependencies
from planish.passes.prune.masking import mask_channels, mask_filters
from tests.equivalence import run
from tests.passes.prune.pruned import analysed
from tests.passes.prune.topologies import Net


def net() -> Graph:
    """y = relu(x W + b) V, and what is hidden beside it, scaled so that 0 would become NaN."""
    n = Net(("N", 3))
    hidden = n.op("Relu", n.op("Gemm", n.x, n.weight(3, 4), n.positive(4)))
    return n.end(n.op("MatMul", n.op("Div", hidden, n.op("Abs", hidden)), n.weight(4, 2)))


def masked(graph: Graph, *, only_filters: bool = False) -> tuple[Graph, Dependencies]:
    found, groups = analysed(ir.emit(graph))
    gone = [np.arange(group.size) < 2 for group in groups.groups]
    (mask_filters if only_filters else mask_channels)(found, groups.groups, gone)
    return found, groups


def test_nan_behind_a_mask_is_zero() -> None:
    feeds = {"x": np.ones((2, 3), np.float32)}
    graph, _ = masked(net())
    assert [node.op for node in graph.nodes].count("Where") == 4
    assert np.isfinite(np.asarray(run(ir.emit(graph), feeds)[0])).all()


def test_a_channel_without_its_filter_holds_its_bias() -> None:
    graph, _ = masked(net(), only_filters=True)
    gemm = next(node for node in graph.nodes if node.op == "Gemm")
    weight, bias = gemm.operands[1], gemm.operands[2]
    assert weight is not None
    assert bias is not None
    assert weight.constant is not None
    assert bias.constant is not None
    assert not weight.constant.array()[:, :2].any()
    assert weight.constant.array()[:, 2:].all()
    assert bias.constant.array().all()
    assert "Where" not in [node.op for node in graph.nodes]


def test_codes_stay_as_they_are() -> None:
    n = Net(("N", 4))
    scale, zero = n.b.constant(np.array(0.1, np.float32)), n.b.constant(np.array(7, np.uint8))
    hidden = n.op("Relu", n.op("MatMul", n.x, n.weight(4, 6)))
    codes = n.op("QuantizeLinear", hidden, scale, zero)
    graph, _ = masked(n.end(n.op("MatMul", n.op("DequantizeLinear", codes, scale, zero), n.weight(6, 2))))
    assert all(node.results[0].dtype is DType.FLOAT for node in graph.nodes if node.op == "Where")
