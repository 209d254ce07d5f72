"""What a task is told of the model that it is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import parser

from planish import ir
from planish.runtime.evaluate import evaluate
from planish.runtime.session import Feed
from planish.runtime.task import Metric, Run, Sample, Split, Task

MODEL = """<ir_version: 8, opset_import: ["" : 17], metadata_props: ["offset": "2.5"]>
    net (float[2] numbers) => (float[1] y) { y = ReduceSum (numbers) }
"""


class Offset(Task[float, float]):
    """The sum of a model whose input may have any name, and the offset that its metadata hold."""

    name = "offset"
    model = ""
    metrics = (Metric("exact"),)

    def samples(self, split: Split) -> Sequence[Sample[float]]:
        return [Sample({"any": np.asarray([index, 1], np.float32)}, index + 3.5) for index in range(5)]

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        (taken,) = run.inputs
        assert (taken.type, taken.shape) == ("tensor(float)", (2,))
        return float(run({taken.name: feeds["any"]}).tensor("y", (1,))[0]) + float(run.metadata["offset"])

    def grade(self, predictions: Sequence[float], labels: Sequence[float]) -> list[bool]:
        return [prediction == label for prediction, label in zip(predictions, labels, strict=True)]


def test_a_task_is_told_what_the_model_takes_and_its_metadata(tmp_path: Path) -> None:
    file = tmp_path / "sum.onnx"
    file.write_bytes(parser.parse_model(MODEL).SerializeToString())
    assert evaluate(file, Offset()).predictions == (3.5, 4.5, 5.5, 6.5, 7.5)
    assert evaluate(ir.load(file), Offset()).value == 1.0
