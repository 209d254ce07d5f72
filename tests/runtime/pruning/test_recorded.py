"""What is fed, run by run; what a task feeds back is the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import parser

from planish import ir
from planish.passes.errors import CalibrationError
from planish.runtime.model_run import Face
from planish.runtime.pruning.recorded import record
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.session import Feed, Session
from planish.runtime.task import Metric, Run, Sample, Split, Task
from tests.equivalence import PLAIN

MODEL = """<ir_version: 8, opset_import: ["" : 18]> net (float[n, 2] x, float[n, 2] state) => (float[n, 2] next)
    { next = Add (state, x) }"""


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


def session() -> Session:
    return Session(ir.emit(ir.load(parser.parse_model(MODEL))).SerializeToString(), PLAIN)


def face() -> Face:
    opened = session()
    return Face(opened.label, opened.inputs, opened.overridable, opened.metadata)


def test_states_are_those_of_the_model() -> None:
    task, seen = Stateful(), list[Feeds]()
    held_out = record(parts_of(task, None), face(), session(), seen.insert)
    assert task.states == [3, 6, 9, 12]
    assert held_out == [False] * 3 + [True] * 3 + [False] * 6
    assert [float(np.asarray(feeds["state"])[0, 0]) for feeds in seen[:6]] == [0, 1, 2, 0, 2, 4]


def test_samples_that_are_fed_once_need_no_run() -> None:
    seen: dict[int, Feeds] = {}
    ones = np.ones((1, 2), np.float32)
    samples = parts_of([{"x": ones, "state": place * ones} for place in range(5)], None)
    held_out = record(samples, face(), None, lambda run, feeds: seen.update({run: feeds}))
    assert held_out == [False, True, False, False, True]
    assert [float(np.asarray(seen[run]["state"])[0, 0]) for run in range(5)] == [0, 1, 2, 3, 4]


def test_a_sample_that_does_not_fit() -> None:
    samples = parts_of([{"x": np.ones((1, 3), np.float32)}], None)
    with pytest.raises(CalibrationError, match="has the shape"):
        record(samples, face(), None, lambda run, feeds: None)
