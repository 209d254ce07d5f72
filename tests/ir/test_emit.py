"""Emitting: the interface stays, names are unique where they are seen, opsets and IR versions are what is needed."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import Builder, DType, Graph, GraphError, Node, Value, constant
from planish.ir.load_tensor import sparse_tensor
from planish.ir.types import Array
from planish.runtime.session import Feed

Run = Callable[[Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]
Difference = Callable[[Message, Message], str]

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
X = np.array([1, -2], np.float32)


def load(body: str) -> Graph:
    return ir.load(parser.parse_model(f"{HEAD} {body}"))


def drop_identities(graph: Graph) -> None:
    """What a pass does that removes Identity nodes, in nested graphs too."""
    for node in list(graph.walk()):
        if node.op == "Identity" and node.graph is not None and node.operands[0] is not None:
            graph.replace_all_uses_with(node.result, node.operands[0])
            node.graph.erase(node)


def names(model: onnx.ModelProto) -> list[tuple[str, list[str], list[str]]]:
    return [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]


def test_one_value_under_two_names(run: Run) -> None:
    graph = load("g (float[2] x) => (float[2] a, float[2] b) { a = Neg (x) b = Identity (a) }")
    drop_identities(graph)
    assert names(ir.emit(graph)) == [("Neg", ["x"], ["a"]), ("Identity", ["a"], ["b"])]
    for found in run(graph, {"x": X}):
        np.testing.assert_array_equal(found, -X)


def test_the_value_keeps_its_own_name_whatever_the_order(run: Run) -> None:
    graph = load("g (float[2] x) => (float[2] b, float[2] a) { a = Neg (x) b = Identity (a) }")
    drop_identities(graph)
    emitted = ir.emit(graph)
    assert names(emitted) == [("Neg", ["x"], ["a"]), ("Identity", ["a"], ["b"])]
    assert [output.name for output in emitted.graph.output] == ["b", "a"]
    run(graph, {"x": X})


def test_a_value_takes_the_name_of_the_output_that_it_became(run: Run) -> None:
    graph = load("g (float[2] x) => (float[2] y) { t = Neg (x) y = Identity (t) }")
    drop_identities(graph)
    assert names(ir.emit(graph)) == [("Neg", ["x"], ["y"])]
    np.testing.assert_array_equal(run(graph, {"x": X})[0], -X)


def test_outputs_that_swap_their_names(run: Run) -> None:
    """`a` gives what was called b, and `b` what was called a."""
    graph = load("g (float[2] x) => (float[2] a, float[2] b) { a = Neg (x) b = Abs (x) }")
    graph.set_results(tuple(reversed(graph.outputs)))
    a, b = run(graph, {"x": X})
    np.testing.assert_array_equal(a, abs(X))
    np.testing.assert_array_equal(b, -X)


def test_an_output_that_is_an_input(run: Run) -> None:
    graph = load("g (float[2] x) => (float[2] y, float[2] x) { y = Identity (x) }")
    drop_identities(graph)
    assert names(ir.emit(graph)) == [("Identity", ["x"], ["y"])]
    assert [output.name for output in ir.emit(graph).graph.output] == ["y", "x"]
    for found in run(graph, {"x": X}):
        np.testing.assert_array_equal(found, X)


def test_an_output_that_is_an_initializer(run: Run) -> None:
    graph = load(
        "g (float[2] x) => (float[2] y, float[2] z, float[2] w) <float[2] w = {3, 4}> "
        "{ y = Identity (w) z = Identity (w) }"
    )
    drop_identities(graph)
    assert names(ir.emit(graph)) == [("Identity", ["w"], ["y"]), ("Identity", ["w"], ["z"])]
    for found in run(graph, {"x": X}):
        np.testing.assert_array_equal(found, [3, 4])


def test_an_output_that_became_a_constant(run: Run) -> None:
    graph = load("g (float[2] x) => (float[2] y, float[2] z) <float[2] w = {3, 4}> { y = Neg (w) z = Neg (y) }")
    y, z = graph.nodes
    graph.replace_all_uses_with(y.result, constant(np.array([-3, -4], np.float32), "y"))
    graph.replace_all_uses_with(z.result, constant(np.array([3, 4], np.float32)))
    for node in (z, y):
        graph.erase(node)
    emitted = ir.emit(graph)
    assert names(emitted) == []
    assert [tensor.name for tensor in emitted.graph.initializer] == ["w", "y", "z"]
    found = run(graph, {"x": X})
    np.testing.assert_array_equal(found, [[-3, -4], [3, 4]])


def test_an_output_that_is_an_overridable_initializer(run: Run) -> None:
    graph = load("g (float[2] x, float[2] w = {3, 4}) => (float[2] y, float[2] w) { y = Identity (w) }")
    drop_identities(graph)
    assert names(ir.emit(graph)) == [("Identity", ["w"], ["y"])]
    for found in run(graph, {"x": X, "w": X}):
        np.testing.assert_array_equal(found, X)


def test_new_values_with_a_name_that_is_taken(run: Run) -> None:
    """By an input, an output, an initializer, another value, and by a name made up for such a case."""
    graph = load(
        "g (float[2] x) => (float[2] y) <float[2] w = {3, 4}> "
        "{ t = Neg (x) t_1 = Abs (t) s = Add (t_1, w) y = Neg (s) }"
    )
    last = graph.nodes[-1]
    for hint in ("x", "y", "w", "t", "t", "t_1", ""):
        add = Node("Add", (last.operands[0], constant(np.ones(2, np.float32), hint)), results=(hint,))
        graph.insert(add, before=last)
        graph.set_operand(last, 0, add.result)
    emitted = ir.emit(graph)
    made = [output for _, _, outputs in names(emitted) for output in outputs]
    made += [tensor.name for tensor in emitted.graph.initializer]
    assert len(made) == len(set(made))
    np.testing.assert_array_equal(run(graph, {"x": X})[0], -(abs(X) + [3, 4] + 7))


BRANCHES = """g (float[2] x, bool c) => (float[2] y) {
    t = Neg (x)
    y = If (c) <
        then_branch = yes () => (float[2] p) { p = Identity (t) },
        else_branch = no () => (float[2] q) { r = Neg (t) q = Identity (r) }>
}"""


def test_a_branch_that_returns_a_captured_value(run: Run) -> None:
    """ONNX Runtime wants an Identity there; the checker wants a node that makes the name."""
    graph = load(BRANCHES)
    drop_identities(graph)
    (owner,) = [node for node in graph.nodes if node.op == "If"]
    yes, no = owner.graphs
    assert [len(yes), len(no)] == [0, 1]
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(True)})[0], -X)
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(False)})[0], X)


@pytest.mark.parametrize("name", ["p", "t", "x", ""])
def test_a_branch_that_returns_a_captured_value_of_its_outputs_name(run: Run, name: str) -> None:
    graph = load(BRANCHES)
    drop_identities(graph)
    graph.nodes[0].result.name = name
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(True)})[0], -X)
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(False)})[0], X)


def test_a_branch_that_returns_a_constant_an_initializer_and_an_input(run: Run) -> None:
    graph = load(
        """g (float[2] x, bool c) => (float[2] y, float[2] z) <float[2] w = {3, 4}> {
            y, z = If (c) <
                then_branch = yes () => (float[2] p, float[2] w2) { p = Neg (x) w2 = Identity (w) },
                else_branch = no () => (float[2] q, float[2] r) <float[2] own = {5, 6}> {
                    q = Identity (own) r = Identity (x) }>
        }"""
    )
    drop_identities(graph)
    yes, _ = graph.nodes[0].graphs
    (neg,) = yes.nodes
    graph.replace_all_uses_with(neg.result, constant(np.array([7, 8], np.float32)))
    yes.erase(neg)
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(True)}), [[7, 8], [3, 4]])
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(False)}), [[5, 6], X])


def test_a_body_input_never_hides_what_the_body_reads(run: Run) -> None:
    """The body's inputs and outputs are called like a value from outside that it captures."""
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (2,))
    outside = b.node("Neg", (x,), result="s")
    body = b.body("body")
    body.input("x", DType.INT64, ())
    going = body.input("going", DType.BOOL, ())
    state = body.input("s", DType.FLOAT, (2,))
    body.output("more", body.node("Identity", (going,)))
    body.output("y", body.node("Add", (body.node("Add", (state, outside)), x)))
    last = b.node("Loop", (b.constant(np.array(2, np.int64)), None, x), {"body": body.graph()}, result="y")
    b.output("y", last, ir.TensorType(DType.FLOAT, (2,)))
    np.testing.assert_array_equal(run(b.graph(), {"x": X})[0], X)


