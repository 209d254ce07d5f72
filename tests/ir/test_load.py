"""Loading what is right in an odd way: order, old IR versions, unknown operators, functions, declared types."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper, parser

from planish import ir
from planish.ir import DType, SequenceType, TensorType, symbol
from planish.ir.ops.table import is_pure
from planish.ir.types import Array
from planish.runtime.session import Feed

Run = Callable[[ir.Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]
Difference = Callable[[Message, Message], str]

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def parse(body: str, head: str = HEAD) -> onnx.ModelProto:
    return parser.parse_model(f"{head} {body}")


def test_a_path_a_string_and_a_proto_load_alike(tmp_path: Path) -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Relu (x) }")
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    graphs = [ir.load(path), ir.load(str(path)), ir.load(model)]
    assert len({ir.text(graph) for graph in graphs}) == 1
    assert [graph.path for graph in graphs] == [path, path, None]


def test_the_proto_that_was_given_is_not_changed() -> None:
    model = parse("g (float[N] x) => (float[N] y) { t = Relu (x) y = Neg (t) }")
    before = model.SerializeToString()
    graph = ir.load(model)
    graph.replace_all_uses_with(graph.nodes[0].result, graph.inputs[0])
    graph.erase(graph.nodes[0])
    ir.emit(graph)
    assert model.SerializeToString() == before


def test_nodes_in_any_order(run: Run) -> None:
    """The specification wants them sorted; exporters have written them otherwise."""
    model = parse("g (float[N] x, bool c) => (float[N] y) { a = Neg (x) b = Abs (a) y = Add (b, a) }")
    expected = run(model, {"x": np.array([1, -2], np.float32), "c": np.array(True)})
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    graph = ir.load(model)
    assert [node.op for node in graph.nodes] == ["Neg", "Abs", "Add"]
    (found,) = run(graph, {"x": np.array([1, -2], np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(found, expected[0])


def test_captures_count_when_nodes_are_put_in_order(run: Run) -> None:
    """A branch reads what a later node makes, and has a name of its own that a later node has, too."""
    model = parse(
        """g (float[2] x, bool c) => (float[2] y, float[2] z) {
            y = If (c) <
                then_branch = t () => (float[2] p) { inner = Exp (late) p = Neg (inner) },
                else_branch = e () => (float[2] q) { q = If (c) <
                    then_branch = tt () => (float[2] r) { r = Relu (late) },
                    else_branch = ee () => (float[2] s) { s = Abs (late) }> }>
            late = Neg (x)
            inner = Sqrt (y)
            z = Neg (inner)
        }"""
    )
    graph = ir.load(model)
    assert [node.op for node in graph.nodes] == ["Neg", "If", "Sqrt", "Neg"]
    x = np.array([-1, -4], np.float32)
    y, z = run(graph, {"x": x, "c": np.array(False)})
    np.testing.assert_array_equal(y, [1, 4])
    np.testing.assert_array_equal(z, [-1, -2])


def test_an_operator_that_onnx_does_not_know(difference: Difference) -> None:
    model = parse(
        "g (float[N] x) => (float[N] y, float[N] z, float[N] w) "
        '{ y = Sofmax <axis = 1> (x)  z = com.vendor.Op <mode = "fast", table = float[2] {1, 2}> (x, "", y)'
        "  w = ai.onnx.ml.Unheard (z) }",
        '<ir_version: 8, opset_import: ["" : 17, "com.vendor" : 3, "ai.onnx.ml" : 3]>',
    )
    graph = ir.load(model)
    assert [node.op for node in graph.nodes] == ["::Sofmax", "com.vendor::Op", "ai.onnx.ml::Unheard"]
    assert graph.nodes[1].get_str("mode") == "fast"
    assert graph.nodes[1].operands[1] is None
    assert difference(model, ir.emit(graph)) == ""


def test_an_operator_that_is_newer_than_the_models_opset() -> None:
    """Gelu came with opset 20: in a model of opset 17 nothing is known of it."""
    graph = ir.load(parse("g (float[N] x) => (float[N] y) { y = Gelu (x) }"))
    assert graph.nodes[0].op == "::Gelu"


FUNCTIONS = """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
g (float[N] x) => (float[N] y) {
    t = local.twice (x)
    y = local.scaled <factor = 3.0> (t)
}
<domain: "local", opset_import: ["" : 21]>
twice (a) => (b) { b = Add (a, a) }
<domain: "local", opset_import: ["" : 21]>
scaled <factor> (a) => (b) {
    f = Constant <value_float: float = @factor> ()
    b = Mul (a, f)
}
"""


def test_functions_are_kept(run: Run, difference: Difference) -> None:
    model = parser.parse_model(FUNCTIONS)
    graph = ir.load(model)
    assert [node.op for node in graph.nodes] == ["local::twice", "local::scaled"]
    assert graph.nodes[0].result.type is None
    assert difference(model, ir.emit(graph)) == ""
    np.testing.assert_array_equal(run(graph, {"x": np.array([1, 2], np.float32)})[0], [6, 12])


def test_functions_are_inlined(run: Run) -> None:
    graph = ir.load(parser.parse_model(FUNCTIONS), functions="inline")
    assert [node.op for node in graph.nodes] == ["Add", "Constant", "Mul"]
    assert graph.outputs[0].type == TensorType(DType.FLOAT, (symbol("N"),))
    emitted = ir.emit(graph)
    assert len(emitted.functions) == 0
    np.testing.assert_array_equal(run(emitted, {"x": np.array([1, 2], np.float32)})[0], [6, 12])


def test_a_function_may_bear_an_operators_name(run: Run) -> None:
    """A function of the standard domain hides the operator, so no rule for the operator may apply."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
        ' <domain: "", opset_import: ["" : 17]> Relu (a) => (b) { b = Neg (a) }'
    )
    graph = ir.load(model)
    assert graph.nodes[0].op == "::Relu"


