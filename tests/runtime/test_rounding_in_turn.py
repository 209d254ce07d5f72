"""Weights rounded in turn: nearer to the float model on other inputs than all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import DType, Graph
from planish.passes.errors import CalibrationError
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.runtime.calibrate import calibrate
from planish.runtime.rounding_in_turn import round_in_turn
from planish.runtime.session import Session
from tests.equivalence import PLAIN

STAGE = QuantizeWeights(bits=4, block=0, least=16)
Singles = NDArray[np.float32]


def net(folder: Path, depth: int = 5) -> Path:
    """Convolutions with biases, every second one depthwise."""
    rng = np.random.default_rng(0)
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 8, 10, 10))
    for place in range(depth):
        group = 8 if place % 2 else 1
        weight = rng.standard_t(4, (8, 8 // group, 3, 3)).astype(np.float32) / np.float32(6 if group == 1 else 2)
        bias = b.initializer(f"b{place}", rng.normal(0, 0.3, 8).astype(np.float32))
        operands = (x, b.initializer(f"w{place}", weight), bias)
        x = b.node("Conv", operands, {"pads": (1, 1, 1, 1), "group": group}, result=f"c{place}")
        x = b.node("Relu", (x,), result=f"r{place}")
    b.output("y", x)
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def samples(count: int, seed: int) -> list[dict[str, Singles]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((2, 8, 10, 10)).astype(np.float32) + np.float32(0.5)} for _ in range(count)]


def noise(path: Path, graph: Graph) -> float:
    wanted, found = Session(path, PLAIN), Session(ir.emit(graph).SerializeToString(), PLAIN)
    pairs = [[np.asarray(s.run(feeds)[0], np.float64) for s in (wanted, found)] for feeds in samples(8, 9)]
    return sum(float(np.square(a - b).sum()) for a, b in pairs) / sum(float(np.square(a).sum()) for a, _ in pairs)


def at_once(path: Path, stage: QuantizeWeights) -> Graph:
    graph = ir.load(path)
    passes.run(graph, (stage,))
    return graph


def test_it_is_nearer_than_all_at_once(tmp_path: Path) -> None:
    path = net(tmp_path)
    given = samples(24, 1)
    nearest = noise(path, at_once(path, STAGE))
    seen = calibrate(path, given, tensors=(), grams=("*",))
    gram = noise(path, at_once(path, QuantizeWeights(bits=4, block=0, least=16, rounding="gram", ranges=seen)))
    found = noise(path, round_in_turn(path, given, STAGE))
    assert gram < 0.7 * nearest
    assert found < gram


def test_biases_keep_the_means_of_outputs(tmp_path: Path) -> None:
    path, given = net(tmp_path, depth=1), samples(12, 1)
    seen = calibrate(path, given, tensors=(), grams=("*",))
    graph = at_once(path, QuantizeWeights(bits=4, block=0, least=16, rounding="gram", ranges=seen))
    means: list[NDArray[np.float64]] = []
    for each in (ir.load(path), graph):
        relu = next(node for node in each.nodes if node.op == "Relu")
        each.set_results([value for value in relu.operands if value is not None], ["y"])
        session = Session(ir.emit(each).SerializeToString(), PLAIN)
        means.append(np.mean([np.asarray(session.run(f)[0], np.float64).mean(axis=(0, 2, 3)) for f in given], axis=0))
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)


def test_patterns_hold_and_the_model_that_came_is_untouched(tmp_path: Path) -> None:
    path = net(tmp_path)
    before = path.read_bytes()
    graph = round_in_turn(path, samples(4, 1), QuantizeWeights(bits=4, block=0, least=16, exclude="w2|w3"))
    assert path.read_bytes() == before
    kinds = {value.name: value.dtype for node in graph.walk() for value in node.operands if value is not None}
    assert kinds["w2"] is kinds["w3"] is DType.FLOAT
    assert {DType.UINT4} <= set(kinds.values())
    again = noise(path, round_in_turn(path, samples(4, 1), QuantizeWeights(only="nothing")))
    assert again == 0


def residual(folder: Path, shared: bool = False) -> Path:
    """y = x a + x a b: what rounding `a` costs is in both terms, and `b` can make up for all of it."""
    rng = np.random.default_rng(3)
    b = ir.Builder("net", opset=21)
    x = b.input("x", DType.FLOAT, ("n", 6))
    a = b.initializer("a", rng.standard_normal((6, 6)).astype(np.float32))
    first = b.node("MatMul", (x, a), result="p")
    other = a if shared else b.initializer("b", rng.standard_normal((6, 6)).astype(np.float32))
    second = b.node("MatMul", (first, other), result="q")
    b.output("y", b.node("Add", (first, second), result="y"))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def rows(count: int, seed: int) -> list[dict[str, Singles]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((32, 6)).astype(np.float32)} for _ in range(count)]


def outputs(model: Path | bytes, given: list[dict[str, Singles]]) -> NDArray[np.float64]:
    session = Session(model, PLAIN)
    return np.concatenate([np.asarray(session.run(feeds)[0], np.float64) for feeds in given])


def test_what_a_skip_lost_is_made_up_for(tmp_path: Path) -> None:
    path, given = residual(tmp_path), rows(24, 1)
    seen = calibrate(path, given, tensors=(), grams=("*",))
    graphs = at_once(path, replace(STAGE, rounding="gram", ranges=seen)), round_in_turn(path, given, STAGE)
    wanted = outputs(path, rows(4, 9))
    alone, found = (
        float(np.square(outputs(ir.emit(graph).SerializeToString(), rows(4, 9)) - wanted).sum()) for graph in graphs
    )
    assert found < 0.8 * alone


def test_shared_weights_and_those_too_few_have_no_turn(tmp_path: Path) -> None:
    path = residual(tmp_path, shared=True)
    graph = round_in_turn(path, rows(6, 1), QuantizeWeights(bits=4, block=0, least=16))
    assert DType.UINT4 in {value.dtype for node in graph.walk() for value in node.operands if value is not None}
    few = round_in_turn(residual(tmp_path), rows(6, 1), QuantizeWeights(bits=4, block=0, least=37))
    assert not any(value.dtype is DType.UINT4 for node in few.walk() for value in node.operands if value is not None)


@pytest.mark.parametrize("count", [1, 2])
def test_few_samples_and_numbers_that_are_not_finite(tmp_path: Path, count: int) -> None:
    given = rows(count, 1)
    given[0]["x"][:3] = np.nan
    stage = QuantizeWeights(bits=4, block=0, least=16)
    found = ir.emit(round_in_turn(residual(tmp_path), given, stage)).SerializeToString()
    assert np.isfinite(outputs(found, rows(2, 9))).all()


def test_no_samples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="sample"):
        round_in_turn(residual(tmp_path), [], STAGE)
