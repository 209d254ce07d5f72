"""Quantizing within a budget: what is chosen, what goes back to float, and when the float model is the answer.

Times are made up here, so that no test depends on the machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import DType
from planish.ir.build import Builder
from planish.models import tasks, zoo
from planish.passes.errors import CalibrationError
from planish.runtime.benchmark import benchmark
from planish.runtime.latency import LatencyReport
from planish.runtime.providers import Target
from planish.runtime.quantization import search
from planish.runtime.quantize import placement_of, quantize
from planish.runtime.quantize_report import quantize_dict, quantize_text

Feeds = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]


def net(folder: Path, *, outlier: float = 1.0) -> Path:
    """Three convolutions; the first gives one channel so many times larger, which the second hardly reads."""
    rng = np.random.default_rng(0)
    b = Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 3, 16, 16))
    for index, (filters, channels) in enumerate(((16, 3), (16, 16), (8, 16))):
        weight = rng.standard_normal((filters, channels, 3, 3)).astype(np.float32) / channels
        if index < 2:
            weight[(0,) if index == 0 else (slice(None), 0)] *= outlier if index == 0 else 1 / outlier**2
        bias = b.initializer(f"b{index}", rng.standard_normal(filters).astype(np.float32))
        x = b.node("Conv", (x, b.initializer(f"w{index}", weight), bias), {"pads": (1, 1, 1, 1)}, result=f"c{index}")
        x = b.node("Relu", (x,)) if index < 2 else x
    b.output("y", b.node("GlobalAveragePool", (x,)))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.fixture
def samples() -> list[Feeds]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)} for _ in range(12)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> LatencyReport:
    path = net(tmp_path_factory.mktemp("measured"))
    feeds = [{"x": np.zeros((1, 3, 16, 16), np.float32)}] * 4
    return benchmark(path, path, feeds, target=Target(threads=1), budget_seconds=0.01)


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch, measured: LatencyReport) -> list[float]:
    """What every pair of models is said to measure: the last of them."""
    told = [2.0]

    def made_up(*_: object, **__: object) -> LatencyReport:
        return replace(measured, ratio=told[-1], low=told[-1], high=told[-1])

    monkeypatch.setattr(search, "benchmark", made_up)
    return told


def loaded(path: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(path.read_bytes())


def operators(path: Path) -> list[str]:
    return [node.op_type for node in loaded(path).graph.node]


def test_the_whole_is_quantized_where_it_may_be(tmp_path: Path, samples: list[Feeds], speed: list[float]) -> None:
    source = net(tmp_path)
    before = source.read_bytes()
    result = quantize(source, tmp_path / "out.onnx", samples, max_drop=0.02)
    assert result.quantized
    assert not result.excluded
    assert result.metric == "cosine"
    assert result.chosen.drop is not None
    assert result.chosen.drop <= 0.02
    assert result.chosen.bytes < result.candidates[0].bytes
    assert operators(tmp_path / "out.onnx").count("QuantizeLinear") == 4
    check_model(loaded(tmp_path / "out.onnx"), full_check=True)
    assert source.read_bytes() == before


def test_what_is_slower_is_not_taken(tmp_path: Path, samples: list[Feeds], speed: list[float]) -> None:
    speed.append(0.8)
    result = quantize(net(tmp_path), tmp_path / "out.onnx", samples, max_drop=0.02)
    assert not result.quantized
    assert "not surely faster" in result.reason
    assert "QuantizeLinear" not in operators(tmp_path / "out.onnx")
    assert result.chosen.name == "optimized"
    assert "not quantized" in quantize_text(result)


def test_what_costs_most_goes_back_to_float(tmp_path: Path, samples: list[Feeds], speed: list[float]) -> None:
    """The other channels of the first convolution are left without a step of their own."""
    result = quantize(net(tmp_path, outlier=1000.0), tmp_path / "out.onnx", samples, max_drop=0.002)
    assert result.quantized
    assert {"c0", "c1"} <= set(result.excluded)
    assert "c2" not in result.excluded
    assert result.chosen.drop is not None
    assert result.chosen.drop <= 0.002


def test_a_budget_that_nothing_meets_gives_the_float_model(
    tmp_path: Path, samples: list[Feeds], speed: list[float]
) -> None:
    result = quantize(net(tmp_path), tmp_path / "out.onnx", samples, max_drop=0.0)
    assert not result.quantized
    assert result.reason == "nothing of it can be quantized within the budget"
    assert "QuantizeLinear" not in operators(tmp_path / "out.onnx")


def test_what_is_excluded_stays_float(tmp_path: Path, samples: list[Feeds], speed: list[float]) -> None:
    result = quantize(net(tmp_path), tmp_path / "out.onnx", samples, max_drop=0.05, exclude="c1|c2")
    assert result.quantized
    weights = [node for node in loaded(tmp_path / "out.onnx").graph.node if node.op_type == "DequantizeLinear"]
    assert sum("w0" in name for node in weights for name in node.input) == 1
    assert not any(name.startswith(("w1", "w2")) for node in weights for name in node.input)


def test_a_task_sets_the_budget(tmp_path: Path, speed: list[float]) -> None:
    result = quantize(zoo.fetch("digits-cnn"), tmp_path / "out.onnx", tasks.load("digits"), limit=40)
    assert result.quantized
    assert result.metric == "accuracy"
    assert result.base > 0.9
    text = quantize_text(result)
    assert "drop of accuracy" in text
    content = quantize_dict(result)
    assert content["quantized"] is True


def test_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        quantize(net(tmp_path), tmp_path / "out.onnx", [])
    assert not (tmp_path / "out.onnx").exists()


def test_a_target_without_integer_kernels_keeps_the_float_model(tmp_path: Path) -> None:
    assert placement_of(Target(provider="cuda")) is None
    assert placement_of(Target(architecture="aarch64")) == "cpu-arm"
    assert placement_of(Target(architecture="x86_64")) == "cpu-x86"
    assert placement_of(Target(provider="tensorrt")) == "tensorrt"
