"""planish quantize: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]
NET = """net (float[n, 4] x) => (float[n, 4] y) <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8,
    9, -1, -2, -3, 1, 1, 1, 1}> { y = MatMul (x, w) }"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path / "cache"))
    text = f'<ir_version: 8, opset_import: ["" : 18]> {NET}'
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    (tmp_path / "samples").mkdir()
    (tmp_path / "empty").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        np.savez(tmp_path / "samples" / f"{index}.npz", x=rng.standard_normal((2, 4)).astype(np.float32))
    return tmp_path


def test_a_folder_of_samples(folder: Path, capsys: Capture) -> None:
    words = ["quantize", "net.onnx", "--inputs", "samples", "-o", "out.onnx", "--seconds", "0.05", "--max-drop", "5%"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "cosine"
    assert found["max_drop"] == 0.05
    assert [candidate["name"] for candidate in found["candidates"]][:2] == ["as it came", "optimized"]
    assert found["quantized"] or found["reason"]
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.onnx", "--inputs", "nowhere"], "nowhere is no folder of samples"),
        (["net.onnx", "--inputs", "empty"], "no .npz file is in empty"),
        (["--inputs", "samples"], "say which model to quantize"),
        (["missing.onnx", "--inputs", "samples"], "missing.onnx"),
        (["net.onnx", "--task", "nothing"], "there is no task 'nothing'"),
    ],
)
def test_what_it_cannot_do(folder: Path, capsys: Capture, words: list[str], message: str) -> None:
    assert main(["quantize", *words, "-o", "out.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out.onnx").exists()


def test_the_source_is_never_the_result(folder: Path, capsys: Capture) -> None:
    before = (folder / "net.onnx").read_bytes()
    assert main(["quantize", "net.onnx", "--inputs", "samples", "-o", "net.onnx"]) == 2
    assert "name another file" in capsys.readouterr().err
    assert (folder / "net.onnx").read_bytes() == before


@pytest.mark.parametrize("drop", ["-1", "200%", "much"])
def test_a_budget_is_a_part(folder: Path, capsys: Capture, drop: str) -> None:
    with pytest.raises(SystemExit):
        main(["quantize", "net.onnx", "--inputs", "samples", "-o", "out.onnx", f"--max-drop={drop}"])
    assert "no part from 0 to 1" in capsys.readouterr().err
