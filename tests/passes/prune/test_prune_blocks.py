"""Blocks are left out: what is left gives what the model gives with zeros for their branches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.ir import DType, Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.models.architectures import ARCHITECTURES
from planish.passes import PassError, PassRecord, PipelineError
from planish.passes.errors import CalibrationError
from planish.passes.prune.block_scores import BlockScores, load_block_scores
from planish.passes.prune.budget import EXTENT
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.residual import residual_blocks
from planish.passes.run import Fp
from tests.equivalence import Inputs, feeds_for, op_types, same_interface
from tests.passes.prune import counted
from tests.passes.prune.attentions import WORDS, layer
from tests.passes.prune.pruned import same
from tests.passes.prune.topologies import TOPOLOGIES, Net

_SHAPES = ({"N": 1, "T": 1}, {"N": 2, "T": 3})
_IMAGE = ("N", 8, 4, 4)


def without(proto: onnx.ModelProto, gone: Sequence[str]) -> onnx.ModelProto:
    """With zeros for the branches of some blocks."""
    graph = ir.load(proto)
    for block in residual_blocks(graph):
        if block.name in gone and block.end.graph is not None:
            nothing = Node("Mul", (block.skip, constant(np.zeros((), np.float32))))
            block.end.graph.insert(nothing, before=block.end)
            infer(nothing)
            block.end.graph.set_operand(block.end, 1 - block.entry[1], nothing.result)
    return ir.emit(graph)


def done(model: Graph | onnx.ModelProto, stage: PruneBlocks, fp: Fp = "default") -> tuple[Graph, PassRecord]:
    before = ir.emit(model) if isinstance(model, Graph) else model
    graph = ir.load(before)
    (record,) = passes.run(graph, (stage,), fp=fp)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    same_interface(before, after)
    return graph, record


def held(
    model: Graph, stage: PruneBlocks, shapes: Sequence[Mapping[str, int]] = _SHAPES, tolerance: float = 1e-6
) -> list[str]:
    """Names of the blocks that went; raises AssertionError where the result is another one."""
    before = ir.emit(model)
    graph, record = done(before, stage)
    gone = [rewrite.result for rewrite in record.rewrites]
    values = {v.name: [np.ones((2, 7), np.int64)] for v in model.inputs if v.dtype is DType.INT64}
    for feeds in feeds_for(before, Inputs(bindings=shapes, kinds=("ordinary",), values=values), ("ordinary",)):
        same(without(before, gone), ir.emit(graph), feeds, tolerance)
    return [name.removesuffix("_out") for name in gone]


def scored(**numbers: float) -> BlockScores:
    """By the names of nodes, whose results are named after them."""
    return BlockScores.from_mapping({f"{name}_out": number for name, number in numbers.items()})


def tower(scales: Sequence[float], *, pre: bool = True, shared: bool = False) -> Graph:
    """Attention and inner layers in turn, with a normalization before or behind; the last weights are so large."""
    n = Net(WORDS)
    x, norm = n.x, (n.positive(12), n.weight(12))
    for place, scale in enumerate(scales):
        norm = norm if shared else (n.positive(12), n.weight(12))
        y = _normed(n, x, norm) if pre else x
        y = layer(n, y) if place % 2 == 0 else n.op("Gelu", n.linear(y, (12, 16)))
        last = n.random.standard_normal((12 if place % 2 == 0 else 16, 12)).astype(np.float32)
        x = n.b.node("Add", (x, n.op("MatMul", y, n.b.constant(scale * last))), name=f"sum{place}")
        x = x if pre else _normed(n, x, norm)
    return n.end(n.linear(x, (12, 3)))


def _normed(n: Net, x: Value, norm: tuple[Value, Value]) -> Value:
    return n.b.node("LayerNormalization", (x, *norm), {"axis": -1, "epsilon": 1e-2})


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_the_blocks_with_the_least_last_weights_go(importance: str, pre: bool, shared: bool) -> None:
    graph = tower((1.0, 0.01, 0.02, 1.0, 1.0, 0.5), pre=pre, shared=shared)
    (stage,) = passes.parse(f"prune-blocks{{ratio=0.34,importance={importance}}}")
    assert isinstance(stage, PruneBlocks)
    assert held(graph, stage) == ["sum1", "sum2"]


def test_a_normalization_behind_a_block_stays() -> None:
    graph = tower((1.0, 0.01), pre=False)
    before, after = (op_types(ir.emit(g).graph) for g in (graph, done(graph, PruneBlocks(count=1))[0]))
    assert before.count("LayerNormalization") == after.count("LayerNormalization") == 2
    assert "Gelu" in before
    assert "Gelu" not in after


def test_weights_of_what_goes_leave_the_file() -> None:
    graph, _ = done(tower((1.0, 0.01)), PruneBlocks(count=1))
    sizes = sorted(tensor.dims[0] for tensor in ir.emit(graph).graph.initializer if len(tensor.dims) == 2)
    assert 16 in sizes  # the values of attention: the inner layer's [16, 12] is gone
    assert len(ir.emit(graph).graph.initializer) < len(ir.emit(tower((1.0, 0.01))).graph.initializer)


def test_weights_that_another_layer_shares_stay() -> None:
    n = Net(WORDS)
    w, x = n.b.initializer("w", n.random.standard_normal((12, 12)).astype(np.float32)), n.x
    for place in range(3):
        x = n.b.node("Add", (x, n.op("Relu", n.op("MatMul", x, w))), name=f"sum{place}")
    graph = n.end(x)
    assert len(held(graph, PruneBlocks(count=2, importance="random"))) == 2
    assert [tensor.name for tensor in ir.emit(done(graph, PruneBlocks(count=2))[0]).graph.initializer] == ["w"]


@pytest.mark.parametrize("name", ["residual", "inverted-residual"])
def test_one_block_stays(name: str) -> None:
    assert held(TOPOLOGIES[name](), PruneBlocks(ratio=1.0), ({"N": 2},)) == []
    assert len(held(tower((1.0,) * 4), PruneBlocks(ratio=1.0))) == 3
    assert len(held(tower((1.0,) * 4), PruneBlocks(count=9))) == 3


def test_a_sum_that_is_an_output() -> None:
    """The last sum is one, and what is left of the first is the model's input: each goes on under its own name."""
    n = Net(_IMAGE)
    x = n.x
    for place in range(3):
        x = n.b.node("Add", (x, n.conv(x, (8, 8))), name=f"sum{place}")
        n.b.output(f"y{place}", x)
    graph = n.b.graph()
    for gone in (["y0"], ["y0", "y1"], ["y1", "y2"], ["y2"]):
        scores = BlockScores.from_mapping(dict.fromkeys(gone, 0.0))
        assert held(graph, PruneBlocks(count=3, scores=scores), ({"N": 2},)) == gone


