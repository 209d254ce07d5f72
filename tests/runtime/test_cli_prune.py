"""planish prune: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]
NET = """net (float[n, 4] x) => (float[n, 2] y) <float[4, 4] a = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3, 1, 1, 1, 1},
    float[4, 2] b = {1, 2, 3, 4, 5, 6, 7, 8}> { c = MatMul (x, a) d = Relu (c) y = MatMul (d, b) }"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = f'<ir_version: 8, opset_import: ["" : 18]> {NET}'
    (tmp_path / "net.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    (tmp_path / "samples").mkdir()
    (tmp_path / "empty").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        np.savez(tmp_path / "samples" / f"{index}.npz", x=rng.standard_normal((2, 4)).astype(np.float32))
    return tmp_path


def test_a_folder_of_samples(folder: Path, capsys: Capture) -> None:
    words = ["prune", "net.onnx", "--inputs", "samples", "-o", "out.onnx", "--seconds", "0.05", "--max-drop", "50%"]
    assert main([*words, "--ratio", "25%", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "cosine"
    assert found["max_drop"] == 0.5
    assert [candidate["name"] for candidate in found["candidates"]] == ["as it came", "optimized", "pruned-0.25"]
    assert found["pruned"] or found["reason"]
    assert [layer["name"] for layer in found["candidates"][2]["layers"]] == ["c_pruned", "y"]
    assert (folder / "out.onnx").exists()


def test_it_says_why_it_prunes_nothing(folder: Path, capsys: Capture) -> None:
    words = ["--macs", "0.8x", "--importance", "random", "--max-drop", "0"]
    assert main(["prune", "net.onnx", "--inputs", "samples", "-o", "out.onnx", *words]) == 0
    out = capsys.readouterr().out
    assert "times as fast" in out
    assert "not pruned: nothing of it can be pruned within the budget" in out
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.onnx", "--inputs", "nowhere"], "nowhere is no folder of samples"),
        (["net.onnx", "--inputs", "empty"], "no .npz file is in empty"),
        (["--inputs", "samples"], "say which model to prune"),
        (["missing.onnx", "--inputs", "samples"], "missing.onnx"),
        (["net.onnx", "--task", "nothing"], "there is no task 'nothing'"),
        (["net.onnx", "--inputs", "samples", "--ratio", "1"], "prune takes ratio between 0 and 1"),
    ],
)
def test_what_it_cannot_do(folder: Path, capsys: Capture, words: list[str], message: str) -> None:
    assert main(["prune", *words, "-o", "out.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out.onnx").exists()


def test_the_source_is_never_the_result(folder: Path, capsys: Capture) -> None:
    before = (folder / "net.onnx").read_bytes()
    assert main(["prune", "net.onnx", "--inputs", "samples", "-o", "net.onnx"]) == 2
    assert "name another file" in capsys.readouterr().err
    assert (folder / "net.onnx").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--ratio=half"],
        ["--macs=2x"],
        ["--params=1.2x"],
        ["--params=0.5x", "--macs=0.5x"],
        ["--max-drop=200%"],
        ["--ratio=0.5", "--macs=0.5x"],
        ["--latency=3x"],
        ["--latency=0.5x", "--macs=0.5x"],
        ["--round-to=0"],
    ],
)
def test_bad_usage(folder: Path, capsys: Capture, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "net.onnx", "--inputs", "samples", "-o", "out.onnx", *words])
    assert "error" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
