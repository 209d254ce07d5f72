"""Heads go whole, in every spelling: sliced is masked, each layer keeps one at least, and other channels stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType, Graph, Value
from planish.ir.graph import Attribute
from planish.models.architectures import ARCHITECTURES, Exporter
from planish.passes import PassRecord, PipelineError
from planish.passes.prune.prune_heads import PruneHeads
from planish.runtime.importance import importance
from tests.equivalence import same_interface
from tests.passes.prune.attentions import ATTENTIONS, WORDS, fused, layer, microsoft_packed, mixed, one_key, split
from tests.passes.prune.pruned import analysed, parameters, pruned
from tests.passes.prune.topologies import TOPOLOGIES, Net, attention, grouped_query_attention

_SHAPES = ({"N": 1, "T": 1, "S": 3}, {"N": 2, "T": 5, "S": 1}, {"N": 3, "T": 2, "S": 4})


def heads(graph: Graph) -> list[int]:
    """How many may go one by one, in each group."""
    return [group.size for group in analysed(ir.emit(graph), heads=True)[1].groups]


def targets(graph: Graph) -> list[list[int]]:
    """What Reshapes ask for that are given constants."""
    found = [node.operands[1] for node in graph.walk() if node.op == "Reshape"]
    return [list(value.constant.ints()) for value in found if value is not None and value.constant is not None]


def done(graph: Graph, pipeline: str) -> tuple[Graph, PassRecord]:
    before = ir.emit(graph)
    loaded = ir.load(before)
    (record,) = passes.run(loaded, pipeline)
    same_interface(before, ir.emit(loaded))
    return loaded, record


@pytest.mark.parametrize("name", ATTENTIONS)
def test_half_of_the_heads(name: str) -> None:
    build, sizes = ATTENTIONS[name]
    for seed in (0, 1):
        found = pruned(build(), seed=seed, bindings=_SHAPES, heads=True)
        assert [group.size for group in found.found.groups] == sizes
        assert found.share < 0.75


@pytest.mark.parametrize("name", ATTENTIONS)
def test_all_heads_but_one(name: str) -> None:
    build, sizes = ATTENTIONS[name]
    found = pruned(build(), 1.0, bindings=_SHAPES, heads=True)
    assert [int(gone.sum()) for gone in found.removal.gone] == [size - 1 for size in sizes]


@pytest.mark.parametrize("name", ATTENTIONS)
def test_elements_of_heads_go_as_before(name: str) -> None:
    """Of some spellings elements may go, too: that is another choice over the same axes."""
    pruned(ATTENTIONS[name][0](), bindings=_SHAPES)


def test_eight_queries_for_two_keys_of_many_operators() -> None:
    found = pruned(grouped_query_attention(), heads=True)
    assert [group.size for group in found.found.groups] == [2]
    assert found.share == pytest.approx(0.5, abs=0.05)


def test_a_head_is_all_that_makes_and_reads_it() -> None:
    graph, _ = done(attention(), "prune-heads{ratio=0.5}")
    shapes = [node.operands[1].shape for node in graph.nodes if node.op == "MatMul" and node.operands[1] is not None]
    weights = [shape for shape in shapes if shape is not None and len(shape) == 2]
    assert weights == [(12, 16), (12, 16), (12, 16), (16, 12), (12, 32), (32, 12)]
    assert targets(graph) == [[0, 0, 2, 8]] * 3 + [[0, 0, 16]]


def test_the_least_heads_go() -> None:
    """Two heads whose values are a thousandth of the others'."""
    n = Net(WORDS)
    q, k = n.linear(n.x, (12, 32)), n.linear(n.x, (12, 32))
    w = np.random.default_rng(0).standard_normal((12, 4, 8)).astype(np.float32)
    w[:, [1, 3]] *= 1e-3
    v = split(n, n.op("MatMul", n.x, n.b.constant(w.reshape(12, 32))), 4, 8)
    graph = n.end(n.linear(mixed(n, split(n, q, 4, 8), split(n, k, 4, 8, (0, 2, 3, 1)), v), (32, 12)))
    after, record = done(graph, "prune-heads{ratio=0.5}")
    kept = [node.operands[1] for node in after.nodes if node.op == "MatMul"]
    arrays = [value.constant.array() for value in kept if value is not None and value.constant is not None]
    assert any(np.array_equal(array, w[:, [0, 2]].reshape(12, 16)) for array in arrays)
    assert [rewrite.rule for rewrite in record.rewrites] == ["remove-units"]


