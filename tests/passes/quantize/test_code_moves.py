"""What moves codes about, or chooses among them: the kernels that are proved, and what stays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from planish.ir import DType, Value
from planish.passes.quantize.forms import form_of
from planish.passes.quantize.placement import PLACEMENTS
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.session import Session
from tests.passes.quantize.between import Lay, between
from tests.passes.quantize.statically import ONE_THREAD, quantized
from tests.passes.quantize.topologies import Net


def _shuffled_to(net: Net, x: Value) -> Value:
    return net.op("Gather", x, net.ints(*range(8)), axis=1)


_OF_BLOCKS = {"SpaceToDepth": 1, "Gather": 1}


def _pad(*pads: int, mode: str = "constant", value: float | None = None) -> Lay:
    def lay(net: Net, x: Value) -> Value:
        whole = net.ints(*pads, *([0] * (8 - len(pads))))
        return net.op("Pad", x, whole, *([] if value is None else [net.floats(value)]), mode=mode)

    return lay


FORMS: dict[str, tuple[Lay, Mapping[str, int]]] = {
    "padded": (_pad(0, 0, 1, 2, 0, 0, 0, 1), {"Pad": 1}),
    "padded with a number 0": (_pad(0, 1, 1, 2, 0, 2, 0, 1, value=-0.0), {"Pad": 1}),
    "padded and cut": (_pad(0, 0, -1, 2, 0, 0, 1, -2), {"Pad": 1}),
    "padded by its edge": (_pad(0, 0, 1, 2, 0, 0, 0, 1, mode="edge"), {"Pad": 1}),
    "padded by its mirror image": (_pad(0, 0, 1, 2, 0, 0, 0, 1, mode="reflect"), {"Pad": 1}),
    "padded twice": (lambda net, x: _pad(0, 0, 1, 1)(net, _pad(0, 0, 1, 2, mode="edge")(net, x)), {"Pad": 2}),
    "padded behind a clip": (lambda net, x: _pad(0, 0, 1, 1, 0, 0, 1, 1)(net, net.relu(x)), {"Pad": 1}),
    "the largest along an axis": (lambda net, x: net.op("ReduceMax", x, net.ints(2), keepdims=1), {"ReduceMax": 1}),
    "the least along an axis": (lambda net, x: net.op("ReduceMin", x, net.ints(-2), keepdims=1), {"ReduceMin": 1}),
    "space to depth": (lambda net, x: _shuffled_to(net, net.op("SpaceToDepth", x, blocksize=2)), _OF_BLOCKS),
    "looked up by element": (
        lambda net, x: net.op("GatherElements", x, net.b.constant(np.array([3, 0, -1]).reshape(1, 1, 1, 3)), axis=3),
        {"GatherElements": 1},
    ),
    "backwards": (
        lambda net, x: net.op("ReverseSequence", x, net.ints(*(3, 5)), batch_axis=0, time_axis=1),
        {"ReverseSequence": 1},
    ),
}


_OF_ANY_HEIGHT = (
    "padded",
    "padded by its edge",
    "the largest of all",
    "the largest along an axis",
    "chosen",
    "parts of 1",
)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, dynamic: bool) -> None:
    lay, kernels = FORMS[name]
    found = between(lay, ("N", 8, "H", 6)) if dynamic and name in _OF_ANY_HEIGHT else between(lay)
    coverage = found.coverage()
    assert coverage.is_whole, str(coverage)
    assert {kernel: count for kernel, count in coverage.predicted.items() if kernel != "QLinearConv"} == kernels
    assert (coverage.conversions, coverage.borders) == ({"QuantizeLinear": 1, "DequantizeLinear": 1}, 2)
    assert found.error() < 0.04


LEFT: dict[str, tuple[Lay, str]] = {
    "the largest along the last axis": (
        lambda net, x: net.op("ReduceMax", x, net.ints(-1, 1), keepdims=1),
        "along the last axis it is faster in real numbers",
    ),
    "the least of all": (lambda net, x: net.op("Mul", net.op("ReduceMin", x), x), "its axes are not known"),
    "padded with a number": (_pad(0, 0, 1, 1, value=5.0), "it pads with another number than 0"),
    "padded with less than all": (_pad(0, 0, 1, 1, value=-np.inf), "it pads with another number than 0"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_and_why(name: str) -> None:
    lay, why = LEFT[name]
    found = between(lay)
    assert [note.split(": ", 1)[1] for note in found.record.notes] == [why]
    assert found.coverage().is_whole


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
@pytest.mark.parametrize("wide", [0.01, 1.0, 100.0])
def test_padding_is_exactly_0(target: str, wide: float) -> None:
    """Whatever the range is, and however far beyond it the numbers are."""
    net = Net()
    x = net.op("Conv", net.b.input("x", DType.FLOAT, (1, 2, 4, 4)), net.floats(np.eye(2).reshape(2, 2, 1, 1)))
    padded = net.op("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1))
    net.b.output("y", padded)
    net.b.output("z", net.conv(padded, 2))
    array = np.random.default_rng(2).uniform(0.5, 2, (1, 2, 4, 4)).astype(np.float32)
    options = QuantizeStatic(target="cpu-arm" if target == "cpu-arm" else "cpu-x86")
    found = quantized(net.b.graph(), [{"x": array}], options)
    feed = {"x": array * np.float32(wide)}
    result = np.asarray(Session(found.after.SerializeToString(), ONE_THREAD).run(feed)[0])
    assert not result[:, :, [0, -1]].any()
    assert not result[:, :, :, [0, -1]].any()
    assert np.abs(result[:, :, 1:-1, 1:-1] - np.minimum(feed["x"], array.max())).max() <= array.max() / 255


@pytest.mark.parametrize("op", ["Pad", "SpaceToDepth", "ReduceMax"])
def test_other_targets_have_none(op: str) -> None:
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 8, 4, 4))
    lays: dict[str, Lay] = {
        "Pad": _pad(0, 0, 1, 1),
        "SpaceToDepth": lambda net, x: net.op(op, x, blocksize=2),
        "ReduceMax": lambda net, x: net.op(op, x, net.ints(2)),
    }
    made = lays[op](net, x).producer
    assert made is not None
    assert form_of(made, PLACEMENTS["tensorrt"]) is None
    assert form_of(made, PLACEMENTS["cpu-x86"]) is not None
