"""Rows of weights and units against what products really compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import Node, Value
from planish.passes.prune.dependency import dependencies
from planish.passes.prune.importance.consumers import Reading, consumers, readings, weights
from planish.passes.quantize.gram import Gram, Window
from planish.runtime.patches import GramObserver, Rows
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.prune.topologies import TOPOLOGIES, Net

Singles = NDArray[np.float32]


def seen(graph: ir.Graph, values: list[Value], path: Path, x: Singles) -> dict[str, Singles]:
    names = [value.name for value in values]
    graph.set_results(values, names)
    ir.save(graph, path)
    results = Session(path, PLAIN).run({"x": x})
    return {name: np.asarray(result, np.float32) for name, result in zip(names, results, strict=True)}


def all_readings(graph: ir.Graph) -> list[tuple[int, Reading]]:
    groups = dependencies(graph).groups
    return [(place, reading) for place, group in enumerate(groups) for reading in readings(group)]


@pytest.mark.parametrize("name", ["chain", "grouped", "split-concat", "flatten-gemm", "inverted-residual", "attention"])
def test_units_at_zero_lose_their_rows_alone(name: str, tmp_path: Path) -> None:
    """A product of rows of which those of one unit are 0 is that of an input in which the unit is 0."""
    graph = ir.load(ir.emit(TOPOLOGIES[name]()))
    found = [reading for _, reading in all_readings(graph)]
    assert found
    shape = [dim if isinstance(dim, int) else 2 for dim in graph.inputs[0].shape or ()]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    values = list(dict.fromkeys(value for each in found for value in (each.x, each.node.result) if value.producer))
    arrays = seen(graph, values, tmp_path / "shown.onnx", x)
    for reading in found:
        node, w = reading.node, weights(reading.node)
        rows = np.concatenate(list(_rows(node).of(arrays[reading.x.name])), axis=1)
        made = np.matmul(rows, w)
        row = None if node.op == "MatMul" else node.operand(2)
        bias = None if row is None else row.constant
        wanted = _outputs(node, arrays[node.result.name]) - (0 if bias is None else _row(node, bias.array()))
        np.testing.assert_allclose(made, wanted, rtol=1e-3, atol=1e-4)
        assert reading.units.shape == rows.shape[::2]


def test_a_depthwise_convolution_reads_no_units() -> None:
    n = Net(("N", 3, 8, 8))
    x = n.conv(n.conv(n.x, (3, 8)), (8, 8), group=8)
    graph = ir.load(ir.emit(n.head(n.op("Relu", x), 8)))
    assert [reading.node.op for _, reading in all_readings(graph)] == ["Gemm"]


def test_consumers_without_a_gram_matrix_are_left_out() -> None:
    graph = ir.load(ir.emit(TOPOLOGIES["chain"]()))
    group = dependencies(graph).groups[0]
    (reading,) = readings(group)
    assert list(consumers(group, {})) == []
    size = reading.units.shape[1]
    gram = Gram(np.eye(size)[None], np.zeros((1, size)), 1)
    (found,) = consumers(group, {reading.key: gram})
    assert found.weight.shape[0] == len(found.h) == len(found.units) == size
    assert sorted(set(found.units)) == list(range(group.size))


def test_a_bias_takes_the_mean_away() -> None:
    """Of inputs that never change nothing is lost, where a bias may be had."""
    n = Net(("N", 4))
    hidden = n.op("Relu", n.linear(n.x, (4, 6)))
    graph = ir.load(ir.emit(n.end(n.linear(n.op("Relu", n.op("MatMul", hidden, n.weight(6, 5))), (5, 3)))))
    found = dict(all_readings(graph))
    groups = dependencies(graph).groups
    for place, has_bias in ((0, False), (1, True)):
        observer = GramObserver(Rows())
        observer.observe(np.ones((10, groups[place].size), np.float32))
        gram = observer.gram()
        assert gram is not None
        (consumer,) = consumers(groups[place], {found[place].key: gram})
        assert (np.abs(consumer.h).max() < 1e-9) == has_bias


def _rows(node: Node) -> Rows:
    return Rows(node.op == "Gemm" and bool(node.get_int("transA")), Window.of(node))


def _row(node: Node, bias: NDArray[np.generic]) -> NDArray[np.float64]:
    groups = node.get_int("group") if node.op == "Conv" else 1
    return bias.astype(np.float64).reshape(groups, 1, -1)


def _outputs(node: Node, array: Singles) -> NDArray[np.float64]:
    if node.op != "Conv":
        return array.astype(np.float64).reshape(1, -1, array.shape[-1])
    n, channels = array.shape[:2]
    groups = node.get_int("group")
    parts = array.astype(np.float64).reshape(n, groups, channels // groups, -1)
    return parts.transpose(1, 0, 3, 2).reshape(groups, -1, channels // groups)
