"""planish inspect MODEL --groups"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish import ir
from planish.models.builders import residual_convnet, transformer_block
from planish.runtime.channel_groups import channel_groups, groups_text
from planish.runtime.cli import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ir.save(residual_convnet(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_groups_and_what_keeps_the_rest(path: Path) -> None:
    found = channel_groups(path)
    first = found.groups[0]
    assert (first.name, first.units, first.blocks) == ("stem.conv", 16, 1)
    assert first.weights[0] == "stem.conv.weight[0]"
    assert "block0.conv1.weight[1]" in first.weights
    reasons = {row.reason: row for row in found.frozen}
    assert any(row.nodes == ("image",) and row.weights == ("stem.conv.weight[1]",) for row in reasons.values())
    assert any(row.nodes == ("logits",) and row.weights == ("fc.weight[0]",) for row in reasons.values())


def test_as_text(path: Path) -> None:
    said = groups_text(channel_groups(path))
    assert "5 groups of channels that vanish together" in said
    assert "stem.conv" in said
    assert " more" in said
    assert "what stays, because" in said


def test_on_the_command_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(path), "--groups"]) == 0
    assert "stem.conv" in capsys.readouterr().out
    assert main(["inspect", str(path), "--groups", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [group["units"] for group in found["groups"]] == [16, 16, 32, 32, 32]
    assert all(row["because_of"] for row in found["frozen"])
    assert main(["inspect", "no-such.onnx", "--groups"]) == 2
    assert "no-such.onnx" in capsys.readouterr().err


def test_computed_shapes_are_seen_through(tmp_path: Path) -> None:
    ir.save(transformer_block(), tmp_path / "model.onnx")
    found = channel_groups(tmp_path / "model.onnx")
    assert [group.units for group in found.groups] == [8, 8, 128]
    assert [(group.units, group.parameters) for group in found.heads] == [(4, 1048)]
    assert [(block.nodes, block.parameters) for block in found.blocks] == [(29, 4306), (18, 8421)]
    said = groups_text(found)
    assert "heads (prune-heads)" in said
    assert "residual block (prune-blocks)" in said
    assert {"heads", "blocks"} <= found.as_dict().keys()
