"""What each group may lose, held against what the model without it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.models.tasks import load
from planish.models.zoo import fetch
from planish.passes.prune.importance import Importance
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.selection import select
from planish.passes.quantize.gram import Gram
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.pruning.forms import in_form, macs, pruned
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.pruning.sensitivity import Sensitivity
from planish.runtime.samples import parts_of

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
    ir.save(pruned(found.form, found.measured, ratios), tmp_path / "small.onnx")
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
        one = Sensitivity(found.form, found.measured, grams, found.references, TARGET, tmp_path)
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
