"""How much must go for a part of the multiply-accumulates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planish import ir, passes
from planish.models.zoo import fetch
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.providers import Target
from planish.runtime.pruning.forms import in_form, macs, ratio_for

SHAPES = {"image": (1, 1, 8, 8)}


def test_normalizations_stay_for_their_scales(tmp_path: Path) -> None:
    operators = [{n.op for n in in_form(fetch("digits-cnn"), kind, Target()).nodes} for kind in ("bn-scale", "l2")]
    assert ["BatchNormalization" in found for found in operators] == [True, False]


@pytest.mark.parametrize("part", [0.7, 0.3])
def test_the_least_that_must_go(tmp_path: Path, part: float) -> None:
    form, small, pruning = tmp_path / "form.onnx", tmp_path / "small.onnx", PruneChannels()
    ir.save(in_form(fetch("digits-cnn"), "l2", Target()), form)
    whole, ratio = macs(form, SHAPES), ratio_for(part, form, pruning, SHAPES)
    assert whole is not None
    assert ratio is not None
    for factor in (1, 0.98):
        graph = ir.load(form)
        passes.run(graph, (replace(pruning, ratio=factor * ratio),))
        ir.save(graph, small)
        found = macs(small, SHAPES)
        assert found is not None
        assert (found <= part * whole) == (factor == 1)


def test_what_cannot_be_had(tmp_path: Path) -> None:
    ir.save(in_form(fetch("digits-cnn"), "l2", Target()), tmp_path / "form.onnx")
    assert ratio_for(1e-6, tmp_path / "form.onnx", PruneChannels(), SHAPES) is None
    assert ratio_for(0.5, tmp_path / "form.onnx", PruneChannels(keep="*"), SHAPES) is None