def stacked(scales: Sequence[float]) -> Graph:
    """Layers in which half of the heads weigh so much less."""
    n = Net(WORDS)
    x = n.x
    for scale in scales:
        w = [n.random.standard_normal((12, 4, 8)).astype(np.float32) for _ in range(3)]
        for part in w:
            part[:, 2:] *= scale
        q, k, v = (n.op("MatMul", x, n.b.constant(part.reshape(12, 32))) for part in w)
        y = mixed(n, split(n, q, 4, 8), split(n, k, 4, 8, (0, 2, 3, 1)), split(n, v, 4, 8))
        x = n.op("Add", x, n.op("MatMul", y, n.b.constant(np.ones((32, 12), np.float32))))
    return n.end(x)


def test_layers_lose_different_numbers_of_heads() -> None:
    graph, record = done(stacked((1.0, 0.01, 1.0)), "prune-heads{ratio=0.17,scope=global}")
    assert len(record.rewrites) == 1
    assert targets(graph)[::4] == [[0, 0, 4, 8], [0, 0, 2, 8], [0, 0, 4, 8]]
    assert parameters(ir.emit(graph)) < parameters(ir.emit(stacked((1.0,) * 3)))


@pytest.mark.parametrize("scope", ["local", "global"])
def test_the_last_head_of_a_layer_stays(scope: str) -> None:
    graph, _ = done(stacked((1.0, 0.5)), f"prune-heads{{ratio=1,scope={scope}}}")
    assert [target[2] for target in targets(graph) if len(target) == 4] == [1] * 6


def test_counts_of_heads_fall() -> None:
    graph, _ = done(fused(heads=8, groups=4), "prune-heads{ratio=0.5}")
    (node,) = [node for node in graph.nodes if node.op == "Attention"]
    assert (node.get_int("q_num_heads"), node.get_int("kv_num_heads")) == (4, 2)
    assert "scale" not in node.attributes
    graph, _ = done(microsoft_packed(32, 32, 16), "prune-heads{ratio=0.25}")
    (node,) = [node for node in graph.nodes if node.op == "com.microsoft::Attention"]
    assert node.get_int("num_heads") == 3
    assert node.get_ints("qkv_hidden_sizes") == (24, 24, 12)
    assert "scale" not in node.attributes


def test_elements_of_a_packed_attention_keep_their_scale() -> None:
    graph, _ = done(microsoft_packed(), "prune-channels{ratio=0.5}")
    (node,) = [node for node in graph.nodes if node.op == "com.microsoft::Attention"]
    assert node.get_int("num_heads") == 4
    assert node.get_float("scale") == pytest.approx(8**-0.5)


def test_other_channels_stay() -> None:
    for name in ("chain", "channel-shuffle", "grouped"):
        assert heads(TOPOLOGIES[name]()) == []
    graph, record = done(TOPOLOGIES["chain"](), "prune-heads{ratio=0.5}")
    assert not record.rewrites
    assert parameters(ir.emit(graph)) == parameters(ir.emit(TOPOLOGIES["chain"]()))


def test_heads_that_are_seen_stay() -> None:
    """Scores that the model gives out, a mask of its inputs that tells heads apart."""
    n = Net(WORDS)
    q, k, v = (split(n, n.linear(n.x, (12, 32)), 4, 8) for _ in range(3))
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))), axis=-1)
    n.b.output("scores", scores)
    y = n.op("Reshape", n.op("Transpose", n.op("MatMul", scores, v), perm=(0, 2, 1, 3)), n.ints(0, 0, 32))
    assert heads(n.end(n.linear(y, (32, 12)))) == []
    n = Net(WORDS)
    mask = n.b.input("mask", DType.FLOAT, (1, 4, 1, 1))
    assert heads(n.end(layer(n, n.x, bias=mask))) == []
    for head in (4, "H"):
        n = Net(WORDS, opset=23)
        mask = n.b.input("mask", DType.FLOAT, (1, head, 1, 1))
        q, k, v = (n.linear(n.x, (12, 32)) for _ in range(3))
        attributes: dict[str, Attribute] = {"q_num_heads": 4, "kv_num_heads": 4}
        assert heads(n.end(n.linear(n.b.node("Attention", (q, k, v, mask), attributes), (32, 12)))) == []


