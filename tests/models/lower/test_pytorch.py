"""PyTorch, for real: modules, exported programs and TorchScript; what their exporters get wrong; wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from planish import ir
from planish.models.lower import LowerError, LowerResult, lower
from planish.models.lower.framework import quiet
from planish.runtime.cli import main
from planish.runtime.errors import SessionError
from planish.runtime.session import Session

pytestmark = pytest.mark.lowering

BATCH = {"x": {0: "batch"}}


class Net(nn.Module):
    """Dropout and BatchNormalization, which training mode changes; an input that nothing reads; outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, unread: torch.Tensor, k: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.norm(self.drop(self.layer(x)))
        return {"z": hidden, "a": hidden.sum(1) + k}


class Through(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = x * 2
        return y, y, x


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Unsupported(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x)


class Seven(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.zeros(7, 3)


EXAMPLE = {
    "x": np.linspace(-1, 1, 4, dtype=np.float32).reshape(1, 4),
    "unread": np.zeros(2, np.float32),
    "k": np.array(3.0, np.float32),
}


def agrees(result: LowerResult) -> None:
    assert result.agreement.reason == ""
    assert all(output.verdict == "equal" and output.allowed < 1e-3 for output in result.agreement.outputs)
    assert sum(run.verdict == "equal" for run in result.agreement.runs) > 2
    ir.verify(result.graph)


@pytest.mark.parametrize("exporter", ["auto", "torchscript"])
def test_a_module(exporter: str, tmp_path: Path) -> None:
    net = Net()
    result = lower(net, tmp_path / "net.onnx", example=EXAMPLE, dynamic=BATCH, exporter=exporter)
    agrees(result)
    assert result.exporter == ("dynamo" if exporter == "auto" else exporter)
    graph = ir.load(tmp_path / "net.onnx")
    assert [str(value) for value in graph.inputs] == ["%x", "%unread", "%k"]
    assert str(graph.inputs[0].type) == "float[batch, 4]"
    assert graph.output_names == ("z", "a")
    assert {run.binding.shapes["x"] for run in result.agreement.runs} == {(1, 4), (2, 4)}
    assert "the model was in training mode; it was lowered in evaluation mode" in result.notes
    assert all(part.training for part in net.modules())
    dropped = [note for note in result.notes if "nothing reads the input 'unread'" in note]
    assert len(dropped) == (exporter == "torchscript")


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_an_opset_is_kept_to(opset: int, tmp_path: Path) -> None:
    agrees(lower(Net().eval(), tmp_path / "net.onnx", example=EXAMPLE, dynamic=BATCH, opset=opset))
    assert ir.load(tmp_path / "net.onnx").opset_imports[""] == opset


def test_an_input_that_is_an_output_and_a_tensor_given_twice() -> None:
    result = lower(Through(), shapes={"x": (2, 3)}, output_names=("p", "q", "r"))
    agrees(result)
    assert ([value.name for value in result.graph.inputs], result.graph.output_names) == (["x"], ("p", "q", "r"))


def test_an_output_called_like_an_inner_value_is_defined_twice_by_the_exporter(tmp_path: Path) -> None:
    """By PyTorch's own call; its file is repaired at load with a note, and lowering gives the name and no fault."""

    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.softmax(0) * 2

    x, path = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), tmp_path / "exported.onnx"
    expected = 2 * np.exp(x) / np.exp(x).sum(0)
    with quiet():
        program = torch.onnx.export(Doubled().eval(), (torch.from_numpy(x),), dynamo=True, output_names=["softmax"])
    assert program is not None
    program.save(path)
    with pytest.raises(SessionError, match="softmax"):
        Session(path)
    graph = ir.load(path)
    assert [note.partition(";")[0] for note in graph.notes] == ["value 'softmax' was defined 2 times"]
    ir.save(graph, tmp_path / "repaired.onnx")
    result = lower(Doubled(), tmp_path / "lowered.onnx", example=x, output_names=["softmax"])
    agrees(result)
    for name in ("repaired.onnx", "lowered.onnx"):
        (found,) = Session(tmp_path / name).run({"x": x})
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)
        assert ir.load(tmp_path / name).output_names == ("softmax",)


def test_an_exported_program_and_its_file(tmp_path: Path) -> None:
    dims = {"x": {0: torch.export.Dim("rows")}, "unread": None, "k": None}
    given = tuple(torch.from_numpy(np.repeat(array, 2, 0) if array.ndim == 2 else array) for array in EXAMPLE.values())
    with quiet():
        program = torch.export.export(Net().eval(), given, dynamic_shapes=dims)
        torch.export.save(program, tmp_path / "net.pt2")
    for source in (program, tmp_path / "net.pt2"):
        result = lower(source)
        agrees(result)
        assert [value.name for value in result.graph.inputs] == ["x", "unread", "k"]
        assert {run.binding.shapes["x"] for run in result.agreement.runs} == {(2, 4), (3, 4)}
    with pytest.raises(LowerError, match="has its dynamic dims in it"):
        lower(program, dynamic=BATCH)


