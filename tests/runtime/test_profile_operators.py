"""What a pass asks for is measured, once, and the pass then finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish import ir, passes
from planish.passes import PassError, PipelineError
from planish.runtime.cli import main
from planish.runtime.profile_operators import profile_operators
from planish.runtime.providers import Target
from tests.passes.prune.topologies import Net

TARGET = Target(threads=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two residual blocks of convolutions that take long enough to be told apart."""
    n = Net(("N", 3, 32, 32))
    x = n.op("Relu", n.conv(n.x, (3, 64)))
    for _ in range(2):
        x = n.op("Add", x, n.conv(n.op("Relu", n.conv(x, (64, 64))), (64, 64)))
    ir.save(n.head(x, 64), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_pass_finds_what_it_asked_for(model: Path, tmp_path: Path) -> None:
    found = profile_operators([model], "prune-channels{latency=0.9}", TARGET, tmp_path)
    assert found.measured > 10
    assert found.known == found.measured + 1  # an empty run
    graph = ir.load(model)
    records = passes.run(graph, f'prune-channels{{latency=0.9,times="{found.file}"}}')
    assert records[-1].rewrites
    for part in ("latency=0.8", "latency=0.9"):  # the same counts of channels lie on the way
        again = profile_operators([model], f"prune-channels{{{part}}}", TARGET, tmp_path)
        assert (again.measured, again.known, again.file) == (0, found.known, found.file)


def test_several_passes_and_models(model: Path, tmp_path: Path) -> None:
    found = profile_operators(
        [model, model], "prune-blocks{latency=0.8},prune-channels{latency=0.9,round-to=16}", TARGET, tmp_path
    )
    assert found.measured
    with pytest.raises(PassError, match=r"latency=0\.01 is out of reach"):
        profile_operators([model], "prune-channels{latency=0.01,round-to=16}", TARGET, tmp_path)


@pytest.mark.parametrize("pipeline", ["prune-channels{macs=0.5}", "simplify"])
def test_pipelines_that_ask_for_no_times(model: Path, pipeline: str) -> None:
    with pytest.raises(PipelineError, match=r"no pass keeps to a part of the time: prune-channels\{latency"):
        profile_operators([model], pipeline, TARGET)


def test_from_the_command_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path))
    small = tmp_path / "small.onnx"
    words = ["profile-target", str(model), "--pipeline", "prune-channels{latency=0.9,round-to=16}"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"] > 0
    assert main(words) == 0
    assert f"times={found['file']}" in capsys.readouterr().out
    pipeline = f'prune-channels{{latency=0.9,round-to=16,times="{found["file"]}"}}'
    assert main(["optimize", str(model), "-o", str(small), "--pipeline", pipeline]) == 0
    assert small.exists()
    for words in ([], [str(model), "--shape", "x=1,3,32,32"], [str(model), "--again"]):
        assert main(["profile-target", *words, "--pipeline", "prune-channels{latency=0.9}"]) == 2
        assert "--pipeline takes models" in capsys.readouterr().err
