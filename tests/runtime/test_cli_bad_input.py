"""Every bad input is one clear line on standard error and exit code 2, and leaves no file behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, parser

from planish import ir
from planish.models.builders import transformer_block
from planish.runtime.cli import main

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
GOOD = f"{HEAD} net (float[N,2] x) => (float[N,2] y) <float[2] w = {{1, 2}}> {{ s = Add (x, w) y = Relu (s) }}"
Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, arguments: list[str], *words: str) -> None:
    """Exit code 2, one line on standard error that holds the words, and no file that was not there."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"planish: error: [^\n]+\n", captured.err), captured.err
    for word in words:
        assert word in captured.err
    assert sorted(Path.cwd().rglob("*")) == before


def misused(capsys: Capture, arguments: list[str], *words: str) -> None:
    """argparse's own refusal: exit code 2, usage and one line that holds the words."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in error for word in words), error


def with_weights(location: str, **where: int) -> ModelProto:
    """A net whose weight of 8 bytes lies in a file."""
    proto = parser.parse_model(GOOD)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **where}.items():
        tensor.external_data.add(key=key, value=str(value))
    return proto


def overflowing() -> ModelProto:
    proto = parser.parse_model(GOOD)
    proto.graph.initializer[0].dims[:] = [2**32, 2**32]
    return proto


def newer() -> ModelProto:
    proto = parser.parse_model(GOOD)
    proto.opset_import[0].version = 999
    return proto


def text(nodes: str) -> Callable[[], ModelProto]:
    return lambda: parser.parse_model(f"{HEAD} net (float[N] x) => (float[N] y) {{ {nodes} }}")


BAD_MODELS: dict[str, tuple[Callable[[], ModelProto], tuple[str, ...]]] = {
    "cycle": (text("[one] a = Add (x, b) [two] b = Relu (a) y = Neg (b)"), ("cycle", "one -> two -> one")),
    "duplicate name": (text("b = Relu (a) a = Neg (x) a = Abs (x) y = Add (a, b)"), ("'a' is defined twice",)),
    "missing data file": (lambda: with_weights("gone.bin"), ("gone.bin", "'w'")),
    "location above": (lambda: with_weights("../weights.bin"), ("../weights.bin",)),
    "absolute location": (lambda: with_weights("/etc/passwd"), ("/etc/passwd",)),
    "link that leaves": (lambda: with_weights("link.bin"), ("link.bin",)),
    "offset beyond": (lambda: with_weights("weights.bin", offset=64, length=8), ("weights.bin",)),
    "length beyond": (lambda: with_weights("weights.bin", offset=0, length=1 << 40), ("weights.bin",)),
    "overflowing dims": (overflowing, ("overflow", "'w'")),
    "newer opset": (newer, ("opset 999", "upgrade onnx")),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_models(case: str, model: Path, capsys: Capture, tmp_path_factory: pytest.TempPathFactory) -> None:
    make, words = BAD_MODELS[case]
    outside = tmp_path_factory.mktemp("outside") / "weights.bin"
    outside.write_bytes(bytes(8))
    (model.parent / "link.bin").symlink_to(outside)
    (model.parent / "weights.bin").write_bytes(bytes(8))
    Path("bad.onnx").write_bytes(make().SerializeToString())
    refused(capsys, ["optimize", "bad.onnx", "-o", "out.onnx"], "bad.onnx", *words)
    refused(capsys, ["inspect", "bad.onnx"], "bad.onnx", *words)
    refused(capsys, ["compare", "model.onnx", "bad.onnx"], "bad.onnx", *words)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(100)], ids=["empty", "text", "zeros"])
def test_files_that_are_no_models(content: bytes, model: Path, capsys: Capture) -> None:
    Path("bad.onnx").write_bytes(content)
    refused(capsys, ["optimize", "bad.onnx", "-o", "out.onnx"], "bad.onnx")
    Path("bad.onnx").write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    refused(capsys, ["optimize", "bad.onnx", "-o", "out.onnx"], "bad.onnx", "cut off")
    refused(capsys, ["optimize", "none.onnx", "-o", "out.onnx"], "none.onnx", "No such file")


@pytest.mark.parametrize(
    ("pipeline", "words"),
    [
        ("simplfy", ("no pass 'simplfy'", "did you mean 'simplify'")),
        ("fold-constants{size=1}", ("fold-constants has no option 'size'", "growth")),
        ("fold-constants{growth=big}", ("growth as int", "'big'")),
        ("simplify,,fuse", ("a pass is missing",)),
        ("fixpoint<0>(simplify)", ("fixpoint<0>",)),
        ("fixpoint(simplify", ("expected ')'",)),
        ("", ("a pass is missing",)),
    ],
)
def test_bad_pipelines(pipeline: str, words: tuple[str, ...], model: Path, capsys: Capture) -> None:
    refused(capsys, ["optimize", str(model), "-o", "out.onnx", "--pipeline", pipeline], *words)


def test_bad_outputs(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a pass runs."""
    (model.parent / "link.onnx").symlink_to(model)
    (model.parent / "folder").mkdir()
    for target in ("model.onnx", str(model), "link.onnx", "folder/../model.onnx"):
        refused(capsys, ["optimize", "model.onnx", "-o", target], target, "is the model that was loaded")
    refused(capsys, ["optimize", "model.onnx", "-o", "folder"], "folder", "is a folder")
    refused(capsys, ["optimize", "model.onnx", "-o", "none/out.onnx"], "none/out.onnx", "no folder none")

    def forbidden(*_: object) -> bool:
        return False

    monkeypatch.setattr(os, "access", forbidden)
    refused(capsys, ["optimize", "model.onnx", "-o", "folder/out.onnx"], "folder/out.onnx", "does not allow it")