def test_heads_of_a_cache_stay() -> None:
    n = Net(WORDS, opset=23)
    past = [n.b.input(name, DType.FLOAT, ("N", 4, "P", 8)) for name in ("keys", "values")]
    q, k, v = (n.linear(n.x, (12, 32)) for _ in range(3))
    attributes: dict[str, Attribute] = {"q_num_heads": 4, "kv_num_heads": 4}
    results = n.b.nodes("Attention", (q, k, v, None, *past), attributes, results=3)
    n.b.output("present", results[1])
    assert heads(n.end(n.linear(results[0], (32, 12)))) == []


def test_mixed_heads_have_a_matrix_for_that() -> None:
    """Talking heads (Shazeer et al. 2020): a product over heads, which sums up what they give."""

    def talk(n: Net, scores: Value) -> Value:
        y = n.op("MatMul", n.op("Transpose", scores, perm=(0, 2, 3, 1)), n.weight(4, 4))
        return n.op("Transpose", y, perm=(0, 3, 1, 2))

    n = Net(WORDS)
    q, k, v = (split(n, n.linear(n.x, (12, 32)), 4, 8) for _ in range(3))
    scores = talk(n, n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))))
    y = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
    graph = n.end(n.linear(n.op("Reshape", y, n.ints(0, 0, 32)), (32, 12)))
    assert heads(graph) == [4, 4]
    pruned(graph, bindings=_SHAPES, heads=True)


def test_one_key_for_all_stays() -> None:
    graph, _ = done(one_key(), "prune-heads{ratio=0.5}")
    shapes = [node.operands[1].shape for node in graph.nodes if node.op == "MatMul" and node.operands[1] is not None]
    assert [shape for shape in shapes if shape is not None and len(shape) == 2] == [
        (12, 16),
        (12, 8),
        (12, 8),
        (16, 12),
    ]


def test_what_was_measured_of_heads() -> None:
    """By least loss: a head whose values are the sum of two others' is made up for by these."""
    n = Net(WORDS)
    q, k = n.op("MatMul", n.x, n.weight(12, 32)), n.op("MatMul", n.x, n.b.constant(np.zeros((12, 32), np.float32)))
    w = n.random.standard_normal((12, 4, 8)).astype(np.float32)
    w[:, 2] = w[:, 0] + w[:, 3]
    v = split(n, n.op("MatMul", n.x, n.b.constant(w.reshape(12, 32))), 4, 8)
    graph = n.end(n.linear(mixed(n, split(n, q, 4, 8), split(n, k, 4, 8, (0, 2, 3, 1)), v), (32, 12)))
    graph = ir.load(ir.emit(graph))
    feeds = [{"x": n.random.standard_normal((3, 7, 12)).astype(np.float32)} for _ in range(64)]
    scores = importance(graph, feeds, ("obs",), whole_heads=True)
    found = PruneHeads(ratio=0.25, importance="obs", scores=scores)
    _, gone = found.choose(found.find(graph).groups)
    assert [int(flags.sum()) for flags in gone] == [1]
    assert int(np.flatnonzero(gone[0])[0]) in {0, 2, 3}
    stage = PruneHeads(ratio=0.25, importance="obs", scores=scores)
    assert len(passes.run(graph, (stage,))[0].rewrites) == 1


def test_a_number_of_heads_for_each_layer(tmp_path: Path) -> None:
    graph = ir.load(ir.emit(stacked((1.0, 1.0, 1.0))))
    names = [group.name for group in analysed(ir.emit(graph), heads=True)[1].groups]
    (tmp_path / "heads.json").write_text(json.dumps({names[0]: 3, names[2]: 0.25}))
    text = f"prune-heads{{ratios={tmp_path / 'heads.json'}}}"
    assert passes.format_pipeline(passes.parse(text)) == text
    after, record = done(graph, text)
    assert targets(after)[::4] == [[0, 0, 1, 8], [0, 0, 4, 8], [0, 0, 3, 8]]
    assert len(record.rewrites) == 2


