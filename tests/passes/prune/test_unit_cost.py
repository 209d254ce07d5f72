"""The cost by counts against that of the model which is really made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import Graph
from planish.passes.prune.importance.unit_scores import group_keys
from planish.passes.prune.removal import Removal
from planish.passes.prune.selection import select
from planish.passes.prune.slicing import slice_channels
from planish.passes.prune.unit_cost import mac_cost, parameter_cost
from planish.passes.run import Run
from planish.runtime.pruning.forms import macs
from tests.passes.prune.pruned import analysed
from tests.passes.prune.test_topologies import MORE
from tests.passes.prune.topologies import TOPOLOGIES, Net

EXTENTS = {"N": 2, "T": 3, "H": 8, "W": 4}


def mixed() -> Graph:
    """Products whose channels lie on the axes of batches, and in the letters of an Einsum."""
    n = Net(("N", 4, 6))
    x = n.op("Relu", n.op("MatMul", n.op("Transpose", n.x, perm=(0, 2, 1)), n.weight(4, 16)))
    x = n.op("MatMul", n.op("Transpose", x, perm=(0, 2, 1)), n.weight(6, 6))
    y = n.op("Relu", n.op("Einsum", x, n.weight(16, 12), equation="nct,cd->ntd"))
    return n.end(n.op("Einsum", y, n.weight(5, 12), equation="...d,ed->...e"))


ALL: dict[str, Callable[[], Graph]] = {**TOPOLOGIES, **MORE, "mixed": mixed}


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_what_is_counted_is_what_is_left(name: str, heads: bool, tmp_path: Path) -> None:
    """Multiply-accumulates and parameters of random choices."""
    path = tmp_path / "net.onnx"
    graph, found = analysed(ir.emit(ALL[name]()), heads=heads)
    keyed = dict(zip(group_keys(found.groups), found.groups, strict=True))
    shapes = {
        value.name: tuple([dim if isinstance(dim, int) else EXTENTS[str(dim)] for dim in value.shape or ()])
        for value in graph.inputs
    }
    ir.save(graph, path)
    whole = macs(path, shapes)
    assert whole is not None
    assert heads or found.groups
    cost, size = mac_cost(graph, keyed, EXTENTS), parameter_cost(graph, keyed)
    assert cost({}) == whole
    assert size({}) == elements(graph)
    rng = np.random.default_rng(0)
    for _ in range(2):
        graph, again = analysed(ir.emit(ALL[name]()), heads=heads)
        scores = [rng.random(group.size) for group in again.groups]
        chosen = select(again.groups, scores, [float(rng.random()) for _ in again.groups])
        kept = {key: group.size - int(gone.sum()) for (key, group), gone in zip(keyed.items(), chosen, strict=True)}
        slice_channels(graph, Removal(again.groups, chosen), Run())
        ir.save(graph, path)
        assert cost(kept) == macs(path, shapes)
        assert size(kept) == elements(graph)


def test_nodes_of_open_shapes_are_named() -> None:
    """One whose extents data decide; those that inputs name count as they are given."""
    n = Net(("N", 3, "H", "W"))
    x = n.conv(n.x, (3, 8))
    largest = n.op("ReduceMax", n.op("Flatten", x), n.ints(1), keepdims=0)
    kept = n.op("Compress", x, n.op("Greater", largest, n.weight(1)), axis=0)
    n.b.output("y", n.conv(kept, (8, 2)))
    graph = n.b.graph()
    cost = mac_cost(graph, {}, EXTENTS)
    assert [node.op for node in cost.uncounted] == ["Conv"]
    assert cost({}) == 2 * 8 * 8 * 4 * 27
    assert len(mac_cost(graph, {}, {}).uncounted) == 2


def test_pictures_smaller_than_a_window_do_not_count() -> None:
    """Their sides would come out below 0, and the product of two above."""
    n = Net(("N", 3, "H", "W"))
    graph = n.end(n.op("Conv", n.x, n.weight(8, 3, 7, 7)))
    assert mac_cost(graph, {}, {"N": 1, "H": 9, "W": 9})({}) == 9 * 8 * 3 * 49
    small = mac_cost(graph, {}, {"N": 1, "H": 1, "W": 1})
    assert (small({}), len(small.uncounted)) == (0, 1)


def elements(graph: Graph) -> int:
    operands = {v for node in graph.walk() for v in node.operands if v is not None}
    return sum(v.constant.size for v in operands if v.constant is not None and v.constant.dtype.is_float)
