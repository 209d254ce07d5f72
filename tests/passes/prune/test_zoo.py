"""Real models without 30 % of their channels run at every shape, and give what they give with zeros in these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from planish import ir
from planish.models.zoo import ZOO
from planish.passes.prune.masking import mask_channels
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from planish.runtime.providers import Target
from planish.runtime.session import Session
from tests.conformance.test_zoo import feeds_for
from tests.passes.prune.pruned import analysed, at_random, parameters, same
from tests.zoo_models import EVERY

pytestmark = [pytest.mark.slow, pytest.mark.network]
_PLAIN = Target(threads=1, optimization="disabled")


@pytest.mark.parametrize("name", EVERY)
def test_without_channels_it_runs_at_every_shape(name: str, bring: Callable[[str], Path]) -> None:
    before = ir.emit(ir.load(bring(name)))
    graph, found = analysed(before)
    removal = at_random(found.groups, 0.3, seed=1)
    slice_channels(graph, removal, Run())
    other, again = analysed(before)
    mask_channels(other, again.groups, removal.gone)
    sliced, masked = ir.emit(graph), ir.emit(other)
    assert parameters(sliced) < 0.9 * parameters(before)
    types = {item.name: item.dtype for item in Session(before.SerializeToString(), _PLAIN).inputs}
    for binding in ZOO[name].bindings:
        same(masked, sliced, feeds_for(ZOO[name], binding, types), 1e-4, scale=0.1)
