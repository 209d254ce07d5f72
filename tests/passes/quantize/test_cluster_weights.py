"""Palettes of weights: how near, how small, and what a runtime makes of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.passes import PipelineError
from planish.runtime.providers import Target
from planish.runtime.session import Session
from tests.equivalence import op_types, untouched
from tests.passes.quantize.products import product, results

PASS = "cluster-weights"
W = np.random.default_rng(0).normal(0, 0.1, (32, 64)).astype(np.float32)


def clustered(proto: onnx.ModelProto, stage: str = PASS) -> onnx.ModelProto:
    """The model without what nothing reads; a second run changes nothing."""
    graph = ir.load(proto)
    passes.run(graph, f"{stage},remove-dead-nodes")
    after = ir.emit(graph)
    check_model(after, full_check=True)
    untouched(after, stage)
    return after


@pytest.mark.parametrize(("bits", "far"), [(8, 0.01), (4, 0.12), (2, 0.4), (1, 0.7)])
def test_results_are_as_near_as_the_bits_allow(bits: int, far: float) -> None:
    proto = product(W)
    before, after = results(proto), results(clustered(proto, f"{PASS}{{bits={bits}}}"))
    assert np.linalg.norm(after - before) <= far * np.linalg.norm(before)


def test_the_codes_take_four_bits_where_the_opset_can_say_so() -> None:
    proto = product(W)
    after = clustered(proto)
    assert op_types(after.graph) == ["Relu", "Cast", "Gather", "MatMul"]
    assert {t.name: t.data_type for t in after.graph.initializer} == {
        "w_codes": onnx.TensorProto.UINT4,
        "w_palette": onnx.TensorProto.FLOAT,
    }
    assert len(after.SerializeToString()) * 5 < len(proto.SerializeToString())


def test_an_older_model_is_raised_or_has_codes_of_eight_bits() -> None:
    proto = product(W, opset=17)
    assert clustered(proto).opset_import[0].version == 21
    graph = ir.load(proto)
    (record,) = passes.run(graph, PASS, newest_opset=17)
    assert [rewrite.rule for rewrite in record.rewrites] == ["codes-of-8-bits"]
    assert {value.dtype.name for value in graph.nodes[1].operands if value is not None and value.dtype} == {"UINT8"}


def test_a_runtime_looks_the_weights_up_when_it_opens_the_model() -> None:
    """So the model runs as if nothing had been done to it: with as many nodes as before."""
    target = Target(threads=1, optimization="basic")
    plain, coded = (Session(proto.SerializeToString(), target) for proto in (product(W), clustered(product(W))))
    assert sum(coded.placement().values()) == sum(plain.placement().values()) == 2


def test_few_values_are_kept_exactly() -> None:
    levels = np.linspace(-1, 1, 16, dtype=np.float32)
    proto = product(levels[np.random.default_rng(1).integers(0, 16, (32, 64))])
    assert np.array_equal(results(clustered(proto)), results(proto))


@pytest.mark.parametrize(
    "w",
    [
        W[:, :4],
        np.where(np.arange(W.size).reshape(W.shape) == 77, np.nan, W).astype(np.float32),
        np.where(np.arange(W.size).reshape(W.shape) == 77, np.inf, W).astype(np.float32),
    ],
    ids=["few", "nan", "inf"],
)
def test_left_alone(w: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    untouched(product(w), PASS)


def test_strict_keeps_it_out() -> None:
    untouched(product(W), PASS, fp="strict")


@pytest.mark.parametrize("bits", ["0", "9", "-1"])
def test_bits_that_codes_cannot_have(bits: str) -> None:
    with pytest.raises(PipelineError, match="takes bits from 1 to 8"):
        passes.parse(f"{PASS}{{bits={bits}}}")
