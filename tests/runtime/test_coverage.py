"""What the plan of quantize-static predicts is what ONNX Runtime makes of the model; where it is not, it is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import Builder, DType
from planish.passes.quantize.plan import Prediction
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.coverage import prove
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target
from tests.passes.quantize.statically import ONE_THREAD, quantized
from tests.passes.quantize.topologies import TOPOLOGIES

KERNELS = {
    "residual": {"QLinearConv": 5, "QLinearAdd": 2, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    "residual with BatchNormalization": {
        "QLinearConv": 7,
        "QLinearAdd": 2,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "pre-activation": {
        "QLinearConv": 5,
        "QLinearAdd": 4,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "inverted residual": {
        "QLinearConv": 11,
        "QLinearSigmoid": 2,
        "QLinearMul": 2,
        "QLinearAdd": 2,
        "QLinearGlobalAveragePool": 3,
        "Flatten": 1,
        "QGemm": 1,
    },
    "dense concat": {
        "QLinearConv": 6,
        "QLinearConcat": 3,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "split and concat": {
        "QLinearConv": 5,
        "QLinearConcat": 1,
        "Split": 1,
        "Reshape": 2,
        "Transpose": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "silu": {
        "QLinearConv": 5,
        "QLinearSigmoid": 5,
        "QLinearMul": 5,
        "QLinearAdd": 1,
        "QLinearConcat": 2,
        "MaxPool": 1,
        "Split": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "hard swish": {
        "QLinearConv": 5,
        "QLinearAdd": 4,
        "QLinearMul": 4,
        "QLinearGlobalAveragePool": 2,
        "Flatten": 1,
        "QGemm": 1,
    },
    "grouped": {"QLinearConv": 4, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "Flatten": 1, "QGemm": 1},
    "attention": {"QGemm": 6},
    "u-net": {"QLinearConv": 5, "QLinearConcat": 1, "MaxPool": 1, "Resize": 1},
    "padded": {
        "QLinearConv": 4,
        "Slice": 1,
        "Pad": 2,
        "QLinearAdd": 1,
        "SpaceToDepth": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
    },
    "lstm": {"QGemm": 2},
    "mlp": {"QGemm": 3},
    "audio": {"QLinearConv": 3},
    "mixer": {"QGemm": 2, "QLinearAdd": 1, "MatMulIntegerToFloat": 1},
}


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_what_is_predicted_is_proved(name: str, dynamic: bool) -> None:
    topology = TOPOLOGIES[name]
    found = quantized(topology.graph(dynamic=dynamic), topology.feeds(), first=topology.first)
    coverage = found.coverage()
    assert not coverage.failures, str(coverage)
    assert coverage.is_whole
    assert coverage.predicted == KERNELS[name]
    assert coverage.proved == coverage.predicted
    assert coverage.unfolded == 0
    assert sum(coverage.conversions.values()) == coverage.borders  # each tensor is converted once
    assert found.error() < 0.06


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_borders_are_few(name: str) -> None:
    """Codes begin at the input, and behind what is float; they end in a kernel that gives real numbers or once."""
    topology = TOPOLOGIES[name]
    coverage = quantized(topology.graph(), topology.feeds(), first=topology.first).coverage()
    assert coverage.borders <= {"attention": 3, "u-net": 2, "audio": 2}.get(name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_whatever_stays_float_the_rest_is_proved(name: str) -> None:
    """Of nodes left out at random: what is still predicted must still be so, and be right."""
    topology, random = TOPOLOGIES[name], np.random.default_rng(sum(map(ord, name)))
    nodes = [
        rewrite.sources[0]
        for rewrite in quantized(topology.graph(), topology.feeds(), first=topology.first).record.rewrites
    ]
    for _ in range(6):
        options = QuantizeStatic(exclude="|".join(node for node in nodes if random.random() < 0.4))
        found = quantized(topology.graph(dynamic=True), topology.feeds(), options, first=topology.first)
        coverage = found.coverage()
        assert coverage.is_whole, f"{options.exclude}: {coverage}"
        assert (coverage.unfolded, sum(coverage.conversions.values()) <= 2 * coverage.borders) == (0, True)
        assert found.error() < 0.07


def test_a_model_on_disk_and_the_table(tmp_path: Path) -> None:
    topology = TOPOLOGIES["mlp"]
    found = quantized(topology.graph(), topology.feeds())
    ir.save(found.graph, tmp_path / "mlp.onnx")
    coverage = prove(tmp_path / "mlp.onnx", found.expected, ONE_THREAD)
    assert str(coverage).splitlines() == [
        "integer kernel  predicted  proved",
        "--------------  ---------  ------",
        "QGemm                   3       3",
        "conversions left: 1 QuantizeLinear, of 1 tensors",
    ]
    assert coverage.as_dict() == {
        "predicted": {"QGemm": 3},
        "proved": {"QGemm": 3},
        "failures": [],
        "conversions": {"QuantizeLinear": 1},
        "borders": 1,
        "unfolded_constants": 0,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["mlp.onnx"]


def _convolution(*, requantized: bool) -> bytes:
    """On codes, but for the lack of a QuantizeLinear behind it."""
    b = Builder("net", opset=17)
    scale, zero = b.constant(np.array(0.1, np.float32)), b.constant(np.array(128, np.uint8))
    x = b.node("QuantizeLinear", (b.input("x", DType.FLOAT, (1, 2, 4, 4)), scale, zero))
    w = b.node("DequantizeLinear", (b.constant(np.ones((2, 2, 1, 1), np.int8)), scale))
    y = b.node("Conv", (b.node("DequantizeLinear", (x, scale, zero)), w), result="c")
    if requantized:
        codes = b.node("QuantizeLinear", (y, scale, zero), result="c_quantized")
        y = b.node("DequantizeLinear", (codes, scale, zero))
    b.output("y", y)
    return ir.emit(b.graph()).SerializeToString()


EXPECTED = (Prediction("conv", "QLinearConv", ("c_quantized", "c", "y"), moves=False),)


def test_a_node_that_stayed_float_is_named() -> None:
    assert prove(_convolution(requantized=True), EXPECTED, ONE_THREAD).is_whole
    coverage = prove(_convolution(requantized=False), EXPECTED, ONE_THREAD)
    assert [(proof.prediction.node, proof.kernel) for proof in coverage.failures] == [("conv", "Conv")]
    assert "conv: QLinearConv was predicted, and it is Conv" in str(coverage)
    assert coverage.conversions == Counter(QuantizeLinear=1, DequantizeLinear=1)
    assert coverage.unfolded == 1
    assert "constants dequantized at every run: 1" in str(coverage)


def test_a_runtime_that_makes_no_kernels_proves_nothing() -> None:
    coverage = prove(_convolution(requantized=True), EXPECTED, Target(threads=1, optimization="disabled"))
    assert [proof.kernel for proof in coverage.failures] == ["QuantizeLinear"]


def test_what_is_gone_is_proved_only_of_what_moves() -> None:
    gone = (Prediction("a", "QLinearConv", ("nowhere",), moves=False), Prediction("b", "Reshape", ("no",), moves=True))
    coverage = prove(_convolution(requantized=True), gone, ONE_THREAD)
    assert [proof.prediction.node for proof in coverage.failures] == ["a"]
    assert "a: QLinearConv was predicted, and it is nothing" in str(coverage)


def test_nothing_predicted() -> None:
    topology = TOPOLOGIES["mlp"]
    found = quantized(topology.graph(), topology.feeds(), QuantizeStatic(exclude="*"))
    coverage = found.coverage()
    assert coverage.is_whole
    assert (dict(coverage.predicted), dict(coverage.conversions), coverage.borders) == ({}, {}, 0)
    assert str(coverage).splitlines()[-1] == "conversions left: none, of 0 tensors"


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"missing\.onnx"):
        prove(tmp_path / "missing.onnx", EXPECTED)