def test_blocks_of_a_nested_graph() -> None:
    n = Net(WORDS)
    flag = n.b.input("flag", DType.BOOL, ())
    whole = n.b
    graphs: list[Graph] = []
    for name in ("then_branch", "else_branch"):
        n.b, x = whole.body(name), n.x
        for place in range(2):
            x = n.b.node("Add", (x, layer(n, x)), name=f"{name}{place}")
        n.b.output(f"{name}_out", x)
        graphs.append(n.b.graph())
    n.b = whole
    graph = n.end(n.b.node("If", (flag,), dict(zip(("then_branch", "else_branch"), graphs, strict=True))))
    assert len(held(graph, PruneBlocks(count=3))) == 3


def test_scores_decide() -> None:
    graph = tower((1.0, 0.01, 0.02, 1.0))
    scores = scored(sum3=0.5, sum0=-1.0, sum1=9.0, elsewhere=0.0)
    assert held(graph, PruneBlocks(count=2, scores=scores)) == ["sum0", "sum3"]
    assert held(graph, PruneBlocks(count=4, scores=scored(sum2=3.0))) == ["sum2"]
    _, record = done(graph, PruneBlocks(count=1, scores=scores))
    assert record.notes == ["the scores name 'elsewhere_out', which is no residual block here"]


