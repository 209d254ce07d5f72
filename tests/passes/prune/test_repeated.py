"""Layers without a skip: which are found, and what is left without them."""

from __future__ import annotations

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import Graph, Value
from planish.passes.prune.block_scores import BlockScores
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.repeated import repeated_layers
from planish.passes.prune.residual import residual_blocks
from tests.equivalence import op_types, run, same_interface
from tests.passes.prune.topologies import TOPOLOGIES, Net

_IMAGE = ("N", 3, 6, 6)


def layer(n: Net, x: Value, sizes: tuple[int, int] = (8, 8), name: str = "relu") -> Value:
    return n.b.node("Relu", (n.conv(x, sizes),), name=name)


def names(graph: Graph) -> list[str]:
    loaded = ir.load(ir.emit(graph))
    return [block.name for block in repeated_layers(loaded, residual_blocks(loaded))]


def stack(count: int = 3) -> Graph:
    n = Net(_IMAGE)
    x = layer(n, n.x, (3, 8), "first")
    for place in range(count):
        x = layer(n, x, name=f"relu{place}")
    return ir.load(ir.emit(n.head(x, 8)))


def test_layers_of_one_shape() -> None:
    assert names(stack()) == ["relu0_out", "relu1_out", "relu2_out"]
    assert names(stack(1)) == []


def test_what_is_left_is_the_model_without_them() -> None:
    before = ir.emit(stack())
    graph = ir.load(before)
    scores = BlockScores.from_mapping({"relu1_out": 0.0, "relu2_out": 0.5})
    (record,) = passes.run(graph, (PruneBlocks(count=2, layers=True, scores=scores),))
    assert [rewrite.result for rewrite in record.rewrites] == ["relu1_out", "relu2_out"]
    after = ir.emit(graph)
    same_interface(before, after)
    assert op_types(after.graph).count("Conv") == 2
    expected = ir.load(before)
    second, third = [block for block in repeated_layers(expected, ()) if block.name in ("relu1_out", "relu2_out")]
    expected.replace_all_uses_with(third.end.result, second.skip)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    (aim,), (got,) = run(ir.emit(expected), feeds), run(after, feeds)
    assert np.array_equal(np.asarray(aim), np.asarray(got))


def test_their_weights_do_not_judge_them() -> None:
    (record,) = passes.run(stack(), (PruneBlocks(count=2, layers=True),))
    assert not record.rewrites
    assert len(record.notes) == 3
    assert len(passes.run(stack(), (PruneBlocks(count=2, layers=True, importance="random"),))[0].rewrites) == 2
    assert not passes.run(stack(), (PruneBlocks(count=2, importance="random"),))[0].rewrites


def test_other_weights_or_another_operator_are_no_repetition() -> None:
    n = Net(_IMAGE)
    x = layer(n, layer(n, n.x, (3, 8)), name="one")
    x = n.op("Relu", n.conv(x, (8, 8), 1))
    x = n.b.node("Sigmoid", (n.conv(x, (8, 8)),), name="other")
    assert names(n.head(x, 8)) == []


def test_a_result_within_that_is_read_elsewhere() -> None:
    n = Net(_IMAGE)
    x = layer(n, n.x, (3, 8))
    middle = n.conv(x, (8, 8))
    n.b.output("also", middle)
    x = layer(n, n.op("Relu", middle))
    assert names(n.head(x, 8)) == []


def test_a_mask_that_is_read_besides() -> None:
    """Two values go in: which of them goes through is not told."""
    n = Net(("N", 8))
    mask = n.b.input("mask", ir.DType.FLOAT, ("N", 8))
    x = n.x
    for _ in range(2):
        x = n.op("Mul", n.op("Relu", n.op("MatMul", x, n.weight(8, 8))), mask)
    assert names(n.end(x)) == []


def test_recurrent_layers() -> None:
    n = Net(("T", "N", 8))
    x = n.x
    for place in range(3):
        w, r = n.weight(1, 24, 8), n.weight(1, 24, 8)
        y = n.b.nodes("GRU", (x, w, r), {"hidden_size": 8}, results=1)[0]
        x = n.b.node("Squeeze", (y, n.ints(1)), name=f"layer{place}")
    assert names(n.end(n.linear(x, (8, 3)))) == ["layer0_out", "layer1_out", "layer2_out"]


@pytest.mark.parametrize("name", ["residual", "downsampling", "inverted-residual", "attention", "dense-concat"])
def test_no_node_is_of_a_residual_block_and_of_a_layer(name: str) -> None:
    graph = TOPOLOGIES[name]()
    blocks = residual_blocks(graph)
    both = [*blocks, *repeated_layers(graph, blocks)]
    nodes = [node for block in both for node in (*block.nodes, block.end)]
    assert len(nodes) == len(set(nodes))
