"""Channels are stretched where a depthwise convolution takes it back: the same numbers, and every channel as wide."""

from __future__ import annotations

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType, Graph
from planish.ir.build import Builder
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.passes.quantize.codes import floats
from planish.passes.quantize.equalize_channels import EqualizeChannels
from planish.runtime.session import Session

REACH = np.array([8.0, 2.0, 0.0, 0.001])


def net(*, norm: bool = True, relu: bool = False, group: int = 4, twice: bool = False, huge: bool = False) -> Graph:
    """m, a scale and shift or a pointwise convolution of x, perhaps with a Relu, before a convolution of 3 x 3."""
    rng = np.random.default_rng(0)
    b = Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 4, 5, 6))
    if norm:
        parts = [b.initializer(name, rng.uniform(0.5, 2, 4).astype(np.float32)) for name in ("s", "t", "u", "v")]
        m = b.node("BatchNormalization", (x, *parts), result="m")
    else:
        weight = b.initializer("p", rng.standard_normal((4, 4, 1, 1)).astype(np.float32))
        m = b.node("Conv", (x, weight, b.initializer("q", np.ones(4, np.float32))), result="m")
    r = b.node("Relu", (m,), result="r") if relu else m
    shape = (4, 4 // group, 3, 3)
    w = np.full(shape, 3e38, np.float32) if huge else rng.standard_normal(shape).astype(np.float32)
    b.output("y", b.node("Conv", (r, b.initializer("w", w)), {"group": group, "pads": (1, 1, 1, 1)}, result="c"))
    if twice:
        b.output("z", b.node("Neg", (m,)))
    return b.graph()


def seen(name: str, reach: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = REACH) -> Calibration:
    return Calibration({name: TensorStatistics(min=-8.0, max=8.0, channels={1: reach})})


def results(graph: Graph) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype(np.float32)
    return np.asarray(Session(ir.emit(graph).SerializeToString()).run({"x": x})[0])


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_the_numbers_stay_and_the_channels_are_as_wide(norm: bool, relu: bool) -> None:
    graph, name = net(norm=norm, relu=relu), "r" if relu else "m"
    before = results(graph)
    records = passes.run(graph, (EqualizeChannels(ranges=seen(name)),))
    assert [rewrite.rule for rewrite in records[0].rewrites] == ["equalize"]
    assert np.allclose(results(graph), before, rtol=1e-4, atol=1e-5)
    maker = graph.nodes[0]
    assert maker.result.name == "m_equalized"
    weights = [node.operands[1] for node in (maker, net(norm=norm).nodes[0])]
    scaled, plain = [floats(value).reshape(4, -1) for value in weights if value is not None]
    factors = (scaled / plain)[:, 0]
    assert np.allclose(factors, [1, 4, 1, 64])  # as wide as the widest, nothing where nothing is, and 64 at most


def test_a_second_run_changes_nothing() -> None:
    graph = net()
    calibration = seen("m")
    passes.run(graph, (EqualizeChannels(ranges=calibration),))
    assert not passes.run(graph, (EqualizeChannels(ranges=calibration),))[0].rewrites


@pytest.mark.parametrize(
    ("graph", "calibration"),
    [
        (net(), None),
        (net(), seen("other")),
        (net(), seen("m", np.full(4, 3.0))),
        (net(), seen("m", np.zeros(4))),
        (net(), seen("m", np.ones(3))),
        (net(group=1), seen("m")),
        (net(group=2), seen("m")),
        (net(twice=True), seen("m")),
    ],
    ids=["no ranges", "unknown", "even", "all zero", "other extent", "dense", "grouped", "read elsewhere"],
)
def test_what_is_left_alone(graph: Graph, calibration: Calibration | None) -> None:
    assert not passes.run(graph, (EqualizeChannels(ranges=calibration),))[0].rewrites


def test_strict_runs_round_nothing_anew() -> None:
    assert not passes.run(net(), (EqualizeChannels(ranges=seen("m")),), fp="strict")[0].rewrites
