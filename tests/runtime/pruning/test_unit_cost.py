"""The cost by counts against that of the model which is really made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.passes.prune.dependency import Group, dependencies
from planish.passes.prune.importance.unit_scores import group_keys
from planish.passes.prune.preparation import prepare
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import select
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from planish.runtime.pruning.forms import macs
from planish.runtime.pruning.unit_cost import mac_cost, parameter_cost
from tests.passes.prune.topologies import TOPOLOGIES

NAMES = [name for name, make in TOPOLOGIES.items() if make().inputs[0].name == "x"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_counted_is_what_is_left(name: str, tmp_path: Path) -> None:
    """Multiply-accumulates and parameters of random choices."""
    path = tmp_path / "net.onnx"
    graph = ir.load(ir.emit(TOPOLOGIES[name]()))
    prepare(graph, Run())
    groups = dependencies(graph).groups
    keyed = dict(zip(group_keys(groups), groups, strict=True))
    shapes = {"x": tuple([dim if isinstance(dim, int) else 2 for dim in graph.inputs[0].shape or ()])}
    ir.save(graph, path)
    whole = macs(path, shapes)
    if whole is None:
        pytest.skip("its shapes depend on data")
    cost, size = mac_cost(graph, keyed, shapes), parameter_cost(graph, keyed)
    assert cost({}) == pytest.approx(whole)
    rng = np.random.default_rng(0)
    chosen = select(groups, [rng.random(group.size) for group in groups], [float(rng.random()) for _ in groups])
    kept = {key: group.size - int(gone.sum()) for (key, group), gone in zip(keyed.items(), chosen, strict=True)}
    before, whole_elements = _elements(groups), _all_elements(graph)
    slice_channels(graph, Removal(groups, chosen), Run())
    ir.save(graph, path)
    assert cost(kept) == pytest.approx(macs(path, shapes))
    assert size({}) == before
    assert size(kept) == pytest.approx(before - whole_elements + _all_elements(graph))


def _elements(groups: tuple[Group, ...]) -> int:
    values = {member.value for group in groups for member in group.constants}
    return sum(value.constant.size for value in values if value.constant is not None)


def _all_elements(graph: ir.Graph) -> int:
    operands = {v for node in graph.walk() for v in node.operands if v is not None}
    return sum(v.constant.size for v in operands if v.constant is not None and v.constant.dtype.is_float)
