"""The main job, with and without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from planish import ir
from planish.models.builders import residual_convnet
from planish.models.demo import FALLBACK, MODEL, demo, demo_text
from planish.models.zoo import ZooError, fetch


def no_network(name: str) -> Path:
    raise ZooError(f"Cannot download {name}: the network is unreachable.")


def test_without_a_network_another_net_stands_in() -> None:
    report = demo(find=no_network, seconds=0.5)
    assert report.model == FALLBACK
    assert report.comparison.equal
    assert report.comparison.latency is not None
    said = demo_text(report)
    assert said.startswith("Cannot download text-recognition: the network is unreachable. Going on with tutorial-cnn")
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    busy = {record.name for record in report.result.records if record.rewrites}
    assert busy
    assert busy <= set(lines)
    for row in ("all passes", "file", "session creation", "latency"):
        assert row in lines
    assert "[" in lines["latency"]
    assert "equal " in said
    assert report.as_dict()["model"] == FALLBACK


def test_progress_goes_up() -> None:
    seen: list[float] = []
    demo(find=no_network, seconds=0.2, progress=lambda _, part: seen.append(part))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.network
@pytest.mark.slow
def test_the_text_recogniser() -> None:
    report = demo(find=fetch, seconds=2.0)
    assert report.model == MODEL
    assert report.note == ""
    assert report.comparison.equal, report.comparison.reason
    assert len(report.comparison.bindings) == 3
    assert report.result.nodes_after < report.result.nodes_before


def test_a_broken_model_is_reported(tmp_path: Path) -> None:
    """The zoo's own shapes do not fit this net, and that is said."""
    ir.save(residual_convnet(), tmp_path / "other.onnx")
    with pytest.raises(ir.GraphError, match="there is no input 'x'"):
        demo(find=lambda _: tmp_path / "other.onnx", seconds=0.2)