def test_a_function_may_bear_the_name_of_an_operator_of_onnx_runtime(difference: Difference) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
        " g (float[N] x) => (float[M] y) { y = com.microsoft.Gelu (x) }"
        ' <domain: "com.microsoft", opset_import: ["" : 17]> Gelu (a) => (b) { b = Concat <axis = 0> (a, a) }'
    )
    graph = ir.load(model)
    assert not is_pure(graph.nodes[0])
    assert graph.nodes[0].result.shape != (symbol("N"),)
    assert difference(model, ir.emit(graph)) == ""


def test_initializers_before_ir_4_are_inputs_too(run: Run, difference: Difference) -> None:
    """They could not be overridden then, so they are constants; what was written stays written."""
    model = parse("g (float[N,2] x, float[2] w) => (float[N,2] y) { y = Add (x, w) }", HEAD.replace("8", "3", 1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.float32), "w"))
    graph = ir.load(model)
    assert [value.name for value in graph.inputs] == ["x"]
    (w,) = graph.initializers
    assert w.constant is not None
    assert difference(model, ir.emit(graph)) == ""
    np.testing.assert_array_equal(run(graph, {"x": np.zeros((1, 2), np.float32)})[0], [[1, 2]])


def test_initializers_since_ir_4_may_be_overridden(difference: Difference) -> None:
    model = parse("g (float[N,2] x, float[2] w = {1, 2}) => (float[N,2] y) { y = Add (x, w) }")
    graph = ir.load(model)
    assert [value.name for value in graph.inputs] == ["x", "w"]
    assert graph.inputs[1].constant is None
    assert [tensor.array().tolist() for tensor in graph.defaults.values()] == [[1, 2]]
    assert difference(model, ir.emit(graph)) == ""


def test_a_model_without_opset_imports_is_of_the_first_opset(difference: Difference) -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Relu (x) }")
    model.ir_version = 2
    del model.opset_import[:]
    graph = ir.load(model)
    assert graph.opset_imports == {"": 1}
    assert difference(model, ir.emit(graph)) == ""


def test_dims_that_are_negative_or_odd_are_dynamic(difference: Difference) -> None:
    model = parse('g (float[2] a, float["?"] b, float["2*N"] c, float[N,N] d) => (float[2] y) { y = Relu (a) }')
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    a, b, c, d = (value.shape for value in ir.load(model).inputs)
    assert a is not None
    assert b is not None
    assert not isinstance(a[0], int)
    assert a[0] != b[0]
    assert c == (symbol("2*N"),)
    assert d == (symbol("N"), symbol("N"))
    assert difference(model, ir.emit(ir.load(model))) == ""


