"""The builder lays down graphs that ONNX Runtime runs, with types, and refuses what could not run."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir
from planish.ir import Builder, DType, GraphError, SequenceType, TensorType, symbol
from planish.ir.types import Array
from planish.runtime.session import Feed, Session


def run(graph: ir.Graph, feeds: Mapping[str, Feed]) -> list[object]:
    model = ir.emit(graph)
    check_model(model, full_check=True)
    return list(Session(model.SerializeToString()).run(feeds))


def test_a_chain_has_types_and_runs() -> None:
    b = Builder(opset=21)
    x = b.input("x", DType.FLOAT, ("N", 3, 8, 8))
    w = b.initializer("w", np.ones((4, 3, 3, 3), np.float32))
    conv = b.node("Conv", (x, w), {"pads": (1, 1, 1, 1)}, name="conv", result="features")
    y = b.output("y", b.node("Relu", (conv,)))
    graph = b.graph()
    assert y.type == TensorType(DType.FLOAT, (symbol("N"), 4, 8, 8))
    assert [node.label for node in graph.nodes] == ["conv", "Relu"]
    assert conv.name == "features"
    assert graph.opset_imports == {"": 21}
    (found,) = run(graph, {"x": np.ones((2, 3, 8, 8), np.float32)})
    inner = np.full((2, 4, 6, 6), 27)  # 3 channels of a 3 x 3 window of ones
    np.testing.assert_array_equal(cast("Array", found)[:, :, 1:-1, 1:-1], inner)


@pytest.mark.parametrize("opset", [9, 11, 13, 21])
def test_the_canonical_form_is_written_as_the_opset_has_it(opset: int) -> None:
    b = Builder(opset=opset)
    x = b.input("x", DType.FLOAT, (2, 1, 3))
    squeezed = b.node("Squeeze", (x, b.constant(np.array([1], np.int64))))
    clipped = b.node("Clip", (squeezed, b.constant(np.array(0, np.float32)), b.constant(np.array(2, np.float32))))
    b.output("y", clipped)
    (found,) = run(b.graph(), {"x": np.arange(-2, 4, dtype=np.float32).reshape(2, 1, 3)})
    np.testing.assert_array_equal(found, [[0, 0, 0], [1, 2, 2]])


def test_several_results_by_count_and_by_name() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (4, "N"))
    first, second = b.nodes("Split", (x,), {"axis": 0, "num_outputs": 2}, results=2)
    values, places = b.nodes(
        "TopK", (first, b.constant(np.array([1], np.int64))), {"axis": 0}, results=("values", "places")
    )
    assert (values.name, places.name) == ("values", "places")
    assert second.shape == (2, symbol("N"))
    assert places.type == TensorType(DType.INT64, (1, symbol("N")))
    for name, value in (("second", second), ("places", places)):
        b.output(name, value)
    second_found, places_found = run(b.graph(), {"x": np.array([[1.0], [5.0], [3.0], [4.0]], np.float32)})
    np.testing.assert_array_equal(second_found, [[3], [4]])
    np.testing.assert_array_equal(places_found, [[1]])


def test_branches_capture_values_of_the_graph_around_them() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("N",))
    condition = b.input("condition", DType.BOOL, ())
    doubled = b.node("Add", (x, x))
    then, other = b.body("then"), b.body("other")
    then.output("a", then.node("Neg", (doubled,)))
    other.output("b", other.node("Add", (doubled, other.constant(np.ones(1, np.float32)))))
    y = b.node("If", (condition,), {"then_branch": then.graph(), "else_branch": other.graph()})
    b.output("y", y)
    graph = b.graph()
    assert y.type is not None
    assert y.dtype is DType.FLOAT
    (owner,) = [node for node in graph.nodes if node.op == "If"]
    assert [nested.owner for nested in owner.graphs] == [owner, owner]
    x_value = np.array([1, -2], np.float32)
    np.testing.assert_array_equal(run(graph, {"x": x_value, "condition": np.array(True)})[0], [-2, 4])
    np.testing.assert_array_equal(run(graph, {"x": x_value, "condition": np.array(False)})[0], [3, -3])


def test_a_loop_two_levels_deep() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (2,))
    trips = b.initializer("trips", np.array(3, np.int64))
    outer = b.body("outer")
    outer.input("i", DType.INT64, ())
    going = outer.input("going", DType.BOOL, ())
    total = outer.input("total", DType.FLOAT, (2,))
    inner = outer.body("inner")
    inner.input("j", DType.INT64, ())
    inner_going = inner.input("inner_going", DType.BOOL, ())
    part = inner.input("part", DType.FLOAT, (2,))
    inner.output("inner_going_out", inner.node("Identity", (inner_going,)))
    inner.output("part_out", inner.node("Add", (part, x)))
    added = outer.node("Loop", (trips, None, total), {"body": inner.graph()})
    outer.output("going_out", outer.node("Identity", (going,)))
    outer.output("total_out", added)
    b.output("y", b.node("Loop", (trips, None, x), {"body": outer.graph()}), TensorType(DType.FLOAT, (2,)))
    (found,) = run(b.graph(), {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(found, [10, 20])


def test_unknown_extents_of_a_body_are_none_of_the_graph_around_it() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("N",))
    outside = b.node("NonZero", (x,))
    then = b.body("then")
    inside = then.node("NonZero", (then.node("Neg", (x,)),))
    assert outside.shape is not None
    assert inside.shape is not None
    assert outside.shape[1] != inside.shape[1]


def test_a_default_makes_an_overridable_initializer() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (2,))
    scale = b.input("scale", DType.FLOAT, (1,), default=np.array([3], np.float32))
    b.output("y", b.node("Mul", (x, scale)))
    graph = b.graph()
    assert scale.constant is None
    assert graph.defaults.keys() == graph.initializers.keys() == {scale}
    session = Session(ir.emit(graph).SerializeToString())
    x_value = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(session.run({"x": x_value})[0], [3, 6])
    np.testing.assert_array_equal(session.run({"x": x_value, "scale": np.array([2], np.float32)})[0], [2, 4])


def test_constant_nodes_and_constants_are_known_to_inference() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("N", 6))
    shape = b.node("Constant", (), {"value_ints": (-1, 2, 3)})
    assert shape.constant is not None
    assert b.node("Reshape", (x, shape)).shape == (symbol("N"), 2, 3)
    listed = b.node("Constant", (), {"value": np.array([2, -1], np.int64)})
    assert b.node("Reshape", (x, listed)).shape == (2, symbol("N") * 3)


def test_types_that_are_no_tensors() -> None:
    b = Builder()
    items = b.input("items", SequenceType(TensorType(DType.FLOAT, (2,))))
    first = b.node("SequenceAt", (items, b.constant(np.array(0, np.int64))))
    b.output("first", first)
    assert first.dtype is DType.FLOAT
    (found,) = run(b.graph(), {"items": [np.array([1, 2], np.float32)]})
    np.testing.assert_array_equal(found, [1, 2])


def test_other_domains_are_imported_when_used() -> None:
    b = Builder(opset=17, imports={"vendor": 3})
    x = b.input("x", DType.FLOAT, (2,))
    strange = b.node("vendor::Strange", (x,), {"level": 2})
    b.node("com.microsoft::Gelu", (x,))
    b.node("ai.onnx.ml::Binarizer", (x,))
    b.output("y", strange, TensorType(DType.FLOAT, (2,)))
    graph = b.graph()
    assert graph.opset_imports["vendor"] == 3
    assert graph.opset_imports["com.microsoft"] == 1
    assert graph.opset_imports["ai.onnx.ml"] >= 3
    assert graph.outputs[0].type == TensorType(DType.FLOAT, (2,))
    assert strange.producer is not None
    assert strange.producer.get_int("level") == 2


Operands = Sequence[ir.Value | None]


@pytest.mark.parametrize(
    ("op", "count", "attributes", "results", "message"),
    [
        ("Sofmax", 1, {}, 1, "ai.onnx has no operator Sofmax"),
        ("Relu", 2, {}, 1, "Relu has 1 to 1 operands, and got 2"),
        ("Split", 1, {}, 0, "Split has 1 to .* results, and got 0"),
        ("Softmax", 1, {"axes": 1}, 1, "Softmax has no attribute 'axes'; it has: axis"),
        ("Cast", 1, {}, 1, "Cast needs the attribute 'to'"),
        ("Gelu", 1, {}, 1, "opset 17 has no operator Gelu"),
        ("Constant", 0, {}, 1, "a Constant needs its value as one attribute"),
        ("Constant", 0, {"value": np.array([1 + 2j], np.clongdouble)}, 1, "constant 'value'.*no element type"),
        ("MatMul", 2, {}, 1, "MatMul"),
    ],
)
def test_what_could_not_run_is_refused(
    op: str, count: int, attributes: Mapping[str, int | Array], results: int, message: str
) -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (2, 3))
    with pytest.raises(GraphError, match=message):
        b.nodes(op, (x,) * count, attributes, results=results)
    assert len(b.graph()) == 0
    assert not x.is_used


def test_a_type_that_the_opset_lacks_is_refused() -> None:
    b = Builder(opset=12)
    x = b.input("x", DType.BFLOAT16, (2,))
    with pytest.raises(GraphError, match="Relu takes no bfloat16 operand in opset 12"):
        b.node("Relu", (x,))


def test_values_must_be_in_sight() -> None:
    b, elsewhere = Builder(), Builder()
    x = b.input("x", DType.FLOAT, (2,))
    strange = elsewhere.input("z", DType.FLOAT, (2,))
    with pytest.raises(GraphError, match="reads %z, which graph 'graph' cannot see"):
        b.node("Add", (x, strange))
    with pytest.raises(GraphError, match="output 'y' is %z, which graph 'graph' cannot see"):
        b.output("y", strange)
    then = b.body("then")
    inside = then.node("Relu", (x,), result="inside")
    with pytest.raises(GraphError, match="reads %inside, which graph 'graph' cannot see"):
        b.node("Relu", (inside,))


def test_interface_names_are_unique() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (2,))
    with pytest.raises(GraphError, match="one name for each input, and got 'x'"):
        b.input("x", DType.FLOAT, (2,))
    y = b.output("y", b.node("Relu", (x,)))
    with pytest.raises(GraphError, match="one name for each output, and got 'y'"):
        b.output("y", y)
    with pytest.raises(GraphError, match="output 'x' of graph 'graph' has the name of an input"):
        b.output("x", y)
    b.output("z", x)


def test_inputs_say_what_they_are() -> None:
    b = Builder()
    with pytest.raises(GraphError, match="a dim is -1"):
        b.input("x", DType.FLOAT, (-1,))
    with pytest.raises(GraphError, match="its type must be an element type"):
        b.input("y", SequenceType(None), (2,))
    with pytest.raises(GraphError, match="its default is of int64"):
        b.input("z", DType.FLOAT, (1,), default=np.array([3]))
    open_rank = b.input("open", DType.FLOAT)
    assert open_rank.shape is None
    known_rank = b.input("rank", DType.FLOAT, (None, None))
    assert known_rank.shape is not None
    assert known_rank.shape[0] != known_rank.shape[1]
    half = b.input("half", DType.FLOAT, (symbol("N") * 2,))
    assert half.shape == (symbol("N") * 2,)
