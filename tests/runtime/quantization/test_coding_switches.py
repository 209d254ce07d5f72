"""A float model whose roundings are switched on one by one, each the same numbers as codes stand for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir, runtime
from planish.ir import DType, Graph
from planish.ir.types import Array
from planish.passes.quantize.fitting import fitted
from planish.passes.quantize.plan import Plan
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.passes.quantize.scheme import Scheme, dequantize, parameters, quantize
from planish.runtime.quantization.coding_switches import Switches, add_switches
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.quantize.topologies import Net

Singles = NDArray[np.float32]
X = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def net(opset: int = 17) -> Graph:
    """conv1, relu2, conv3, and an Exp, which has no codes."""
    net = Net(opset)
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    y = net.conv(net.relu(net.conv(x, 4)), 4)
    net.b.output("y", net.op("Exp", y))
    return ir.load(ir.emit(net.b.graph()))


def switched(graph: Graph) -> tuple[Session, Switches, Plan]:
    seen = runtime.calibrate(graph, [{"x": X}], target=PLAIN)
    plan = QuantizeStatic(ranges=seen).plan(graph)
    found = add_switches(graph, plan, {})
    return Session(ir.emit(graph).SerializeToString(), PLAIN), found, plan


def run(session: Session, feeds: dict[str, Array]) -> Singles:
    return np.asarray(session.run({"x": X, **feeds})[0], np.float32)


def test_nothing_is_rounded_where_nothing_is_switched_on() -> None:
    session, switches, _ = switched(net())
    plain = Session(ir.emit(net()).SerializeToString(), PLAIN)
    assert np.array_equal(run(session, switches.feeds({})), run(plain, {}))


@pytest.mark.parametrize("opset", [7, 9, 12])
def test_an_old_opset_is_raised_to_one_with_codes(opset: int) -> None:
    session, switches, _ = switched(net(opset))
    plain = run(session, switches.feeds({}))
    assert np.array_equal(plain, run(Session(ir.emit(net(opset)).SerializeToString(), PLAIN), {}))
    for switch in (*switches.tensors, *switches.weights):
        rounded = run(session, switches.feeds({switch: None}))
        assert 0 < float(np.abs(rounded - plain).max()) < 0.5 * float(np.abs(plain).max())


def test_every_tensor_of_codes_and_every_weight_has_a_switch() -> None:
    _, switches, plan = switched(net())
    assert {name for switch in switches.tensors for name in switch.values} == {v.name for v in plan.parameters}
    assert [switch.values for switch in switches.weights] == [("conv1",), ("conv3",)]


def test_a_tensor_is_rounded_to_the_codes_that_are_asked_for() -> None:
    session, switches, _ = switched(net())
    (of_input,) = [switch for switch in switches.tensors if switch.values == ("x",)]
    assert of_input.planned is not None
    plain = Session(ir.emit(net()).SerializeToString(), PLAIN)
    for chosen in (of_input.planned, parameters(of_input.planned.scheme, -0.5, 0.75)):
        rounded = dequantize(quantize(X, chosen), chosen)
        expected = np.asarray(plain.run({"x": rounded})[0])
        np.testing.assert_array_equal(run(session, switches.feeds({of_input: chosen})), expected)
    assert np.array_equal(
        run(session, switches.feeds({of_input: None})), run(session, switches.feeds({of_input: of_input.planned}))
    )


def test_a_weight_is_rounded_by_the_scales_of_its_channels() -> None:
    session, switches, _ = switched(net())
    graph = net()
    product = next(node for node in graph.nodes if node.op == "Conv")
    weight = product.operands[1]
    assert weight is not None
    assert weight.constant is not None
    array = np.asarray(weight.constant.array(), np.float32)
    high = np.abs(array).max(axis=(1, 2, 3)).astype(np.float64)
    found = parameters(Scheme(DType.INT8, symmetric=True, axis=0, narrow=True), -high, high)
    graph.set_operand(product, 1, ir.constant(dequantize(quantize(array, found), found)))
    expected = run(Session(ir.emit(graph).SerializeToString(), PLAIN), {})
    assert np.array_equal(run(session, switches.feeds({switches.weights[0]: None})), expected)
    assert not np.array_equal(expected, run(session, switches.feeds({})))


def test_a_weight_that_is_rounded_for_the_outputs_is_that_of_the_pass() -> None:
    """With the bias that takes up the mean of what the codes lack."""
    random = np.random.default_rng(0)
    b = ir.Builder("net", opset=21)
    x = b.input("x", DType.FLOAT, (1, 3, 8, 8))
    weight, bias = random.standard_normal((4, 3, 3, 3)).astype(np.float32), np.ones(4, np.float32)
    b.output("y", b.node("Conv", (x, b.constant(weight), b.constant(bias)), result="conv"))
    graph = ir.load(ir.emit(b.graph()))
    seen = runtime.calibrate(graph, [{"x": X + 1}], target=PLAIN, grams=("*",))
    plan = QuantizeStatic(ranges=seen, rounding="gram").plan(graph)
    (gram,) = seen.grams.values()
    nearest, fitting = ir.load(ir.emit(graph)), graph
    scheme = Scheme(DType.INT8, symmetric=True, axis=0, narrow=True)
    high = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float64)
    scales = parameters(scheme, -high, high)
    made = fitted(weight.astype(np.float64), scales, gram, has_bias=True)
    assert made is not None
    assert np.abs(made.shift).max() > 0
    (product,) = nearest.nodes
    nearest.set_operand(product, 1, ir.constant(dequantize(made.codes, scales)))
    nearest.set_operand(product, 2, ir.constant((bias + made.shift).astype(np.float32)))
    expected = run(Session(ir.emit(nearest).SerializeToString(), PLAIN), {})
    switches = add_switches(fitting, plan, seen.grams)
    session = Session(ir.emit(fitting).SerializeToString(), PLAIN)
    (switch,) = switches.weights
    assert np.array_equal(run(session, switches.feeds({switch: None})), expected)
    assert not np.array_equal(run(session, switches.feeds({})), expected)


def test_tensors_that_share_codes_have_one_switch() -> None:
    """A MaxPool moves codes about as they are."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    pooled = net.op("MaxPool", net.conv(x, 4), kernel_shape=(2, 2), strides=(2, 2))
    net.b.output("y", net.conv(pooled, 4))
    _, switches, plan = switched(ir.load(ir.emit(net.b.graph())))
    assert len(plan.parameters) == 1 + sum(len(switch.values) for switch in switches.tensors[1:])
    assert ("conv1", "maxpool2") in [switch.values for switch in switches.tensors]


@pytest.mark.parametrize("output", [True, False])
def test_readers_that_work_on_no_codes_see_what_they_would(output: bool) -> None:
    """x, that no node on codes makes, stays as it is for others; what a convolution makes is codes for all."""
    net = Net()
    x = net.b.input("x", DType.FLOAT, (1, 3, 8, 8))
    made = net.conv(x, 4)
    net.b.output("y", net.conv(made, 4))
    net.b.output("z", net.op("Exp", made if output else x))
    graph = ir.load(ir.emit(net.b.graph()))
    before = np.asarray(Session(ir.emit(graph).SerializeToString(), PLAIN).run({"x": X})[1])
    session, switches, _ = switched(graph)
    name = "conv1" if output else "x"
    (switch,) = [switch for switch in switches.tensors if switch.values == (name,)]
    after = np.asarray(session.run({"x": X, **switches.feeds({switch: None})})[1])
    assert np.array_equal(before, after) is not output