def test_a_name_made_up_outside_never_hides_one_inside(run: Run) -> None:
    """`t` is taken, `t_1` is what a body calls its own input; the constant comes last of all."""
    graph = load(
        """g (float[2] x, int64 n) => (float[2] y) {
            t = Neg (x)
            y = Loop (n, , t) <body = b (int64 i, bool go, float[2] t_1) => (bool more, float[2] next) {
                more = Identity (go) constant = Abs (t_1) u = Add (constant, t) next = Neg (u) }>
        }"""
    )
    first, loop = graph.nodes
    again = Node("Abs", (first.result,), results=("t",))
    graph.insert(again, before=loop)
    body = loop.subgraph("body")
    _, _, add, neg = body.nodes
    graph.set_operand(add, 1, again.result)
    plus = Node("Add", (neg.operands[0], constant(np.ones(2, np.float32))), results=("constant",))
    body.insert(plus, before=neg)
    graph.set_operand(neg, 0, plus.result)
    assert ir.emit(graph).graph.node[1].output[0] not in ("t", "t_1")
    once = -(abs(-X) + abs(X) + 1)
    np.testing.assert_array_equal(run(graph, {"x": X, "n": np.array(1)})[0], once)
    np.testing.assert_array_equal(run(graph, {"x": X, "n": np.array(2)})[0], -(abs(once) + abs(X) + 1))


