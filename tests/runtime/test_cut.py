"""A model in stages computes what it computes at once, and every tensor is seen once, with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish import ir
from planish.runtime import cut
from planish.runtime.providers import Target
from planish.runtime.session import Feed, Result, Session
from planish.runtime.staged import StagedSession

Array = NDArray[np.generic]

MODELS: dict[str, str] = {
    "chain": "net (float[n, 4] x) => (float[n, 4] y) { a = Relu (x) b = Neg (a) c = Exp (b) y = Add (c, a) }",
    "an input passes by": """net (float[n, 4] x, float[4] z) => (float[n, 4] y) {
        a = Relu (x) b = Neg (a) y = Add (b, z) }""",
    "an output in the middle": """net (float[n, 4] x) => (float[n, 4] a, float[n, 4] y) {
        a = Relu (x) b = Neg (a) y = Exp (b) }""",
    "constants in several stages": """net (float[n, 4] x) => (float[n, 4] y) <float[4] w = {1, 2, 3, 4}> {
        k = Constant <value = float[1] {3}> () a = Mul (x, w) b = Add (a, k) c = Mul (b, w) y = Add (c, k) }""",
    "shapes cross": """net (float[n, 4] x) => (float[m] y) {
        s = Shape (x) a = Relu (x) p = ReduceProd <keepdims = 1> (s) b = Neg (a) y = Reshape (b, p) }""",
    "a constant output": """net (float[n, 4] x) => (float[n, 4] y, float[2] w) <float[2] w = {1, 2}> {
        a = Relu (x) y = Neg (a) }""",
    "a dead node": "net (float[n, 4] x) => (float[n, 4] y) { a = Relu (x) d = Exp (a) y = Neg (a) }",
    "a branch reads outside": """net (float[n, 4] x, bool c) => (float[n, 4] y) {
        a = Relu (x) b = Neg (a)
        z = If (c) <then_branch = t () => (float[n, 4] u) { v = Add (a, b) u = Add (v, x) },
                    else_branch = e () => (float[n, 4] w) { w = Identity (a) }>
        y = Exp (z) }""",
    "a sequence may not cross": """net (float[n, 4] x) => (float[n, 4] y) {
        a = Relu (x) q = SequenceConstruct (a, x) i = Constant <value_int = 1> () b = Neg (a)
        d = SequenceAt (q, i) y = Add (d, b) }""",
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "STAGE_BYTES", 1)


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')


def in_stages(
    proto: onnx.ModelProto, feeds: Mapping[str, Feed], folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, dict[str, Result], dict[str, list[Array]]]:
    graph = ir.load(proto)
    names = [value.name for node in graph.nodes for value in node.results if value.constant is None]
    plan = cut.cut(graph, names, cut.size_of(shapes, graph), folder)
    seen: dict[str, list[Array]] = {}
    results = StagedSession(plan, Target(threads=1)).run(
        feeds, lambda name, array: seen.setdefault(name, []).append(array)
    )
    return len(plan.stages), results, seen


def all_at_once(proto: onnx.ModelProto, feeds: Mapping[str, Feed]) -> dict[str, Result]:
    """Of the model with every tensor among its outputs."""
    known = {output.name for output in proto.graph.output}
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    whole.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for node in proto.graph.node
        for name in node.output
        if name not in known and node.op_type not in ("Constant", "SequenceConstruct")
    )
    session = Session(whole.SerializeToString(), Target(threads=1, optimization="disabled"))
    return dict(zip((output.name for output in session.outputs), session.run(feeds), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("extent", [3, 1, 0])
def test_stages_compute_what_the_model_does(name: str, extent: int, tmp_path: Path) -> None:
    proto = model(MODELS[name])
    x = np.random.default_rng(0).standard_normal((extent, 4)).astype(np.float32)
    feeds: dict[str, Feed] = {"x": x, "z": np.ones(4, np.float32), "c": np.asarray(True)}
    feeds = {value.name: feeds[value.name] for value in proto.graph.input}
    count, results, seen = in_stages(proto, feeds, tmp_path, {"x": (extent, 4)})
    expected = all_at_once(proto, feeds)
    assert list(results) == [output.name for output in proto.graph.output]
    assert count > 1 or not extent
    assert all(len(arrays) == 1 for arrays in seen.values())
    assert set(seen) >= set(expected) - {"w"}
    for tensor, array in {**{name: arrays[0] for name, arrays in seen.items()}, **results}.items():
        if tensor in expected:
            np.testing.assert_array_equal(np.asarray(array), np.asarray(expected[tensor]), strict=True)


def test_dead_ends_that_nobody_looks_at_are_no_stages(tmp_path: Path) -> None:
    graph = ir.load(model("net (float[2] x) => (float[2] y) { a = Relu (x) y = Neg (a) c = Exp (a) d = Log (c) }"))
    plan = cut.cut(graph, ["a"], cut.size_of({}, graph), tmp_path)
    found = StagedSession(plan, Target(threads=1)).run({"x": np.ones(2, np.float32)}, lambda name, array: None)
    assert len(plan.stages) == 2
    assert np.asarray(found["y"]).tolist() == [-1.0, -1.0]


def test_an_overridable_initializer_is_overridden_in_every_stage(tmp_path: Path) -> None:
    proto = model(
        """net (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> {
            a = Mul (x, w) b = Neg (a) y = Mul (b, w) }"""
    )
    assert [value.name for value in ir.load(proto).inputs] == ["x", "w"]
    x = np.asarray([3, 5], np.float32)
    for number, (w, expected) in enumerate(((None, [-3.0, -20.0]), (np.asarray([2, 1], np.float32), [-12.0, -5.0]))):
        feeds: dict[str, Feed] = {"x": x} if w is None else {"x": x, "w": w}
        (tmp_path / str(number)).mkdir()
        _, results, _ = in_stages(proto, feeds, tmp_path / str(number), {})
        assert np.asarray(results["y"]).tolist() == expected


def test_weights_outside_the_file_are_found(tmp_path: Path) -> None:
    b = ir.Builder()
    x = b.input("x", ir.DType.FLOAT, (2, 64))
    w = b.initializer("w", np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32))
    y = b.node("Relu", (b.node("MatMul", (b.node("MatMul", (x, w), result="a"), w), result="c"),), result="y")
    b.output("y", y)
    ir.save(b.graph(), tmp_path / "model.onnx", external_data="always")
    graph = ir.load(tmp_path / "model.onnx")
    (tmp_path / "stages").mkdir()
    plan = cut.cut(graph, ["a", "c"], cut.size_of({}, graph), tmp_path / "stages")
    assert [len(stage.data_files) for stage in plan.stages] == [1, 1, 0]
    feed = np.ones((2, 64), np.float32)
    (expected,) = Session(tmp_path / "model.onnx").run({"x": feed})
    found = StagedSession(plan, Target(threads=1)).run({"x": feed}, lambda name, array: None)
    np.testing.assert_allclose(np.asarray(found["y"]), np.asarray(expected), rtol=1e-5)


def test_sizes_follow_the_inputs_shapes() -> None:
    graph = ir.load(model("net (float[n, 4, w] x) => (float[n, 4, w] y) { a = Relu (x) b = NonZero (a) y = Neg (a) }"))
    size = cut.size_of({"x": (2, 4, 10)}, graph)
    assert size(graph.nodes[0].result) == 2 * 4 * 10 * 4
    assert size(graph.nodes[1].result) == 3 * 10 * 8  # how many are not zero depends on data: the largest extent
