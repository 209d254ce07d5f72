"""quantize-static: what is written around nodes, what is left alone and why, and that limits, names and opsets hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes, runtime
from planish.ir import DType, Graph, Value
from planish.ir.text import text
from planish.ir.types import Array
from planish.passes.manager import PassManager
from planish.passes.quantize import quantize_static
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.quantize_static import QuantizeStatic
from planish.runtime.session import Session
from tests.equivalence import PLAIN
from tests.passes.quantize.statically import Static, quantized
from tests.passes.quantize.topologies import TOPOLOGIES, Net

IMAGE = (1, 4, 6, 6)


def feeds(*shape: int, count: int = 3, seed: int = 5) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal(shape or IMAGE).astype(np.float32)} for _ in range(count)]


def image(net: Net, dtype: DType = DType.FLOAT) -> Value:
    return net.b.input("x", dtype, IMAGE)


def given(net: Net, *values: Value) -> Graph:
    for place, value in enumerate(values):
        net.b.output(f"y{place}", value)
    return net.b.graph()


def nodes(found: Static) -> list[str]:
    """Lines of the text that are nodes, without the operands that are numbers."""
    lines = found.text.split("{\n", 1)[1].splitlines()
    return [line.strip() for line in lines if " = " in line]


def test_what_is_written() -> None:
    """One QuantizeLinear behind what makes a tensor; the Relu is left out; weights and biases are codes."""
    net = Net()
    hidden = net.relu(net.conv(image(net), 4, kernel=1))
    found = quantized(given(net, net.conv(hidden, 2, kernel=1, bias=False)), feeds())
    assert [op for op in found.ops if op != "DequantizeLinear"] == [
        "QuantizeLinear", "Conv", "QuantizeLinear", "Conv", "QuantizeLinear",
    ]  # fmt: skip
    lines = nodes(found)
    assert lines[0].startswith("x_quantized = QuantizeLinear (x, ")
    assert lines[1].startswith("DequantizeLinear_out = DequantizeLinear (x_quantized, ")
    assert "constant_quantized" in lines[2]
    assert "axis = 0" in lines[2]
    assert lines[4].startswith("conv1 = Conv ")
    assert lines[5].startswith("relu2_quantized = QuantizeLinear (conv1, ")
    assert [kind.name for kind in _types_of_codes(found)] == ["UINT8", "INT8", "INT32", "UINT8", "INT8", "UINT8"]
    assert found.error() < 0.02


def _types_of_codes(found: Static) -> list[DType]:
    codes = [node.operands[0] for node in found.graph.nodes if node.op == "DequantizeLinear"]
    return [value.dtype for value in codes if value is not None and value.dtype is not None]


def test_float_weights_are_gone() -> None:
    topology = TOPOLOGIES["residual"]
    found = quantized(topology.graph(), topology.feeds())
    kept = [tensor for tensor in found.after.graph.initializer if len(tensor.dims) > 1]
    assert {tensor.data_type for tensor in kept} == {onnx.TensorProto.INT8}
    assert len(found.after.SerializeToString()) < 0.45 * len(found.before.SerializeToString())


def test_records_name_what_they_come_from() -> None:
    net = Net()
    hidden = net.relu(net.conv(image(net), 4))
    found = quantized(given(net, net.op("Add", net.conv(hidden, 4), hidden), net.conv(hidden, 2)), feeds())
    assert [(rewrite.rule, rewrite.sources) for rewrite in found.record.rewrites] == [
        ("quantize-conv", ("conv1", "relu2")),
        ("quantize-conv", ("conv3",)),
        ("quantize-conv", ("y1",)),
    ]
    assert [rewrite.number for rewrite in found.record.rewrites] == [1, 2, 3]
    origins = {node.origin for node in found.graph.nodes if node.op == "QuantizeLinear"}
    assert ("conv1", "relu2") in origins


# What bounds a run


@pytest.mark.parametrize("name", ["silu", "inverted residual", "attention", "split and concat", "hard swish"])
def test_every_limit_leaves_a_valid_model(name: str) -> None:
    topology = TOPOLOGIES[name]
    total = len(quantized(topology.graph(), topology.feeds(), first=topology.first).record.rewrites)
    for limit in (0, 1, 2, total // 2, total - 1):
        found = quantized(topology.graph(), topology.feeds(), first=topology.first, limit=limit)
        assert len(found.record.rewrites) == limit
        assert found.error() < 0.06


def test_a_strict_run_changes_nothing() -> None:
    topology = TOPOLOGIES["mlp"]
    graph = topology.graph()
    before = text(graph)
    seen = runtime.calibrate(topology.graph(), topology.feeds(), target=PLAIN)
    (record,) = passes.run(graph, (QuantizeStatic(ranges=seen),), fp="strict")
    assert not record.rewrites
    assert text(graph) == before


@pytest.mark.parametrize("ranges", [None, Calibration({})], ids=["no calibration", "an empty one"])
def test_without_ranges_nodes_are_left(ranges: Calibration | None) -> None:
    graph = TOPOLOGIES["mlp"].graph()
    (record,) = passes.run(graph, (QuantizeStatic(ranges=ranges),))
    assert not record.rewrites
    assert record.notes == [
        "gemm1: no range of %x is known: calibrate it",
        "gemm3: no range of %relu2 is known: calibrate it",
        "gemm5: no range of %relu4 is known: calibrate it",
    ]


def test_one_tensor_without_a_range() -> None:
    topology = TOPOLOGIES["mlp"]
    seen = runtime.calibrate(topology.graph(), topology.feeds(), target=PLAIN)
    seen = replace(seen, tensors={name: kept for name, kept in seen.tensors.items() if name != "relu2"})
    graph = topology.graph()
    (record,) = passes.run(graph, (QuantizeStatic(ranges=seen),))
    assert [rewrite.rule for rewrite in record.rewrites] == ["quantize-gemm"]
    assert {note.split(":")[0] for note in record.notes} == {"gemm1", "gemm3"}


# Names


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (QuantizeStatic(exclude="conv1"), ("conv1",)),
        (QuantizeStatic(exclude="conv*"), ("conv1", "conv3")),
        (QuantizeStatic(exclude="Conv"), ("conv1", "conv3")),
        (QuantizeStatic(exclude="nothing|conv3"), ("conv3",)),
        (QuantizeStatic(only="conv1"), ("conv3", "y0")),
        (QuantizeStatic(only="conv1|y0"), ("conv3",)),
        (QuantizeStatic(exclude="con"), ()),
    ],
    ids=str,
)
def test_only_and_exclude(options: QuantizeStatic, kept: tuple[str, ...]) -> None:
    net = Net()
    hidden = net.relu(net.conv(net.relu(net.conv(image(net), 4)), 4))
    graph = given(net, net.dense(net.op("Flatten", net.pool(hidden)), (4, 2)))
    found = quantized(graph, feeds(), options)
    products = {"conv1", "conv3", "y0"}
    assert {rewrite.sources[0] for rewrite in found.record.rewrites} & products == products - set(kept)
    assert {note.split(":")[0] for note in found.record.notes} & products == set(kept)
    assert found.error() < 0.05


@pytest.mark.parametrize("pattern", ["MatMul", "matmul1", "Add", "y0"])
def test_a_product_and_its_bias_stay_together(pattern: str) -> None:
    net = Net()
    graph = given(net, net.linear(net.b.input("x", DType.FLOAT, (2, 3, 8)), (8, 4)))
    assert quantized(graph, feeds(2, 3, 8), QuantizeStatic(exclude=pattern)).ops == ["MatMul", "Add"]
    net = Net()
    graph = given(net, net.linear(net.b.input("x", DType.FLOAT, (2, 3, 8)), (8, 4)))
    assert "Gemm" in quantized(graph, feeds(2, 3, 8), QuantizeStatic(only=pattern)).ops


def test_weights_shared_with_an_excluded_node() -> None:
    net = Net()
    w, x = net.normal(4, 4, 3, 3, fan_in=36), image(net)
    first = net.op("Conv", x, w, pads=(1, 1, 1, 1))
    found = quantized(given(net, first, net.op("Conv", x, w)), feeds(), QuantizeStatic(exclude="y1"))
    assert sorted(tensor.data_type for tensor in found.after.graph.initializer if len(tensor.dims) == 4) == [1, 3]
    assert found.error() < 0.02


def test_weights_shared_with_a_shifted_node() -> None:
    net = Net()
    w, x = net.normal(4, 4, 3, 3, fan_in=36), image(net)
    graph = given(net, net.op("Conv", x, w), net.op("Conv", x, w, pads=(1, 1, 1, 1)))
    found = quantized(graph, feeds(), QuantizeStatic(shift="y1"))
    zeros = [numpy_helper.to_array(tensor) for tensor in found.after.graph.initializer if tensor.data_type == 3]
    assert sorted({array.flat[0] for array in zeros if array.ndim == 1}) == [0, 1]
    assert found.coverage().predicted == {"QLinearConv": 2}
    assert found.coverage().is_whole
    assert found.error() < 0.02


# Versions, types, and models that are quantized already


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_the_opset_rises_where_channels_need_it(opset: int) -> None:
    net = Net(opset)
    graph = given(net, net.relu(net.conv(image(net), 4)))
    found = quantized(graph, feeds())
    assert found.record.opset == 13
    assert [entry.version for entry in found.after.opset_import] == [13]
    assert found.coverage().is_whole


@pytest.mark.parametrize("opset", [10, 12])
def test_where_the_opset_may_not_rise_the_model_is_left(opset: int) -> None:
    net = Net(opset)
    graph = ir.load(ir.emit(given(net, net.relu(net.conv(image(net), 4)))))
    seen = runtime.calibrate(graph, feeds(), target=PLAIN)
    before = ir.emit(graph).SerializeToString()
    (record,) = PassManager((QuantizeStatic(ranges=seen),), newest_opset=opset).run(graph)
    assert ir.emit(graph).SerializeToString() == before
    assert record.notes == ["opset 13 has a scale for each channel, and the model cannot be written in it"]


def test_where_the_opset_is_13_products_keep_their_axes() -> None:
    """A Gemm of rows would need a Reshape of opset 14 to be right where there are none."""
    net = Net(13)
    graph = ir.load(ir.emit(given(net, net.linear(net.b.input("x", DType.FLOAT, ("N", "L", 8)), (8, 4)))))
    seen = runtime.calibrate(graph, feeds(2, 3, 8), target=PLAIN)
    (record,) = PassManager((QuantizeStatic(ranges=seen),), newest_opset=13).run(graph)
    assert [rewrite.rule for rewrite in record.rewrites] == ["quantize-matmul"]
    assert (graph.opset_imports[""], "Gemm" in {node.op for node in graph.nodes}) == (13, False)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.DOUBLE])
def test_other_types_are_left(dtype: DType) -> None:
    net = Net()
    w = net.b.constant(np.ones((6, 4)).astype(dtype.numpy))
    fed = [{"x": feed["x"].astype(dtype.numpy)} for feed in feeds()]
    found = quantized(given(net, net.op("MatMul", image(net, dtype), w)), fed)
    assert found.ops == ["MatMul"]
    assert not found.record.notes


def test_a_model_that_is_quantized_already() -> None:
    arrays = {"s": np.array(0.1, np.float32), "z": np.array(3, np.uint8), "w": np.ones((2, 4, 1, 1), np.float32)}
    constants = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    parts = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, 1, ["N", channels, 3, 3]) for name, channels in (("x", 4), ("y", 2))]
    graph = helper.make_graph(parts, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    check_model(model, full_check=True)
    found = quantized(model, feeds(1, 4, 3, 3))
    assert not found.record.rewrites
    assert found.record.notes == ["c: it is quantized already"]


# Who reads what


def test_an_input_that_float_reads_too() -> None:
    net = Net()
    x = image(net)
    found = quantized(given(net, net.conv(x, 4), net.op("Sin", x)), feeds())
    assert [line for line in nodes(found) if "Sin" in line] == ["y1 = Sin (x)"]
    assert found.coverage().is_whole


def test_a_graph_output_that_is_read_inside() -> None:
    net = Net()
    hidden = net.relu(net.conv(image(net), 4))
    found = quantized(given(net, hidden, net.conv(hidden, 2)), feeds())
    assert [value.name for value in found.after.graph.output] == ["y0", "y1"]
    assert found.ops.count("QuantizeLinear") == 3
    assert found.coverage().is_whole
    assert found.error() < 0.02


def test_an_output_given_twice() -> None:
    net = Net()
    y = net.conv(image(net), 4)
    found = quantized(given(net, y, y), feeds())
    assert found.error() < 0.02


def test_nested_graphs_are_gone_into_and_what_lies_outside_is_left_there() -> None:
    net = Net()
    x = image(net)
    condition = net.b.input("c", DType.BOOL, ())
    outside = net.relu(net.conv(x, 4))
    branches: dict[str, Graph] = {}
    for name, kernel in (("then_branch", 1), ("else_branch", 3)):
        body = net.b.body(name)
        w1, w2 = (net.random.standard_normal((4, 4, kernel, kernel)).astype(np.float32) / 4 for _ in range(2))
        pads = {"pads": (kernel // 2,) * 4}
        first = body.node("Conv", (outside, body.constant(w1)), pads, result=f"{name}_a")
        second = body.node("Conv", (body.node("Relu", (first,), result=f"{name}_r"), body.constant(w2)), pads)
        body.output(f"{name}_y", second)
        branches[name] = body.graph()
    graph = given(net, net.b.node("If", (condition,), branches))
    fed: Sequence[Mapping[str, Array]] = [{**feed, "c": np.array(flag)} for feed in feeds() for flag in (True, False)]
    found = quantized(graph, fed)
    assert "then_branch_a: it reads a value from outside of its graph" in found.record.notes
    assert found.error() < 0.03


def test_nothing_to_do() -> None:
    net = Net()
    found = quantized(given(net, net.op("Sin", image(net))), feeds())
    assert (found.ops, found.record.rewrites, found.record.notes) == (["Sin"], [], [])


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_integer_kernels_give_what_the_text_says(name: str) -> None:
    """Run as it is written, float between conversions, or on integer kernels, which may round a tie the other way."""
    topology = TOPOLOGIES[name]
    found = quantized(topology.graph(), topology.feeds(), first=topology.first)
    model = found.after.SerializeToString()
    for feed in found.feeds:
        (plain,), (integer,) = (
            Session(model, replace(PLAIN, optimization=level)).run(feed) for level in ("disabled", "all")
        )
        plain, integer = np.asarray(plain, np.float64), np.asarray(integer, np.float64)
        assert np.linalg.norm(plain - integer) <= 0.02 * np.linalg.norm(plain)


def test_a_histogram_is_searched_once_for_each_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    net.b.output("y", net.conv(net.conv(net.b.input("x", DType.FLOAT, (1, 3, 6, 6)), 4), 4))
    graph = ir.load(ir.emit(net.b.graph()))
    x = np.random.default_rng(0).standard_t(2, (1, 3, 6, 6)).astype(np.float32)
    seen = runtime.calibrate(graph, [{"x": x}], target=PLAIN)
    searched: list[float] = []

    def search(_: object, __: object, part: float) -> tuple[float, float]:
        searched.append(part)
        return -part / 100, part / 100

    monkeypatch.setattr(quantize_static.histogram_ranges, "percentile", search)

    def scales(pass_: QuantizeStatic) -> list[float]:
        return [float(found.scale) for found in pass_.plan(graph).parameters.values()]

    once = scales(QuantizeStatic(ranges=seen, method="percentile", percentile=50.0))
    assert searched == [50.0, 50.0, 50.0]
    assert scales(QuantizeStatic(ranges=seen, method="percentile", percentile=50.0, only="Conv")) == once
    assert len(searched) == 3
    assert scales(QuantizeStatic(ranges=seen, method="percentile", percentile=20.0))[0] < once[0]
    assert len(searched) == 6
