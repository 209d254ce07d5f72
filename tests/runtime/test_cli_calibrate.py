"""planish calibrate: what it writes and prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish.passes.quantize.calibration_file import load_calibration
from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]
NET = """net (float[n, 4] x) => (float[n, 4] y, float[n, 4] z) <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8,
    9, -1, -2, -3, 0, 0, 0, 0}> { a = MatMul (x, w) k = Sub (a, a) y = Log (x) z = Add (a, k) }"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: net.onnx, whose tensor k is always 0 and y NaN for what is negative, and 30 samples."""
    monkeypatch.chdir(tmp_path)
    text = f'<ir_version: 8, opset_import: ["" : 18]> {NET}'
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    (tmp_path / "samples").mkdir()
    rng = np.random.default_rng(0)
    for index in range(30):
        x = rng.standard_normal((50, 4)).astype(np.float32)
        x[0] *= 1 + 1000 * (index == 3)
        np.savez(tmp_path / "samples" / f"{index:02}.npz", x=x)
    return tmp_path


def test_the_suspicious_come_first(folder: Path, capsys: Capture) -> None:
    assert main(["calibrate", "net.onnx", "--inputs", "samples", "-o", "cal.json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["tensor", "low", "high", "deviation", "zeros", "max", "/", "99.9", "%", "look", "at"]
    looks = {line.split()[0]: line.split("  ")[-1].strip() for line in lines[2:7]}
    assert looks == {"y": "NaN", "k": "constant", "x": "outliers", "a": "outliers", "z": "outliers"}
    assert "30 samples, 5 tensors; 5 to look at" in lines
    assert lines[-1].startswith("warning: tensor 'y' holds ")
    assert "NaN in 6000 elements, which no range is made of" in lines[-1]
    assert load_calibration("cal.json").samples == 30
    assert not list(folder.glob("*.npz"))


def test_json_and_gram_matrices(folder: Path, capsys: Capture) -> None:
    words = ["calibrate", "net.onnx", "--inputs", "samples", "-o", "cal.json", "--grams", "--limit", "5", "--json"]
    assert main([*words, "--tensor", "a", "--tensor", "k*"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suspicious"] == {"k": ["constant"]}
    assert {key: found[key] for key in ("file", "samples", "tensors", "grams")} == {
        "file": "cal.json",
        "samples": 5,
        "tensors": 2,
        "grams": ["x"],
    }
    assert load_calibration("cal.json").grams["x"].count == 250


def test_a_task_brings_its_model(folder: Path, capsys: Capture) -> None:
    assert main(["calibrate", "--task", "digits", "-o", "cal.json", "--limit", "3"]) == 0
    assert "3 samples, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.onnx", "--inputs", "nowhere", "-o", "c.json"], "nowhere is no folder of samples"),
        (["net.onnx", "--inputs", ".", "-o", "c.json"], "no .npz file is in"),
        (["--inputs", "samples", "-o", "c.json"], "say which model to calibrate"),
        (["net.onnx", "--task", "digits", "-o", "c.json"], "feeds 'image', and"),
        (["net.onnx", "--task", "none", "-o", "c.json"], "none"),
        (["net.onnx", "--inputs", "samples", "-o", "no/c.json"], "no/c.json: there is no folder no to write it to"),
        (["net.onnx", "--inputs", "samples", "-o", "samples"], "samples: is a folder, not a file to write"),
        (["net.onnx", "--inputs", "samples", "-o", "c.json", "--tensor", "zz"], "the model has no float tensor 'zz'"),
        (["gone.onnx", "--inputs", "samples", "-o", "c.json"], "gone.onnx"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: list[str], message: str, folder: Path, capsys: Capture) -> None:
    assert main(["calibrate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("planish: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "c.json").exists()