def test_scores_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "blocks.json"
    path.write_text(json.dumps({"sum0": 0.25, "sum1": 2}))
    assert load_block_scores(path).numbers == (("sum0", 0.25), ("sum1", 2.0))
    (stage,) = passes.parse(f'prune-blocks{{count=1,scores="{path}"}}')
    assert stage == PruneBlocks(count=1, scores=load_block_scores(path))
    assert passes.parse(passes.format_pipeline((stage,))) == (stage,)


@pytest.mark.parametrize(
    ("text", "match"),
    [("[1]", "must be an object"), ("{", "is not JSON"), ('{"a": "b"}', "'a' takes a finite number, not 'b'"),
     ('{"a": true}', "not True"), ('{"a": NaN}', "not nan")],
)  # fmt: skip
def test_scores_that_are_none(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "blocks.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=match):
        load_block_scores(path)
    with pytest.raises(PipelineError, match=match):
        passes.parse(f'prune-blocks{{scores="{path}"}}')
    with pytest.raises(CalibrationError, match=r"gone\.json: cannot be read"):
        load_block_scores(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("options", "match"),
    [("ratio=1.5", "ratio from 0 to 1"), ("ratio=nan", "ratio from 0 to 1"), ("count=-1", "count of at least 0"),
     ("importance=beauty", "importance as one of l1, l2, random")],
)  # fmt: skip
def test_options_that_are_none(options: str, match: str) -> None:
    with pytest.raises(PipelineError, match=match):
        passes.parse(f"prune-blocks{{{options}}}")


def test_blocks_of_a_name_stay() -> None:
    graph = tower((1.0, 0.01, 0.02, 9.0))
    assert held(graph, PruneBlocks(count=2, keep="sum1|sum9")) == ["sum0", "sum2"]
    assert held(graph, PruneBlocks(count=2, keep="*")) == []


def test_scales_behind_the_last_weights_count() -> None:
    """Of a BatchNormalization, its scale alone; of a factor, what it multiplies with."""
    n = Net(_IMAGE)
    x = n.x
    for place, (scale, factor) in enumerate(((1.0, 1.0), (0.1, 1.0), (1.0, 0.01))):
        parameters = [n.b.constant(np.full(8, value, np.float32)) for value in (scale, 0.1, 0.0, 1.0)]
        y = n.op("BatchNormalization", n.op("Conv", x, n.weight(8, 8, 1, 1)), *parameters)
        y = n.op("Mul", y, n.b.constant(np.full((8, 1, 1), factor, np.float32)))
        x = n.b.node("Add", (x, y), name=f"sum{place}")
    graph = n.head(x, 8)
    assert held(graph, PruneBlocks(count=1), ({"N": 2},)) == ["sum2"]
    assert held(graph, PruneBlocks(count=2), ({"N": 2},)) == ["sum1", "sum2"]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_have_no_rank(number: float) -> None:
    graph = tower((number, 1.0, number))
    _, record = done(graph, PruneBlocks(count=3))
    assert [rewrite.result for rewrite in record.rewrites] == ["sum1_out"]
    assert [note.split()[0] for note in record.notes] == ["sum0_out", "sum2_out"]


def test_nothing_to_leave_out() -> None:
    for stage in (PruneBlocks(ratio=0.0), PruneBlocks(keep="sum*")):
        assert not done(tower((1.0, 1.0)), stage)[1].rewrites
    assert not done(TOPOLOGIES["chain"](), PruneBlocks(ratio=1.0))[1].rewrites
    assert not done(tower((1.0, 1.0)), PruneBlocks(ratio=1.0), fp="strict")[1].rewrites


def test_a_limit_stops_it() -> None:
    for limit in (0, 1, 2):
        graph = tower((1.0,) * 4)
        (record,) = passes.run(graph, (PruneBlocks(count=3),), limit=limit)
        assert len(record.rewrites) == limit
        assert len(residual_blocks(graph)) == 4 - limit
        assert all(rewrite.rule == "remove-block" and rewrite.sources for rewrite in record.rewrites)


def test_a_second_turn_in_one_run_takes_no_more() -> None:
    found: list[bytes] = []
    for pipeline in ("prune-blocks", "fixpoint(prune-blocks)"):
        graph = tower((1.0, 0.5, 0.2, 0.1))
        passes.run(graph, pipeline)
        found.append(ir.emit(graph).SerializeToString())
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "vit-small", "swin-tiny", "convnext-tiny", "resnet50", "efficientnet-b0"])
def test_architectures(name: str) -> None:
    graph = ARCHITECTURES[name]("dynamo")
    passes.run(graph, "simplify")
    symbols = {str(dim) for value in graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    gone = held(graph, PruneBlocks(ratio=0.5), [dict.fromkeys(symbols, 2)], tolerance=1e-5)
    assert len(gone) == len(residual_blocks(graph)) // 2


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.lowering
@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "efficientnet-lite0"])
def test_zoo(name: str, bring: Callable[[str], Path]) -> None:
    graph = ir.load(bring(name))
    passes.run(graph, "simplify")
    symbols = {str(dim) for value in graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    assert len(held(graph, PruneBlocks(count=3), [dict.fromkeys(symbols, 2)], tolerance=1e-5)) == 3


@pytest.mark.parametrize("option", ["macs", "params"])
@pytest.mark.parametrize("shared", [False, True])
def test_blocks_go_until_it_is_enough(option: str, shared: bool) -> None:
    """In the order of their importance, and not one more."""
    graph = tower((1.0, 0.01, 0.02, 0.8, 0.9, 0.5), shared=shared)
    counts = [cost(done(graph, PruneBlocks(count=count))[0] if count else graph, option) for count in range(6)]
    for part in (0.95, 0.7, 0.5):
        wanted = next(place for place, left in enumerate(counts) if left / counts[0] <= part)
        macs, params = (part if name == option else None for name in ("macs", "params"))
        gone = held(graph, PruneBlocks(macs=macs, params=params))
        assert gone == ["sum1", "sum2", "sum5", "sum3", "sum4"][:wanted]


def test_blocks_that_are_not_enough() -> None:
    graph = tower((1.0, 0.01, 0.02))
    for text, message in (
        ("macs=0.01", r"macs=0\.01 is out of reach: 0\.\d+ of the multiply-accumulates stay .*: one block stays"),
        ("params=0.5,keep=*", r"params=0\.5 is out of reach: 1 of the parameters stay .*: keep=\*, one block stays"),
    ):
        with pytest.raises(PassError, match=message):
            passes.run(ir.load(ir.emit(graph)), f"prune-blocks{{{text}}}")
    with pytest.raises(PassError, match=r"macs=0\.5 is out of reach: 1 of the"):
        passes.run(TOPOLOGIES["chain"](), "prune-blocks{macs=0.5}")
    assert not done(graph, PruneBlocks(macs=1))[1].rewrites
    (record,) = passes.run(graph, "prune-blocks{macs=0.01}", limit=1)
    assert len(record.rewrites) == 1


def test_weights_that_blocks_share_go_with_the_last_of_them() -> None:
    n = Net(WORDS)
    w, x = n.b.initializer("w", n.random.standard_normal((12, 12)).astype(np.float32)), n.x
    for place in range(3):
        x = n.b.node("Add", (x, n.op("MatMul", n.op("Relu", x), w)), name=f"sum{place}")
    graph = n.end(n.linear(x, (12, 12)))
    with pytest.raises(PassError, match=r"params=0\.9 is out of reach: 1 of the parameters stay"):
        passes.run(ir.load(ir.emit(graph)), "prune-blocks{params=0.9,importance=random}")
    assert len(held(graph, PruneBlocks(macs=0.5, importance="random"))) == 2


def cost(graph: Graph, option: str) -> int:
    return counted.macs(graph, {"N": 1, "T": EXTENT}) if option == "macs" else counted.parameters(graph)
