"""From exporter to file, on models of a framework that is numpy: what is wrong is found, named, and not written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, parser

from planish import ir
from planish.ir import Graph, GraphError
from planish.models.lower import LowerError, LowerResult, lower
from planish.models.lower import lowering as walk
from planish.models.lower.errors import ExportError
from planish.models.lower.inputs import Array, Dims
from planish.models.lower.outputs import check_count, leaves, names
from planish.runtime.errors import SessionError
from planish.runtime.session import Feed, Result

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
RIGHT = f"{HEAD} net (float[N,2] x) => (float[N,2] y) {{ t = Relu (x) y = Add (t, x) }}"
Function = Callable[[Mapping[str, Array]], list[Array]]


def relu_and_more(feeds: Mapping[str, Array]) -> list[Array]:
    x = np.asarray(feeds["x"], np.float32)
    if x.shape[1] != 2:
        raise ValueError("x must have two columns")
    return [np.maximum(x, 0) + x]


@dataclass
class Numpy:
    """A model that is a function, and its exports as ONNX text, by exporter."""

    exports: Mapping[str, str | Exception]
    function: Function = relu_and_more
    outputs: tuple[str, ...] = ("y",)
    inputs: tuple[str, ...] = ("x",)
    example: Mapping[str, Array] = field(default_factory=lambda: {"x": np.array([[1, -2], [3, -4]], np.float32)})
    dynamic: Dims = field(default_factory=lambda: {"x": {0: "N"}})
    notes: tuple[str, ...] = ()
    framework: str = "numpy"

    @property
    def exporters(self) -> Sequence[str]:
        return tuple(self.exports)

    def run(self, feeds: Mapping[str, Feed]) -> list[Result]:
        try:
            return list(self.function({name: np.asarray(feed) for name, feed in feeds.items()}))
        except ValueError as error:
            raise SessionError(str(error)) from error

    def otherwise(self, feeds: Mapping[str, Feed]) -> list[Result]:
        return self.run(feeds)

    def settled(self, found: Sequence[Result], given: Sequence[Result]) -> Sequence[Result]:
        return found

    def output_names(self, graph: Graph) -> Sequence[str]:
        check_count(len(graph.outputs), len(self.outputs))
        return self.outputs

    def see(self, results: Sequence[Result]) -> None:
        assert len(results) == len(self.outputs)

    def export(self, exporter: str, path: Path, opset: int | None) -> Sequence[str]:
        text = self.exports[exporter]
        if isinstance(text, Exception):
            raise text
        path.write_bytes(proto(text).SerializeToString())
        return self.inputs


def proto(text: str) -> ModelProto:
    return parser.parse_model(text)


def lowered(model: Numpy, monkeypatch: pytest.MonkeyPatch, **options: str) -> LowerResult:
    def opened(*_: object, **__: object) -> Numpy:
        return model

    monkeypatch.setattr(walk, "open_source", opened)
    return lower("a model", "out.onnx", exporter=options.get("exporter", "auto"))


def refused(model: Numpy, monkeypatch: pytest.MonkeyPatch, *words: str, **options: str) -> None:
    with pytest.raises(LowerError) as caught:
        lowered(model, monkeypatch, **options)
    for word in words:
        assert word in str(caught.value)
    assert list(Path.cwd().iterdir()) == []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_right_export_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    result = lowered(Numpy({"good": RIGHT}), monkeypatch)
    assert (result.exporter, result.framework, result.target) == ("good", "numpy", Path("out.onnx"))
    assert [path.name for path in Path.cwd().iterdir()] == ["out.onnx"]
    graph = ir.load("out.onnx")
    assert [str(value.type) for value in graph.inputs] == ["float[N, 2]"]
    names = [run.inputs for run in result.agreement.runs]
    assert {"the example", "drawn", "normal", "negative", "the resized example"} <= set(names)
    assert {run.binding.shapes["x"] for run in result.agreement.runs} == {(2, 2), (3, 2)}
    assert result.as_dict()["exporter"] == "good"


def test_a_wrong_export_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RIGHT.replace("Add (t, x)", "Sub (t, x)")
    refused(Numpy({"bad": wrong}), monkeypatch, "numpy", "bad: y differs in", "by up to 8 where", "the example inputs")


def test_the_next_exporter_is_tried_and_the_first_ones_failure_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RIGHT.replace("Relu", "Abs")
    result = lowered(Numpy({"bad": wrong, "worse": ValueError("no\nway"), "good": RIGHT}), monkeypatch)
    assert result.exporter == "good"
    first, second = result.notes
    assert first.startswith("not used: bad: y differs in")
    assert second == "not used: worse: ValueError: no"
    Path("out.onnx").unlink()
    refused(Numpy({"bad": wrong, "good": RIGHT}), monkeypatch, "bad: y differs", exporter="bad")


def test_what_an_exporter_took_from_the_example_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch of the example as if there were no other, an extent as if it were fixed."""

    def branch(feeds: Mapping[str, Array]) -> list[Array]:
        x = np.asarray(feeds["x"], np.float32)
        return [x * 2 if x.sum() > -5 else x - 1]

    baked = f"{HEAD} net (float[N,2] x) => (float[N,2] y) {{ y = Add (x, x) }}"
    hint = "the example itself agrees, so it took something of it for a constant"
    refused(Numpy({"trace": baked}, branch), monkeypatch, "trace: y differs", hint)
    fixed = RIGHT.replace("float[N,2]", "float[2,2]")
    refused(Numpy({"static": fixed}), monkeypatch, "static: it fixed the dim 'N' at 2, axis 0 of 'x'")
    body = "r = Reshape (x, s) t = Relu (r) y = Add (t, r)"
    reshaped = f"{HEAD} net (float[N,2] x) => (float[2,2] y) <int64[2] s = {{2, 2}}> {{ {body} }}"
    refused(Numpy({"static": reshaped}), monkeypatch, "static: only B fails", "x=3,2")


