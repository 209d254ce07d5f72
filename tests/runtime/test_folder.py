"""Folders of .npz samples as tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from onnx import parser

from planish.runtime.errors import TaskError
from planish.runtime.evaluate import evaluate
from planish.runtime.folder import FolderTask
from planish.runtime.providers import Array

savez = cast("Callable[..., None]", np.savez)  # its stub takes a dict of arrays for its own options
HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def write(folder: Path, count: int = 8, /, **more: Array) -> Path:
    """Samples of seven scores whose greatest is at index % 7, as the label says."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        x = np.arange(7, 0, -1, dtype=np.float32)[None]
        x[0, index % 7] = 9
        arrays: dict[str, Array] = {"x": x, "label": np.asarray(index % 7), **more}
        savez(folder / f"{index:03}.npz", **arrays)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = parser.parse_model(
        f"{HEAD} net (float[n, 7] x) => (float[n, 7] y, float[n] total) <int64[1] a = {{1}}>"
        " { y = Identity (x) total = ReduceSum <keepdims = 0> (x, a) }"
    )
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "model.onnx"


@pytest.fixture
def bent(tmp_path: Path) -> Path:
    """As `model`, but the first score is always the least."""
    text = f"{HEAD} net (float[n, 7] x) => (float[n, 7] y) <float[7] m = {{-1, 1, 1, 1, 1, 1, 1}}> {{ y = Mul (x, m) }}"
    (tmp_path / "bent.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    return tmp_path / "bent.onnx"


def test_accuracy_is_the_default(model: Path, bent: Path, tmp_path: Path) -> None:
    task = FolderTask(write(tmp_path / "samples"))
    assert (task.name, task.metrics[0].name) == (str(tmp_path / "samples"), "accuracy")
    right, wrong = evaluate(model, task), evaluate(bent, task)
    assert (right.value, right.samples) == (1.0, 8)
    assert wrong.value == 6 / 8


def test_top_5_looks_further(model: Path, bent: Path, tmp_path: Path) -> None:
    task = FolderTask(write(tmp_path / "samples"), "top-5")
    assert evaluate(model, task).value == 1.0
    assert evaluate(bent, task).value == 6 / 8
    shifted = FolderTask(write(tmp_path / "shifted", label=np.asarray(6)), "top-5")
    assert evaluate(model, shifted).value == 1 / 8  # the last is among the five best where it is the best


def test_a_label_may_be_an_array_and_an_output_be_named(model: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "samples", x=np.asarray([[0, 1, 2, 3, 4, 5, 6]], np.float32), label=np.asarray([20.0]))
    assert evaluate(model, FolderTask(folder, "mean-absolute-error", output="total")).value == 1.0
    assert evaluate(model, FolderTask(folder, "cosine", output="total")).value == 1.0
    places = write(tmp_path / "places", x=np.eye(7, dtype=np.float32), label=np.asarray([0, 1, 2, 3, 0, 0, 0]))
    assert evaluate(model, FolderTask(places)).value == pytest.approx(4 / 7)


def test_cosine_of_nothing_is_defined(model: Path, tmp_path: Path) -> None:
    zero = np.zeros((1, 7), np.float32)
    assert evaluate(model, FolderTask(write(tmp_path / "a", x=zero, label=zero), "cosine")).value == 1.0
    assert evaluate(model, FolderTask(write(tmp_path / "b", x=zero, label=zero + 1), "cosine")).value == 0.0


@pytest.mark.parametrize(("measure", "value"), [("accuracy", 6 / 8), ("top-5", 6 / 8), ("cosine", None)])
def test_a_reference_model_stands_in_for_labels(
    model: Path, bent: Path, tmp_path: Path, measure: str, value: float | None
) -> None:
    folder = tmp_path / "samples"
    write(folder)
    for file in folder.glob("*.npz"):
        with np.load(file) as stored:
            x = stored["x"]
        np.savez(file, x=x)
    assert evaluate(model, FolderTask(folder, measure, like=model)).value == pytest.approx(1.0)
    found = evaluate(bent, FolderTask(folder, measure, like=model)).value
    assert found == value if value is not None else 0 < found < 1


def test_groups_are_read(model: Path, tmp_path: Path) -> None:
    task = FolderTask(write(tmp_path / "samples", group=np.asarray("one page")))
    assert evaluate(model, task).groups == 1


def test_splits_are_folders_below(model: Path, tmp_path: Path) -> None:
    write(tmp_path / "samples" / "test", 5)
    write(tmp_path / "samples" / "calibration", 3)
    task = FolderTask(tmp_path / "samples")
    assert (len(task.samples("test")), len(task.samples("calibration"))) == (5, 3)
    assert evaluate(model, task, split="calibration").samples == 3
    flat = FolderTask(write(tmp_path / "flat"))
    with pytest.raises(TaskError, match=r"no samples for calibration: no \.npz file is in .*flat/calibration"):
        flat.samples("calibration")


def test_an_empty_folder_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="nothing is no folder of samples"):
        FolderTask(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match=r"no \.npz file is in .*empty or .*empty/test"):
        evaluate(model, FolderTask(tmp_path / "empty"))
    with pytest.raises(TaskError, match="no metric 'bleu' for a folder: choose one of accuracy, top-5, cosine, mean-"):
        FolderTask(tmp_path / "empty", "bleu")


