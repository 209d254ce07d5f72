"""The text form: what it shows, that it is deterministic, and that onnx.parser reads it back as the same graph."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper, parser

from planish import ir
from planish.ir import Builder, DType, OptionalType, SequenceType, TensorType, constant
from planish.ir.tensor import ArrayTensor, Tensor
from planish.ir.types import Array

PARTS = 4


def load(source: str) -> ir.Graph:
    return ir.load(parser.parse_model(source))


def read_back(graph: ir.Graph) -> ir.Graph:
    return load(ir.text(graph))


def facts(graph: ir.Graph) -> list[object]:
    """Everything about a graph but its values' identity, names included."""
    constants = [(value.name, value.constant) for value in graph.initializers if value.constant is not None]
    return [
        graph.name,
        [(value.name, str(value.type)) for value in graph.inputs],
        [(value.name, elements(tensor)) for value, tensor in graph.defaults.items()],
        [(name, str(tensor.dtype), tensor.shape, elements(tensor)) for name, tensor in constants],
        [
            (node.op, node.name, list(map(str, node.operands)), [(str(r), str(r.type)) for r in node.results])
            for node in graph.nodes
        ],
        [sorted((name, attribute(value)) for name, value in node.attributes.items()) for node in graph.nodes],
        list(zip(graph.output_names, map(str, graph.outputs), strict=True)),
    ]


def elements(tensor: Tensor) -> list[str]:
    return list(map(repr, tensor.array().reshape(-1).tolist()))


def attribute(value: object) -> str:
    if isinstance(value, ir.Graph):
        return str(facts(value))
    if isinstance(value, Tensor):
        return str((value.dtype, value.shape, elements(value)))
    return repr(np.float32(value)) if isinstance(value, float) else repr(value)


EVERYTHING = """<ir_version: 8, opset_import: ["" : 17, "com.vendor" : 1]>
"a net/of:things" (float[N,3] x, bool c, float["a b"] odd, seq(float[N]) items, optional(int64[2]) maybe, double d, \
float[1] scale = {3.0}, float[] open, float[?,2] part) => (float[N,3] y, int64[2] shape, float[?,?] z)
   <
      float[3] w = {1.0, 2.0, -0.5},
      float16[2] half = {15360, 49152},  # 1.0, -2.0
      string[2] words = {"a", "say \\"b\\" \\\\ c"},
      bool[1] flag = {1},
      int64 scalar = {-9223372036854775808},
      uint64[0] empty = {},
      int64[1] k = {1}
   >
{
   [first] "a/b:0" = Add (x, w)
   ["the second"] cut = Clip ("a/b:0", "", scale)
   values, "" = TopK <axis = -1, largest = 0> (x, k)
   elu = Elu <alpha = 0.1> (cut)
   y = If (c) <then_branch = then () => (float[N,3] kept) {
      kept = Identity (elu)
   }, else_branch = otherwise () => (float[N,3] doubled)
      <float[1] two = {2.0}>
   {
      doubled = Mul (elu, two)
   }>
   shape = Constant <value = int64[2] {3, 4}> ()
   z = com.vendor.Strange <level = 2, names = ["p", "q"], parts: ints = [], ratios = [1.0, 2.5]> (x)
}
"""


def test_what_is_read_is_written_alike() -> None:
    graph = load(EVERYTHING)
    assert ir.text(graph) == EVERYTHING
    assert facts(read_back(graph)) == facts(graph)


def test_weights_are_declared_and_not_printed() -> None:
    b = Builder(opset=21)
    x = b.input("x", DType.FLOAT, (9,))
    big = b.initializer("big", np.arange(9, dtype=np.float32))
    b.initializer("nibbles", np.ones(2, DType.INT4.numpy))
    b.initializer("complex", np.ones(2, np.complex64))
    b.output("y", b.node("Add", (b.node("Add", (x, big)), b.node("Constant", (), {"value": np.zeros(9, np.float32)}))))
    assert ir.text(b.graph()) == (
        """<ir_version: 10, opset_import: ["" : 21]>
graph (float[9] x) => (float[9] y)
   <float[9] big, int4[2] nibbles, complex64[2] complex>
{
   Add_out = Add (x, big)
   Constant_out = Constant <value = float[9] {...}> ()
   y = Add (Add_out, Constant_out)
}
"""
    )


def test_a_large_external_weight_is_not_read(external_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ir.load(external_model)
    big = next(value.constant for value in graph.initializers if value.name == "big")

    def small_only(tensor: Tensor) -> Array:
        assert tensor.size <= 8
        return np.full(tensor.shape, 7)

    monkeypatch.setattr(type(big), "array", small_only)
    assert "<float[256,4] big, float[4] small = {7, 7, 7, 7}>" in ir.text(graph)


def test_loose_constants_are_declared_where_they_are_written() -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (2,))
    c = b.input("c", DType.BOOL, ())
    then, other = b.body("then"), b.body("other")
    then.output("p", then.node("Add", (x, constant(np.array([1, 2], np.float32), "inner"))))
    other.output("q", x)
    b.output("y", b.node("If", (c,), {"then_branch": then.graph(), "else_branch": other.graph()}))
    b.output("again", x)
    graph = b.graph()
    assert ir.text(graph) == (
        """<ir_version: 8, opset_import: ["" : 17]>
graph (float[2] x, bool c) => (float[2] y, float[2] again)
   <float[2] inner = {1.0, 2.0}>
{
   y = If (c) <then_branch = then () => (float[2] p) {
      p = Add (x, inner)
   }, else_branch = other () => (float[2] q) {
      [q_copy] q = Identity (x)
   }>
   [again_copy] again = Identity (x)
}
"""
    )
    assert ir.text(read_back(graph)) == ir.text(graph)
    assert ir.text(graph.nodes[0].graphs[1]) == (
        """other () => (float[2] q) {
   [q_copy] q = Identity (x)
}
"""
    )


