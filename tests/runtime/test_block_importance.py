"""What blocks matter by is what the outputs of the model without them lack, and what says nothing is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType, Graph
from planish.models.architectures import ARCHITECTURES
from planish.passes.errors import CalibrationError
from planish.passes.prune.block_scores import BlockScores, load_block_scores, save_block_scores
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.residual import residual_blocks
from planish.runtime.block_importance import block_importance
from planish.runtime.fidelity import floats_of
from planish.runtime.session import Feed, Session
from tests.equivalence import PLAIN
from tests.passes.prune.attentions import WORDS, layer
from tests.passes.prune.topologies import Net

Samples = list[dict[str, Feed]]


def tower(scales: Sequence[float], *, nested: bool = False) -> Graph:
    """Attention and inner layers in turn; what each adds is so large. nested: within the branch of an If."""
    n = Net(WORDS)
    whole, x = n.b, n.x
    flag = n.b.input("flag", DType.BOOL, ()) if nested else None
    if nested:
        n.b = whole.body("then_branch")
    for place, scale in enumerate(scales):
        y = layer(n, x) if place % 2 == 0 else n.linear(n.op("Gelu", n.linear(x, (12, 16))), (16, 12))
        factor = n.b.constant(np.array(scale, np.float32))
        x = n.b.node("Add", (x, n.op("Mul", y, factor)), result=f"sum{place}")
    if flag is None:
        return n.end(n.linear(x, (12, 3)))
    n.b.output("then_branch_out", x)
    branch = n.b.graph()
    other = whole.body("else_branch")
    y = other.node("MatMul", (n.x, other.constant(np.eye(12, dtype=np.float32))))
    other.output("else_branch_out", other.node("Add", (n.x, y)))
    n.b = whole
    return n.end(n.b.node("If", (flag,), {"then_branch": branch, "else_branch": other.graph()}))


def samples(count: int = 4, **others: Feed) -> Samples:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((2, 5, 12)).astype(np.float32), **others} for _ in range(count)]


def noise_without(graph: Graph, name: str, given: Samples) -> float:
    """Of the model that prune-blocks makes."""
    proto = ir.emit(graph)
    after = ir.load(proto)
    passes.run(after, (PruneBlocks(count=1, scores=BlockScores.from_mapping({name: 0})),))
    assert name not in {block.name for block in residual_blocks(after)}
    whole, less = (Session(model.SerializeToString(), PLAIN) for model in (proto, ir.emit(after)))
    found: list[float] = []
    for feeds in given:
        pairs = zip(floats_of(whole.run(feeds)), floats_of(less.run(feeds)), strict=True)
        parts = [(np.square(a - b).sum(), np.square(a).sum()) for a, b in pairs]
        found.append(float(sum(part[0] for part in parts) / sum(part[1] for part in parts)))
    return float(np.mean(found))


def test_it_is_what_the_model_without_a_block_lacks() -> None:
    graph = tower((1.0, 0.5, 1e-4, 1.0))
    scores = block_importance(graph, samples())
    assert [name for name, _ in scores.numbers] == [f"sum{place}" for place in range(4)]
    for name, number in scores.numbers:
        assert number == pytest.approx(noise_without(graph, name, samples()), rel=1e-3)
    assert min(scores.numbers, key=lambda each: each[1])[0] == "sum2"
    assert scores.of("sum2") < 1e-5 * scores.of("sum1")


def test_a_block_that_adds_nothing_goes_first(tmp_path: Path) -> None:
    graph = tower((1.0, 0.5, 0.0, 1.0))
    scores = block_importance(graph, samples())
    assert scores.of("sum2") == 0
    save_block_scores(scores, tmp_path / "blocks.json")
    assert load_block_scores(tmp_path / "blocks.json").numbers == scores.numbers
    (record,) = passes.run(graph, f"prune-blocks{{count=1,scores={tmp_path / 'blocks.json'}}}")
    assert [rewrite.result for rewrite in record.rewrites] == ["sum2"]


def test_sums_that_are_outputs_and_models_in_files(tmp_path: Path) -> None:
    n = Net(WORDS)
    x = n.x
    for place in range(3):
        x = n.b.node("Add", (x, n.linear(n.op("Gelu", n.linear(x, (12, 16))), (16, 12))), result=f"sum{place}")
        n.b.output(f"y{place}", x)
    graph = n.b.graph()
    ir.save(graph, tmp_path / "net.onnx")
    scores = block_importance(tmp_path / "net.onnx", samples())
    assert len(scores.numbers) == 3
    numbers = [number for _, number in scores.numbers]
    assert numbers == sorted(numbers, reverse=True)  # the first is missed by all three outputs
    loaded = ir.load(tmp_path / "net.onnx")
    for name, number in scores.numbers:
        assert number == pytest.approx(noise_without(loaded, name, samples()), rel=1e-3)


def test_blocks_of_a_nested_graph() -> None:
    graph = tower((1.0, 1e-3), nested=True)
    scores = block_importance(graph, samples(flag=np.array(True)))
    assert [name for name, _ in scores.numbers] == ["sum0", "then_branch_out"]
    assert scores.of("then_branch_out") < 1e-2 * scores.of("sum0")
    assert scores.of("sum0") == pytest.approx(noise_without(graph, "sum0", samples(flag=np.array(True))), rel=1e-3)


def test_what_never_ran_is_not_judged() -> None:
    scores = block_importance(tower((1.0, 1e-3), nested=True), samples(flag=np.array(False)))
    assert [name for name, _ in scores.numbers] == ["else_branch_out"]


def test_layers_without_a_skip() -> None:
    n = Net(WORDS)
    x = n.x
    for scale in (1.0, 0.0, 1.0):
        w = np.eye(12, dtype=np.float32) + np.float32(scale) * n.random.standard_normal((12, 12)).astype(np.float32)
        x = n.op("MatMul", x, n.b.constant(w))
    graph = ir.load(ir.emit(n.end(x)))
    with pytest.raises(CalibrationError, match="no residual block"):
        block_importance(graph, samples())
    scores = block_importance(graph, samples(), layers=True)
    assert len(scores.numbers) == 3
    assert [number < 1e-9 for _, number in scores.numbers] == [False, True, False]


def test_a_block_without_which_nothing_is_finite_has_no_score() -> None:
    """The logarithm of what is positive with the block alone."""
    n = Net(WORDS)
    x = n.op("Mul", n.op("Abs", n.x), n.b.constant(np.array(-1, np.float32)))
    y = n.op("Relu", n.op("MatMul", n.op("Abs", n.x), n.b.constant(2 * np.eye(12, dtype=np.float32))))
    first = n.b.node("Add", (x, y), result="needed")
    last = n.b.node("Add", (first, n.op("Relu", n.linear(first, (12, 12)))), result="last")
    graph = ir.load(ir.emit(n.end(n.op("Log", last))))
    given: Samples = [{"x": np.abs(np.asarray(each["x"])) + np.float32(1)} for each in samples()]
    scores = block_importance(graph, given)
    assert [name for name, _ in scores.numbers] == ["last"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([], "no samples"),
        ([{"z": np.zeros((2, 5, 12), np.float32)}], "has no such input: its inputs are x"),
        ([{"x": np.zeros((2, 5, 7), np.float32)}], "x"),
        ([*samples(2), {"x": np.full((2, 5, 12), np.nan, np.float32)}], "numbers that are not finite"),
        ([{"x": np.full((2, 5, 12), np.inf, np.float32)}], "numbers that are not finite"),
    ],
)
def test_samples_that_say_nothing(given: Samples, match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        block_importance(tower((1.0, 1.0)), given)


def test_outputs_of_nothing_but_zeros() -> None:
    n = Net(WORDS)
    x = n.b.node("Add", (n.x, n.linear(n.x, (12, 12))), result="sum")
    x = n.op("Mul", n.op("MatMul", x, n.weight(12, 3)), n.b.constant(np.zeros((), np.float32)))
    with pytest.raises(CalibrationError, match="nothing but zeros"):
        block_importance(n.end(x), samples())


@pytest.mark.slow
def test_blocks_of_a_transformer() -> None:
    """As those of the model without each."""
    graph = ARCHITECTURES["vit-small"]("dynamo")
    passes.run(graph, "simplify")
    proto = ir.emit(graph)
    loaded, rng = ir.load(proto), np.random.default_rng(0)
    (value,) = loaded.inputs
    shape = [dim if isinstance(dim, int) else 1 for dim in value.shape or ()]
    given: Samples = [{value.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(2)]
    scores = block_importance(loaded, given)
    assert len(scores.numbers) == len(residual_blocks(loaded)) == 24
    for name, number in scores.numbers[::5]:
        assert number == pytest.approx(noise_without(loaded, name, given), rel=1e-2)
