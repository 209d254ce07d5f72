"""planish profile-target: what it prints, and where it keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish.models.trained import TRAINED
from planish.runtime.cli import main

Capture = pytest.CaptureFixture[str]


def test_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path))
    model = str(TRAINED["digits-cnn"])
    assert main(["profile-target", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["shape"] for entry in found["convolutions"]] == ["16x16x3x3x1x1x8x8", "16x32x3x3x1x1x4x4"]
    assert all(0 < entry[key] < 1 for entry in found["convolutions"] for key in ("zero_point_0", "zero_point_1"))
    assert Path(found["file"]).parent == tmp_path / "times"
    assert main(["profile-target", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["channels", "filters", "kernel"]
    assert lines[-2:] == ["2 shapes, 2 of them known before", f"kept in {found['file']}"]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path))
    assert main(["profile-target", "nowhere.onnx"]) == 2
    assert "nowhere.onnx" in capsys.readouterr().err
    assert main(["profile-target", str(TRAINED["digits-cnn"]), "--shape", "z=1"]) == 2
    assert "there is no input 'z'" in capsys.readouterr().err
