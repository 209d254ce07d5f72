"""Two models on the same samples: what is shown, what a task feeds back, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import parser

from planish import ir
from planish.ir import Graph
from planish.passes.errors import CalibrationError
from planish.runtime.model_run import Face
from planish.runtime.patches import Rows
from planish.runtime.pruning.side_by_side import Layer, Seen, Watched, look
from planish.runtime.samples import Parts, parts_of
from planish.runtime.session import Feed
from planish.runtime.task import Metric, Run, Sample, Split, Task
from tests.equivalence import PLAIN

LAYER = Layer("x", "h", "h", np.arange(2), Rows(), 1, -1)


def graph(matrix: str, width: int = 2) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 18]> net (float[n, 2] x, float[n, 2] state) => (float[n, 2] next)
        <float[2, {width}] w = {{{matrix}}}>
        {{ h = MatMul (x, w) r = ReduceSum <keepdims = 1> (h) next = Add (state, r) }}"""
    return ir.load(parser.parse_model(text))


class Stateful(Task[float, float]):
    """Three runs a sample, of which each takes what the one before it gave."""

    name, model, metrics = "stateful", "", (Metric("nothing"),)

    def __init__(self) -> None:
        self.states: list[float] = []

    def samples(self, split: Split) -> Sequence[Sample[float]]:
        return [Sample({"x": np.full((1, 2), place + 1, np.float32)}, 0.0) for place in range(4)]

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        state = np.zeros((1, 2), np.float32)
        for _ in range(3):
            state = np.asarray(run({**feeds, "state": state}).tensor("next"), np.float32)
        self.states.append(float(state[0, 0]))
        return self.states[-1]

    def grade(self, predictions: Sequence[float], labels: Sequence[float]) -> ArrayLike:
        return predictions


def looked(folder: Path, one: Graph, other: Graph, samples: Parts[object], layer: Layer = LAYER) -> Seen:
    ir.save(one, folder / "face.onnx")
    original = Watched(one, [layer.original], folder / "one.onnx", PLAIN, outputs=True)
    pruned = Watched(other, [layer.x, layer.wanted], folder / "other.onnx", PLAIN, outputs=False)
    (seen,) = look(original, pruned, [layer], samples, Face.of(folder / "face.onnx", PLAIN))
    return seen


def test_states_are_those_of_the_original(tmp_path: Path) -> None:
    task = Stateful()
    seen = looked(tmp_path, graph("1, 0, 0, 1"), graph("1, 0, 0, 0"), parts_of(task, None))
    assert task.states == [6, 12, 18, 24]
    assert (seen.fitted.count, seen.held_out.count) == (9, 3)
    assert seen.held_out.error() > 0


def test_inputs_and_outputs_are_shown_as_other_tensors_are(tmp_path: Path) -> None:
    watched = Watched(graph("1, 0, 0, 1"), ["x", "h", "next"], tmp_path / "net.onnx", PLAIN, outputs=True)
    ones = np.ones((1, 2), np.float32)
    outputs, shown = watched.run({"x": ones, "state": 2 * ones})
    assert set(shown) == {"x", "h", "next"}
    np.testing.assert_array_equal(shown["next"], outputs[0])
    assert len(outputs) == 1


def test_results_of_other_shapes(tmp_path: Path) -> None:
    given = parts_of([{"x": np.ones((1, 2), np.float32), "state": np.ones((1, 2), np.float32)}], None)
    with pytest.raises(CalibrationError, match="not one model before and after pruning"):
        looked(tmp_path, graph("1, 0, 0, 1"), graph("1, 0, 0, 1, 1, 1", 3), given)