def test_an_opset_that_cannot_be_written(model: Path, capsys: Capture) -> None:
    refused(capsys, ["optimize", str(model), "-o", "out.onnx", "--opset", "999"], "999")
    ir.save(transformer_block(), "transformer.onnx")
    refused(capsys, ["optimize", "transformer.onnx", "-o", "out.onnx", "--opset", "8"], "Erf", "opset 8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shape", "z=1"], ("no input 'z'", "image")),
        (["--shape", "image=1,3"], ("image", "has 2 axes")),
        (["--shape", "image=1,4,8,8"], ("image", "is not of that type")),
        (["--value", "z=1"], ("no input 'z'",)),
        (["--range", "z=0:1"], ("no input 'z'",)),
        (["--provider", "qnn"], ("provider 'qnn' was asked for",)),
    ],
)
def test_inputs_and_providers_that_are_not_there(
    options: list[str], words: tuple[str, ...], model: Path, capsys: Capture
) -> None:
    refused(capsys, ["compare", str(model), str(model), *options], *words)


def test_a_provider_never_falls_back_to_another(model: Path, capsys: Capture) -> None:
    refused(capsys, ["compare", str(model), str(model), "--provider", "cuda"], "provider 'cuda' was asked for")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("COMMAND",)),
        (["optimise"], ("optimise",)),
        (["optimize", "model.onnx"], ("-o",)),
        (["optimize", "model.onnx", "-o", "o.onnx", "--opset", "0"], ("--opset", "1 or more")),
        (["optimize", "model.onnx", "-o", "o.onnx", "--limit", "-1"], ("--limit",)),
        (["optimize", "model.onnx", "-o", "o.onnx", "--fp", "loose"], ("--fp", "strict")),
        (["compare", "a", "b", "--provider", "gpu"], ("--provider", "cuda")),
        (["compare", "a", "b", "--threads", "two"], ("--threads",)),
        (["compare", "a", "b", "--budget", "0"], ("--budget", "positive")),
        (["compare", "a", "b", "--shape", "x"], ("--shape", "INPUT=")),
        (["compare", "a", "b", "--shape", "x=1,b"], ("--shape", "1,b")),
        (["compare", "a", "b", "--value", "x=nan"], ("--value", "finite")),
        (["compare", "a", "b", "--range", "x=2:1"], ("--range", "LOW:HIGH")),
        (["zoo"], ("ACTION",)),
    ],
)
def test_misuse(arguments: list[str], words: tuple[str, ...], capsys: Capture) -> None:
    misused(capsys, arguments, *words)


def test_unknown_passes_and_zoo_models(model: Path, capsys: Capture) -> None:
    refused(capsys, ["passes", "fuse-conv"], "no pass 'fuse-conv'", "did you mean")
    refused(capsys, ["zoo", "fetch", "text-recog"], "text-recog", "did you mean text-recognition")
    assert model.exists()
