"""planish lower: every bad input is one clear line and exit code 2, whether or not a framework is installed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.pkl").write_bytes(b"")
    Path("text.npz").write_text("no arrays", encoding="utf-8")
    np.savez("objects.npz", x=np.array([{}], object), allow_pickle=True)


def refused(capsys: Capture, arguments: list[str], *words: str) -> None:
    before = sorted(Path.cwd().rglob("*"))
    assert main(["lower", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"planish: error: [^\n]+\n", captured.err), captured.err
    for word in words:
        assert word in captured.err
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.pt2", "-o", "out.onnx"], ("none.pt2", "no such file")),
        (["model.pkl", "-o", "out.onnx"], ("model.pkl", "--trust-pickle")),
        (["no_such_nets:make", "-o", "out.onnx"], ("no_such_nets",)),
        (["math:pi", "-o", "out.onnx"], ("a float is no model",)),
        (["none.pt2", "-o", "none/out.onnx"], ("none/out.onnx", "no folder none")),
        (["none.pt2", "-o", "out.onnx", "--shape", "x=1", "--shape", "x=2"], ("--shape takes one shape",)),
        (["none.pt2", "-o", "out.onnx", "--example", "gone.npz"], ("gone.npz", "No such file")),
        (["none.pt2", "-o", "out.onnx", "--example", "text.npz"], ("text.npz", "no .npz file of plain arrays")),
        (["none.pt2", "-o", "out.onnx", "--example", "objects.npz"], ("objects.npz", "no .npz file of plain arrays")),
    ],
)
def test_bad_input(arguments: list[str], words: tuple[str, ...], capsys: Capture) -> None:
    refused(capsys, arguments, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lower", "x.pt2"], ("-o",)),
        (["lower", "x.pt2", "-o", "o.onnx", "--dynamic", "x=batch"], ("--dynamic", "AXIS:NAME")),
        (["lower", "x.pt2", "-o", "o.onnx", "--dynamic", "x"], ("--dynamic", "INPUT=")),
        (["lower", "x.pt2", "-o", "o.onnx", "--dtype", "int64"], ("--dtype", "INPUT=")),
        (["lower", "x.pt2", "-o", "o.onnx", "--opset", "0"], ("--opset",)),
    ],
)
def test_misuse(arguments: list[str], words: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in error for word in words), error
