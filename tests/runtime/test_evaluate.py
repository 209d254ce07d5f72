"""Evaluating a model on a task: what is measured, that it is always the same, and what is refused."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import joblib
import numpy as np
import pytest
from joblib.externals import loky
from onnx import parser

from planish import ir, runtime
from planish.models.tasks import load
from planish.models.tasks.digits import Digits
from planish.models.trained import TRAINED
from planish.runtime.errors import SessionError, TaskError
from planish.runtime.evaluate import Evaluation, evaluate
from planish.runtime.providers import Target
from planish.runtime.session import Feed
from planish.runtime.shards import ModelFile
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

DIGITS = TRAINED["digits-cnn"]
SUM = "net (float[2] x) => (float[1] y) { y = ReduceSum (x) }"


@dataclass(frozen=True)
class Positive(Task[float, bool]):
    """Whether two numbers, an index and 1 or -1, sum to something above the index."""

    count: int = 20
    feed: str = "x"
    output: str = "y"
    extent: int = 2
    per_group: int = 1
    label: bool | None = True
    like: Path | None = None
    name: str = "positive"
    model: str = ""
    metrics: tuple[Metric, ...] = (Metric("accuracy"), Metric("mean", "units", False, (-math.inf, math.inf)))

    def samples(self, split: Split) -> Sequence[Sample[bool]]:
        return Samples(self.count, self.make)

    def make(self, index: int) -> Sample[bool]:
        sign = 1 if index % 4 else -1
        x = np.resize(np.asarray([index, sign], np.float32), self.extent)
        group = None if self.per_group == 1 else index // self.per_group
        return Sample({self.feed: x}, None if self.label is None else sign > 0, group)

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        return float(run(feeds).tensor(self.output, (1,))[0]) - float(np.asarray(feeds[self.feed])[0])

    def grade(self, predictions: Sequence[float], labels: Sequence[bool]) -> Sequence[tuple[float, ...]]:
        return [((guess > 0) == label, guess) for guess, label in zip(predictions, labels, strict=True)]

    def reference(self) -> Path | None:
        return self.like


@dataclass(frozen=True)
class Agreement(Positive):
    def grade(self, predictions: Sequence[float], labels: Sequence[float]) -> list[tuple[float, float]]:
        return [(guess == label, guess - label) for guess, label in zip(predictions, labels, strict=True)]


IN_A_MODULE = '''
import numpy as np

from planish.models.tasks.digits import Digits


class Bits(Digits):
    """Predicts all bits of the outputs."""

    def predict(self, run, feeds):
        return run(feeds).tensor("logits", (1, 10)).tobytes()

    def grade(self, predictions, labels):
        found = [np.frombuffer(prediction, np.float32).argmax() for prediction in predictions]
        return [digit == label for digit, label in zip(found, labels, strict=True)]
'''


def save(path: Path, text: str) -> Path:
    path.write_bytes(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}').SerializeToString())
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "sum.onnx", SUM)


@pytest.fixture
def bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Task[object, object]]:
    """The digits, with all bits of the outputs as predictions; its module is one that other processes can import."""
    (tmp_path / "bits_of_digits.py").write_text(IN_A_MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    stop_workers()  # so that those to come learn of the path
    yield load("bits_of_digits:Bits")
    stop_workers()
    del sys.modules["bits_of_digits"]


class _Loky(Protocol):
    """What is used of the module, whose own types are not known."""

    def get_reusable_executor(self) -> Executor: ...


def stop_workers() -> None:
    cast("_Loky", loky).get_reusable_executor().shutdown(wait=True)


def same(a: Evaluation[object], b: Evaluation[object]) -> bool:
    one, other = a.as_dict(), b.as_dict()
    return a.predictions == b.predictions and one | {"seconds": 0} == other | {"seconds": 0}


def test_the_package_gives_the_function() -> None:
    assert runtime.evaluate is evaluate


def test_metrics_have_values_and_intervals(model: Path) -> None:
    found = evaluate(model, Positive())
    accuracy, mean = found.estimates
    assert (accuracy.value, found.value, found.metric.name) == (1.0, 1.0, "accuracy")
    assert mean.value == pytest.approx(0.5)
    assert 0.0 < mean.low < 0.5 < mean.high < 1.0
    # All right in 20 trials: errors of up to 1 - 0.025 ** (1 / 20) would go unseen in one case of forty.
    assert (accuracy.low, accuracy.high) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert (found.samples, found.groups, found.split) == (20, 20, "test")
    assert found.placement == {"CPUExecutionProvider": 1}
    assert found.target.threads == 1


def test_the_dictionary_holds_no_infinity(model: Path) -> None:
    found = evaluate(model, Positive(count=3))
    assert (found.estimates[1].low, found.estimates[1].high) == (-math.inf, math.inf)
    metrics = found.as_dict()["metrics"]
    assert isinstance(metrics, list)
    mean = {"name": "mean", "unit": "units", "higher_is_better": False, "value": pytest.approx(1 / 3)}
    assert metrics[1] == {**mean, "low": None, "high": None}


def test_every_run_and_every_number_of_processes_gives_the_same_bits(bits: Task[object, object]) -> None:
    alone = evaluate(DIGITS, bits)
    assert alone.value == evaluate(DIGITS, Digits()).value
    assert same(alone, evaluate(DIGITS, bits))
    assert same(alone, evaluate(DIGITS, bits, jobs=2))
    with joblib.parallel_config("threading", n_jobs=2):
        assert same(alone, evaluate(DIGITS, bits))


def test_a_limit_takes_samples_from_all_over_the_split(model: Path) -> None:
    seen = evaluate(model, Indices(count=100), limit=5).predictions
    assert seen == (0, 20, 40, 60, 80)
    assert evaluate(model, Indices(count=3), limit=5).predictions == (0, 1, 2)


@dataclass(frozen=True)
class Indices(Positive):
    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        return float(np.asarray(feeds["x"])[0])


def test_samples_of_one_group_count_once(model: Path) -> None:
    alone, grouped = evaluate(model, Positive(count=80)), evaluate(model, Repeated(count=80, per_group=8))
    assert (grouped.samples, grouped.groups) == (80, 10)
    assert grouped.estimates[1].high - grouped.estimates[1].low > 1.5 * (
        alone.estimates[1].high - alone.estimates[1].low
    )


@dataclass(frozen=True)
class Repeated(Positive):
    """Samples of one group are alike."""

    def make(self, index: int) -> Sample[bool]:
        first = super().make(index // self.per_group)
        return Sample(first.feeds, first.label, index // self.per_group)


def test_a_reference_model_gives_the_labels(model: Path, tmp_path: Path) -> None:
    task = Agreement(label=None, like=model)
    assert evaluate(model, task).value == 1.0
    other = save(tmp_path / "other.onnx", "net (float[2] x) => (float[1] y) { s = ReduceSum (x) y = Relu (s) }")
    found = evaluate(other, task)
    assert found.value == pytest.approx(19 / 20)  # at index 0 the sum is -1
    assert found.estimates[1].value == pytest.approx(1 / 20)


def test_a_model_may_be_run_more_than_once_for_a_sample(model: Path) -> None:
    assert evaluate(model, Twice(), limit=3).predictions == (-2.0, 14.0, 28.0)


@dataclass(frozen=True)
class Twice(Positive):
    """Feeds what came out back in, as a model with state needs it."""

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        state, step = 0.0, np.asarray(feeds["x"])
        for _ in range(2):
            state = float(run({"x": np.asarray([step[0] + state, step[1]], np.float32)}).tensor("y")[0])
        return state


def test_shuffled_labels_are_the_same_for_a_seed_and_lose_what_the_model_knows(model: Path) -> None:
    found = evaluate(model, Positive(count=400), shuffle_labels=3)
    assert found.low < 0.75**2 + 0.25**2 < found.high
    assert same(found, evaluate(model, Positive(count=400), shuffle_labels=3))
    assert not same(found, evaluate(model, Positive(count=400), shuffle_labels=4))


def test_the_labels_that_were_graded_against_are_told(model: Path) -> None:
    """Those of the samples or of a reference model; so any of it can be graded again."""
    for task in cast("Sequence[Task[object, object]]", (Positive(), Agreement(label=None, like=model))):
        plain, shuffled = evaluate(model, task), evaluate(model, task, shuffle_labels=3)
        assert sorted(map(repr, shuffled.labels)) == sorted(map(repr, plain.labels))
        assert shuffled.labels != plain.labels
        assert shuffled.predictions == plain.predictions
        again = task.score(np.asarray(task.grade(plain.predictions, shuffled.labels), np.float64))
        assert list(again) == [estimate.value for estimate in shuffled.estimates]
    assert evaluate(model, Agreement(label=None, like=model)).labels == evaluate(model, Positive()).predictions


def test_graphs_and_files_that_are_mended_at_load_are_evaluated(model: Path, tmp_path: Path) -> None:
    assert evaluate(ir.load(model), Positive()).value == 1.0
    twice = save(tmp_path / "twice.onnx", "net (float[2] x) => (float[1] y) { y = ReduceSum (x) y = ReduceSum (x) }")
    assert ir.load(twice).notes
    assert evaluate(twice, Positive()).value == 1.0


def test_a_nan_is_counted(tmp_path: Path) -> None:
    root = save(tmp_path / "root.onnx", "net (float[2] x) => (float[1] y) { s = ReduceSum (x) y = Sqrt (s) }")
    found = evaluate(root, Positive())
    assert found.with_nan == 1
    assert found.as_dict()["samples_with_nan"] == 1
    assert math.isnan(found.estimates[1].value)
    assert (found.estimates[1].low, found.estimates[1].high) == (-math.inf, math.inf)
    assert evaluate(DIGITS, Digits()).with_nan == 0


def test_numbers_beyond_single_precision_are_no_nan(tmp_path: Path) -> None:
    text = "net (float[2] x) => (float[1] y, double[2] big) <double m = {1e300}>"
    text += " { y = ReduceSum (x) d = Cast <to = 11> (x) big = Mul (d, m) }"
    assert evaluate(save(tmp_path / "big.onnx", text), Positive()).with_nan == 0


def test_a_file_that_is_written_anew_is_opened_anew(model: Path) -> None:
    before = evaluate(model, Positive())
    save(model, "net (float[2] x) => (float[1] y) { s = ReduceSum (x) y = Neg (s) }")
    assert evaluate(model, Positive()).predictions != before.predictions


def test_the_hash_is_of_external_data_too(tmp_path: Path, bits: Task[object, object]) -> None:
    graph = ir.load(DIGITS)
    ir.save(graph, tmp_path / "net.onnx", external_data="always")
    (data,) = ir.load(tmp_path / "net.onnx").data_files
    before = ModelFile.of(tmp_path / "net.onnx", (data,))
    expected = evaluate(tmp_path / "net.onnx", bits, limit=9)
    assert expected.predictions == evaluate(DIGITS, bits, limit=9).predictions
    content = bytearray(data.read_bytes())
    content[-4:] = np.float32(9).tobytes()
    data.write_bytes(content)
    assert ModelFile.of(tmp_path / "net.onnx", (data,)).sha256 != before.sha256
    assert evaluate(tmp_path / "net.onnx", bits, limit=9).predictions != expected.predictions


MISFITS: Sequence[tuple[Positive, str]] = (
    (Positive(feed="z"), "has no input 'z': its inputs are x"),
    (Positive(output="z"), "has no output 'z': its outputs are y"),
    (Positive(extent=3), "x"),
)


@pytest.mark.parametrize(("task", "message"), MISFITS)
def test_a_task_that_does_not_fit_is_named_with_the_model(model: Path, task: Positive, message: str) -> None:
    with pytest.raises(TaskError, match=r"task 'positive' does not fit .*sum\.onnx at sample 0: ") as refused:
        evaluate(model, task)
    assert message in str(refused.value)


def test_what_a_process_refuses_is_said_as_here(model: Path) -> None:
    with pytest.raises(TaskError, match=r"'digits' does not fit .*sum\.onnx at sample \d+: .* no input 'image': .* x$"):
        evaluate(model, Digits(), jobs=2)


def test_a_model_of_other_types_or_shapes_is_named_with_the_task(tmp_path: Path) -> None:
    doubles = save(tmp_path / "d.onnx", "net (double[2] x) => (double[1] y) { y = ReduceSum (x) }")
    with pytest.raises(TaskError, match=r"'positive' does not fit .*d\.onnx at sample 0: input 'x' .* float64"):
        evaluate(doubles, Positive())
    wide = save(tmp_path / "w.onnx", "net (float[2] x) => (float[2] y) { y = Relu (x) }")
    with pytest.raises(TaskError, match=r"'y' of .*w\.onnx has the shape \(2,\), not \(1\)"):
        evaluate(wide, Positive())
    many = save(tmp_path / "s.onnx", "net (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct (x) }")
    with pytest.raises(TaskError, match=r"'y' of .*s\.onnx is a list, not a tensor"):
        evaluate(many, Positive())
    with pytest.raises(TaskError, match=r"'positive' does not fit .*: reading .* failed \(ZeroDivisionError: "):
        evaluate(save(tmp_path / "sum.onnx", SUM), Dividing())


@dataclass(frozen=True)
class Dividing(Positive):
    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        return 1 / 0


@dataclass(frozen=True)
class Ungraded(Positive):
    def grade(self, predictions: Sequence[float], labels: Sequence[bool]) -> list[tuple[float, float]]:
        return [(1.0, 1.0)]


@dataclass(frozen=True)
class Ragged(Positive):
    def grade(self, predictions: Sequence[float], labels: Sequence[bool]) -> list[tuple[float, ...]]:
        return [(1.0,) * (1 + index % 2) for index in range(len(predictions))]


@dataclass(frozen=True)
class Unscored(Positive):
    def score(self, grades: Floats) -> Sequence[float]:
        return [1.0]


@pytest.mark.parametrize(
    ("task", "limit", "message"),
    [
        (Positive(count=0), None, "has no samples in its test split"),
        (Positive(), 0, "limit of 1 or more samples, not 0"),
        (Positive(label=None), None, "sample 0 of task 'positive' has no label"),
        (Ungraded(), None, r"gave grades of shape \(1, 2\) for 20 samples"),
        (Ragged(), None, "gave grades that are no numbers of one shape"),
        (Unscored(), None, "names 2 metrics and scores 1"),
    ],
)
def test_a_task_that_cannot_be_scored_says_why(model: Path, task: Positive, limit: int | None, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        evaluate(model, task, limit=limit)


def test_a_provider_that_does_not_run_is_an_error(model: Path) -> None:
    with pytest.raises(SessionError, match="cuda"):
        evaluate(model, Positive(), target=Target("cuda"))
