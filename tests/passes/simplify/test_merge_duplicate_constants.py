"""Constants that hold the same bytes become one; types, shapes and zeros of both signs stay apart."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes
from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-duplicate-constants"
TWO = "Constant<value = float {2}>()"


def test_text() -> None:
    found = rewritten(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { c = Mul(x, a)  y = Add(c, b) }",
        PASS,
    )
    assert found.nodes == ["c = Mul (x, a)", "y = Add (c, a)"]
    assert list(found.initializers) == ["a"]


@pytest.mark.parametrize(
    ("constants", "body"),
    [
        pytest.param("float a = {0.0}, float b = {-0.0}", "c = Mul(x, a)  y = Add(c, b)", id="zeros of both signs"),
        pytest.param("float[1] a = {1}, float b = {1}", "c = Mul(x, a)  y = Add(c, b)", id="another shape"),
        pytest.param(
            "float a = {0}, int32 b = {0}", "d = Cast<to = 1>(b)  c = Mul(x, a)  y = Add(c, d)", id="another type"
        ),
        pytest.param("float a = {1}, float b = {2}", "c = Mul(x, a)  y = Add(c, b)", id="other numbers"),
    ],
)
def test_constants_that_only_look_alike(constants: str, body: str) -> None:
    untouched(f"g (float[N] x) => (float[N] y) <{constants}> {{ {body} }}", PASS)


def test_nan_of_the_same_bits() -> None:
    source = model("g (float[N] x) => (float[N] y) <float a = {0}, float b = {0}> { c = Max(x, a)  y = Min(c, b) }")
    for tensor in source.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), tensor.name))
    assert list(rewritten(source, PASS).initializers) == ["a"]


def test_every_way_to_write_a_constant() -> None:
    """As raw bytes, as numbers, and as Constant nodes of three spellings."""
    found = rewritten(
        "g (int64[2] x) => (int64[2] y) <int64[2] a = {3, 4}> {"
        " b = Constant<value = int64[2] {3, 4}>()  c = Constant<value_ints = [3, 4]>()"
        " d = Add(x, a)  e = Add(d, b)  y = Add(e, c) }",
        PASS,
    )
    assert found.op_types == ["Add", "Add", "Add"]
    assert list(found.initializers) == ["a"]


def test_the_interface_stays() -> None:
    """Overridable initializers hold what the caller wants; an output keeps its name, and another takes it over."""
    untouched("g (float x, float a = {1}, float b = {1}) => (float y) { c = Add(x, a)  y = Add(c, b) }", PASS)
    found = rewritten(
        "g (float x, float a = {1}) => (float y) <float b = {1}, float d = {1}> {"
        " c = Add(x, a)  e = Add(c, b)  y = Add(e, d) }",
        PASS,
    )
    assert list(found.initializers) == ["a", "b"]


def test_outputs_that_are_constants() -> None:
    text = "g (float x) => (float y, float a, float b) <float c = {1}, float a = {1}, float b = {1}> { y = Add(x, c) }"
    found = rewritten(text, PASS, inputs=Inputs(kinds=("ordinary",)))
    assert list(found.initializers) == ["a", "b"]
    assert found.nodes == ["y = Add (x, a)"]


def test_an_output_that_a_pass_makes_constant() -> None:
    """It is written last and stands first in what is loaded again: the same one must be kept both times."""
    body = "c = Sub(b, a)  z = Identity(c)  d = Mul(x, a)  y = Add(d, c)"
    found = rewritten(f"g (float x) => (float y, float z) <float a = {{3}}, float b = {{6}}> {{ {body} }}", "simplify")
    assert found.nodes == ["d = Mul (x, z)", "y = Add (d, z)"]


def test_a_nested_graph_uses_what_lies_around_it() -> None:
    found = rewritten(
        """g (float[1] x, bool c) => (float[1] y) <float[1] a = {1}> {
            r = If(c) <then_branch = t () => (float[1] p) <float[1] b = {1}> { p = Add(x, b) },
                       else_branch = e () => (float[1] q) <float[1] b = {1}> {
                           d = Constant<value = float[1] {1}>()  f = Mul(x, b)  q = Sub(f, d)
                       }>
            y = Mul(r, a)
        }""",
        PASS,
    )
    assert found.op_types == ["If", "Add", "Mul", "Sub", "Mul"]
    assert list(found.initializers) == ["a"]


def test_branches_do_not_see_each_other() -> None:
    branch = "() => (float[1] V) <float[1] b = {1}> { V = Add(x, b) }"
    then, other = branch.replace("V", "p"), branch.replace("V", "q")
    branches = f"then_branch = t {then}, else_branch = e {other}"
    untouched(f"g (float[1] x, bool c) => (float[1] y) {{ y = If(c) <{branches}> }}", PASS)


def test_what_a_branch_gives_back_stays_in_it() -> None:
    text = """g (float[1] x, bool c) => (float[1] y) <float[1] a = {1}> {
        r = If(c) <then_branch = t () => (float[1] p) <float[1] p = {1}> { },
                   else_branch = e () => (float[1] q) { q = Neg(x) }>
        y = Mul(r, a)
    }"""
    source = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    untouched(source, PASS)


def test_a_constant_is_made_before_it_is_read() -> None:
    """The Constant node stands behind the first reader of its twin."""
    found = rewritten(
        f"g (float[N] x) => (float[N] y) {{ a = {TWO}  c = Mul(x, a)  b = {TWO}  y = Add(c, b) }}",
        PASS,
    )
    assert found.op_types == ["Constant", "Mul", "Add"]


def test_strings_stay() -> None:
    text = np.array(["a", "b"], np.object_)
    nodes = [
        helper.make_node("Equal", ["x", "a"], ["c"]),
        helper.make_node("Equal", ["x", "b"], ["d"]),
        helper.make_node("And", ["c", "d"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.STRING, [2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.BOOL, [2])]
    constants = [numpy_helper.from_array(text, name) for name in ("a", "b")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    untouched(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8), PASS)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 5000])
def test_the_last_byte_counts(length: int) -> None:
    source = model(
        f"g (uint8[{length}] x) => (uint8[{length}] y) <uint8[1] a = {{0}}, uint8[1] b = {{0}}> {{"
        " c = Add(x, a)  y = Add(c, b) }"
    )
    same, other = np.zeros(length, np.uint8), np.zeros(length, np.uint8)
    other[-1] = 1
    for second, left in ((same, ["a"]), (other, ["a", "b"])):
        for tensor, array in zip(source.graph.initializer, (same, second), strict=True):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        assert list(rewritten(source, PASS).initializers) == left


def external(folder: Path, offsets: dict[str, int]) -> Path:
    """A model whose weights lie in one file, each 400 bytes from an offset on."""
    (folder / "weights.bin").write_bytes(np.zeros(300, np.float32).tobytes())
    held = ", ".join(f"float[1] {name} = {{0}}" for name in offsets)
    source = model(f"g (float[100] x) => (float[100] y) <{held}> {{ c = Mul(x, a)  y = Add(c, b) }}")
    for tensor in source.graph.initializer:
        name = tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = name, TensorProto.FLOAT, TensorProto.EXTERNAL
        tensor.dims.append(100)
        for key, value in (("location", "weights.bin"), ("offset", str(offsets[name])), ("length", "400")):
            tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(source.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize(("offset", "merged"), [(0, True), (400, False)])
def test_weights_outside_are_the_same_only_where_they_lie_at_one_place(
    tmp_path: Path, offset: int, merged: bool
) -> None:
    """They hold the same zeros; none is read to find out."""
    graph = ir.load(external(tmp_path, {"a": 0, "b": offset}))
    assert bool(passes.run(graph, PASS)[0].rewrites) == merged


def test_what_nobody_reads_is_not_merged() -> None:
    untouched(
        f"g (float[N] x) => (float[N] y) {{ a = {TWO}  b = {TWO}  y = Mul(x, a) }}",
        PASS,
    )
