"""Vectors that layers share by chance do not tie them; matrices do."""

from __future__ import annotations

import numpy as np

from planish import ir, passes
from planish.ir import Graph
from planish.passes.prune.preparation import prepare, restore
from planish.passes.run import Run
from tests.passes.prune.pruned import pruned
from tests.passes.prune.topologies import Net


def sharing() -> Graph:
    n = Net(("N", 3, 4, 4))
    ones, zeros = (n.b.initializer(name, np.full(16, value, np.float32)) for name, value in (("ones", 1), ("zeros", 0)))
    x = n.x
    for channels in (3, 16):
        x = n.op("Relu", n.op("BatchNormalization", n.conv(x, (channels, 16)), ones, zeros, zeros, ones))
    return n.head(x, 16)


def test_layers_that_share_ones_shrink_each_by_itself() -> None:
    found = pruned(sharing(), bindings=({"N": 2},))
    assert [group.size for group in found.found.groups] == [16, 16]
    assert found.removal.gone[0].tolist() != found.removal.gone[1].tolist()


def test_copies_that_nothing_shrank_are_taken_back() -> None:
    proto = ir.emit(sharing())
    graph = ir.load(proto)
    copies = prepare(graph, Run())
    assert len(copies) == 2
    restore(copies)
    assert ir.emit(graph).SerializeToString() == proto.SerializeToString()


def test_an_original_that_is_gone_is_not_shared_again() -> None:
    """The copies of layers that kept their channels stay as they are, and the model is whole."""
    graph = ir.load(ir.emit(sharing()))
    (record,) = passes.run(graph, "prune-channels", limit=1)
    assert len(record.rewrites) == 1
    reloaded = ir.load(ir.emit(graph))
    sizes = [node.operands[1].shape for node in reloaded.nodes if node.op == "BatchNormalization" and node.operands[1]]
    assert sizes == [(8,), (16,)]


def test_vectors_that_are_outputs_and_matrices_stay_shared() -> None:
    n = Net(("N", 16))
    vector, matrix = n.weight(16), n.weight(16, 16)
    x = n.op("Add", n.op("MatMul", n.op("Add", n.op("MatMul", n.x, matrix), vector), matrix), vector)
    n.b.output("vector", vector)
    graph = n.end(x)
    assert not prepare(graph, Run())
