"""planish convert-precision: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]
NET = """net (float[n, 4] x) => (float[n, 4] y) <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8,
    9, -1, -2, -3, 1, 1, 1, 1.3}> { h = MatMul (x, w)  r = Relu (h)  y = MatMul (r, w) }"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path / "cache"))
    text = f'<ir_version: 8, opset_import: ["" : 18]> {NET}'
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    (tmp_path / "samples").mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        np.savez(tmp_path / "samples" / f"{index}.npz", x=rng.standard_normal((2, 4)).astype(np.float32))
    return tmp_path


def test_made_up_inputs(folder: Path, capsys: Capture) -> None:
    assert main(["convert-precision", "net.onnx", "-o", "out.onnx", "--shape", "x=3,4"]) == 0
    out = capsys.readouterr().out
    assert "(asked for 50)" in out
    assert "100.0 % of the weights' bytes" in out
    assert "no float16 kernel for" in out
    assert (folder / "out.onnx").exists()


def test_a_folder_of_samples_as_json(folder: Path, capsys: Capture) -> None:
    words = ["convert-precision", "net.onnx", "--inputs", "samples", "-o", "out.onnx", "--snr", "90", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["wanted_db"] == 90
    assert found["runs"] == 3
    assert found["half_nodes"] == 0
    assert set(f"{found['keep']}|{found['store']}".split("|")) == {"h", "r", "y"}
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.onnx", "--inputs", "nowhere"], "nowhere is no folder of samples"),
        (["--inputs", "samples"], "say which model to convert"),
        (["missing.onnx"], "missing.onnx"),
        (["net.onnx", "--task", "nothing"], "there is no task 'nothing'"),
        (["net.onnx", "--range", "z=0:1"], "there is no input 'z'"),
    ],
)
def test_what_it_cannot_do(folder: Path, capsys: Capture, words: list[str], message: str) -> None:
    assert main(["convert-precision", *words, "-o", "out.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize("bar", ["0", "-3", "nan", "inf", "much"])
def test_a_bar_is_a_positive_number(folder: Path, capsys: Capture, bar: str) -> None:
    with pytest.raises(SystemExit):
        main(["convert-precision", "net.onnx", "-o", "out.onnx", "--snr", bar])
    assert "no positive number of decibels" in capsys.readouterr().err