def test_operators_are_written_as_the_opset_has_them() -> None:
    source = """<ir_version: 6, opset_import: ["" : 11]>
g (float[N,3,4] x) => (float[N,4] y, float[N,3,4] legacy, z) {
   y = ReduceSum <keepdims = 0, axes = [1]> (x)
   legacy = Softmax <axis = 1> (x)  # as of opset 11
   z = Gelu (x)  # not an operator of ONNX
}
"""
    graph = load(source)
    assert [node.op for node in graph.nodes] == ["ReduceSum", "Softmax-11", "::Gelu"]
    assert ir.text(graph) == source


def test_what_the_opset_cannot_say_stands_in_canonical_form() -> None:
    b = Builder(opset=13)
    x = b.input("x", DType.FLOAT, (2, 3))
    axes = b.input("axes", DType.INT64, (1,))
    b.output("y", b.node("ReduceSum", (x, axes), {"keepdims": 0}), TensorType(DType.FLOAT, (2,)))
    graph = b.graph()
    graph.opset_imports[""] = 11
    assert (
        "   y = ReduceSum <keepdims = 0> (x, axes)  # ReduceSum with computed axes needs opset 13, not 11\n"
        in ir.text(graph)
    )


def test_types_that_are_not_known_are_left_out() -> None:
    graph = ir.Graph("g", {"": 21})
    graph.add_input("nothing", None)
    graph.add_input("sequence", SequenceType(None))
    graph.add_input("optional", OptionalType(SequenceType(TensorType(DType.BFLOAT16))))
    graph.set_results((), ())
    assert ir.text(graph).splitlines()[1] == "g (nothing, sequence, optional(seq(bfloat16[])) optional) => () {"


def test_attributes_that_no_pass_reads_are_marked() -> None:
    node = helper.make_node("Optional", [], ["y"])
    node.attribute.append(helper.make_attribute("type", helper.make_tensor_type_proto(1, [2])))
    output = helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [2])))
    model = helper.make_model(helper.make_graph([node], "g", [], [output]), opset_imports=[helper.make_opsetid("", 21)])
    assert "y = Optional <type = {...}> ()" in ir.text(ir.load(model))


def test_the_text_does_not_depend_on_the_run() -> None:
    assert len({ir.text(load(EVERYTHING)) for _ in range(3)}) == 1


@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_every_name_and_string_is_read_back(name: str) -> None:
    b = Builder(name, opset=17)
    x = b.input(name, DType.FLOAT, (name,) if "?" not in name else (None,))
    strange = b.node("vendor::Strange", (x,), {"text": name, "texts": (name, name)}, name=name, result=f"{name} too")
    b.output(f"{name} too", strange)
    graph = b.graph()
    assert facts(read_back(graph)) == facts(graph)


@given(st.floats(width=32), st.floats(width=64), st.integers(-(2**63), 2**63 - 1))
def test_every_number_is_read_back(single: float, double: float, integer: int) -> None:
    b = Builder(opset=17)
    b.initializer("single", np.array([single], np.float32))
    b.initializer("double", np.array([double], np.float64))
    b.initializer("integer", np.array(integer, np.int64))
    x = b.input("x", DType.FLOAT, (2,))
    numbers = {"single": single, "singles": (single, 1.0), "integer": integer}
    b.output("y", b.node("vendor::Strange", (x,), numbers, result="y"))
    graph = b.graph()
    again = read_back(graph)
    assert facts(again) == facts(graph)
    assert math.copysign(1, again.nodes[0].get_float("single")) == math.copysign(1, single) or math.isnan(single)


@pytest.mark.parametrize("dtype", [d for d in DType if d.bits >= 8 and "COMPLEX" not in d.name])
def test_elements_of_each_type_are_read_back(dtype: DType) -> None:
    """All but strings, seen above, and those that are declared only."""
    graph = ir.Graph("g", {"": 21})
    graph.add_initializer("c", ArrayTensor(np.array([0, 1, 1, 0], np.float32).astype(dtype.numpy)))
    graph.set_results((), ())
    assert facts(read_back(graph)) == facts(graph)


def types(graph: ir.Graph) -> list[str]:
    return [str(result.type) for node in graph.walk() for result in node.results]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_backend_cases_are_read_back(part: int, backend_cases: dict[str, onnx.ModelProto]) -> None:
    """All but those whose text leaves elements out: a quarter of those with initializers, 2 % of all."""
    read = 0
    cases = list(backend_cases.items())[part::PARTS]
    for name, model in cases:
        graph = ir.load(model)
        large = [t for t in model.graph.initializer if numpy_helper.to_array(t).size > 8]
        if large or "{...}" in ir.text(graph):
            continue
        read += 1
        again = read_back(graph)
        assert ir.text(again) == ir.text(graph), name
        assert types(again) == types(graph), name
    assert read > 0.9 * len(cases)