def test_an_input_that_nothing_reads_is_put_back_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    example = {"unread": np.array([1, 2]), "x": np.ones((2, 2), np.float32)}
    model = Numpy({"dropping": RIGHT}, inputs=("unread", "x"), example=example)
    result = lowered(model, monkeypatch)
    assert [value.name for value in ir.load("out.onnx").inputs] == ["unread", "x"]
    assert result.notes[0].startswith("nothing reads the input 'unread'")


def test_inputs_and_outputs_get_their_names_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an inner value or the other input has the name."""
    interface = "(float[N,2] y, float[N,2] x) => (float[N,2] t, float[N,2] y)"
    text = f"{HEAD} net {interface} {{ first = Neg (y) t = Sub (first, x) }}"

    def function(feeds: Mapping[str, Array]) -> list[Array]:
        x, y = (np.asarray(feeds[name], np.float32) for name in ("x", "y"))
        return [-x - y, x]

    example: dict[str, Array] = {"x": np.ones((2, 2), np.float32), "y": np.zeros((2, 2), np.float32)}
    dims = {"x": {0: "N"}, "y": {0: "N"}}
    model = Numpy({"renaming": text}, function, ("first", "second"), ("x", "y"), example, dims)
    lowered(model, monkeypatch)
    graph = ir.load("out.onnx")
    assert [value.name for value in graph.inputs] == ["x", "y"]
    assert graph.output_names == ("first", "second")


def test_a_name_that_is_defined_twice_is_repaired_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = f"{HEAD} net (float[N,2] x) => (float[N,2] y) {{ y = Relu (x) y = Add (y, x) }}"
    result = lowered(Numpy({"doubling": twice}), monkeypatch)
    assert "value 'y' was defined 2 times" in result.notes[0]
    ir.verify(ir.load("out.onnx", strict=True))


def test_exports_that_cannot_stand_for_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    more = RIGHT.replace("(float[N,2] y)", "(float[N,2] y, float[N,2] t)")
    refused(Numpy({"more": more}), monkeypatch, "more: it gave 2 outputs where the model has 1")
    new = RIGHT.replace("net (float[N,2] x)", "net (float[N,2] x, float[N,2] z)")
    refused(Numpy({"new": new}), monkeypatch, "new: it gave the inputs x, z, of which some are new")
    double = RIGHT.replace("float[N,2]", "double[N,2]")
    refused(Numpy({"double": double}), monkeypatch, "double: it made the input 'x' double[N, 2]", "float32")
    unknown = RIGHT.replace("Relu", "Nothing")
    refused(Numpy({"odd": unknown}), monkeypatch, "odd: ONNX Runtime cannot open the exported model", "Nothing")


def test_what_the_model_itself_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {"x": np.ones((2, 3), np.float32)}
    words = ("does not take the example inputs (x: float32[2, 3])", "x must have two columns")
    refused(Numpy({"good": RIGHT}, example=wide), monkeypatch, *words)
    stiff = Numpy({"good": RIGHT}, dynamic={"x": {1: "columns"}})
    refused(stiff, monkeypatch, "the dim 'columns' is to be dynamic, and numpy itself runs the model with 2 there")


def test_an_exporter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(Numpy({"good": RIGHT}), monkeypatch, "no exporter 'best'", "there is good", exporter="best")


def test_a_place_that_cannot_be_written_is_found_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*_: object, **__: object) -> Numpy:
        raise AssertionError

    monkeypatch.setattr(walk, "open_source", unreached)
    with pytest.raises(GraphError, match="no folder none"):
        lower("a model", "none/out.onnx")


def test_outputs_are_found_in_nested_structures() -> None:
    given = {"a": 1.0, "b": [2.0, {"c": 3.0}], "none": None}
    assert list(leaves(given, float)) == [("a", 1.0), ("b.0", 2.0), ("b.1.c", 3.0)]
    assert names(["", "0", "b.1.c"], ()) == ("output", "output_0", "b.1.c")
    assert names(["", "0"], ("p", "q")) == ("p", "q")
    with pytest.raises(LowerError, match="1 output names were given, and the model has 2 outputs"):
        names(["0", "1"], ("p",))
    with pytest.raises(TypeError, match="the model gives a str"):
        list(leaves(["text"], float))
    with pytest.raises(ExportError, match="gave 1 outputs where the model has 2"):
        check_count(1, 2)
