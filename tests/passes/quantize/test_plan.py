"""The plan: what shares a scale, what stands alone, and what is predicted, on graphs that tell it apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from planish.ir import DType, Node, Value
from planish.passes.quantize.placement import PLACEMENTS
from planish.passes.quantize.plan import ISLAND, Plan, Prediction, Range, plan, predictions
from tests.passes.quantize.topologies import Net

IMAGE = ("N", 4, 6, 6)


def planned(net: Net, ranges: dict[str, Range] | None = None, target: str = "cpu-x86", *, missing: str = "") -> Plan:
    """Every tensor reaches from -1 to 1, but for those that are named."""

    def range_of(value: Value) -> Range | None:
        return None if value.name == missing else (ranges or {}).get(value.name, (-1.0, 1.0))

    def wanted(nodes: Sequence[Node]) -> str:
        return ""

    return plan(net.b.graph(), PLACEMENTS[target], range_of, wanted)


def net_of(*values: Value, net: Net) -> Net:
    for place, value in enumerate(values):
        net.b.output(f"y{place}", value)
    return net


def image(net: Net) -> Value:
    return net.conv(net.b.input("x", DType.FLOAT, IMAGE), 4)


def reach(made: Plan) -> dict[str, tuple[float, float]]:
    """What the codes of each tensor stand for, from the first to the last, to 3 digits."""
    found: dict[str, tuple[float, float]] = {}
    for value, (scale, zero, scheme) in made.parameters.items():
        low, high = ((limit - int(zero)) * float(scale) for limit in scheme.limits)
        found[value.name] = (round(low, 2), round(high, 2))
    return found


def test_what_moves_codes_shares_them() -> None:
    net = Net()
    moved = net.op("Transpose", net.op("MaxPool", image(net), kernel_shape=(2, 2)), perm=(0, 1, 3, 2))
    made = planned(net_of(net.conv(moved, 4), net=net), {"conv1": (-4, 1), "maxpool2": (0, 6), "transpose3": (-5, 2)})
    assert reach(made)["conv1"] == reach(made)["maxpool2"] == reach(made)["transpose3"] == (-5, 6)
    assert len({id(made.parameters[value]) for value in made.parameters if value.name in ("conv1", "maxpool2")}) == 1


def test_what_is_worked_out_anew_has_its_own() -> None:
    net = Net()
    x = image(net)
    joined = net.op("Concat", x, net.op("Add", x, x), axis=1)
    made = planned(net_of(net.conv(joined, 4), net=net), {"conv1": (0, 1), "add2": (0, 2), "concat3": (0, 2)})
    assert reach(made) == {"x": (-1, 1), "conv1": (0, 1), "add2": (0, 2), "concat3": (0, 2), "conv4": (-1, 1)}


def test_a_range_is_widened_to_hold_zero() -> None:
    net = Net()
    made = planned(net_of(net.conv(image(net), 4), net=net), {"x": (2, 3), "conv1": (-3, -2), "conv2": (0, 0)})
    assert (reach(made)["x"], reach(made)["conv1"]) == ((0, 3), (-3, 0))
    assert reach(made)["conv2"] == (0, 255)  # a scale of 1: nothing is known of it


@pytest.mark.parametrize(
    ("seen", "found"), [((0, 4), (0, 4)), ((0, 9), (0, 6)), ((-3, 4), (0, 4)), ((0, 0), (0, 6)), ((-2, -1), (0, 6))]
)
def test_a_clip_bounds_the_codes(seen: Range, found: Range) -> None:
    net = Net()
    made = planned(net_of(net.conv(net.relu6(image(net)), 4), net=net), {"clip2": seen})
    assert reach(made)["clip2"] == found
    assert [node.op for node in made.clips.values()] == ["Clip"]


def test_of_two_clips_in_a_row_the_first_vanishes() -> None:
    net = Net()
    made = planned(net_of(net.conv(net.relu6(net.relu(image(net))), 4), net=net), {"relu2": (0, 9), "clip3": (0, 6)})
    assert [node.op for node in made.clips.values()] == ["Relu"]
    assert [node.op for node in made.forms] == ["Conv", "Clip", "Conv"]
    assert (reach(made)["relu2"], reach(made)["clip3"]) == ((0, 9), (0, 6))


def test_symmetric_codes_imply_no_clip() -> None:
    net = Net()
    made = planned(net_of(net.conv(net.relu(image(net)), 4), net=net), {"relu2": (0, 4)}, "tensorrt")
    assert not made.clips
    assert reach(made) == {"x": (-1, 1), "relu2": (-4, 4)}


def test_a_gate_bounds_what_it_alone_reads() -> None:
    def lay(*, others: bool) -> Plan:
        net = Net()
        x = image(net)
        gated = net.op("Mul", x, net.op("HardSigmoid", x, alpha=0.25, beta=0.5))
        read = net.op("Add", gated, net.op("Transpose", x, perm=(0, 1, 3, 2))) if others else gated
        return planned(net_of(net.conv(read, 4), net=net), {"conv1": (-9, 5)})

    assert reach(lay(others=False))["conv1"] == (-2, 5)
    assert reach(lay(others=True))["conv1"] == (-9, 5)


def test_a_sigmoid_needs_no_range_of_its_own() -> None:
    net = Net()
    x = net.silu(image(net))
    made = planned(net_of(net.conv(x, 4), net=net), missing="sigmoid2")
    assert reach(made)["sigmoid2"] == (0, 1)
    assert not made.left


@pytest.mark.parametrize("missing", ["x", "conv1", "y0"])
def test_without_a_range_a_node_is_left(missing: str) -> None:
    net = Net()
    made = planned(net_of(net.conv(net.silu(image(net)), 4), net=net), missing=missing)
    assert {f"no range of %{missing} is known: calibrate it"} == set(made.left.values()) - {ISLAND} or missing == "y0"
    assert all(value.name != missing for value in made.parameters)


def test_islands_are_left_one_after_the_other() -> None:
    """The last reads codes and gives none, so that the one before it gives none either, and so on."""
    net = Net()
    x = image(net)
    for _ in range(3):
        x = net.silu(x)
    made = planned(net_of(net.op("Sin", x), net=net))
    assert [node.op for node in made.forms] == ["Conv"]
    assert list(made.left.values()) == [ISLAND] * 6


def test_before_the_first_product_nothing_is_quantized() -> None:
    net = Net()
    x = net.op("MaxPool", net.silu(net.b.input("x", DType.FLOAT, IMAGE)), kernel_shape=(2, 2))
    made = planned(net_of(net.conv(x, 4), net=net))
    assert [node.op for node in made.forms] == ["Conv"]
    assert set(reach(made)) == {"maxpool3", "conv4"}


def test_a_product_that_gives_real_numbers_has_no_range() -> None:
    net = Net()
    made = planned(net_of(net.dense(net.b.input("x", DType.FLOAT, ("N", 8)), (8, 4)), net=net), missing="gemm1")
    assert [node.op for node in made.forms] == ["Gemm"]
    assert set(reach(made)) == {"x"}


def test_predictions() -> None:
    net = Net()
    x = net.relu(net.linear(net.b.input("x", DType.FLOAT, ("N", 3, 8)), (8, 4)))
    x = net.op("MatMul", net.op("Transpose", net.op("Add", x, x), perm=(0, 1, 2)), net.normal(4, 2, fan_in=4))
    assert predictions(planned(net_of(x, net=net))) == [
        Prediction("matmul1", "QGemm", ("add2_raw_quantized", "relu3_quantized", "add2_quantized"), moves=False),
        Prediction("add4", "QLinearAdd", ("add4_raw_quantized", "add4_quantized"), moves=False),
        Prediction(
            "transpose5",
            "Transpose",
            ("transpose5_raw_quantized", "transpose5_quantized"),
            moves=True,
        ),
        Prediction("matmul6", "MatMulIntegerToFloat", ("matmul6_raw", "matmul6"), moves=False),
    ]