def test_a_node_that_moved_out_of_a_branch(run: Run) -> None:
    """Its sibling has a value of the same name, which no branch may make once the name is made outside."""
    graph = load(
        """g (float[2] x, bool c) => (float[2] y) {
            y = If (c) <
                then_branch = yes () => (float[2] t) { t = Neg (x) },
                else_branch = no () => (float[2] q) { t = Abs (x) q = Neg (t) }>
        }"""
    )
    (owner,) = graph.nodes
    graph.insert(owner.graphs[0].nodes[0], before=owner)
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(True)})[0], -X)
    np.testing.assert_array_equal(run(graph, {"x": X, "c": np.array(False)})[0], -abs(X))


def test_a_value_that_is_not_in_sight_is_an_error() -> None:
    graph = load(BRANCHES)
    (owner,) = [node for node in graph.nodes if node.op == "If"]
    yes, no = owner.graphs
    graph.set_operand(yes.nodes[0], 0, no.nodes[0].result)
    with pytest.raises(GraphError, match="%r is read where nothing makes it\n  > "):
        ir.emit(graph)


def test_a_constant_in_a_model_before_ir_4(run: Run) -> None:
    """There initializers must be inputs, so the model moves on to IR 4, where the old ones must not be."""
    model = parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 8]> g (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 4], np.float32), "w"))
    graph = ir.load(model)
    node = graph.nodes[0]
    again = Node("Mul", (node.result, constant(np.array([2, 2], np.float32), "two")))
    graph.insert(again)
    graph.set_results((again.result,))
    emitted = ir.emit(graph)
    assert emitted.ir_version == 4
    assert [info.name for info in emitted.graph.input] == ["x"]
    np.testing.assert_array_equal(run(emitted, {"x": X})[0], 2 * X + [6, 8])


def test_a_dropped_initializer_before_ir_4_is_no_input(run: Run) -> None:
    model = parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 8]> g (float[2] x, float[2] w) => (float[2] y) { y = Neg (x) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([3, 4], np.float32), "w"))
    graph = ir.load(model)
    (w,) = graph.initializers
    graph.erase(w)
    emitted = ir.emit(graph)
    assert emitted.ir_version == 3
    assert [info.name for info in emitted.graph.input] == ["x"]
    run(emitted, {"x": X})


@pytest.mark.parametrize(("opset", "version"), [(9, 4), (15, 8), (21, 10), (23, 11)])
def test_a_new_model_has_the_lowest_ir_version_that_does(opset: int, version: int) -> None:
    b = Builder(opset=opset)
    b.output("y", b.node("Relu", (b.input("x", DType.FLOAT, (2,)),)))
    emitted = ir.emit(b.graph())
    assert (emitted.ir_version, emitted.producer_name) == (version, "planish")
    assert ir.emit(ir.load(emitted), opset=23).ir_version == 11


