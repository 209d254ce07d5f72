"""The command line: what it prints, writes and gives back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from onnx import ModelProto, parser

from planish import ir
from planish.models.builders import residual_convnet
from planish.models.zoo import ZOO
from planish.passes import PASSES
from planish.runtime import cli
from planish.runtime.cli import COMMANDS, main
from planish.runtime.cli.options import bindings_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture) -> dict[str, object]:
    """The one JSON object on standard output; nothing on standard error."""
    captured = capsys.readouterr()
    assert captured.err == ""
    found: object = json.loads(captured.out)
    assert isinstance(found, dict)
    return cast("dict[str, object]", found)


def test_help_imports_neither_onnx_nor_onnxruntime() -> None:
    code = (
        "import sys\nfrom planish.runtime.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "loaded = {'onnx', 'onnxruntime', 'numpy', 'networkx', 'planish.ir', 'planish.passes'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_importing_the_runtime_loads_nothing_either() -> None:
    code = (
        "import sys\nfrom planish import runtime\nassert 'onnx' not in sys.modules\n"
        "from planish.runtime.compare import compare as inner\nimport planish.runtime.inspect\n"
        "assert runtime.compare is inner and callable(runtime.benchmark) and callable(runtime.inspect)\n"
        "assert sorted(runtime.__all__) == runtime.__all__ and set(runtime.__all__) <= set(dir(runtime))\n"
        "for name in runtime.__all__:\n    getattr(runtime, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_optimize_writes_the_model_and_says_what_it_did(model: Path, capsys: Capture) -> None:
    assert main(["optimize", "model.onnx", "-o", "out.onnx"]) == 0
    said = capsys.readouterr().out
    assert "fuse-conv-bn" in said
    assert "rewrites; nodes 29 -> 21" in said
    assert len(ir.load("out.onnx").nodes) < len(ir.load(model).nodes)


def test_optimize_for_a_target(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = """g (float[N,4] x) => (float[N,4] y) <float[4] b = {1, 2, 3, 4}> { c = Add(x, b)  y = Gelu(c) }"""
    Path("model.onnx").write_bytes(
        parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> {text}').SerializeToString()
    )
    for options, first in (([], "Sum"), (["--allow", "com.microsoft"], "Sum"), (["--provider", "cuda"], "Add")):
        assert main(["optimize", "model.onnx", "-o", "out.onnx", *options]) == 0
        assert [node.op for node in ir.load("out.onnx").nodes] == [first, "Gelu"]
    capsys.readouterr()
    assert main(["explain", "model.onnx", "lower-add", "--provider", "cuda"]) == 0
    assert "the target is another" in capsys.readouterr().out


def test_optimize_takes_its_options(model: Path, capsys: Capture) -> None:
    assert main(["optimize", "model.onnx", "-o", "out.onnx", "--limit", "1", "--opset", "18", "--json",
                 "--pipeline", "fuse{only=conv-*}", "--external-data", "always"]) == 0  # fmt: skip
    found = printed(capsys)
    rewrites = cast("list[dict[str, object]]", found["rewrites"])
    assert [rewrite["number"] for rewrite in rewrites] == [1]
    assert rewrites[0]["pass"] == "fuse-conv-bn"
    assert ir.load("out.onnx").opset_imports == {"": 18}
    assert (model.parent / "out.onnx.data").exists()
    assert found["bytes_after"] == sum(Path(name).stat().st_size for name in ("out.onnx", "out.onnx.data"))
    assert main(["optimize", "model.onnx", "-o", "strict.onnx", "--fp", "strict", "--json"]) == 0
    passes = cast("list[dict[str, object]]", printed(capsys)["passes"])
    assert all(record["rewrites"] == 0 for record in passes if str(record["name"]).startswith("fuse-"))


def test_unknown_operators_are_left_alone(model: Path, capsys: Capture) -> None:
    source = (
        '<ir_version: 8, opset_import: ["" : 17, "vendor" : 3]> net (float[N] x) => (float[N] y)'
        " { a = Identity (x) b = vendor.Mystery <level = 2> (a) y = Identity (b) }"
    )
    Path("odd.onnx").write_bytes(parser.parse_model(source).SerializeToString())
    assert main(["optimize", "odd.onnx", "-o", "out.onnx"]) == 0
    written = ModelProto.FromString(Path("out.onnx").read_bytes())
    (node,) = [node for node in written.graph.node if node.domain == "vendor"]
    assert (node.op_type, node.attribute[0].i) == ("Mystery", 2)
    assert model.exists()
    assert "rewrites" in capsys.readouterr().out


def test_compare_gives_a_verdict_and_its_exit_code(model: Path, capsys: Capture) -> None:
    assert main(["optimize", "model.onnx", "-o", "out.onnx"]) == 0
    capsys.readouterr()
    assert main(["compare", "model.onnx", "out.onnx", "--no-latency", "--threads", "1"]) == 0
    assert "equal within what rounding explains: " in capsys.readouterr().out
    assert main(["compare", "model.onnx", "out.onnx", "--no-latency", "--exact", "--json"]) == 1
    found = printed(capsys)
    assert (found["verdict"], found["exact"], found["latency"]) == ("differs", True, None)
    ir.save(residual_convnet(seed=1), "other.onnx")
    assert main(["compare", str(model), "other.onnx", "--no-latency"]) == 1
    assert "differs: logits differs in" in capsys.readouterr().out


def test_compare_prints_the_latency_ratio_beside_the_verdict(model: Path, capsys: Capture) -> None:
    arguments = ["compare", "model.onnx", str(model), "--shape", "image=1,3,8,8", "--budget", "0.5", "--threads", "1"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "equal in every bit" in said
    assert re.search(r"latency, A over B: [\d.]+ \[[\d.?]+, [\d.?]+\], \w+; A over A: [\d.]+ ", said)


def test_compare_takes_shapes_values_and_ranges(model: Path, capsys: Capture) -> None:
    source = f"{HEAD} net (float[N,2] x, int64 k, int64[N] i) => (float[N,2] y) {{ s = Mul (i, k) y = Identity (x) }}"
    Path("three.onnx").write_bytes(parser.parse_model(source).SerializeToString())
    shapes = ["--shape", "x=3,2", "--shape", "i=3", "--shape", "x=5,2", "--shape", "i=5"]
    limits = ["--value", "k=16000", "--range", "i=0:7"]
    assert main(["compare", "three.onnx", "three.onnx", *shapes, *limits, "--no-latency", "--json"]) == 0
    bindings = cast("list[dict[str, object]]", printed(capsys)["bindings"])
    assert [binding["shapes"] for binding in bindings] == [{"x": [n, 2], "k": [], "i": [n]} for n in (3, 5)]
    assert all(binding["fixed"] == {"k": 16000} for binding in bindings)
    assert model.exists()


def test_shapes_are_put_together_in_turn() -> None:
    found = bindings_of([("a", (1, 2)), ("b", (3,)), ("a", (4, 5)), ("a", (6, 7))])
    assert [binding.shapes for binding in found] == [
        {"a": (1, 2), "b": (3,)},
        {"a": (4, 5), "b": (3,)},
        {"a": (6, 7), "b": (3,)},
    ]
    assert bindings_of([]) == ()


def test_inspect_shows_what_a_model_holds(model: Path, capsys: Capture) -> None:
    assert main(["inspect", "model.onnx"]) == 0
    said = capsys.readouterr().out
    assert "input image" in said
    assert "dynamic dims: batch, height, width" in said
    assert "multiply-accumulates: 320*batch + " in said
    assert main(["inspect", "model.onnx", "--shape", "image=1,3,32,32", "--json"]) == 0
    found = printed(capsys)
    assert found["macs"] == sum(cast("dict[str, int]", found["macs_by_operator"]).values())
    assert found["path"] == "model.onnx"
    assert model.exists()


def test_passes_are_listed_and_explained(capsys: Capture) -> None:
    assert main(["passes"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in PASSES)
    assert "simplify = remove-dead-nodes,fixpoint<8>(" in said
    assert main(["passes", "prune-channels"]) == 0
    described = capsys.readouterr().out
    assert "no bound: measure the accuracy" in described
    assert re.search(r"^scores +file +None$", described, re.MULTILINE)
    assert main(["passes", "fold-constants"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"growth +int +\d+", said)
    assert "same bits" in said
    assert main(["passes", "fuse", "--json"]) == 0
    assert "fuse-conv-bn" in str(printed(capsys)["stages"])


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_has_an_explanation(name: str, capsys: Capture) -> None:
    assert main(["passes", name, "--json"]) == 0
    found = printed(capsys)
    assert found["name"] == name
    assert found["summary"]
    assert found["contract"] in (
        "same bits", "float rounding only", "within a stated bound", "no bound: measure the accuracy"
    )  # fmt: skip
    assert all(rule["summary"] for rule in cast("list[dict[str, str]]", found["rules"]))


def test_the_zoo_is_listed_with_licences(capsys: Capture) -> None:
    assert main(["zoo", "list"]) == 0
    said = capsys.readouterr().out
    for name, entry in ZOO.items():
        (row,) = (line for line in said.splitlines() if line.startswith(f"{name} "))
        for part in (entry.wheel.licence, entry.wheel.requirement, entry.inputs, entry.task, "B  "):
            assert part in row
    assert main(["zoo", "list", "--json"]) == 0
    listed = cast("list[dict[str, object]]", printed(capsys)["models"])
    assert [model["name"] for model in listed] == list(ZOO)
    assert all(model["licence"] and len(str(model["sha256"])) == 64 for model in listed)


def test_a_zoo_model_is_named_like_a_file(
    model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file of that name wins; the zoo's own bindings are used; one that cannot be had is one clear error."""
    monkeypatch.setenv("PLANISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    model.rename(tmp_path / "text-orientation")
    assert main(["inspect", "text-orientation"]) == 0
    assert "input image" in capsys.readouterr().out
    assert main(["inspect", "zoo:no-such-model"]) == 2
    assert "No zoo model is called 'no-such-model'" in capsys.readouterr().err


def test_an_interruption_leaves_nothing_behind(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = sorted(model.parent.iterdir())
    monkeypatch.setattr(os, "replace", interrupted)
    monkeypatch.setattr(Path, "replace", interrupted)
    assert main(["optimize", "model.onnx", "-o", "out.onnx"]) == 130 == cli.INTERRUPTED
    assert capsys.readouterr().err == "planish: interrupted\n"
    assert sorted(model.parent.iterdir()) == before


def test_a_closed_pipe_is_no_failure(model: Path) -> None:
    planish = Path(sys.executable).with_name("planish")
    command = f"{planish} passes --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=model.parent)
    assert done.returncode == 0
    assert done.stderr == ""
