"""The search: what holds the budget is written, and where nothing does, the optimized model with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType, Graph, Value
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.errors import PipelineError
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance import Importance
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.unit_cost import Cost, parameter_cost
from planish.runtime.evaluate import evaluate
from planish.runtime.inspect import inspect
from planish.runtime.prune import prune
from planish.runtime.prune_report import prune_dict, prune_text
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.prune.attentions import transformer
from tests.passes.prune.topologies import Net

Singles = NDArray[np.float32]


def wide(folder: Path, width: int = 64) -> Path:
    """Three layers, of whose hidden units three quarters are nearly nothing."""
    rng = np.random.default_rng(0)
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 32))

    def dense(name: str, x: Value, rows: int, columns: int) -> Value:
        w = rng.standard_normal((rows, columns)) / np.sqrt(rows)
        w[:, : 3 * columns // 4] *= 1e-4 if columns == width else 1
        return b.node("Gemm", (x, b.initializer(f"w-{name}", w.astype(np.float32))), result=name)

    hidden = b.node("Relu", (dense("first", x, 32, width),))
    hidden = b.node("Relu", (dense("second", hidden, width, width),))
    b.output("y", dense("y", hidden, width, 8))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def feeds(count: int) -> list[dict[str, Singles]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((4, 32)).astype(np.float32)} for _ in range(count)]


@pytest.mark.slow
def test_the_most_that_holds_the_budget(tmp_path: Path) -> None:
    path = wide(tmp_path, 128)
    before = path.read_bytes()
    result = prune(path, tmp_path / "out.onnx", feeds(30), max_drop=1e-3, seconds=0.1)
    assert result.metric == "cosine"
    assert result.judged == 10
    best = max(each.ratio for each in result.candidates if each.drop <= 1e-3)
    assert 0.7 < best < 0.9
    assert all(each.drop > 1e-3 for each in result.candidates if each.ratio > best)
    assert result.pruned or "slower" in result.reason
    if result.pruned:
        assert result.chosen.ratio == best
        assert result.chosen.latency is not None
        assert inspect(tmp_path / "out.onnx").parameters == result.chosen.parameters
    assert np.asarray(Session(tmp_path / "out.onnx", PLAIN).run(feeds(1)[0])[0]).shape == (4, 8)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_part_of_the_multiply_accumulates(tmp_path: Path) -> None:
    result = prune(wide(tmp_path), tmp_path / "out.onnx", feeds(9), macs=0.5, max_drop=1, seconds=0.1)
    counts = [each.macs for each in result.candidates]
    assert counts[0] == 4 * (32 * 64 + 64 * 64 + 64 * 8)
    assert counts[0] is not None
    assert counts[-1] is not None
    assert 0.4 * counts[0] < counts[-1] <= 0.5 * counts[0]


@pytest.mark.parametrize("uniform", [False, True])
def test_a_part_of_the_parameters(tmp_path: Path, uniform: bool) -> None:
    """Of a net in which the layer that computes the most holds the least."""
    n = Net(("N", 3, 8, 8))
    x = n.op("GlobalAveragePool", n.op("Relu", n.conv(n.x, (3, 16))))
    x = n.op("Relu", n.op("Gemm", n.op("Flatten", x), n.weight(16, 64), n.weight(64)))
    ir.save(n.end(n.op("Gemm", x, n.weight(64, 8), n.weight(8))), tmp_path / "net.onnx")
    rng = np.random.default_rng(1)
    given = [{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(9)]
    result = prune(
        tmp_path / "net.onnx", tmp_path / "out.onnx", given, params=0.6, max_drop=1, seconds=0.1, uniform=uniform,
        pruning=PruneChannels(importance="l1", macs=0.9),
    )  # fmt: skip
    whole, tried = result.candidates[0].parameters, result.candidates[-1]
    assert tried.groups
    assert 0.5 * whole < tried.parameters <= 0.6 * whole
    none = prune(tmp_path / "net.onnx", tmp_path / "none.onnx", given, params=0.01, max_drop=1, seconds=0.1)
    assert none.reason.startswith("no ratio brings its parameters to 0.01 of what they are")


@pytest.mark.parametrize(
    ("ratio", "macs", "pruning", "reason"),
    [
        (0.97, None, PruneChannels(), "nothing of it can be pruned within the budget: pruned-0.97 loses"),
        (None, 0.001, PruneChannels(), "no ratio brings its multiply-accumulates to 0.001"),
        (0.5, None, PruneChannels(keep="*"), "none of its channels can go"),
        (None, None, PruneChannels(round_to=1000), "none of its channels can go"),
    ],
)
def test_a_reason_and_the_optimized_model(
    tmp_path: Path, ratio: float | None, macs: float | None, pruning: PruneChannels, reason: str
) -> None:
    path, out = wide(tmp_path), tmp_path / "out.onnx"
    result = prune(path, out, feeds(9), ratio=ratio, macs=macs, pruning=pruning, max_drop=1e-6, seconds=0.1)
    assert not result.pruned
    assert reason in result.reason
    assert reason in prune_text(result)
    one, other = (np.asarray(Session(p, PLAIN).run(feeds(1)[0])[0]) for p in (path, out))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert result.chosen.name == "optimized"
    assert prune_dict(result)["pruned"] is False


@pytest.mark.slow
@pytest.mark.parametrize("reconstructing", [True, False])
def test_steps_come_to_the_same_part(tmp_path: Path, reconstructing: bool) -> None:
    for steps in (1, 3):
        result = prune(
            wide(tmp_path), tmp_path / "out.onnx", feeds(9), macs=0.4, max_drop=1, seconds=0.1, steps=steps,
            reconstructing=reconstructing,
        )  # fmt: skip
        tried, whole = result.candidates[-1], result.candidates[0].macs
        assert tried.macs is not None
        assert whole is not None
        assert 0.35 * whole < tried.macs <= 0.4 * whole
        assert {loss.name for loss in tried.groups} <= {"first", "second"}
        assert all(loss.units == 64 for loss in tried.groups)
    with pytest.raises(PipelineError, match="1 step or more"):
        prune(wide(tmp_path), tmp_path / "out.onnx", feeds(3), macs=0.5, steps=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "reason"), [([], ""), ([np.nan], "within the budget"), ([np.nan] * 8, "the samples say nothing")]
)
def test_samples_that_say_nothing(tmp_path: Path, bad: list[float], reason: str) -> None:
    """A budget that cannot be judged is not held."""
    given = [*feeds(8 - len(bad)), *[{"x": np.full((4, 32), number, np.float32)} for number in bad]]
    result = prune(wide(tmp_path), tmp_path / "out.onnx", given, macs=0.5, max_drop=1, seconds=0.1)
    assert reason in result.reason
    assert not (result.pruned and reason)


@pytest.mark.parametrize(
    "given",
    [
        {"ratio": 0.0}, {"ratio": 1.0}, {"macs": 1.5}, {"latency": 0.0}, {"ratio": 0.5, "macs": 0.5},
        {"macs": 0.5, "latency": 0.5}, {"params": 1.0}, {"params": 0.5, "macs": 0.5},
    ],
)  # fmt: skip
def test_bad_options(tmp_path: Path, given: dict[str, float]) -> None:
    ratio, macs, latency, params = (given.get(name) for name in ("ratio", "macs", "latency", "params"))
    with pytest.raises(PipelineError, match="prune takes"):
        prune(wide(tmp_path), tmp_path / "out.onnx", feeds(3), ratio=ratio, macs=macs, latency=latency, params=params)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("importance", ["obs", "l1"])
def test_what_is_free_goes_first(tmp_path: Path, importance: Importance) -> None:
    """Of the units of one layer three quarters are nearly nothing, of the other none: the report says which went."""
    rng = np.random.default_rng(0)
    b = ir.Builder("net", opset=17)
    value = b.input("x", DType.FLOAT, ("n", 16))
    for name, rows, columns in (("free", 16, 64), ("dear", 64, 64), ("y", 64, 64)):
        w = rng.standard_normal((rows, columns)) / np.sqrt(rows)
        w[:, 16:] *= 1e-4 if name == "free" else 1
        weight = b.initializer(f"w-{name}", w.astype(np.float32))
        value = b.node("Gemm", (value, weight), result=name)
        value = value if name == "y" else b.node("Relu", (value,))
    b.output("y", value)
    ir.save(b.graph(), tmp_path / "net.onnx")
    given = [{"x": rng.standard_normal((32, 16)).astype(np.float32)} for _ in range(9)]
    for uniform in (False, True):
        result = prune(
            tmp_path / "net.onnx", tmp_path / f"{uniform}.onnx", given, macs=0.6, max_drop=1, seconds=0.1,
            pruning=PruneChannels(importance=importance), uniform=uniform,
        )  # fmt: skip
        tried = result.candidates[-1]
        gone = {loss.name: loss.gone for loss in tried.groups}
        assert tried.macs is not None
        assert tried.macs <= 0.6 * (result.candidates[0].macs or 0)
        assert gone.get("free", 0) == gone.get("dear", 0) if uniform else gone["free"] > 2 * gone.get("dear", 0)
        assert tried.ratio == pytest.approx(sum(gone.values()) / 128, abs=0.02)
        if result.pruned:
            assert "channels" in prune_text(result)
    assert (tmp_path / "False.onnx").exists()


class Speeds:
    """Stands in for measuring: a model takes that power of the part of the weights that it has left."""

    def __init__(self, power: float) -> None:
        self.power = power
        self.aims: list[float] = []

    def __call__(self, a: Path, b: Path, *_: object, **__: object) -> SimpleNamespace:
        left = inspect(b).parameters / inspect(a).parameters
        ratio = left**-self.power
        self.aims.append(ratio)
        return SimpleNamespace(ratio=ratio, low=ratio, high=ratio, as_dict=dict)


@pytest.mark.parametrize(("power", "turns"), [(1.5, 1), (0.7, 2)])
def test_a_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: float, turns: int) -> None:
    """Where a pruned model takes more than its operators by themselves, more goes, until what is measured will do."""
    speeds = Speeds(power)
    monkeypatch.setattr("planish.runtime.pruning.search.benchmark", speeds)
    monkeypatch.setattr("planish.runtime.pruning.group_plan.GraphTimes", _parameters)
    result = prune(wide(tmp_path), tmp_path / "out.onnx", feeds(9), latency=0.5, max_drop=1, reconstructing=False)
    assert result.pruned
    left = result.chosen.parameters / result.candidates[1].parameters
    assert left**power <= 0.5 * 1.02
    assert len(speeds.aims) - 2 >= turns


def test_a_time_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planish.runtime.pruning.search.benchmark", Speeds(0.0))
    monkeypatch.setattr("planish.runtime.pruning.group_plan.GraphTimes", _parameters)
    result = prune(wide(tmp_path), tmp_path / "out.onnx", feeds(9), latency=0.5, max_drop=1, reconstructing=False)
    assert not result.pruned
    assert result.reason == "no ratio brings it to 0.5 of the optimized model's time"


def _parameters(graph: Graph, groups: Mapping[str, Group], *_: object) -> Cost:
    return parameter_cost(graph, groups)


@pytest.mark.slow
def test_measured_times_bring_a_model_to_a_part_of_its_time(tmp_path: Path) -> None:
    """Products large enough for their time to be told; the cache keeps the times of their shapes."""
    path, cache = wide(tmp_path, 1024), tmp_path / "times"
    samples = [{"x": np.repeat(feed["x"], 32, axis=0)} for feed in feeds(9)]
    pruning = PruneChannels(importance="l1", round_to=64)
    result = prune(
        path, tmp_path / "out.onnx", samples, latency=0.6, max_drop=1, pruning=pruning, seconds=0.5, cache=cache
    )
    assert result.pruned or "slower" in result.reason
    assert result.candidates[-1].parameters < 0.8 * result.candidates[1].parameters
    (file,) = cache.iterdir()
    assert "MatMul" in file.read_text() or "Gemm" in file.read_text()


@pytest.mark.slow
def test_heads_go_with_channels(tmp_path: Path) -> None:
    """Two of a layer's heads add next to nothing: they go, and the report tells heads from channels."""
    ir.save(transformer(free=2), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    given = [{"x": rng.standard_normal((2, 7, 12)).astype(np.float32)} for _ in range(9)]
    pruning = PruneChannels(importance="obs")
    for macs, keep in ((0.85, ""), (0.7, ""), (0.85, "*Softmax*")):
        result = prune(
            tmp_path / "net.onnx", tmp_path / "out.onnx", given, macs=macs, max_drop=1, seconds=0.05,
            pruning=replace(pruning, keep=keep),
        )  # fmt: skip
        tried, whole = result.candidates[-1], result.candidates[0]
        heads = [loss for loss in tried.groups if loss.is_heads]
        assert tried.macs is not None
        assert whole.macs is not None
        assert tried.macs <= macs * whole.macs
        assert (max([loss.gone for loss in heads], default=0) >= 2) == (not keep)
        assert all(layer.verdict != "left" for layer in tried.layers)
        assert tried.value > 0.9
        if result.pruned:
            assert ("4 heads" in prune_text(result)) == (not keep)


@pytest.mark.slow
def test_digits_are_still_read(tmp_path: Path) -> None:
    """With half of the channels gone, where pruning alone reads a third of them."""
    task, path = load("digits"), fetch("digits-cnn")
    values: dict[bool, float] = {}
    for reconstructing in (False, True):
        out = tmp_path / f"{reconstructing}.onnx"
        result = prune(path, out, task, ratio=0.5, max_drop=1, reconstructing=reconstructing, seconds=0.1)
        assert result.judged == 66
        values[reconstructing] = result.candidates[-1].value
        if result.pruned and reconstructing:
            assert evaluate(out, task).value == pytest.approx(values[reconstructing], abs=0.1)
    assert values[False] < 0.5
    assert values[True] > 0.9
