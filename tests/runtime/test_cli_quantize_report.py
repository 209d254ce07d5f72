"""planish quantize-report: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.runtime.cli import main
from tests.passes.quantize.statically import quantized
from tests.passes.quantize.topologies import TOPOLOGIES

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: float.onnx, small.onnx and four samples."""
    monkeypatch.chdir(tmp_path)
    topology = TOPOLOGIES["residual"]
    static = quantized(topology.graph(), topology.feeds())
    (tmp_path / "float.onnx").write_bytes(static.before.SerializeToString())
    ir.save(static.graph, tmp_path / "small.onnx")
    (tmp_path / "samples").mkdir()
    for index, feed in enumerate(static.feeds):
        np.savez(tmp_path / "samples" / f"{index}.npz", x=feed["x"])
    return tmp_path


def test_tables(folder: Path, capsys: Capture) -> None:
    assert main(["quantize-report", "float.onnx", "small.onnx", "--inputs", "samples", "--show", "3"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    columns = ["tensor", "codes", "SNR", "dB", "alone", "lowest", "highest", "beyond", "to", "0", "used"]
    assert lines[0].split() == columns
    snrs = [float(line.split()[2]) for line in lines[2:5]]
    assert snrs == sorted(snrs)
    assert lines[5].startswith("4 samples, ")
    assert lines[5].endswith("; those with the least SNR are shown, 3 of them")
    assert any("/256" in line and "█" in line for line in lines)
    assert sorted(path.name for path in folder.iterdir()) == ["float.onnx", "samples", "small.onnx"]


def test_json(folder: Path, capsys: Capture) -> None:
    words = [
        "quantize-report",
        "float.onnx",
        "small.onnx",
        "--inputs",
        str(folder / "samples"),
        "--limit",
        "2",
        "--json",
    ]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 2
    assert {"name", "codes", "snr", "alone", "lowest", "highest", "beyond", "vanished", "used"} <= found["tensors"][
        0
    ].keys()
    assert all(sum(weight["histogram"]) == weight["elements"] for weight in found["weights"])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["float.onnx", "small.onnx", "--inputs", "nowhere"], "nowhere is no folder of samples"),
        (["float.onnx", "none.onnx", "--inputs", "samples"], "none.onnx"),
        (["float.onnx", "small.onnx", "--task", "no-task"], "no-task"),
    ],
)
def test_what_cannot_be_done(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["quantize-report", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