def test_a_sample_that_cannot_be_read_is_named(model: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "samples")
    whole = (folder / "003.npz").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:200] + bytes(40) + whole[240:]):
        (folder / "003.npz").write_bytes(content)
        with pytest.raises(TaskError, match=r"003\.npz is no \.npz file of plain arrays"):
            evaluate(model, FolderTask(folder))
    np.savez(folder / "003.npz", x=np.asarray([{}], object))
    with pytest.raises(TaskError, match=r"003\.npz is no \.npz file of plain arrays"):
        evaluate(model, FolderTask(folder))


def test_labels_and_groups_that_do_not_fit_are_named(model: Path, tmp_path: Path) -> None:
    np.savez(write(tmp_path / "a") / "002.npz", x=np.ones((1, 7), np.float32))
    with pytest.raises(TaskError, match=r"sample 2 of task '.*a' has no label"):
        evaluate(model, FolderTask(tmp_path / "a"))
    long = FolderTask(write(tmp_path / "b", label=np.asarray([1, 2])))
    with pytest.raises(TaskError, match=r"accuracy cannot be told for sample 0 of .*b: the label has the shape \(2,\)"):
        evaluate(model, long)
    with pytest.raises(TaskError, match=r"cosine cannot be told for sample 0 of .*b: the label has the shape \(2,\)"):
        evaluate(model, FolderTask(tmp_path / "b", "cosine"))
    with pytest.raises(TaskError, match=r"'label' in .*000\.npz must hold numbers, not <U3"):
        evaluate(model, FolderTask(write(tmp_path / "d", label=np.asarray("cat"))))
    with pytest.raises(TaskError, match=r"'group' in .*000\.npz must be one number or string"):
        evaluate(model, FolderTask(write(tmp_path / "c", group=np.asarray([1, 2]))))


def test_arrays_that_the_model_does_not_take_are_named_with_both(model: Path, tmp_path: Path) -> None:
    for name, more, message in (
        ("a", {"z": np.ones(1, np.float32)}, "has no input 'z'"),
        ("b", {"x": np.ones((1, 7), np.float64)}, "float64"),
        ("c", {"x": np.ones((1, 8), np.float32)}, "x"),
    ):
        with pytest.raises(TaskError, match=r"does not fit .*model\.onnx at sample 0: ") as refused:
            evaluate(model, FolderTask(write(tmp_path / name, **more)))
        assert message in str(refused.value)
        assert str(tmp_path / name) in str(refused.value)
    with pytest.raises(TaskError, match="has no output 'z': its outputs are y, total"):
        evaluate(model, FolderTask(write(tmp_path / "d"), output="z"))
