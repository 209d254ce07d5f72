"""Calibrating: the numbers are those of the model's own tensors, the same bits however the work is spread, and what
cannot be used is told in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish import ir, runtime
from planish.models.tasks.digits import Digits
from planish.models.trained import TRAINED
from planish.passes.errors import CalibrationError
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.calibration_file import load_calibration, save_calibration
from planish.runtime import cut
from planish.runtime.calibrate import calibrate
from planish.runtime.errors import TaskError
from planish.runtime.session import Feed
from planish.runtime.task import Run, Sample, Samples, Split

DIGITS = TRAINED["digits-cnn"]
NET = """net (float[n, 4] x) => (float[n, 3] y) <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3}> {
    a = Relu (x) y = MatMul (a, w) }"""
F32 = NDArray[np.float32]


def save(path: Path, text: str) -> Path:
    path.write_bytes(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}').SerializeToString())
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return save(tmp_path / "net.onnx", NET)


def stream(count: int = 20) -> list[Mapping[str, F32]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((1 + i % 3, 4)).astype(np.float32)} for i in range(count)]


def same_grams(a: Calibration, b: Calibration) -> bool:
    return list(a.grams) == list(b.grams) and all(
        a.grams[key].matrix.tobytes() == b.grams[key].matrix.tobytes()
        and a.grams[key].mean.tobytes() == b.grams[key].mean.tobytes()
        and a.grams[key].count == b.grams[key].count
        for key in a.grams
    )


def test_the_package_gives_the_function() -> None:
    assert runtime.calibrate is calibrate


def test_statistics_are_those_of_the_tensors(net: Path) -> None:
    found = calibrate(net, stream(), grams=("*",))
    x = np.concatenate([feeds["x"] for feeds in stream()]).astype(np.float64)
    w = np.asarray([[1, 2, 3], [4, 5, 6], [7, 8, 9], [-1, -2, -3]], np.float64)
    tensors = {"x": x, "a": np.maximum(x, 0), "y": np.maximum(x, 0) @ w}
    assert list(found.tensors) == ["x", "a", "y"]
    for name, expected in tensors.items():
        seen = found.tensors[name]
        assert seen.count == expected.size
        assert seen.observed == pytest.approx((expected.min(), expected.max()), rel=1e-6)
        assert seen.mean == pytest.approx(expected.mean(), rel=1e-6)
        assert seen.variance == pytest.approx(expected.var(), rel=1e-6)
        assert seen.histogram is not None
        assert seen.histogram.counts.sum() == expected.size
    assert found.tensors["a"].zeros == int((x <= 0).sum())
    np.testing.assert_allclose(found.tensors["a"].channels[1], tensors["a"].max(axis=0))
    np.testing.assert_allclose(found.tensors["y"].channels[1], np.abs(tensors["y"]).max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.grams["a"].matrix[0], tensors["a"].T @ tensors["a"], rtol=1e-12)
    assert (found.samples, found.warnings) == (20, ())
    assert found.gram(ir.load(net).nodes[1]) is found.grams["a"]


@pytest.mark.slow  # processes start
def test_two_processes_give_the_bits_of_one() -> None:
    one, two = (calibrate(DIGITS, Digits(), grams=("*",), limit=80, jobs=jobs) for jobs in (1, 2))
    assert one.samples == 80
    assert one == two
    assert same_grams(one, two)


@pytest.mark.slow  # processes start
def test_feeds_in_two_processes_give_the_bits_of_one(net: Path) -> None:
    one, two = (calibrate(net, iter(stream(30)), grams=("*",), jobs=jobs) for jobs in (1, 2))
    assert one == two
    assert same_grams(one, two)


def test_small_stages_give_the_numbers_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibrate(DIGITS, Digits(), limit=5)
    monkeypatch.setattr(cut, "STAGE_BYTES", 1)
    parts = calibrate(DIGITS, Digits(), limit=5)
    assert list(parts.tensors) == list(whole.tensors)
    for name, seen in whole.tensors.items():
        assert parts.tensors[name].observed == pytest.approx(seen.observed, rel=1e-4)


def test_the_order_of_samples_shows_in_no_more_than_last_bits(net: Path) -> None:
    forth, back = calibrate(net, stream()), calibrate(net, stream()[::-1])
    for name, seen in forth.tensors.items():
        other = back.tensors[name]
        assert (seen.observed, seen.count, seen.zeros) == (other.observed, other.count, other.zeros)
        assert seen.histogram is not None
        assert other.histogram is not None
        assert seen.histogram.edges.tolist() == other.histogram.edges.tolist()
        assert seen.histogram.counts.tolist() == other.histogram.counts.tolist()
        assert {axis: maxima.tolist() for axis, maxima in seen.channels.items()} == {
            axis: maxima.tolist() for axis, maxima in other.channels.items()
        }
        assert seen.mean == pytest.approx(other.mean, rel=1e-12)
        assert seen.variance == pytest.approx(other.variance, rel=1e-12)


def test_a_folder_gives_what_its_feeds_give(net: Path, tmp_path: Path) -> None:
    (tmp_path / "samples" / "calibration").mkdir(parents=True)
    for index, feeds in enumerate(stream(8)):
        np.savez(tmp_path / "samples" / "calibration" / f"{index}.npz", x=feeds["x"], label=3)
    (tmp_path / "samples" / "0.npz").write_bytes(b"of the test split")
    found, expected = calibrate(net, tmp_path / "samples"), calibrate(net, stream(8))
    assert found.samples == 8
    assert {name: seen.observed for name, seen in found.tensors.items()} == {
        name: seen.observed for name, seen in expected.tensors.items()
    }


def test_a_graph_is_calibrated_like_its_file(net: Path) -> None:
    graph = ir.load(net)
    before = ir.text(graph)
    found = calibrate(graph, stream())
    assert list(found.tensors) == list(calibrate(net, stream()).tensors)
    assert ir.text(graph) == before


def test_limits_are_spread_over_a_task_and_cut_an_iterable(net: Path) -> None:
    def endless() -> Iterator[Mapping[str, F32]]:
        while True:
            yield {"x": np.ones((1, 4), np.float32)}

    assert calibrate(net, endless(), limit=11).samples == 11
    assert calibrate(DIGITS, Digits(), limit=3).samples == 3
    with pytest.raises(CalibrationError, match="a limit of 1 or more samples is needed, not 0"):
        calibrate(net, stream(), limit=0)


def test_names_and_patterns_choose(net: Path) -> None:
    assert list(calibrate(net, stream(), tensors=("y", "x")).tensors) == ["x", "y"]
    assert list(calibrate(net, stream(), tensors=()).tensors) == []
    assert list(calibrate(net, stream(), tensors=(), grams=("a",)).grams) == ["a"]
    assert list(calibrate(net, stream(), tensors=(), grams=("y",)).grams) == ["a"]
    with pytest.raises(CalibrationError, match="the model has no float tensor 'z' outside of nested graphs"):
        calibrate(net, stream(), tensors=("z",))
    with pytest.raises(CalibrationError, match="no product with a constant weight 'x'"):
        calibrate(net, stream(), grams=("x",))


def test_all_of_nothing_is_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "relu.onnx", "net (float[2] x) => (float[2] y) { y = Relu (x) }")
    assert not calibrate(path, [{"x": np.ones(2, np.float32)}], grams=("*",)).grams


def test_nan_and_infinities_are_counted_and_told_by_name(net: Path) -> None:
    feeds = stream(6)
    feeds[4]["x"][0, :2] = [np.nan, np.inf]
    found = calibrate(net, feeds, grams=("*",))
    assert (found.tensors["x"].nans, found.tensors["x"].infs) == (1, 1)
    assert found.tensors["y"].nans == 3
    assert found.grams["a"].skipped == 1
    assert [line.split(" in ")[0] for line in found.warnings] == [
        "tensor 'x' holds 1 NaN and 1 infinities",
        "tensor 'a' holds 1 NaN and 1 infinities",
        "tensor 'y' holds 3 NaN",
    ]


def test_nothing_but_nan_is_an_error(tmp_path: Path) -> None:
    broken = save(
        tmp_path / "broken.onnx", "net (float[2] x) => (float[2] y) { a = Neg (x) b = Sqrt (a) y = Relu (b) }"
    )
    with pytest.raises(CalibrationError, match=r"tensor 'b' of .*broken.onnx holds nothing but NaN in 2 samples"):
        calibrate(broken, [{"x": np.ones(2, np.float32)}] * 2)


def test_empty_tensors_are_told(net: Path) -> None:
    found = calibrate(net, [{"x": np.ones((0, 4), np.float32)}])
    assert found.tensors["a"].observed is None
    assert "tensor 'a' was never made, or was always empty" in found.warnings


def test_tensors_of_nested_graphs_are_left_out_and_told(tmp_path: Path) -> None:
    path = save(
        tmp_path / "if.onnx",
        """net (float[2] x, bool c) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] u) { v = Neg (x) u = Relu (v) },
                        else_branch = e () => (float[2] w) { w = Identity (x) }> }""",
    )
    found = calibrate(path, [{"x": np.ones(2, np.float32), "c": np.asarray(True)}])
    assert list(found.tensors) == ["x", "y"]
    assert found.warnings == ("3 tensors of nested graphs, bodies of If, Loop or Scan, are left out: v, u, w",)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": np.ones((1, 5), np.float32)}, r"sample 2: the input 'x' has the shape \[n, 4\], and \[1, 5\] is fed"),
        ({"x": np.ones(4, np.float32)}, r"sample 2: the input 'x' has the shape \[n, 4\], and \[4\] is fed"),
        ({"x": np.ones((1, 4))}, "sample 2: the input 'x' is float32, and float64 is fed"),
        ({"X": np.ones((1, 4), np.float32)}, r"sample 2 feeds 'X', and .* has no such input: its inputs are x"),
        ({}, "sample 2 lacks the input 'x'"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(feeds: Mapping[str, Feed], message: str, net: Path) -> None:
    with pytest.raises(CalibrationError, match=message):
        calibrate(net, [*stream(2), feeds])


def test_a_file_that_does_not_fit_is_named(net: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    np.savez(tmp_path / "samples" / "a.npz", x=np.ones((1, 4), np.float32))
    np.savez(tmp_path / "samples" / "b.npz", x=np.ones((1, 4), np.int64))
    with pytest.raises(CalibrationError, match=r"b\.npz: the input 'x' is float32, and int64 is fed"):
        calibrate(net, tmp_path / "samples")
    (tmp_path / "samples" / "b.npz").write_bytes(b"nothing")
    with pytest.raises(TaskError, match=r"b\.npz is no \.npz file"):
        calibrate(net, tmp_path / "samples")


def test_no_samples_are_an_error_that_says_what_to_do(net: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"there are no samples to calibrate on: the feeds .* are empty"):
        calibrate(net, [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match=r"no \.npz file is in .*empty.*: write one for each sample"):
        calibrate(net, tmp_path / "empty")
    with pytest.raises(CalibrationError, match="is no folder of samples"):
        calibrate(net, tmp_path / "nowhere")


class Empty(Digits):
    def samples(self, split: Split) -> Samples[int]:
        return Samples(0 if split == "calibration" else 5, super().samples(split).__getitem__)


class Twice(Digits):
    """Runs the model on each picture, and on it turned over, as a model with state is run step by step."""

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> int:
        first = run(feeds).tensor("logits", (1, 10))
        run({"image": np.asarray(feeds["image"])[..., ::-1]})
        assert [argument.name for argument in run.inputs] == ["image"]
        return int(first.argmax())


class Wrong(Digits):
    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> int:
        return int(run(feeds).tensor("scores").argmax())


def test_a_task_may_run_the_model_as_often_as_it_likes() -> None:
    once, twice = calibrate(DIGITS, Digits(), limit=4), calibrate(DIGITS, Twice(), limit=4)
    assert twice.samples == 4
    assert twice.tensors["logits"].count == 2 * once.tensors["logits"].count


def test_a_task_that_does_not_fit_is_told() -> None:
    with pytest.raises(CalibrationError, match="task 'digits' has no samples in its calibration split"):
        calibrate(DIGITS, Empty())
    with pytest.raises(TaskError, match=r"sample 0 of task 'digits' does not fit the model: .* has no output 'scores'"):
        calibrate(DIGITS, Wrong(), limit=1)


def test_the_test_split_is_never_looked_at() -> None:
    class Guarded(Digits):
        def samples(self, split: Split) -> Samples[int]:
            assert split == "calibration"
            found = super().samples(split)
            return Samples(len(found), lambda index: Sample(found[index].feeds))

    assert calibrate(DIGITS, Guarded(), limit=2).samples == 2


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    found = calibrate(DIGITS, Digits(), grams=("*",), limit=10)
    save_calibration(found, tmp_path / "cal.json")
    again = load_calibration(tmp_path / "cal.json")
    assert again == found
    assert same_grams(again, found)


def test_no_file_is_left_behind(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    calibrate(net, stream(2))
    with pytest.raises(CalibrationError):
        calibrate(net, [*stream(1), {}])
    assert not list((tmp_path / "temporary").iterdir())
    assert "planish" in sys.modules
