"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from planish import ir
from planish.models.builders import residual_convnet


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """model.onnx in the current folder."""
    monkeypatch.chdir(tmp_path)
    ir.save(residual_convnet(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"
