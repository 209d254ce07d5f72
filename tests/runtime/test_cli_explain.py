"""planish explain, and optimize --dry-run."""

import json
from pathlib import Path

import pytest

from planish import ir
from planish.runtime.cli import main
from tests.equivalence import model

TEXT = """g (float[N,2,3,3] x) => (float[N,2,3,3] y{0}) <float[2,2,1,1] w = {{1, 2, 3, 4}}, float k = {{2}}>
    {{ c = Conv(x, w)  y = Mul(c, k) }}"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "model.onnx"
    ir.save(ir.load(model(TEXT.format(", float[N,2,3,3] c"))), target)
    return target


def test_why(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(path), "fuse-conv-affine"]) == 0
    printed = capsys.readouterr().out
    assert "deploy did not fire it." in printed
    assert "%c has other readers, or is an output" in printed


def test_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(path), "conv-affine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fired"] == []
    assert found["attempts"][0]["rule"] == "conv-affine"


def test_where_it_fired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    ir.save(ir.load(model(TEXT.format(""))), path)
    assert main(["explain", str(path), "*affine*"]) == 0
    assert "fired it 1 times" in capsys.readouterr().out


def test_a_pass_that_gives_up_accuracy_may_fire_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not its contract that keeps it from firing, unless --fp strict says so."""
    path = tmp_path / "model.onnx"
    text = "g (float[N,4] x) => (float[N,4] y) <float[4,4] w = {0}> { y = MatMul(x, w) }"
    ir.save(ir.load(model(text.replace("{0}", "{" + ",".join("1" * 16) + "}"))), path)
    assert main(["explain", str(path), "quantize-weights"]) == 0
    printed = capsys.readouterr().out
    assert "the weights are few" in printed
    assert "contract" not in printed
    assert main(["explain", str(path), "quantize-weights", "--fp", "strict"]) == 0
    assert "is not allowed by fp=strict" in capsys.readouterr().out


def test_no_such_rule(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(path), "fuse-conv-afine"]) == 2
    assert "did you mean fuse-conv-affine" in capsys.readouterr().err


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    ir.save(ir.load(model(TEXT.format(""))), path)
    assert main(["optimize", str(path), "--dry-run"]) == 0
    assert "fuse-conv-affine/conv-affine: y, c -> y" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_dry_run_and_a_target_are_two_things(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["optimize", str(path), "--dry-run", "-o", "out.onnx"])
    assert "not allowed with" in capsys.readouterr().err
