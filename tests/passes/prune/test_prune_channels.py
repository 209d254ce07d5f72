"""The pass: its options, its records, and what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import Graph
from planish.passes import PassError, PassRecord, PipelineError
from planish.passes.prune.dependency import dependencies
from planish.passes.prune.importance.unit_scores import UnitScores
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.passes.run import Fp
from tests.equivalence import same_interface
from tests.passes.prune.pruned import parameters
from tests.passes.prune.topologies import TOPOLOGIES, Net, fused_attention, residual


@dataclass(frozen=True)
class Done:
    graph: Graph
    record: PassRecord
    left: float
    """Of the parameters."""


def done(graph: Graph, pipeline: str = "prune-channels", fp: Fp = "default") -> Done:
    before = ir.emit(graph)
    loaded = ir.load(before)
    records = passes.run(loaded, pipeline, fp=fp)
    after = ir.emit(loaded)
    same_interface(before, after)
    return Done(loaded, records[-1], parameters(after) / parameters(before))


def widths(graph: Graph) -> list[int]:
    """Filters of the convolutions, in order."""
    shapes = [node.operands[1].shape for node in graph.walk() if node.op == "Conv" and node.operands[1] is not None]
    return [dim for shape in shapes if shape is not None and isinstance(dim := shape[0], int)]


@pytest.mark.parametrize("importance", ["l1", "l2", "bn-scale", "geometric-median", "random"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_every_importance_halves_a_net(importance: str, scope: str) -> None:
    found = done(TOPOLOGIES["downsampling"](), f"prune-channels{{ratio=0.5,importance={importance},scope={scope}}}")
    assert found.left < 0.45
    assert found.record.rewrites
    assert all(rewrite.sources for rewrite in found.record.rewrites)


@pytest.mark.parametrize("ratio", ["-0.1", "1.5", "nan"])
def test_a_ratio_that_is_none(ratio: str) -> None:
    with pytest.raises(PipelineError, match="prune-channels takes ratio from 0 to 1"):
        passes.parse(f"prune-channels{{ratio={ratio}}}")


def test_options_that_are_none() -> None:
    with pytest.raises(PipelineError, match="round-to of at least 1"):
        passes.parse("prune-channels{round-to=0}")
    with pytest.raises(PipelineError, match="importance as one of l1, l2"):
        passes.parse("prune-channels{importance=beauty}")


def test_a_pipeline_names_its_options() -> None:
    stage = PruneChannels(ratio=0.25, importance="l1", scope="global", round_to=8, keep="stem*|head", inexact=True)
    assert passes.parse(passes.format_pipeline((stage,))) == (stage,)


def test_no_axis_is_emptied() -> None:
    assert widths(done(residual(), "prune-channels{ratio=1}").graph) == [1, 1, 1]
    assert widths(done(residual(), "prune-channels{ratio=1,scope=global}").graph) == [1, 1, 1]


def test_ratio_of_zero_changes_nothing() -> None:
    found = done(residual(), "prune-channels{ratio=0}")
    assert not found.record.rewrites
    assert found.left == 1


def test_strict_lets_nothing_go() -> None:
    found = done(residual(), fp="strict")
    assert not found.record.rewrites
    assert found.left == 1


def test_a_second_turn_in_one_run_takes_no_more() -> None:
    once, twice = done(residual()), done(residual(), "fixpoint(prune-channels)")
    assert ir.emit(once.graph).SerializeToString() == ir.emit(twice.graph).SerializeToString()


@pytest.mark.parametrize(("round_to", "expected"), [(1, 12), (4, 12), (8, 16), (5, 15), (7, 14), (32, 24)])
def test_what_stays_is_round(round_to: int, expected: int) -> None:
    n = Net(("N", 3, 4, 4))
    found = done(n.head(n.block(n.x, (3, 24)), 24), f"prune-channels{{ratio=0.5,round-to={round_to}}}")
    assert widths(found.graph) == [expected]


def test_groups_of_a_name_stay() -> None:
    """A layer that stays keeps the channels that it reads, too."""
    graph = TOPOLOGIES["chain"]()
    names = [node.label for node in ir.load(ir.emit(graph)).nodes if node.op == "Conv"]
    assert widths(done(graph, f"prune-channels{{keep={names[2]}}}").graph) == [8, 24, 16]
    assert widths(done(graph, f"prune-channels{{keep=none|{names[0]}}}").graph) == [16, 12, 8]
    assert widths(done(graph, "prune-channels{keep=*}").graph) == [16, 24, 16]


def test_the_least_go() -> None:
    """Two channels whose weights are a thousandth of the others'."""
    n = Net(("N", 3, 4, 4))
    weights, readers = (n.random.standard_normal(shape).astype(np.float32) for shape in ((8, 3, 1, 1), (8, 5)))
    weights[[2, 5]] *= 1e-3
    readers[[2, 5]] *= 1e-3
    first, last = n.b.constant(weights), n.b.constant(readers)
    pooled = n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", n.op("Conv", n.x, first))))
    expected = np.delete(weights, [2, 5], axis=0)
    found = done(n.end(n.op("MatMul", pooled, last)), "prune-channels{ratio=0.25}")
    (conv,) = [node for node in found.graph.nodes if node.op == "Conv"]
    assert conv.operands[1] is not None
    assert conv.operands[1].constant is not None
    assert np.array_equal(conv.operands[1].constant.array(), expected)


