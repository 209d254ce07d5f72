"""Steps compute what the model computes at once, each node once, and keep no more than they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import parser

from planish import ir
from planish.ir import Graph
from planish.runtime.pruning.steps import Steps, reduce_to
from planish.runtime.session import Session
from tests.equivalence import PLAIN

Array = NDArray[np.generic]

MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "chain": ("(float[n, 4] x) => (float[n, 4] d) { a = Neg (x) b = Exp (a) c = Relu (b) d = Neg (c) }",
              {"a": 1, "b": 2, "d": 3}),
    "skip": ("(float[n, 4] x) => (float[n, 4] d) { a = Neg (x) b = Exp (a) c = Relu (b) d = Add (c, a) }",
             {"b": 1, "c": 2, "d": 3}),
    "input read late": ("(float[n, 4] x, float[4] z) => (float[n, 4] c) { a = Neg (x) b = Exp (a) c = Add (b, z) }",
                        {"a": 1, "c": 4}),
    "wanted once more": ("(float[n, 4] x) => (float[n, 4] c) { a = Neg (x) b = Exp (a) c = Add (b, a) }",
                         {"b": 1, "a": 2, "c": 3}),
    "a sequence": ("""(float[n, 4] x) => (float[n, 4] e) {
        i = Constant <value_int = 1> () a = Neg (x) q = SequenceConstruct (x, a) b = SequenceAt (q, i) c = Exp (b)
        d = SequenceAt (q, i) e = Add (c, d) }""", {"b": 1, "c": 2, "e": 3}),
    "a branch": ("""(float[n, 4] x, bool z) => (float[n, 4] e) <float[4] w = {1, 2, 3, 4}> {
        a = Mul (x, w) b = Neg (a)
        d = If (z) <then_branch = t () => (float[n, 4] u) { v = Add (a, b) u = Mul (v, w) },
                    else_branch = f () => (float[n, 4] r) { r = Identity (a) }>
        e = Exp (d) }""", {"a": 1, "b": 2, "e": 4}),
    "an input": ("(float[n, 4] x) => (float[n, 4] a) { a = Neg (x) }", {"x": 2, "a": 1}),
}  # fmt: skip


def load(text: str) -> Graph:
    return ir.load(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> net {text}'))


def stepped(text: str, wanted: Mapping[str, int], feeds: Mapping[str, Array]) -> tuple[dict[str, Array], Counter[str]]:
    """The wanted tensors, and how often each operator ran."""
    steps = Steps.of(load(text), wanted.items())
    kept = {name: feeds[name] for name in steps.kept(0)}
    found: dict[str, Array] = {}
    ran: Counter[str] = Counter()
    for step in range(1, max(wanted.values()) + 1):
        known = steps.kept(step - 1)
        assert set(kept) == set(known)
        new = [name for name in (*(n for n, s in wanted.items() if s == step), *steps.kept(step)) if name not in known]
        if new:
            graph = load(text)
            reduce_to(graph, known, list(dict.fromkeys(new)))
            assert {value.name for value in graph.inputs} <= set(known)
            ran.update(node.op for node in graph.nodes)
            session = Session(ir.emit(graph).SerializeToString(), PLAIN)
            results = session.run({argument.name: kept[argument.name] for argument in session.inputs})
            kept |= {o.name: np.asarray(r) for o, r in zip(session.outputs, results, strict=True)}
        found |= {name: kept[name] for name, at in wanted.items() if at == step}
        kept = {name: kept[name] for name in steps.kept(step)}
    assert not kept
    return found, ran


@pytest.mark.parametrize("name", MODELS)
def test_every_step_goes_on(name: str) -> None:
    text, wanted = MODELS[name]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    graph = load(text)
    feeds = {"x": x, "z": np.asarray(True) if name == "a branch" else np.ones(4, np.float32)}
    feeds = {value.name: feeds[value.name] for value in graph.inputs}
    found, ran = stepped(text, wanted, feeds)
    names = [other for other in wanted if other != "x"]
    graph = load(text)
    reduce_to(graph, [], names)
    expected = Session(ir.emit(graph).SerializeToString(), PLAIN).run(feeds)
    for other, array in zip(names, expected, strict=True):
        np.testing.assert_array_equal(found[other], np.asarray(array), strict=True)
    once = Counter(node.op for node in load(text).nodes if node.op not in ("SequenceConstruct", "Constant"))
    assert ran & once == Counter({op: ran[op] for op in once})
    assert ran["SequenceConstruct"] == (2 if name == "a sequence" else 0)


def test_what_is_not_needed_goes(tmp_path: Path) -> None:
    b = ir.Builder()
    x = b.input("x", ir.DType.FLOAT, (2, 8))
    w = [b.initializer(f"w{i}", np.full((8, 8), i, np.float32)) for i in range(3)]
    a = b.node("MatMul", (x, w[0]), result="a")
    c = b.node("MatMul", (a, w[1]), result="c")
    b.output("y", b.node("MatMul", (c, w[2]), result="y"))
    graph = b.graph()
    reduce_to(graph, ["a"], ["c"])
    assert [value.name for value in graph.inputs] == ["a"]
    assert [value.name for value in graph.initializers] == ["w1"]
    ir.save(graph, tmp_path / "part.onnx")
    (found,) = Session(tmp_path / "part.onnx", PLAIN).run({"a": np.ones((2, 8), np.float32)})
    np.testing.assert_array_equal(np.asarray(found), np.full((2, 8), 8, np.float32))


def test_an_overridable_initializer_stays_one() -> None:
    text = (
        "(float[2] x, float[2] w) => (float[2] c) <float[2] w = {1, 2}> { a = Neg (x) b = Mul (a, w) c = Mul (b, w) }"
    )
    graph = load(text)
    reduce_to(graph, ["b"], ["c"])
    session = Session(ir.emit(graph).SerializeToString(), PLAIN)
    b = np.asarray([3, 5], np.float32)
    assert np.asarray(session.run({"b": b})[0]).tolist() == [3, 10]
    assert np.asarray(session.run({"b": b, "w": b})[0]).tolist() == [9, 25]