@pytest.mark.parametrize("opset", [0, -1, onnx.defs.onnx_opset_version() + 1])
def test_an_opset_that_onnx_does_not_know(opset: int) -> None:
    graph = load("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    with pytest.raises(GraphError, match=f"opset {opset} is none of those that the installed onnx knows"):
        ir.emit(graph, opset=opset)


def test_nodes_of_a_new_domain_import_it() -> None:
    graph = load("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    gelu = Node("com.microsoft::Gelu", (graph.inputs[0],), name="gelu")
    graph.opset_imports["com.microsoft"] = 1
    graph.insert(gelu)
    emitted = ir.emit(graph)
    assert {opset.domain: opset.version for opset in emitted.opset_import} == {"": 17, "com.microsoft": 1}
    assert (emitted.graph.node[1].domain, emitted.graph.node[1].op_type) == ("com.microsoft", "Gelu")


def test_origins_are_written_where_they_are_news(difference: Difference) -> None:
    model = parser.parse_model(f"{HEAD} g (float[2] x) => (float[2] y) {{ [a] t = Neg (x) [b] y = Abs (t) }}")
    graph = ir.load(model)
    graph.nodes[1].origin = ("a", "b")
    emitted = ir.emit(graph)
    assert [entry.value for entry in emitted.graph.node[1].metadata_props] == ["a\nb"]
    again = ir.load(emitted)
    assert [node.origin for node in again.nodes] == [(), ("a", "b")]
    assert difference(emitted, ir.emit(again)) == ""
    again.nodes[1].origin = ("a", "b", "c")
    assert [entry.value for entry in ir.emit(again).graph.node[1].metadata_props] == ["a\nb\nc"]
    assert len(model.graph.node[1].metadata_props) == 0


def test_a_rewritten_node_keeps_what_it_was_written_with() -> None:
    """Attribute order, values that are the default, documentation."""
    model = parser.parse_model(
        f"{HEAD} g (float[1,1,4] x, float[1,1,2] w) => (float[1,1,3] y) "
        '{ [a] t = Neg (x) [c] y = Conv <strides = [1], pads = [0, 0], group = 1, auto_pad = "NOTSET"> (t, w, "") }'
    )
    model.graph.node[1].attribute[0].doc_string = "step"
    graph = ir.load(model)
    graph.set_operand(graph.nodes[1], 0, graph.inputs[0])
    (node,) = [node for node in ir.emit(graph).graph.node if node.name == "c"]
    assert [attribute.name for attribute in node.attribute] == ["strides", "pads", "group", "auto_pad"]
    assert node.attribute[0].doc_string == "step"
    assert list(node.input) == ["x", "w"]


def test_an_attribute_without_a_type_is_an_error() -> None:
    graph = load("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    graph.opset_imports["vendor"] = 1
    graph.insert(Node("vendor::Strange", (graph.inputs[0],), {"empty": ()}, name="strange"))
    with pytest.raises(GraphError, match=r"the attribute 'empty' cannot be written: .*\n  > strange"):
        ir.emit(graph)


def test_lists_of_tensors_and_graphs_are_written() -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (2,))
    bodies = [b.body(name) for name in ("one", "two")]
    for body in bodies:
        body.output("z", body.node("Neg", (x,)))
    tensors = (constant(np.ones(2)).constant, constant(np.zeros(1, np.int64)).constant)
    assert tensors[0] is not None
    assert tensors[1] is not None
    attributes = {"graphs": tuple(body.graph() for body in bodies), "tensors": (tensors[0], tensors[1])}
    b.output("y", b.node("vendor::Strange", (x,), attributes))
    graphs, written = ir.emit(b.graph()).graph.node[0].attribute
    assert [graph.name for graph in graphs.graphs] == ["one", "two"]
    assert [numpy_helper.to_array(tensor).tolist() for tensor in written.tensors] == [[1, 1], [0]]
    again = ir.load(ir.emit(b.graph())).nodes[0]
    assert len(again.graphs) == 2


def test_types_of_a_built_interface() -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, ("N", None, 3))
    b.input("any", DType.INT64)
    b.input("list", ir.SequenceType(ir.TensorType(DType.BOOL, (2,))))
    b.input("maybe", ir.OptionalType(ir.TensorType(DType.STRING, ())))
    b.output("y", b.node("Concat", (x, x), {"axis": 0}))
    model = ir.emit(b.graph())
    shape = [(dim.dim_param, dim.dim_value) for dim in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == [("2*N", 0), ("", 0), ("", 3)]
    types = [info.type for info in model.graph.input]
    assert not types[1].tensor_type.HasField("shape")
    assert types[2] == helper.make_sequence_type_proto(helper.make_tensor_type_proto(9, [2]))
    assert types[3] == helper.make_optional_type_proto(helper.make_tensor_type_proto(8, []))


def test_a_value_with_no_name_gets_one_from_its_maker() -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (2,))
    first: Value = b.node("Neg", (x,), name="invert")
    second = b.node("Abs", (first,))
    b.output("y", b.node("Add", (first, second)))
    assert [list(node.output) for node in ir.emit(b.graph()).graph.node] == [["invert_out"], ["Abs_out"], ["y"]]


@pytest.mark.parametrize("array", [np.eye(8, dtype=np.float32), np.zeros((3, 4), np.float32)])
def test_a_sparse_constant_of_a_pass(array: NDArray[np.float32]) -> None:
    """By ONNX's rules no operator takes a sparse initializer, but what a Constant makes of a sparse_value is dense."""
    b = Builder()
    x = b.input("x", DType.FLOAT, ("N", array.shape[0]))
    b.output("y", b.node("MatMul", (x, b.constant(sparse_tensor(array), "w"))))
    graph = b.graph()
    model = ir.emit(graph)
    check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Constant", "MatMul"]
    assert not model.graph.sparse_initializer
    (node,) = (node for node in ir.load(model).nodes if node.op == "Constant")
    assert node.result.constant is not None
    assert np.array_equal(node.result.constant.array(), array)
    assert ir.emit(graph, opset=10).graph.sparse_initializer  # before Constant had sparse_value
