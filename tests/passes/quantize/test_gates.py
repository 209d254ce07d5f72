"""Gates: where they are found, and below which number what they open needs no code."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from planish.ir import DType, Value
from planish.passes.quantize.gates import floor_of, gate_before, opened_by_channel
from tests.passes.quantize.topologies import Net

CHANNELS = 4
SCALES = np.array([1.0, 0.5, 0.25, 0.125])


def x_of(net: Net) -> Value:
    return net.b.input("x", DType.FLOAT, (1, CHANNELS, 6, 6))


def hard_sigmoid(net: Net, x: Value, slope: float = 1 / 6) -> Value:
    return net.op("HardSigmoid", x, alpha=slope, beta=0.5)


def by_channel(net: Net, x: Value, *, low: float = 0.0, scales: object = SCALES, mean: float = 0.0) -> Value:
    arrays = (np.asarray(scales), np.full(CHANNELS, 0.5), np.full(CHANNELS, mean), np.ones(CHANNELS))
    norm = net.op("BatchNormalization", x, *(net.floats(array) for array in arrays), epsilon=0.0)
    return net.op("Clip", norm, net.floats(low), net.floats(1))


FLOORS: dict[str, tuple[Callable[[Net, Value], Value], float]] = {
    "one slope": (hard_sigmoid, -3),
    "a slope for each channel": (by_channel, -4),
    "a mean": (lambda net, x: by_channel(net, x, mean=2.0), -2),
    "a slope that is 0 in a channel": (lambda net, x: by_channel(net, x, scales=[1, 0, 1, 1]), -math.inf),
    "a slope that falls in a channel": (lambda net, x: by_channel(net, x, scales=[1, -1, 1, 1]), -math.inf),
    "never shut": (lambda net, x: by_channel(net, x, low=0.1), -math.inf),
    "falling": (lambda net, x: hard_sigmoid(net, x, -1.0), -math.inf),
    "soft": (lambda net, x: net.op("Sigmoid", x), -math.inf),
}


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor(name: str) -> None:
    make, expected = FLOORS[name]
    net = Net()
    x = x_of(net)
    net.b.output("y", net.op("Mul", x, make(net, x)))
    assert floor_of(x) == pytest.approx(expected)


def test_there_is_none_where_something_else_reads() -> None:
    net = Net()
    x = x_of(net)
    gate = hard_sigmoid(net, x)
    net.b.output("y", net.op("Mul", x, gate))
    net.b.output("z", net.op("Sin", gate))
    assert floor_of(x) == -math.inf
    net = Net()
    x = x_of(net)
    net.b.output("y", net.op("Mul", net.op("Mul", x, by_channel(net, x)), x))
    assert floor_of(x) == -math.inf


@pytest.mark.parametrize("turned", [False, True])
def test_a_gate_is_found_on_either_side(turned: bool) -> None:
    net = Net()
    x = x_of(net)
    opened = hard_sigmoid(net, x)
    made = net.op("Mul", *((opened, x) if turned else (x, opened)))
    net.b.output("y", made)
    gate = gate_before(made)
    assert gate is not None
    assert gate.x is x
    assert gate.shut == pytest.approx(3)
    norm, clip = opened_by_channel(gate, SCALES)
    assert [norm.op, clip.op] == ["BatchNormalization", "Clip"]
    assert gate_before(x) is None


def test_a_square_is_no_gate() -> None:
    net = Net()
    opened = hard_sigmoid(net, x_of(net))
    made = net.op("Mul", opened, opened)
    net.b.output("y", made)
    assert gate_before(made) is None