def test_torchscript_keeps_its_branches(tmp_path: Path) -> None:
    with quiet():
        script = torch.jit.script(Branch())
        torch.jit.save(script, tmp_path / "branch.pt")
    for source in (script, tmp_path / "branch.pt"):
        result = lower(source, shapes={"x": (2, 3)})
        agrees(result)
        assert result.exporter == "torchscript"
        assert any(node.op == "If" for node in result.graph.nodes)


def test_a_branch_on_values_is_refused_where_an_exporter_bakes_it(tmp_path: Path) -> None:
    """Dynamo refuses it; a trace takes the example's branch for all, which the second batch shows."""
    with pytest.raises(LowerError) as caught:
        lower(Branch(), tmp_path / "out.onnx", shapes={"x": (2, 3)})
    assert "dynamo: GuardOnDataDependentSymNode" in str(caught.value)
    assert "torchscript: output differs in 6 of 6 elements, by up to" in str(caught.value)
    assert "it took something of it for a constant" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dim_that_the_model_fixes_is_refused() -> None:
    with pytest.raises(LowerError, match=r"the dim 'columns' is to be dynamic, and PyTorch .* with 7 there"):
        lower(Seven(), shapes={"x": (2, 7)}, dynamic={"x": {1: "columns", 0: "rows"}})


def test_bfloat16_and_integers_go_through() -> None:
    class Mixed(nn.Module):
        def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return (ids.float() * scale.float()).to(torch.bfloat16)

    given = {"ids": np.arange(6).reshape(2, 3), "scale": np.array([0.5, 1, 2], ml_dtypes.bfloat16)}
    result = lower(Mixed(), example=given, dynamic={"ids": {0: "batch"}})
    assert result.agreement.outputs[0].verdict == "equal"
    assert [str(value.type) for value in result.graph.inputs] == ["int64[batch, 3]", "bfloat16[3]"]


def test_an_unsupported_module_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LowerError) as caught:
        lower(Unsupported(), tmp_path / "out.onnx", shapes={"x": (3, 3)})
    assert "dynamo: " in str(caught.value)
    assert "torchscript: UnsupportedOperatorError: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            {**EXAMPLE, "x": np.zeros((1, 5), np.float32)},
            r"does not take the example.*float32\[1, 5\].*shapes cannot be",
        ),
        ({**EXAMPLE, "x": np.zeros((1, 4))}, r"does not take the example.*float64\[1, 4\].*dtype"),
        ({"x": EXAMPLE["x"]}, "the example has no input 'unread'; the model needs x, unread, k"),
        ({**EXAMPLE, "y": 1}, "there is no input 'y'; the inputs are x, unread, k"),
    ],
)
def test_a_wrong_example(example: object, message: str) -> None:
    with pytest.raises(LowerError, match=message):
        lower(Net().eval(), example=example, dynamic=BATCH)


def test_a_module_whose_inputs_have_no_names() -> None:
    class Any(nn.Module):
        def forward(self, *xs: torch.Tensor) -> torch.Tensor:
            return xs[0]

    with pytest.raises(LowerError, match=r"Any\.forward takes inputs that have no names \(\*xs"):
        lower(Any(), shapes={"x": (1,)})


@pytest.mark.parametrize("name", ["plain.pt", "plain.pt2"])
def test_files_that_hold_no_model(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(LowerError, match=rf"{name}: (is no TorchScript|cannot be read as an exported program)"):
        lower(tmp_path / name)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    source = "import torch\n\ndef make():\n    return torch.nn.Linear(4, 2)\n"
    Path("planish_linear.py").write_text(source, encoding="utf-8")
    command = ["lower", "planish_linear:make", "-o", "net.onnx", "--json", "--shape", "input=3,4"]
    assert main([*command, "--dynamic", "input=0:rows"]) == 0
    found = cast("dict[str, object]", json.loads(capsys.readouterr().out))
    assert (found["target"], found["exporter"]) == ("net.onnx", "dynamo")
    assert found["inputs"] == {"input": "float[rows, 4]"}
    assert main([*command, "--shape", "bias=1"]) == 2
    assert capsys.readouterr() == ("", "planish: error: there is no input 'bias'; the inputs are input\n")


BOTH = """
import tensorflow
import torch
from planish.models.lower import lower

found = lower(torch.nn.Linear(3, 2), shapes={"input": (1, 3)})
print(found.exporter, "triton" in __import__("sys").modules)
"""


def test_behind_tensorflow() -> None:
    """In a process of its own, which triton would end."""
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["dynamo", "False"]