def test_declared_dims_inside_the_graph_are_not_believed() -> None:
    model = parse("g (float[N] x) => (float[7] y) <float[9] t> { t = Relu (x) y = Neg (t) }")
    graph = ir.load(model)
    assert graph.nodes[0].result.shape == (symbol("N"),)
    assert graph.outputs[0].shape == (symbol("N"),)


def test_declared_types_tell_of_unknown_operators() -> None:
    """Element type and rank, not the dims."""
    model = parse(
        "g (float[N] x) => (float[3,4] y, seq(int64[2]) s) <bool[5] t> "
        "{ t = com.vendor.A (x) y, s = com.vendor.B (t) }",
        '<ir_version: 8, opset_import: ["" : 17, "com.vendor" : 1]>',
    )
    t, y, s = (value for node in ir.load(model).nodes for value in node.results)
    assert (t.dtype, t.rank) == (DType.BOOL, 1)
    assert (y.dtype, y.rank) == (DType.FLOAT, 2)
    assert y.shape is not None
    assert not any(isinstance(dim, int) for dim in y.shape)
    assert isinstance(s.type, SequenceType)


def test_unknown_extents_are_told_apart_across_nested_graphs() -> None:
    model = parse(
        """g (float[N] x, bool c) => (int64[1, K] y, int64[1, L] z) {
            y = NonZero (x)
            z = If (c) <then_branch = t () => (p) { u = Neg (x) p = NonZero (u) },
                        else_branch = e () => (q) { u = Neg (x) q = NonZero (u) }>
        }"""
    )
    graph = ir.load(model)
    shapes = [value.shape for node in graph.walk() if node.op in ("NonZero", "If") for value in node.results]
    extents = [shape[1] for shape in shapes if shape is not None]
    assert len(extents) == len(set(extents)) == 4


def test_equal_names_in_branches_and_shadowed_inputs(run: Run, difference: Difference) -> None:
    """The specification forbids the second; ONNX Runtime and onnx's checker take it."""
    model = parse(
        """g (float[2] x, bool c) => (float[2] y, float[2] z) <int64 n = {3}> {
            y = If (c) <then_branch = t () => (float[2] y) { a = Neg (x) y = Exp (a) },
                        else_branch = e () => (float[2] y) <float[2] a = {1, 1}> { y = Add (x, a) }>
            a = Abs (x)
            z = Loop (n, , a) <body = b (int64 i, bool go, float[2] x) => (bool go_on, float[2] more) {
                go_on = Identity (go) more = Add (x, a) }>
        }"""
    )
    graph = ir.load(model)
    assert difference(model, ir.emit(graph)) == ""
    y, z = run(graph, {"x": np.array([1, -2], np.float32), "c": np.array(False)})
    np.testing.assert_array_equal(y, [2, -1])
    np.testing.assert_array_equal(z, [4, 8])


def test_sparse_tensors_are_dense_when_asked() -> None:
    model = parse("g (float[2,3] x) => (float[2,3] y) { y = Identity (x) }")
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [5, 7])
    for indices in ([1, 5], [[0, 1], [1, 2]]):
        array = np.array(indices, np.int64)
        flat = helper.make_tensor("", TensorProto.INT64, array.shape, array.reshape(-1).tolist())
        del model.graph.sparse_initializer[:]
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, flat, [2, 3]))
        (value,) = ir.load(model).initializers
        assert value.constant is not None
        assert value.constant.array().tolist() == [[0, 5, 0], [0, 0, 7]]


def test_weights_are_not_read_until_asked(external_model: Path) -> None:
    weights = external_model.parent / "weights.bin"
    graph = ir.load(external_model)
    assert graph.data_files == (weights,)
    weights.write_bytes(bytes(weights.stat().st_size))
    big = next(value.constant for value in graph.initializers if value.name == "big")
    assert big is not None
    assert not big.array().any()
    assert graph.spool is not None


def test_origins_of_an_earlier_run_are_read() -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Relu (x) }")
    model.graph.node[0].metadata_props.add(key="planish.origin", value="conv1\nbn1")
    assert ir.load(model).nodes[0].origin == ("conv1", "bn1")
