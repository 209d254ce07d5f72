"""equalize-channels: the same numbers, by channels that reach equally far, once, and only where a scale is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir, passes, runtime
from planish.ir import DType, Graph, Value
from planish.ir.text import text
from planish.ir.types import Array
from planish.passes import PassRecord
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.equalize_channels import EqualizeChannels
from planish.passes.quantize.gates import floor_of
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.quantize.statically import quantized
from tests.passes.quantize.topologies import Net

CHANNELS = 6
SPREAD = np.array([1, 0.5, 0.1, 0.02, 0.001, 0])
"""How far each channel reaches; the last is always 0."""
FEEDS: list[dict[str, Array]] = [
    {"x": np.random.default_rng(seed).standard_normal((2, 3, 6, 6)).astype(np.float32)} for seed in range(3)
]


def depthwise(net: Net, x: Value) -> Value:
    return net.conv(x, CHANNELS, group=CHANNELS)


def made_by_conv(net: Net, x: Value, *, bias: bool = True) -> Value:
    w = net.random.standard_normal((CHANNELS, 3, 1, 1)) * SPREAD.reshape(-1, 1, 1, 1)
    return net.op("Conv", x, net.floats(w), *([net.floats(SPREAD * 0.3)] if bias else []))


def made_by_norm(net: Net, x: Value) -> Value:
    wide = net.conv(x, CHANNELS)
    mean, variance = net.floats(np.full(CHANNELS, 0.2)), net.floats(np.full(CHANNELS, 2.0))
    return net.op("BatchNormalization", wide, net.floats(SPREAD), net.floats(SPREAD * 0.1), mean, variance)


MAKERS: dict[str, Callable[[Net, Value], Value]] = {
    "Conv": made_by_conv,
    "Conv without bias": lambda net, x: made_by_conv(net, x, bias=False),
    "Conv and Relu": lambda net, x: net.relu(made_by_conv(net, x)),
    "BatchNormalization": made_by_norm,
    "BatchNormalization and Relu": lambda net, x: net.relu(made_by_norm(net, x)),
}


def laid(make: Callable[[Net, Value], Value], read: Callable[[Net, Value], Value] = depthwise) -> Graph:
    net = Net()
    net.b.output("y", read(net, make(net, net.b.input("x", DType.FLOAT, (2, 3, 6, 6)))))
    return ir.load(ir.emit(net.b.graph()))


def equalized(graph: Graph) -> tuple[PassRecord, Calibration]:
    seen = runtime.calibrate(graph, FEEDS, target=PLAIN)
    (record,) = passes.run(graph, (EqualizeChannels(ranges=seen),))
    return record, seen


def results(graph: Graph) -> NDArray[np.float64]:
    opened = Session(ir.emit(graph).SerializeToString(), PLAIN)
    return np.stack([np.asarray(opened.run(feed)[0], np.float64) for feed in FEEDS])


@pytest.mark.parametrize("name", MAKERS)
def test_the_numbers_stay_and_the_channels_reach_equally_far(name: str) -> None:
    graph = laid(MAKERS[name])
    before = results(graph)
    record, seen = equalized(graph)
    assert [rewrite.rule for rewrite in record.rewrites] == ["equalize"]
    assert len(record.rewrites[0].sources) == 2
    np.testing.assert_allclose(results(graph), before, rtol=1e-5, atol=1e-6)
    (read,) = (node.operands[0] for node in graph.nodes if node.op == "Conv" and node.get_int("group") == CHANNELS)
    assert read is not None
    assert read.name.endswith("_equalized")
    again = runtime.calibrate(graph, FEEDS, target=PLAIN).of(read)
    assert again is not None
    reach = again.channels[1]
    assert seen.of(read) is None  # what was seen of it goes by another name
    np.testing.assert_allclose(reach[:4], reach[0], rtol=1e-4)
    assert reach[4] < reach[0]  # stretched by 64 and no further
    assert reach[5] == 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_second_run_changes_nothing(name: str) -> None:
    graph = laid(MAKERS[name])
    _, seen = equalized(graph)
    once = text(graph)
    assert not passes.run(graph, (EqualizeChannels(ranges=seen),))[0].rewrites
    assert text(graph) == once


GATED = np.array([40, 20, 8, 2, 0.01, 0])


def gated(net: Net, x: Value, *, slope: float = 1 / 6, offset: float = 0.5) -> Value:
    """HardSwish of channels that reach that far; the last is always 0."""
    w = net.random.standard_normal((CHANNELS, 3, 1, 1)) * GATED.reshape(-1, 1, 1, 1)
    wide = net.op("Conv", x, net.floats(w), net.floats(GATED * 0.1))
    return net.op("Mul", wide, net.op("HardSigmoid", wide, alpha=slope, beta=offset))


@pytest.mark.parametrize(("slope", "offset"), [(1 / 6, 0.5), (0.2, 0.3), (2.0, 0.0), (0.5, -0.5)])
def test_channels_behind_a_gate(slope: float, offset: float) -> None:
    """They reach equally far, but for those that would go further below 0, where the gate is open, than the widest."""
    graph = laid(lambda net, x: gated(net, x, slope=slope, offset=offset))
    before = results(graph)
    record, seen = equalized(graph)
    assert [rewrite.rule for rewrite in record.rewrites] == ["equalize"]
    assert [len(rewrite.sources) for rewrite in record.rewrites] == [3]
    np.testing.assert_allclose(results(graph), before, rtol=1e-5, atol=1e-5 * np.abs(before).max())
    assert [node.op for node in graph.nodes if node.op != "Constant"] == [
        "Conv", "BatchNormalization", "Clip", "Mul", "Conv"
    ]  # fmt: skip
    product = next(node.result for node in graph.nodes if node.op == "Mul")
    again = runtime.calibrate(graph, FEEDS, target=PLAIN)
    assert seen.of(product) is None
    found = again.of(product)
    assert found is not None
    reach = found.channels[1]
    np.testing.assert_allclose(reach[1:3], reach[0], rtol=1e-3)
    x = next(node.result for node in graph.nodes if node.op == "Conv")
    assert floor_of(x) >= -1.001 * reach[0]
    once = text(graph)
    assert not passes.run(graph, (EqualizeChannels(ranges=again),))[0].rewrites
    assert text(graph) == once


def test_codes_behind_a_gate_are_closer() -> None:
    """And its kernels are integer ones, with the gate of each channel in one of them."""

    def lay(net: Net, x: Value) -> Value:
        w = net.random.standard_normal((CHANNELS, 1, 3, 3)) / np.maximum(GATED, 1).reshape(-1, 1, 1, 1)
        return net.op("Conv", x, net.floats(w), group=CHANNELS)

    plain, better = laid(gated, lay), laid(gated, lay)
    equalized(better)
    found = quantized(better, FEEDS)
    assert found.coverage().is_whole, str(found.coverage())
    assert found.error() < 0.5 * quantized(plain, FEEDS).error()


def test_a_gate_shuts_on_infinities_too() -> None:
    graph = laid(gated)
    equalized(graph)
    feeds = {"x": np.full((2, 3, 6, 6), 1e30, np.float32)}
    old, new = (Session(ir.emit(g).SerializeToString(), PLAIN).run(feeds)[0] for g in (laid(gated), graph))
    np.testing.assert_allclose(np.asarray(new), np.asarray(old), rtol=1e-4)


def test_codes_of_equalized_channels_are_closer() -> None:
    def lay(net: Net, x: Value) -> Value:
        """Filters that give every channel the same say again."""
        w = net.random.standard_normal((CHANNELS, 1, 3, 3)) / np.maximum(SPREAD, 0.02).reshape(-1, 1, 1, 1)
        return net.op("Conv", x, net.floats(w), group=CHANNELS)

    plain = laid(MAKERS["Conv and Relu"], lay)
    better = laid(MAKERS["Conv and Relu"], lay)
    equalized(better)
    assert quantized(better, FEEDS).error() < 0.5 * quantized(plain, FEEDS).error()


def hard_swish(net: Net, x: Value) -> Value:
    return net.op("Mul", x, net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def read_twice(net: Net, x: Value) -> Value:
    return net.op("Mul", hard_swish(net, x), net.op("Sin", x))


def gate_read_twice(net: Net, x: Value) -> Value:
    wide = made_by_conv(net, x)
    gate = net.op("HardSigmoid", wide, alpha=1 / 6, beta=0.5)
    return net.op("Mul", net.op("Mul", wide, gate), gate)


LEFT: dict[str, tuple[Callable[[Net, Value], Value], Callable[[Net, Value], Value]]] = {
    "another activation between": (lambda net, x: net.relu6(made_by_conv(net, x)), depthwise),
    "filters over all channels": (made_by_conv, lambda net, x: net.conv(x, 4)),
    "filters over pairs of channels": (made_by_conv, lambda net, x: net.conv(x, CHANNELS, group=3)),
    "two filters a channel": (made_by_conv, lambda net, x: net.conv(x, 2 * CHANNELS, group=CHANNELS)),
    "what a gate reads goes elsewhere, too": (
        lambda net, x: read_twice(net, made_by_conv(net, x)),
        depthwise,
    ),
    "a gate that is read twice": (gate_read_twice, depthwise),
    "a gate that falls": (lambda net, x: gated(net, x, slope=-0.2), depthwise),
    "channels that are all near 0 behind a gate": (
        lambda net, x: hard_swish(net, made_by_conv(net, net.op("Mul", x, net.floats(0.1)))),
        depthwise,
    ),
    "another reader": (made_by_conv, lambda net, x: net.op("Add", depthwise(net, x), x)),
    "made by a sum": (lambda net, x: net.op("Add", made_by_conv(net, x), made_by_conv(net, x)), depthwise),
    "channels alike": (lambda net, x: net.op("Conv", x, net.floats(np.ones((CHANNELS, 3, 1, 1)))), depthwise),
    "channels of zeros": (lambda net, x: net.op("Conv", x, net.floats(np.zeros((CHANNELS, 3, 1, 1)))), depthwise),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left(name: str) -> None:
    graph = laid(*LEFT[name])
    before = text(graph)
    record, _ = equalized(graph)
    assert not record.rewrites
    assert text(graph) == before


def test_a_graph_output_keeps_its_numbers() -> None:
    net = Net()
    wide = made_by_conv(net, net.b.input("x", DType.FLOAT, (2, 3, 6, 6)))
    net.b.output("w", wide)
    net.b.output("y", depthwise(net, wide))
    assert not equalized(ir.load(ir.emit(net.b.graph())))[0].rewrites


@pytest.mark.parametrize("ranges", [None, Calibration({})], ids=["none", "empty"])
def test_without_statistics(ranges: Calibration | None) -> None:
    assert not passes.run(laid(made_by_conv), (EqualizeChannels(ranges=ranges),))[0].rewrites


def test_statistics_of_another_model() -> None:
    """The tensor has the same name there, and more channels."""
    graph = laid(made_by_conv)
    seen = runtime.calibrate(graph, FEEDS, target=PLAIN)
    (name,) = (node.result.name for node in graph.nodes if node.get_int("group") == 1)
    stale = replace(seen.tensors[name], channels={1: np.arange(1.0, 9.0)})
    seen = replace(seen, tensors={**seen.tensors, name: stale})
    assert not passes.run(graph, (EqualizeChannels(ranges=seen),))[0].rewrites


def test_a_weight_that_others_read_is_copied() -> None:
    net = Net()
    w, x = (
        net.floats(np.ones((CHANNELS, 3, 1, 1)) * SPREAD.reshape(-1, 1, 1, 1)),
        net.b.input("x", DType.FLOAT, (2, 3, 6, 6)),
    )
    net.b.output("y", depthwise(net, net.op("Conv", x, w)))
    net.b.output("z", net.op("Sin", w))
    graph = ir.load(ir.emit(net.b.graph()))
    old = Session(ir.emit(graph).SerializeToString(), PLAIN).run(FEEDS[0])
    assert len(equalized(graph)[0].rewrites) == 1
    new = Session(ir.emit(graph).SerializeToString(), PLAIN).run(FEEDS[0])
    for found, expected in zip(new, old, strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-6)


def test_weights_that_would_overflow_are_left() -> None:
    def make(net: Net, x: Value) -> Value:
        w = np.full((CHANNELS, 3, 1, 1), 1e-3)
        w[1] = 3e38  # of inputs that are 0, so that the channel reaches half as far as the first
        return net.op("Conv", net.op("Mul", x, net.floats(np.zeros((3, 1, 1)))), net.floats(w), net.floats(SPREAD))

    graph = laid(make)
    record, _ = equalized(graph)
    assert not record.rewrites
    assert record.notes == ["conv2: its weights, scaled, would not be finite"]


def test_limits_and_strict_runs() -> None:
    graph = laid(made_by_conv)
    seen = runtime.calibrate(graph, FEEDS, target=PLAIN)
    before = text(graph)
    assert not passes.run(graph, (EqualizeChannels(ranges=seen),), limit=0)[0].rewrites
    assert not passes.run(graph, (EqualizeChannels(ranges=seen),), fp="strict")[0].rewrites
    assert text(graph) == before
