"""Pruning and quantization within one budget: what holds it, and is fastest, is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.errors import PipelineError
from planish.runtime.compress import CompressResult, compress
from planish.runtime.compress_report import compress_text
from planish.runtime.evaluate import evaluate
from planish.runtime.inspect import inspect

Singles = NDArray[np.float32]
NAMES = ("as it came", "optimized", "quantized", "pruned-1", "pruned-1-quantized")


def model(path: Path, turn: float = 0.0) -> Path:
    """Two numbers turned by an angle, so that the cosine to what they were is that of the angle."""
    b = ir.Builder("turn", opset=17)
    x = b.input("x", DType.FLOAT, (1, 2))
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], np.float32)
    b.output("y", b.node("MatMul", (x, b.constant(matrix))))
    ir.save(b.graph(), path)
    return path


def samples() -> list[dict[str, Singles]]:
    return [{"x": np.array([[1, number]], np.float32)} for number in range(6)]


def angle(drop: float) -> float:
    return float(np.arccos(1 - drop))


@dataclass
class Scripted:
    """Stands in for pruning, quantization and measuring: how much each loses, and how fast its result is."""

    pruning: list[float | None] = field(default_factory=list[float | None])
    """What each attempt loses; None where it finds nothing."""
    quantizing: list[float | None] = field(default_factory=list[float | None])
    speeds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of files, against the model as it came; 1 where nothing is said."""
    budgets: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    turned: dict[str, float] = field(default_factory=dict[str, float])

    def prune(self, source: Path, path: Path, *_: object, max_drop: float, **__: object) -> SimpleNamespace:
        self.budgets.append(("prune", max_drop))
        drop = self.pruning.pop(0)
        if drop is not None:
            self._write(source, path, drop)
        return SimpleNamespace(pruned=drop is not None, reason="there is nothing to prune")

    def quantize(self, source: Path, path: Path, *_: object, max_drop: float, **__: object) -> SimpleNamespace:
        self.budgets.append(("quantize", max_drop))
        drop = self.quantizing.pop(0)
        if drop is not None:
            self._write(source, path, drop)
        return SimpleNamespace(quantized=drop is not None, reason="there is nothing to quantize")

    def benchmark(self, a: Path, b: Path, *_: object, **__: object) -> SimpleNamespace:
        ratio = self.speeds.get(b.stem, 1.0) / self.speeds.get(a.stem, 1.0)
        return SimpleNamespace(ratio=ratio, low=0.95 * ratio, high=1.05 * ratio, as_dict=dict)

    def _write(self, source: Path, path: Path, drop: float) -> None:
        self.turned[path.stem] = self.turned.get(source.stem, 0.0) + angle(drop)
        model(path, self.turned[path.stem])

    def run(self, monkeypatch: pytest.MonkeyPatch, folder: Path, macs: float | None = None) -> CompressResult:
        for name in ("prune", "quantize", "benchmark"):
            monkeypatch.setattr(import_module("planish.runtime.compress"), name, getattr(self, name))
        return compress(model(folder / "net.onnx"), folder / "out.onnx", samples(), max_drop=0.1, macs=macs)


def names(found: CompressResult) -> list[str]:
    return [candidate.name for candidate in found.candidates]


def test_the_fastest_that_holds_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"quantized": 2.0, "pruned-1": 1.5, "pruned-1-quantized": 3.0}
    script = Scripted([0.01], [0.01, 0.01], speeds)
    before = model(tmp_path / "net.onnx").read_bytes()
    found = script.run(monkeypatch, tmp_path)
    assert set(names(found)) == set(NAMES)
    assert found.chosen.name == "pruned-1-quantized"
    assert found.chosen.drop == pytest.approx(1 - np.cos(2 * angle(0.01)), abs=1e-5)  # turned twice
    assert found.metric == "cosine"
    assert found.judged == 2
    assert inspect(tmp_path / "out.onnx").bytes == found.chosen.bytes
    assert (tmp_path / "net.onnx").read_bytes() == before


def test_what_pruning_leaves_of_the_budget_is_for_quantization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted([0.03], [0.01, 0.01])
    script.run(monkeypatch, tmp_path)
    assert [what for what, _ in script.budgets] == ["quantize", "prune", "quantize"]
    assert [budget for _, budget in script.budgets] == pytest.approx([0.1, 0.08, 0.07], abs=1e-5)


def test_where_both_lose_too_much_pruning_gets_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns of 0.06 are one of 0.226; of 0.02 each, one of 0.079."""
    script = Scripted([0.06, 0.02], [None, 0.06, 0.02], {"pruned-1-quantized": 9.0, "pruned-2-quantized": 2.0})
    found = script.run(monkeypatch, tmp_path)
    assert [budget for what, budget in script.budgets if what == "prune"] == pytest.approx([0.08, 0.05])
    assert "pruned-1-quantized" in names(found)
    assert found.chosen.name == "pruned-2-quantized"
    assert found.notes == ("optimized, not quantized: there is nothing to quantize",)


def test_a_part_that_was_asked_for_may_take_the_whole_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted([0.05], [None, 0.2])
    found = script.run(monkeypatch, tmp_path, macs=0.5)
    assert ("prune", 0.1) in script.budgets
    assert found.chosen.name in ("optimized", "pruned-1")


def test_what_cannot_be_compressed_is_optimized_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Scripted([None], [None]).run(monkeypatch, tmp_path)
    assert names(found) == ["as it came", "optimized"]
    assert found.notes == (
        "optimized, not quantized: there is nothing to quantize",
        "not pruned: there is nothing to prune",
    )
    assert all(note in compress_text(found) for note in found.notes)
    assert found.as_dict()["notes"] == list(found.notes)


def test_what_is_surely_slower_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow: Mapping[str, float] = {"optimized": 2.0, "quantized": 1.5, "pruned-1": 1.6, "pruned-1-quantized": 1.7}
    found = Scripted([0.01], [0.01, 0.01], slow).run(monkeypatch, tmp_path)
    assert set(names(found)) == set(NAMES)
    assert found.chosen.name == "optimized"


@pytest.mark.parametrize("macs", [0.0, 1.5, -1.0])
def test_bad_options(tmp_path: Path, macs: float) -> None:
    with pytest.raises(PipelineError, match="compress takes a part of the multiply-accumulates"):
        compress(model(tmp_path / "net.onnx"), tmp_path / "out.onnx", samples(), macs=macs)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.slow
def test_a_task_is_judged_on_samples_that_nothing_was_fitted_to(tmp_path: Path) -> None:
    task, path, out = load("digits"), fetch("digits-cnn"), tmp_path / "out.onnx"
    found = compress(path, out, task, max_drop=0.03, macs=0.7, seconds=0.1)
    candidates: Sequence[str] = names(found)
    assert candidates[0] == "as it came"
    assert (found.metric, found.judged) == ("accuracy", 66)
    assert found.chosen.drop <= 0.03
    assert evaluate(out, task).value == pytest.approx(found.chosen.value, abs=0.1)
