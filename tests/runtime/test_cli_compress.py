"""planish compress: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish.runtime.cli import main
from tests.runtime.test_cli_prune import folder

__all__ = ["folder"]
Capture = pytest.CaptureFixture[str]


@pytest.mark.slow
def test_a_folder_of_samples(folder: Path, capsys: Capture) -> None:
    words = ["compress", "net.onnx", "--inputs", "samples", "-o", "out.onnx", "--seconds", "0.05", "--max-drop", "50%"]
    assert main([*words, "--round-to", "1", "--macs", "0.8x", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["metric"], found["max_drop"]) == ("cosine", 0.5)
    assert found["candidates"][0]["name"] == "as it came"
    assert all(candidate["bytes"] > 0 for candidate in found["candidates"])
    assert (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.onnx", "--inputs", "nowhere"], "nowhere is no folder of samples"),
        (["net.onnx", "--inputs", "empty"], "no .npz file is in empty"),
        (["--inputs", "samples"], "say which model to compress"),
        (["missing.onnx", "--inputs", "samples"], "missing.onnx"),
        (["net.onnx", "--task", "nothing"], "there is no task 'nothing'"),
    ],
)
def test_what_it_cannot_do(folder: Path, capsys: Capture, words: list[str], message: str) -> None:
    assert main(["compress", *words, "-o", "out.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "out.onnx").exists()


def test_the_source_is_never_the_result(folder: Path, capsys: Capture) -> None:
    before = (folder / "net.onnx").read_bytes()
    assert main(["compress", "net.onnx", "--inputs", "samples", "-o", "net.onnx"]) == 2
    assert "name another file" in capsys.readouterr().err
    assert (folder / "net.onnx").read_bytes() == before


@pytest.mark.parametrize("words", [["--macs=2x"], ["--max-drop=200%"], ["--round-to=0"], ["--ratio=0.5"]])
def test_bad_usage(folder: Path, capsys: Capture, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compress", "net.onnx", "--inputs", "samples", "-o", "out.onnx", *words])
    assert "error" in capsys.readouterr().err
    assert not (folder / "out.onnx").exists()
