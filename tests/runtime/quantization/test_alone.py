"""What each rounding costs by itself: where a channel reaches far beyond the others, the tensor says so."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from planish import ir, runtime
from planish.ir import DType
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.fidelity import record
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.quantization.alone import Rounded
from planish.runtime.quantization.trials import Trials
from planish.runtime.samples import Feeds, parts_of
from tests.passes.quantize.topologies import Net

ONE = Target(threads=1)
FAR = 300.0


def feeds() -> list[Feeds]:
    """One number in each picture is far out."""
    random = np.random.default_rng(0)
    made: list[Feeds] = []
    for _ in range(8):
        x = random.standard_normal((1, 3, 8, 8)).astype(np.float32)
        made.append({"x": x})
    return made


def net(folder: Path) -> Path:
    """conv1, of which a channel that conv2 hardly reads reaches far; conv2; conv3."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    wide = net.random.standard_normal((4, 3, 1, 1))
    wide[0] *= FAR
    narrow = net.random.standard_normal((4, 4, 1, 1))
    narrow[:, 0] /= FAR**2
    y = net.op("Conv", net.op("Conv", x, net.floats(wide)), net.floats(narrow))
    net.b.output("y", net.conv(y, 4))
    path = folder / "net.onnx"
    ir.save(net.b.graph(), path)
    return path


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    path, samples = net(tmp_path), feeds()
    references = record(path, parts_of(samples, None), ONE, 8)
    return Trials(path, tmp_path, samples, references, ONE, None, silent)


def measured(trials: Trials) -> tuple[Rounded, QuantizeStatic]:
    quantizing = QuantizeStatic(ranges=runtime.calibrate(trials.float_path, feeds(), target=ONE))
    return Rounded.of(trials, quantizing), quantizing


def test_the_tensor_with_the_outlier_costs_most(trials: Trials) -> None:
    rounded, _ = measured(trials)
    costs = rounded.each()
    worst = max(costs, key=costs.__getitem__)
    assert worst.values == ("conv1",)
    assert worst.planned is not None
    assert costs[worst] > 100 * max(cost for switch, cost in costs.items() if switch is not worst)
    assert rounded.noise({}) < 1e-9
    assert rounded.noise(dict.fromkeys(costs)) == pytest.approx(sum(costs.values()), rel=0.5)


@pytest.mark.parametrize("rounding", ["nearest", "gram"])
def test_the_noise_of_what_is_on_is_the_quantized_models(trials: Trials, rounding: Literal["nearest", "gram"]) -> None:
    seen = runtime.calibrate(trials.float_path, feeds(), target=ONE, grams=("*",))
    quantizing = QuantizeStatic(ranges=seen, rounding=rounding)
    rounded = Rounded.of(trials, quantizing)
    every = dict.fromkeys((*rounded.switches.tensors, *rounded.switches.weights))
    quantized = trials.trial(quantizing, "whole").candidate.fidelity.noise
    assert rounded.noise(every) == pytest.approx(quantized, rel=0.3)
