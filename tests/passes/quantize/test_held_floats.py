"""Products left float between codes: ONNX Runtime computes them with the very weights that the model has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from planish import ir
from planish.ir import DType, Graph, Value
from planish.ir.graph import Attribute
from planish.ir.text import text
from planish.passes.quantize import quantize_static
from planish.passes.quantize.held_floats import hold_floats
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.passes.run import Run
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.quantize.statically import Static, quantized
from tests.passes.quantize.topologies import Net

_CHANNELS = 4
_REACH = np.array([1, 40, 1, 1])
"""Of the filters; of what they read it is the inverse. One scale for all would be too coarse for three of them."""
Make = Callable[[Net, Value], Value]


def product(net: Net, op: str, *operands: Value, **attributes: Attribute) -> Value:
    return net.b.node(op, operands, attributes, name="held", result="made")


def conv(net: Net, x: Value, *, bias: bool = True) -> Value:
    """Depthwise."""
    weight = net.random.standard_normal((_CHANNELS, 1, 3, 3)) * _REACH.reshape(-1, 1, 1, 1)
    biases = [net.floats(net.random.standard_normal(_CHANNELS))] if bias else []
    return product(net, "Conv", x, net.floats(weight), *biases, group=_CHANNELS, pads=(1, 1, 1, 1))


def transposed(net: Net, x: Value) -> Value:
    weight = net.random.standard_normal((_CHANNELS, 1, 2, 2)) * _REACH.reshape(-1, 1, 1, 1)
    return product(net, "ConvTranspose", x, net.floats(weight), strides=(2, 2), group=_CHANNELS)


def one_channel(net: Net, x: Value, *, bias: bool = True) -> Value:
    """Differences within one channel, on top of a constant that rounded weights would let through."""
    total = net.op("Conv", x, net.floats(np.ones((1, _CHANNELS, 1, 1))), net.floats(np.array([20.0])))
    weight = net.random.standard_normal((_CHANNELS, 1, 2, 2))
    weight = (weight - weight.mean(axis=(1, 2, 3), keepdims=True)) * _REACH.reshape(-1, 1, 1, 1)
    biases = [net.floats(net.random.standard_normal(_CHANNELS))] if bias else []
    return product(net, "Conv", total, net.floats(weight), *biases)


def gemm(net: Net, x: Value) -> Value:
    weight = net.random.standard_normal((_CHANNELS, _CHANNELS)) * _REACH
    return product(net, "Gemm", x, net.floats(weight), net.floats(net.random.standard_normal(_CHANNELS)))


MAKERS: dict[str, Make] = {
    "depthwise": conv,
    "no bias": lambda net, x: conv(net, x, bias=False),
    "clip": lambda net, x: net.relu6(conv(net, x)),
    "relu": lambda net, x: net.relu(conv(net, x)),
    "transposed": transposed,
    "one channel": one_channel,
    "one channel, no bias": lambda net, x: one_channel(net, x, bias=False),
    "gemm": gemm,
}


def held(make: Make) -> Static:
    """Between two products on codes, one that is left float."""
    net = Net()
    shape = (5, 3) if make is gemm else (1, 3, 8, 8)
    x, tail = net.b.input("x", DType.FLOAT, shape), (1,) * (len(shape) - 2)
    op, spread = ("Gemm" if make is gemm else "Conv"), 1 / _REACH.reshape(-1, 1, *tail)
    before, after = net.random.standard_normal((_CHANNELS, 3, *tail)), net.random.standard_normal((2, _CHANNELS, *tail))
    attributes = {"transB": 1} if make is gemm else {}
    first = net.op(op, x, net.floats(before * (1 if make is gemm else spread)), **attributes)
    made = make(net, first)
    net.b.output("z", net.op(op, first, net.floats(after), **attributes))  # a reader of codes
    net.b.output("y", net.op(op, made, net.floats(after * spread.swapaxes(0, 1)), **attributes))
    feeds = [{"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)} for seed in range(4)]
    return quantized(net.b.graph(), feeds, QuantizeStatic(exclude="held"))


def distance(found: Static) -> float:
    """Of what ONNX Runtime makes of the model from what the model says, in the Euclidean norm, relative."""
    model = found.after.SerializeToString()
    said, made = (Session(model, replace(PLAIN, optimization=level)) for level in ("disabled", "all"))
    pairs = [(np.asarray(said.run(feed)[1]), np.asarray(made.run(feed)[1])) for feed in found.feeds]
    a, b = (np.concatenate([pair[side].reshape(-1) for pair in pairs]).astype(np.float64) for side in (0, 1))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.mark.parametrize("name", MAKERS)
def test_what_stays_float_is_computed_in_float(name: str) -> None:
    found = held(MAKERS[name])
    assert [rewrite.rule for rewrite in found.record.rewrites].count("hold-float") == 1
    assert distance(found) < 0.01


@pytest.mark.parametrize("name", MAKERS)
def test_without_the_guard_weights_are_rounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails with a newer ONNX Runtime, the guard is not needed there."""

    def nothing(graph: Graph, run: Run) -> None:
        del graph, run

    monkeypatch.setattr(quantize_static, "hold_floats", nothing)
    assert distance(held(MAKERS[name])) > 0.02


def between_codes(width: int, bias: float, *, shown: bool = False, again: bool = False) -> Graph:
    """Quantize(Conv(Dequantize(x))), with weights of several reaches."""
    net = Net()
    step, middle = net.floats(0.1), net.b.constant(np.array(128, np.uint8))
    codes = net.b.input("x", DType.UINT8, ("n", width, "h", "w"))
    weight = net.floats(np.ones((_CHANNELS, width, 1, 1)) * _REACH.reshape(-1, 1, 1, 1))
    made = net.op("Conv", net.op("DequantizeLinear", codes, step, middle), weight, net.floats(np.full(_CHANNELS, bias)))
    net.b.output("y", net.op("QuantizeLinear", made, step, middle))
    if shown:
        net.b.output("made", made)
    if again:
        net.b.output("z", net.op("Exp", made))
    return ir.load(ir.emit(net.b.graph()))


@pytest.mark.parametrize("width", [1, 3])
def test_a_held_product_is_held_once(width: int) -> None:
    graph, run = between_codes(width, 0.5), Run()
    hold_floats(graph, run)
    assert [rewrite.rule for rewrite in run.rewrites] == ["hold-float"]
    before = text(graph)
    hold_floats(graph, Run())
    assert text(graph) == before


@pytest.mark.parametrize(
    "graph",
    [
        between_codes(3, 0.5, shown=True),
        between_codes(3, 0.5, again=True),
        between_codes(1, np.nan),
        between_codes(1, np.inf),
    ],
    ids=["a graph output", "a second reader", "NaN", "infinity"],
)
def test_what_the_runtime_leaves_alone_or_codes_cannot_say_stays(graph: Graph) -> None:
    before = text(graph)
    hold_floats(graph, Run())
    assert text(graph) == before