@pytest.mark.parametrize(("round_to", "left"), [(1, 2), (8, 2), (16, 2), (32, 4), (5, 4)])
def test_columns_are_rounded_and_not_heads(round_to: int, left: int) -> None:
    """Of four heads of 8 elements half go, where what is left of the projections is a multiple."""
    graph, _ = done(stacked((1.0,)), f"prune-heads{{ratio=0.5,round-to={round_to}}}")
    assert targets(graph)[0] == [0, 0, left, 8]


def test_a_number_for_each_head_does_not_count_as_columns() -> None:
    graph, _ = done(ATTENTIONS["masked"][0](), "prune-heads{ratio=0.5,round-to=8}")
    assert targets(graph)[0] == [0, 0, 2, 8]


def test_options() -> None:
    stage = PruneHeads(ratio=0.5, importance="l1", scope="global", keep="layer*", seed=3)
    assert passes.parse(passes.format_pipeline((stage,))) == (stage,)
    with pytest.raises(PipelineError, match="prune-heads takes ratio from 0 to 1"):
        passes.parse("prune-heads{ratio=2}")
    assert heads(stacked((1.0,))) == [4]
    graph, record = done(stacked((1.0,)), "prune-heads{keep=*}")
    assert not record.rewrites
    assert parameters(ir.emit(graph)) == parameters(ir.emit(stacked((1.0,))))


def test_strict_lets_no_head_go() -> None:
    graph = stacked((1.0,))
    (record,) = passes.run(graph, "prune-heads", fp="strict")
    assert not record.rewrites


def test_a_second_turn_in_one_run_takes_no_more() -> None:
    once, twice = (done(stacked((1.0, 1.0)), text)[0] for text in ("prune-heads", "fixpoint(prune-heads)"))
    assert ir.emit(once).SerializeToString() == ir.emit(twice).SerializeToString()


def test_heads_and_then_elements_of_what_is_left() -> None:
    graph = attention()
    passes.run(graph, "prune-heads{ratio=0.5},prune-channels{ratio=0.5}")
    assert targets(graph) == [[0, 0, 2, 4]] * 3 + [[0, 0, 8]]


def test_weights_that_are_not_finite_have_no_rank() -> None:
    n = Net(WORDS)
    w = np.ones((12, 32), np.float32)
    w[0, 3] = np.inf
    q, k = (split(n, n.op("MatMul", n.x, n.b.constant(np.full((12, 32), np.nan, np.float32))), 4, 8) for _ in range(2))
    v = split(n, n.op("MatMul", n.x, n.b.constant(w)), 4, 8)
    y = mixed(n, q, n.op("Transpose", k, perm=(0, 1, 3, 2)), v)
    graph = n.end(n.op("MatMul", y, n.b.constant(np.full((32, 12), np.nan, np.float32))))
    _, record = done(graph, "prune-heads{ratio=0.5}")
    assert not record.rewrites


_DEPTHS = {"bert": [4] * 6, "vit-small": [6] * 12, "swin-tiny": [3] * 2 + [6] * 2 + [12] * 6 + [24] * 2}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", get_args(Exporter))
@pytest.mark.parametrize("name", _DEPTHS)
def test_transformers_as_exporters_write_them(name: str, exporter: Exporter) -> None:
    graph = ARCHITECTURES[name](exporter)
    passes.run(graph, "simplify")
    values = {value.name: [np.ones((2, 7), np.int64)] for value in graph.inputs if value.dtype is DType.INT64}
    symbols = {str(dim) for value in graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    found = pruned(graph, bindings=[dict.fromkeys(symbols, 2)], values=values, tolerance=2e-5, heads=True)
    assert [group.size for group in found.found.groups] == _DEPTHS[name]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.lowering
def test_minilm(bring: Callable[[str], Path]) -> None:
    """As it comes, simplified, and fused: 12 heads in each of 6 layers, of which each may lose another number."""
    path = bring("all-MiniLM-L6-v2")
    random = np.random.default_rng(0)
    values = {"input_ids": [random.integers(0, 30000, (3, 9))], "attention_mask": [np.tri(3, 9, 5, dtype=np.int64)]}
    for pipeline in ("fold-shapes", "simplify", "simplify,fuse"):
        graph = ir.load(path)
        passes.run(graph, pipeline)
        assert [group.size for group in analysed(ir.emit(graph), heads=True)[1].groups] == [12] * 6
        pruned(graph, 0.4, values=values, bindings=({"batch": 3, "length": 9},), heads=True)
