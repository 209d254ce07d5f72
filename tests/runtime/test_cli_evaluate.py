"""planish evaluate: what it prints and gives back, and one clear line for what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from onnx import parser

from planish.models.tasks.digits import Digits
from planish.models.trained import TRAINED
from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]
MODULE = """
from planish.models.tasks.digits import Digits


class Even(Digits):
    name = "even"

    def grade(self, predictions, labels):
        return [prediction % 2 == label % 2 for prediction, label in zip(predictions, labels, strict=True)]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the digits 0 to 49 of the test split below `samples`, and a module with a task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "samples").mkdir()
    for index, sample in enumerate(Digits().samples("test")[:50]):
        image = np.asarray(sample.feeds["image"])
        np.savez(tmp_path / "samples" / f"{index:02}.npz", image=image, label=np.asarray(sample.label))
    (tmp_path / "own_task.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def evaluations(capsys: Capture) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return cast("list[dict[str, object]]", json.loads(captured.out)["evaluations"])


def values(evaluation: dict[str, object]) -> dict[object, object]:
    return {metric["name"]: metric["value"] for metric in cast("list[dict[str, object]]", evaluation["metrics"])}


def test_a_task_brings_its_model(folder: Path, capsys: Capture) -> None:
    assert main(["evaluate", "--task", "digits", "--limit", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "provider", "value", "95", "%", "interval"]
    assert lines[2].startswith("accuracy       cpu  0.9")
    assert lines[4].startswith("digits: 50 samples in ")
    assert lines[4].endswith(" nodes on CPUExecutionProvider")
    assert folder.is_dir()


@pytest.mark.parametrize("model", ["zoo:digits-cnn", "digits-cnn", str(TRAINED["digits-cnn"])])
def test_a_model_is_a_file_or_a_name(folder: Path, capsys: Capture, model: str) -> None:
    assert main(["evaluate", model, "--task", "digits", "--limit", "20", "--providers", "cpu,cpu", "--json"]) == 0
    one, other = evaluations(capsys)
    assert one | {"seconds": 0} == other | {"seconds": 0}
    assert (one["task"], one["samples"], one["model"]) == ("digits", 20, str(TRAINED["digits-cnn"]))
    assert one["placement"] == {"CPUExecutionProvider": 15}
    assert folder.is_dir()


def test_processes_and_shuffled_labels(folder: Path, capsys: Capture) -> None:
    command = ["evaluate", "--task", "digits", "--limit", "100", "--json"]
    assert main(command) == main([*command, "--jobs", "2"]) == main([*command, "--shuffle-labels", "1"]) == 0
    alone, spread, shuffled = (
        values(json.loads(text)["evaluations"][0])
        for text in (f"{{{part}" for part in f"\n{capsys.readouterr().out}".split("\n{")[1:])
    )
    assert alone == spread
    assert cast("float", shuffled["accuracy"]) < 0.5 < cast("float", alone["accuracy"])
    assert folder.is_dir()


def test_a_folder_of_samples(folder: Path, capsys: Capture) -> None:
    assert main(["evaluate", "digits-cnn", "--task", "samples", "--json"]) == 0
    assert main(["evaluate", "digits-cnn", "--task", "samples", "--metric", "cosine", "--output", "logits",
                 "--reference", "zoo:digits-cnn", "--json"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert json.loads(out.split("\n{")[0])["evaluations"][0]["samples"] == 50
    assert values(json.loads("{" + out.split("\n{")[1])["evaluations"][0]) == {"cosine": pytest.approx(1.0)}
    assert folder.is_dir()


def test_a_class_of_ones_own(folder: Path) -> None:
    command = ["planish", "evaluate", "--task", "own_task:Even", "--limit", "30", "--jobs", "2", "--json"]
    executable = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run([executable, *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["evaluations"]
    assert (found["task"], found["samples"]) == ("even", 30)


def test_nan_in_the_outputs_is_said(folder: Path, capsys: Capture) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[1, 1, 8, 8] image) => (float[1, 10] y) <float[1] m = {-1}>'
        " { f = Flatten (image) s = Gemm (f, w) n = Mul (s, m) y = Sqrt (n) }".replace(
            "<float[1] m = {-1}>", f"<float[1] m = {{-1}}, float[64, 10] w = {{{', '.join(['1'] * 640)}}}>"
        )
    )
    (folder / "nan.onnx").write_bytes(model.SerializeToString())
    assert main(["evaluate", "nan.onnx", "--task", "samples"]) == 0
    assert "warning: NaN in the outputs for 50 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "no-such-task"], ["there is no task 'no-such-task'", "digits"]),
        (["--task", "no_such_module:Task"], ["no_such_module:Task", "cannot be imported"]),
        (["--task", "samples"], ["for no model in particular", "samples"]),
        (["digits-cnn", "--task", "digits", "--metric", "cosine"], ["--metric", "folder of samples", "'digits'"]),
        (["digits-cnn", "--task", "digits", "--reference", "a.onnx"], ["--reference", "folder of samples"]),
        (["gone.onnx", "--task", "digits"], ["gone.onnx"]),
        (["digits-cnn", "--task", "digits", "--provider", "cuda"], ["cuda"]),
        (["own_task.py", "--task", "digits"], ["own_task.py"]),
        (["digits-cnn", "--task", "empty"], ["no .npz file", "empty"]),
        (["digits-cnn", "--task", "samples", "--output", "z"], ["samples", "no output 'z'", "logits"]),
        (["zoo:no-such-net", "--task", "digits"], ["no-such-net"]),
    ],
)
def test_bad_input_is_one_line(folder: Path, capsys: Capture, arguments: list[str], words: list[str]) -> None:
    (folder / "empty").mkdir()
    assert main(["evaluate", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("planish: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--task"]),
        (["--task", "digits", "--providers", "cpu,gpu"], ["no provider 'gpu'", "cuda"]),
        (["--task", "digits", "--limit", "0"], ["--limit"]),
        (["--task", "digits", "--metric", "bleu"], ["bleu", "accuracy"]),
    ],
)
def test_misuse_is_argparse_s(folder: Path, capsys: Capture, arguments: list[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in last for word in words), last
    assert folder.is_dir()
