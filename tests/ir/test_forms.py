"""One form of each operator: old models saved at newer opsets and back compute the same, or say what prevents it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import parser

from planish import ir
from planish.ir import Builder, DType, Graph, GraphError, constant
from planish.ir.ops import forms
from planish.ir.types import Array
from planish.ir.verify import verify
from planish.runtime.session import Feed

Run = Callable[[Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]

NEWEST = 23
"""The newest opset that is tried: ONNX Runtime has kernels for it."""


class Case(NamedTuple):
    """A model of an old opset that is about one operator."""

    name: str
    opset: int
    outputs: str
    nodes: str
    canonical: str
    """The node in canonical form, as operator and number of operands."""

    @property
    def body(self) -> str:
        return f"({X}) => ({self.outputs}) {{ {self.nodes} }}"


X = "float[2,3,4] x"
Y = "float[2,3,4] y"
CASES = [
    Case("squeeze", 11, Y, "t = Unsqueeze <axes = [0, 2]> (x) y = Squeeze <axes = [0, 2]> (t)", "Squeeze 2"),
    Case("squeeze all", 11, Y, "t = Unsqueeze <axes = [1]> (x) y = Squeeze (t)", "Squeeze 1"),
    Case("unsqueeze", 11, "float[1,2,3,4,1] y", "y = Unsqueeze <axes = [0, -1]> (x)", "Unsqueeze 2"),
    Case("sum", 11, "float[2,4] y", "y = ReduceSum <axes = [1], keepdims = 0> (x)", "ReduceSum 2"),
    Case("sum of all", 11, "float[1,1,1] y", "y = ReduceSum (x)", "ReduceSum 1"),
    Case("split", 11, "float[2,1,4] y, float[2,2,4] z", "y, z = Split <axis = 1, split = [1, 2]> (x)", "Split 2"),
    Case("split equally", 11, "float[1,3,4] y, float[1,3,4] z", "y, z = Split (x)", "Split 1"),
    Case("slice", 9, "float[2,1,2] y", "y = Slice <axes = [1, 2], starts = [-1, 1], ends = [9, 3]> (x)", "Slice 4"),
    Case("slice all axes", 9, "float[1,3,4] y", "y = Slice <starts = [1, 0], ends = [2, 3]> (x)", "Slice 3"),
    Case("pad", 10, "float[2,3,7] y", "y = Pad <pads = [0, 0, 1, 0, 0, 2], value = 1.5> (x)", "Pad 3"),
    Case("pad by zero", 10, "float[2,3,5] y", "y = Pad <pads = [0, 0, 1, 0, 0, 0]> (x)", "Pad 2"),
    Case("reflect", 10, "float[2,3,6] y", 'y = Pad <mode = "reflect", pads = [0, 0, 1, 0, 0, 1]> (x)', "Pad 2"),
    Case("clip", 10, Y, "y = Clip <min = -0.5, max = 1.25> (x)", "Clip 3"),
    Case("clip below", 10, Y, "y = Clip <max = 1.25> (x)", "Clip 3"),
    Case("clip above", 10, Y, "y = Clip <min = 0.25> (x)", "Clip 2"),
    Case("no clip", 10, Y, "y = Clip (x)", "Clip 1"),
    Case("top k", 9, "float[2,2,4] y, int64[2,2,4] z", "y, z = TopK <axis = 1, k = 2> (x)", "TopK 2"),
    Case("dropout", 10, Y, "y = Dropout <ratio = 0.25> (x)", "Dropout 2"),
    Case("softmax", 11, Y, "y = Softmax <axis = 2> (x)", "Softmax 1"),
    Case("softmax of a matrix", 9, "float[6,4] y", "t = Flatten <axis = 2> (x) y = Softmax (t)", "Softmax 1"),
    Case("log softmax", 12, Y, "y = LogSoftmax <axis = -1> (x)", "LogSoftmax 1"),
    Case("hardmax", 11, Y, "y = Hardmax <axis = 2> (x)", "Hardmax 1"),
    Case(
        "batch normalization",
        9,
        Y,
        "s = Constant <value = float[3] {1, 2, 3}> () y = BatchNormalization (x, s, s, s, s)",
        "BatchNormalization 5",
    ),
    Case("argmax", 11, "int64[2,1,4] y", "y = ArgMax <axis = 1> (x)", "ArgMax 1"),
    Case("reshape", 4, "float[6,4] y", "y = Reshape <shape = [-1, 4]> (x)", "Reshape 2"),
]
for operator in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"):
    nodes = f"t = Abs (x) y = Reduce{operator} <axes = [1, -1]> (t)"
    CASES.append(Case(f"reduce {operator}", 13, "float[2,1,1] y", nodes, f"Reduce{operator} 2"))
    nodes = f"t = Abs (x) y = Reduce{operator} <keepdims = 0> (t)"
    CASES.append(Case(f"reduce {operator} of all", 13, "float y", nodes, f"Reduce{operator} 1"))


def load(case: Case) -> Graph:
    return ir.load(parse(case.opset, case.body))


def parse(opset: int, body: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {7 if opset > 8 else 4}, opset_import: ["" : {opset}]> g {body}')


def feeds() -> dict[str, Feed]:
    x = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    return {"x": x}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_canonical_form(case: Case) -> None:
    graph = load(case)
    op, operands = case.canonical.split()
    assert [len(node.operands) for node in graph.nodes if node.op == op][-1:] == [int(operands)]
    verify(graph)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_later_opset_and_back(case: Case, run: Run) -> None:
    """ONNX Runtime computes the same, bit for bit: each version of these operators has the same kernel."""
    graph = load(case)
    expected = run(graph, feeds())
    for opset in range(case.opset, NEWEST + 1):
        newer = ir.emit(load(case), opset=opset)
        assert newer.opset_import[0].version == opset
        for found, wanted in zip(run(newer, feeds()), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        older = ir.emit(ir.load(newer), opset=case.opset)
        for found, wanted in zip(run(older, feeds()), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_constants_are_not_written_where_attributes_are(case: Case) -> None:
    model = parse(case.opset, case.body)
    emitted = ir.emit(ir.load(model), opset=case.opset)
    assert len(emitted.graph.initializer) == len(model.graph.initializer)
    assert [len(node.input) for node in emitted.graph.node] == [len(node.input) for node in model.graph.node]


def test_bounds_take_the_type_of_what_they_bound() -> None:
    graph = ir.load(parse(10, f"({X}) => (double[2,3,4] y) {{ t = Cast <to = 11> (x) y = Clip <min = 0.5> (t) }}"))
    bound = graph.nodes[1].operands[1]
    assert bound is not None
    assert bound.dtype is DType.DOUBLE


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_a_softmax_over_several_axes_stays_old(op: str, run: Run) -> None:
    """Before opset 13 it flattened what follows the axis: over any but the last axis that is another function."""
    graph = ir.load(parse(11, f"({X}) => ({Y}) {{ [soft] y = {op} (x) }}"))
    assert graph.nodes[0].op == f"{op}-11"
    (found,) = run(graph, feeds())
    x = np.asarray(feeds()["x"]).reshape(2, -1)
    flat = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = {"Softmax": flat, "LogSoftmax": np.log(flat), "Hardmax": flat == flat.max(axis=1, keepdims=True)}[op]
    np.testing.assert_allclose(np.asarray(found.reshape(2, -1), np.float32), expected, rtol=1e-6, atol=1e-6)
    (at_12,) = run(ir.emit(graph, opset=12), feeds())
    np.testing.assert_array_equal(at_12, found)
    with pytest.raises(GraphError, match=f"{op} keeps its meaning of opset 11, which opset 13 cannot .*\n  > soft"):
        ir.emit(graph, opset=13)


def test_a_softmax_of_unknown_rank_stays_old() -> None:
    graph = ir.load(parse(11, "(float[] x) => (float[] y) { y = Softmax <axis = 1> (x) }"))
    assert graph.nodes[0].op == "Softmax-11"


def test_a_new_softmax_over_an_inner_axis_needs_its_opset() -> None:
    graph = ir.load(parse(17, f"({X}) => ({Y}) {{ [soft] y = Softmax <axis = 1> (x) }}"))
    with pytest.raises(GraphError, match="Softmax over an axis that is not the last needs opset 13\n  > soft"):
        ir.emit(graph, opset=12)


@pytest.mark.parametrize(
    ("opset", "body", "target", "message"),
    [
        (20, f"({X}) => ({Y}) {{ [late] y = Gelu (x) }}", 19, "opset 19 has no operator Gelu"),
        (
            18,
            f"({X}, int64[1] axes) => (y) {{ [late] y = ReduceMax (x, axes) }}",
            17,
            "ReduceMax with computed axes needs opset 18, not 17",
        ),
        (
            13,
            f"({X}) => ({Y}) <int64[1] a = {{1}}> {{ [late] y = ReduceSum <noop_with_empty_axes = 1> (x, a) }}",
            12,
            "ReduceSum with noop_with_empty_axes=1 has no form in opset 12",
        ),
        (13, "(bfloat16[2] x) => (bfloat16[2] y) { [late] y = Relu (x) }", 12, "Relu takes no bfloat16 operand"),
        (11, "(float[2,2] x) => (float[2,2] y) { [late] y = Gemm (x, x) }", 9, "Gemm takes at least 3 operands"),
        (
            11,
            f"({X}, float low) => (float[2,3,4] y) {{ [late] y = Clip (x, low) }}",
            10,
            "Clip with computed min needs",
        ),
    ],
)
def test_an_opset_that_cannot_say_it(opset: int, body: str, target: int, message: str) -> None:
    graph = ir.load(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {body}'))
    with pytest.raises(GraphError, match=f"{message}(.|\n)*\n  > late"):
        ir.emit(graph, opset=target)


def test_an_unknown_operator_is_in_the_way_of_nothing() -> None:
    graph = ir.load(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17, "vendor" : 1]> g (float[2] x) => (y) { y = vendor.Op (x) }'
        )
    )
    assert {o.domain: o.version for o in ir.emit(graph, opset=21).opset_import} == {"": 21, "vendor": 1}


def test_an_unknown_operator_never_becomes_a_known_one() -> None:
    graph = ir.load(parse(17, f"({X}) => ({Y}) {{ [early] y = Gelu (x) }}"))
    assert ir.emit(graph, opset=19).opset_import[0].version == 19
    with pytest.raises(GraphError, match="Gelu is unknown in the model's opset, and opset 20 has one\n  > early"):
        ir.emit(graph, opset=20)


def test_the_lowest_opset_of_a_node() -> None:
    b = Builder(opset=21)
    x = b.input("x", DType.FLOAT, (2, 3, 4))
    axes = b.input("axes", DType.INT64, (1,))
    fixed = constant(np.array([1], np.int64))
    expected = {
        b.node("Relu", (x,)): 7,
        b.node("ReduceMax", (x, fixed)): 7,
        b.node("ReduceMax", (x, axes)): 18,
        b.node("ReduceSum", (x, axes)): 13,
        b.node("Gelu", (x,)): 20,
        b.node("Softmax", (x,), {"axis": 1}): 13,
        b.node("Softmax", (x,), {"axis": 2}): 7,
        b.node("LayerNormalization", (x, constant(np.ones(4, np.float32)))): 17,
    }
    found = {value: forms.lowest_opset(value.producer, 7) for value in expected if value.producer is not None}
    assert found == expected


def test_nested_graphs_follow(run: Run) -> None:
    model = parse(
        11,
        f"({X}, bool c) => (float[2,4] y) {{ y = If (c) <then_branch = t () => (float[2,4] p) "
        "{ p = ReduceSum <axes = [1], keepdims = 0> (x) }, else_branch = e () => (float[2,4] q) "
        "{ q = ReduceMax <axes = [1], keepdims = 0> (x) }> }",
    )
    for condition in (True, False):
        given = {**feeds(), "c": np.array(condition)}
        expected = run(model, given)[0]
        for opset in (11, 13, 18, NEWEST):
            newer = ir.emit(ir.load(model), opset=opset)
            np.testing.assert_array_equal(run(newer, given)[0], expected)
            np.testing.assert_array_equal(run(ir.emit(ir.load(newer), opset=11), given)[0], expected)


@pytest.mark.parametrize(
    ("scales", "axis", "lowest"), [((), 1, 10), ((1,), 1, 10), ((3,), 1, 13), ((3,), 0, 13), ((0,), 1, 13)]
)
@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_a_scale_for_each_channel_needs_its_opset(op: str, scales: tuple[int, ...], axis: int, lowest: int) -> None:
    """Also along the axis that is the default, which no attribute says."""
    b = Builder("net", opset=NEWEST)
    dtype = DType.FLOAT if op == "QuantizeLinear" else DType.INT8
    zero = b.constant(np.zeros(scales, np.int8))
    value = b.node(op, (b.input("x", dtype, (3, 3)), b.constant(np.ones(scales, np.float32)), zero), {"axis": axis})
    assert value.producer is not None
    assert forms.lowest_opset(value.producer, 10) == (13 if axis == 0 else lowest)
    with pytest.raises(GraphError):
        forms.lower_form(value.producer, lowest - 1)