def test_a_mean_over_channels_is_noted_where_it_is_let_go() -> None:
    n = Net(("N", "T", 6))
    x = n.b.node("LayerNormalization", (n.linear(n.x, (6, 16)), n.positive(16)), {"axis": -1}, name="norm")
    graph = n.end(n.linear(x, (16, 2)))
    whole = done(graph)
    assert whole.left == 1
    assert [note for note in whole.record.notes if "inexact=true" in note and "LayerNormalization norm" in note]
    found = done(graph, "prune-channels{inexact=true}")
    assert found.left < 0.6
    assert any("norm" in note and "8 units" in note for note in found.record.notes), found.record.notes


def test_heads_keep_their_number_and_their_scale() -> None:
    found = done(fused_attention(8, 2), "prune-channels{ratio=0.5}")
    (node,) = [node for node in found.graph.nodes if node.op == "Attention"]
    assert node.get_int("q_num_heads") == 8
    assert node.get_float("scale") == pytest.approx(8**-0.5)
    assert [operand.shape[2] for operand in node.operands if operand is not None and operand.shape] == [32, 8, 8]


def test_a_limit_stops_it() -> None:
    """A group is one rewrite."""
    for limit, expected in ((0, [16, 24, 16]), (1, [8, 24, 16]), (2, [8, 12, 16]), (9, [8, 12, 8])):
        graph = TOPOLOGIES["chain"]()
        (record,) = passes.run(graph, "prune-channels", limit=limit)
        assert widths(graph) == expected
        assert [rewrite.rule for rewrite in record.rewrites] == ["remove-units"] * min(limit, 3)


def test_weights_that_are_not_finite_have_no_rank() -> None:
    """What a NaN is worth nobody can say: the group stays as it is."""
    n = Net(("N", 3, 4, 4))
    weights = np.ones((8, 3, 1, 1), np.float32)
    weights[3] = np.nan
    x = n.op("Relu", n.op("Conv", n.x, n.b.constant(weights)))
    readers = n.b.constant(np.full((8, 2, 4, 4), np.inf, np.float32))
    graph = n.end(n.op("ConvTranspose", x, readers))
    assert widths(done(graph).graph) == [8]


def test_each_group_loses_its_own_part() -> None:
    """Numbers of units, parts, globs; a group that nothing names stays, and so does one that is kept."""
    graph = TOPOLOGIES["chain"]()
    names = [group.name for group in dependencies(ir.load(ir.emit(graph))).groups]
    assert len(names) == 3
    for ratios, keep, wanted in (
        ({names[0]: 3, names[1]: 0.5}, "", [13, 12, 16]),
        ({"*": 0.25, names[2]: 0}, "", [12, 18, 16]),
        ({"*": 1000}, "", [1, 1, 1]),
        ({"*": 4}, names[1], [16, 24, 12]),  # what reads the first group has that name
        ({}, "", [16, 24, 16]),
    ):
        loaded = ir.load(ir.emit(graph))
        stage = PruneChannels(ratios=Ratios.from_mapping(ratios), keep=keep)
        passes.run(loaded, (stage,))
        assert widths(loaded) == wanted


def test_what_was_measured_decides() -> None:
    """The units with the lowest scores go, of groups that were measured; one of which there is no opinion stays."""
    graph = TOPOLOGIES["chain"]()
    loaded = ir.load(ir.emit(graph))
    first = dependencies(loaded).groups[0]
    scores = np.arange(first.size, dtype=np.float64)[::-1].copy()
    scores[-1] = np.inf
    before = next(node for node in loaded.walk() if node.op == "Conv").operands[1]
    measured = UnitScores({first.name: {"zeros": scores}})
    passes.run(loaded, (PruneChannels(importance="zeros", ratio=0.5, scores=measured),))
    after = next(node for node in loaded.walk() if node.op == "Conv").operands[1]
    assert widths(loaded) == [8, 24, 16]
    assert before is not None
    assert before.constant is not None
    assert after is not None
    assert after.constant is not None
    assert np.array_equal(after.constant.array(), before.constant.array()[[*range(7), 15]])


@pytest.mark.parametrize("option", ["scores", "ratios"])
def test_files_that_are_none(option: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    for name in ("bad.json", "missing.json"):
        with pytest.raises(PipelineError, match=f"prune-channels takes {option} as .*{name}"):
            passes.parse(f'prune-channels{{{option}="{tmp_path / name}"}}')


def test_options_from_files_round_trip(tmp_path: Path) -> None:
    (tmp_path / "ratios.json").write_text('{"a*": 0.5}')
    text = f'prune-channels{{ratios="{tmp_path / "ratios.json"}"}}'
    assert passes.parse(passes.format_pipeline(passes.parse(text))) == passes.parse(text)


def test_a_criterion_of_samples_needs_scores() -> None:
    with pytest.raises(PassError, match="importance=obs takes scores"):
        passes.run(TOPOLOGIES["chain"](), "prune-channels{importance=obs}")
