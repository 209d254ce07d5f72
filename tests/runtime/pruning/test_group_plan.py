"""What each group may lose, heads and channels, held against what the model without it gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import DType, Graph
from planish.ir.ops.channels.atoms import Flags
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance import Importance
from planish.passes.prune.masking import mask_channels
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.prune_heads import PruneHeads
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.selection import select
from planish.passes.quantize.gram import Gram
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.pruning.forms import in_form, macs
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.pruning.sensitivity import Sensitivity
from planish.runtime.samples import Parts, parts_of
from planish.runtime.session import Feed
from tests.equivalence import run
from tests.passes.prune.attentions import ATTENTIONS, WORDS, transformer
from tests.passes.prune.pruned import alike
from tests.passes.prune.topologies import Net

SHAPES = {"image": (1, 1, 8, 8)}
TARGET = Target(threads=1)


def plan(folder: Path, pruning: PruneChannels) -> GroupPlan:
    ir.save(in_form(fetch("digits-cnn"), pruning.importance, TARGET), folder / "form.onnx")
    samples = parts_of(load("digits"), 24)
    return GroupPlan(folder / "form.onnx", pruning, samples, SHAPES, TARGET, folder, silent)


@pytest.mark.parametrize("importance", ["obs", "l2", "variance"])
def test_curves_rise_from_nothing(importance: Importance, tmp_path: Path) -> None:
    found = plan(tmp_path, PruneChannels(importance=importance))
    assert list(found.curves) == ["bn1_out", "block.bn1_out", "bn2_out", "fc1"]
    for key, curve in found.curves.items():
        assert curve.size == found.by_key[key].size
        assert curve.errors[0] == 0
        assert (np.diff(curve.errors) >= 0).all()
        assert np.isfinite(curve.errors).all()
        assert 0 < curve.errors[-1] < 100


@pytest.mark.parametrize("part", [0.7, 0.4])
def test_the_part_that_was_asked_for(part: float, tmp_path: Path) -> None:
    found = plan(tmp_path, PruneChannels(importance="obs", round_to=4))
    ratios = found.ratios(part)
    assert ratios is not None
    ir.save(found.pruned(ratios), tmp_path / "small.onnx")
    whole, left = macs(found.form, SHAPES), macs(tmp_path / "small.onnx", SHAPES)
    assert whole is not None
    assert left is not None
    assert 0.8 * part * whole < left <= part * whole
    losses = found.losses(ratios)
    assert {loss.name: loss.gone for loss in losses} == {key: count for key, count in ratios.parts if count}
    assert all((loss.units - loss.gone) % 4 == 0 for loss in losses)


def test_groups_that_are_kept_keep_all(tmp_path: Path) -> None:
    found = plan(tmp_path, PruneChannels(importance="obs", keep="block*"))
    assert "block.bn1_out" not in found.curves
    assert found.ratios(0.05) is None


def test_fitting_readers_anew_spares_the_outputs(tmp_path: Path) -> None:
    """A group alone, with its readers fitted and without, and with nothing gone."""
    found = plan(tmp_path, PruneChannels(importance="obs"))
    group, key = found.by_key["block.bn1_out"], "block.bn1_out"
    noises: list[float] = []
    for grams in (found.seen.grams, dict[str, Gram]()):
        one = Sensitivity(found.form, found.measured, grams, found.judging.grams, found.references, TARGET, tmp_path)
        (gone,) = select([group], [found.measured.scores_of(key, group)], [6.0])
        noises.append(one.noise(key, group, gone))
    assert 0 < noises[0] < 0.5 * noises[1]


def test_losses_of_one_ratio_for_all(tmp_path: Path) -> None:
    found = plan(tmp_path, PruneChannels(importance="l1"))
    assert {loss.name: loss.gone for loss in found.losses(0.5)} == {
        "bn1_out": 8, "block.bn1_out": 8, "bn2_out": 16, "fc1": 32,
    }  # fmt: skip
    assert found.part_of(found.losses(0.5)) == 0.5
    assert found.losses(Ratios(())) == ()


# Heads

EXTENTS = {"N": 2, "T": 7, "S": 3}


def given(graph: Graph, seed: int) -> dict[str, Feed]:
    rng = np.random.default_rng(seed)
    found: dict[str, Feed] = {}
    for value in graph.inputs:
        shape = [dim if isinstance(dim, int) else EXTENTS[str(dim)] for dim in value.shape or ()]
        is_flag = value.dtype == DType.BOOL
        found[value.name] = np.ones(shape, np.bool_) if is_flag else rng.standard_normal(shape).astype(np.float32)
    return found


def heads_plan(folder: Path, graph: Graph, pruning: PruneChannels) -> GroupPlan:
    ir.save(graph, folder / "form.onnx")
    samples = [given(graph, seed) for seed in range(9)]
    parts = parts_of(samples, None)
    again: Parts[object] = Parts(parts.runner, [list(part) for part in parts.parts], parts.first, 1)
    shapes = {name: np.shape(feed) for name, feed in samples[0].items() if isinstance(feed, np.ndarray)}
    return GroupPlan(folder / "form.onnx", pruning, again, shapes, TARGET, folder, silent)


def sliced_as_masked(found: GroupPlan, how: Ratios) -> None:
    """What the passes leave, against the model with zeros wherever one of them takes something."""
    sliced = ir.emit(found.pruned(how))
    groups: list[Group] = []
    gone: list[Flags] = []
    for pruning in found.prunings(how):
        of_pass = [each.group for each in found.candidates.values() if each.pruning.name == pruning.name]
        chosen, flags = pruning.choose(of_pass)
        groups, gone = [*groups, *chosen], [*gone, *flags]
    assert sum(int(flags.sum()) for flags in gone) == sum(count for _, count in how.parts)
    mask_channels(found.graph, groups, gone)
    masked = ir.emit(found.graph)
    feeds = given(ir.load(masked), 99)
    alike(masked, run(masked, feeds), run(sliced, feeds), 1e-5)


@pytest.mark.parametrize("importance", ["obs", "l2", "taylor"])
def test_heads_that_are_free_go_first(importance: Importance, tmp_path: Path) -> None:
    found = heads_plan(tmp_path, transformer(free=2), PruneChannels(importance=importance))
    heads = [key for key in found.curves if key.endswith(" (heads)")]
    assert [found.by_key[key].is_heads for key in heads] == [True, True]
    assert [found.curves[key].gone for key in heads] == [(0, 1, 2, 3)] * 2
    assert found.curves[heads[1]].errors[2] < 1e-3 * found.curves[heads[0]].errors[2]
    ratios = found.ratios(0.8)
    assert ratios is not None
    assert ratios.of(heads[1]) == 2
    losses = {(loss.name, loss.is_heads): loss.gone for loss in found.losses(ratios)}
    assert losses[heads[1].removesuffix(" (heads)"), True] == 2
    whole = macs(found.form, found.shapes)
    ir.save(found.pruned(ratios), tmp_path / "small.onnx")
    left = macs(tmp_path / "small.onnx", found.shapes)
    assert whole is not None
    assert left is not None
    assert 0.7 * whole < left <= 0.8 * whole
    assert found.cost({key: found.by_key[key].size - int(count) for key, count in ratios.parts}) == pytest.approx(left)
    sliced_as_masked(found, ratios)


@pytest.mark.parametrize("part", [0.8, 0.5, 0.3])
def test_of_a_layer_heads_or_their_elements(part: float, tmp_path: Path) -> None:
    found = heads_plan(tmp_path, transformer(), PruneChannels(importance="l2"))
    assert {len(found.rivals[key]) for key in found.curves if key.endswith(" (heads)")} == {2}
    assert all(not found.rivals[key] for key, group in found.by_key.items() if group.size == 48)
    ratios = found.ratios(part)
    assert ratios is not None
    gone = {key for key, count in ratios.parts if count}
    assert not any(gone & set(found.rivals[key]) for key in gone)
    sliced_as_masked(found, ratios)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_heads_of_every_spelling_beside_other_channels(name: str, tmp_path: Path) -> None:
    """All groups that have no rival among those before lose something, or what they may lose in one step."""
    pruning = PruneChannels(importance="obs", merge_bias=False)
    found = heads_plan(tmp_path, ir.load(ir.emit(ATTENTIONS[name][0]())), pruning)
    counts: dict[str, float] = {}
    for key, curve in found.curves.items():
        if not any(counts.get(rival) for rival in found.rivals[key]):
            counts[key] = float(curve.gone[1])
    assert name == "nested" or any(found.by_key[key].is_heads for key in counts)
    sliced_as_masked(found, Ratios.from_mapping(counts))


def test_a_fused_attention_loses_heads_and_what_stands_behind_it_channels(tmp_path: Path) -> None:
    """Its elements are counted over all heads, and fewer once some of these are gone."""
    n = Net(WORDS, opset=23)
    q, k, v = (n.linear(n.x, (12, 32)) for _ in range(3))
    y = n.linear(n.b.node("Attention", (q, k, v), {"q_num_heads": 4, "kv_num_heads": 4}), (32, 12))
    y = n.linear(n.op("Gelu", n.linear(y, (12, 48))), (48, 12))
    found = heads_plan(tmp_path, ir.load(ir.emit(n.end(y))), PruneChannels(importance="obs"))
    (heads,) = [key for key in found.curves if key.endswith(" (heads)")]
    (inner,) = [key for key in found.curves if found.by_key[key].size == 48]
    assert any(found.by_key[key].size == 32 for key in found.rivals[heads])
    sliced_as_masked(found, Ratios.from_mapping({heads: 2, inner: 24}))


def test_heads_that_are_kept_and_heads_alone(tmp_path: Path) -> None:
    kept = heads_plan(tmp_path, transformer(), PruneChannels(importance="l2", keep="*MatMul*|*Reshape*"))
    assert not any(key.endswith(" (heads)") for key in kept.curves)
    alone = heads_plan(tmp_path, transformer(), PruneHeads(importance="obs"))
    assert [group.is_heads for group in alone.by_key.values()] == [True, True]
    ratios = alone.ratios(0.8)
    assert ratios is not None
    sliced_as_masked(alone, ratios)


def test_blocks_of_weights_are_rounded_and_not_heads(tmp_path: Path) -> None:
    """Of heads of 8 elements, 16 columns stay at least: an even number of heads."""
    found = heads_plan(tmp_path, transformer(), PruneChannels(importance="obs", round_to=16))
    assert [c.gone for key, c in found.curves.items() if key.endswith(" (heads)")] == [(0, 2)] * 2


def test_weights_alone_need_no_samples(tmp_path: Path) -> None:
    found = heads_plan(tmp_path, transformer(), PruneChannels(importance="l2"))
    nothing = replace(found, samples=replace(found.samples, parts=[]))
    assert nothing.measured == PruneChannels(importance="l2")
    assert nothing.measured_heads == PruneHeads(importance="l2", ratio=nothing.measured_heads.ratio)
    assert [loss.gone for loss in nothing.losses(0.5)] == [loss.gone for loss in found.losses(0.5)]


def test_one_part_of_every_group_is_of_channels(tmp_path: Path) -> None:
    found = heads_plan(tmp_path, transformer(), PruneChannels(importance="l2"))
    assert [pruning.name for pruning in found.prunings(0.5)] == ["prune-channels"]
    assert not any(loss.is_heads for loss in found.losses(0.5))
