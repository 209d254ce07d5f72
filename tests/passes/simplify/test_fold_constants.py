"""What is known becomes a constant with the runtime's own bits, or stays."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Array, Inputs, Ulps, model, rewritten, untouched
from tests.hostile import hostile
from tests.passes.fuse.nets import net, normal

PASS = "fold-constants"
VALUES = "float[4] a = {-1.5, 0.0, 2.5, 8.0}, float[4] b = {2.0, -3.0, 0.5, 8.0}"
INTEGERS = "int64[4] a = {-7, 7, 0, 9223372036854775807}, int64[4] b = {2, -2, 5, 3}"


def of(*arrays: Array, op: str, attributes: dict[str, int | str] | None = None, opset: int = 18) -> onnx.ModelProto:
    """A model without inputs that applies one operator to initializers."""
    names = [f"i{index}" for index in range(len(arrays))]
    initializers = [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
    node = helper.make_node(op, names, ["y"])
    node.attribute.extend(helper.make_attribute(name, value) for name, value in (attributes or {}).items())
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], initializers)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    result = ir.load(found).outputs[0]
    assert result.dtype is not None
    assert result.shape is not None
    dims = [dim if isinstance(dim, int) else None for dim in result.shape]
    found.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", int(result.dtype), dims))
    return found


def test_text() -> None:
    found = rewritten(f"g (float[4] x) => (float[4] y) <{VALUES}> {{ c = Add(a, b)  y = Mul(x, c) }}", PASS)
    assert found.nodes == ["y = Mul (x, c)"]
    assert found.rules == ["fold-exactly"]
    np.testing.assert_array_equal(found.initializers["c"], np.array([0.5, -3, 3, 16], np.float32))


def test_a_chain_folds_at_once() -> None:
    found = rewritten(
        f"g (float[2,2] x) => (float[2,2] y) <{VALUES}, int64[2] s = {{2, 2}}, int64[1] one = {{1}}> {{"
        " c = Sub(a, b)  d = Abs(c)  e = Reshape(d, s)  f = Transpose(e)  h = Concat<axis = 0>(s, one)"
        " i = Unsqueeze(f, one)  j = Squeeze(i, one)  y = Add(x, j) }",
        PASS,
    )
    assert found.op_types == ["Add"]
    assert len(found.rules) == 7


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Less", "GreaterOrEqual"])
@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.INT32, DType.INT64])
def test_arithmetic_keeps_every_bit(op: str, dtype: DType) -> None:
    """NaN, -0.0, subnormal numbers, overflow and wrap-around come out as from ONNX Runtime, or the node stays."""
    for kind in ("ordinary", "extreme", "special"):
        left, right = (hostile(dtype, (64,), kind, seed) for seed in (1, 2))
        if op == "Div" and dtype.is_integer:
            right = np.where((right == 0) | (right == -1), np.array(3, right.dtype), right)
        rewritten(of(left, right, op=op), PASS, fp="strict")


FUNCTIONS = {
    "Neg Abs Floor Ceil Round IsNaN": (DType.FLOAT, DType.FLOAT16, DType.DOUBLE),
    "Relu Sign IsInf": (DType.FLOAT, DType.DOUBLE),
}


@pytest.mark.parametrize(
    ("op", "dtype"), [(op, dtype) for ops, dtypes in FUNCTIONS.items() for op in ops.split() for dtype in dtypes]
)
def test_functions_of_one_number_keep_every_bit(op: str, dtype: DType) -> None:
    for kind in ("ordinary", "extreme", "special"):
        rewritten(of(hostile(dtype, (64,), kind), op=op), PASS)


@pytest.mark.parametrize("op", ["Exp", "Log", "Sqrt", "Tanh", "Sin", "Cos", "Erf", "Atan", "Softplus", "Reciprocal"])
def test_functions_that_round_come_near(op: str) -> None:
    """Four steps of the last bit: what ONNX Runtime's own approximations are away from the exact value."""
    found = rewritten(of(hostile(DType.FLOAT, (64,), "ordinary"), op=op), PASS, tolerance=Ulps(4))
    assert found.rules == ["fold-rounding"]
    untouched(found.before, PASS, fp="strict")


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.UINT32, DType.UINT64])
def test_narrow_and_unsigned_integers_wrap_around(dtype: DType) -> None:
    left, right = (hostile(dtype, (64,), "extreme", seed) for seed in (1, 2))
    for op in ("Add", "Sub", "Mul"):
        found = rewritten(of(left, right, op=op), PASS)
        assert found.nodes == []


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT32, DType.INT64])
def test_division_and_remainder_of_negative_integers(dtype: DType, fmod: int) -> None:
    left = np.array([-7, 7, -7, 7, 0, 100, -100, 1], dtype.numpy)
    right = np.array([2, -2, -2, 2, 5, 7, 7, -3], dtype.numpy)
    assert rewritten(of(left, right, op="Mod", attributes={"fmod": fmod}), PASS).nodes == []
    if dtype is not DType.INT8:
        assert rewritten(of(left, right, op="Div"), PASS).nodes == []


def test_what_stops_a_processor_is_left_to_it() -> None:
    """ONNX Runtime itself is not asked: it may be killed."""
    least = np.array([-(2**63)], np.int64)
    for op in ("Div", "Mod"):
        untouched(of(least, np.array([-1], np.int64), op=op), PASS)
        untouched(of(least, np.array([0], np.int64), op=op), PASS)


CASTS = {
    DType.FLOAT: (DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE, DType.BOOL, DType.INT32, DType.FLOAT8E5M2, DType.INT4),
    DType.DOUBLE: (DType.FLOAT16, DType.FLOAT),
    DType.FLOAT16: (DType.FLOAT,),
    DType.INT64: (DType.FLOAT, DType.FLOAT16, DType.INT8),
    DType.INT32: (DType.UINT8,),
    DType.UINT64: (DType.DOUBLE,),
    DType.BOOL: (DType.FLOAT,),
}


@pytest.mark.parametrize(("source", "target"), [(a, b) for a, targets in CASTS.items() for b in targets])
def test_casts(source: DType, target: DType) -> None:
    """To half precision large numbers become infinite, and a double goes by way of single: both as in ONNX Runtime."""
    for kind in ("ordinary", "extreme", "special"):
        array = hostile(source, (96,), kind, near=(1e-8, 65519.99, 65504.0, 16777217.0, 2049.0, 0.1))
        rewritten(of(array, op="Cast", attributes={"to": int(target)}, opset=21), PASS)


def test_a_cast_there_and_back_keeps_what_it_loses() -> None:
    casts = "h = Cast<to = 10>(a)  f = Cast<to = 1>(h)"
    text = f"g (float[2] x) => (float[2] y) <float[2] a = {{1e6, 0.1}}> {{ {casts}  y = Mul(x, f) }}"
    found = rewritten(text, PASS, inputs=Inputs(kinds=("ordinary",)))
    np.testing.assert_array_equal(found.initializers["f"], np.array([np.inf, np.float16(0.1)], np.float32))


@pytest.mark.parametrize(
    ("body", "constants"),
    [
        ("c = RandomNormalLike(a)", VALUES),
        ("c = RandomUniformLike(a)", VALUES),
        ("c = RandomNormal<shape = [4]>()", VALUES),
        ("p = Sigmoid(x)  c = Bernoulli(b)", "float[4] b = {0.5, 0.5, 0.5, 0.5}"),
        ("i = Multinomial<sample_size = 4>(m)  r = Cast<to = 1>(i)  c = Squeeze(r)", "float[1,2] m = {0.0, 0.0}"),
        ("c, mask = Dropout(a, r, t)", f"{VALUES}, float r = {{0.5}}, bool t = {{1}}"),
    ],
)
def test_what_is_random_is_never_folded(body: str, constants: str) -> None:
    text = f"g (float[4] x) => (float[4] y) <{constants}> {{ {body}  y = Add(x, c) }}"
    untouched(model(text), PASS)


def test_an_overridable_initializer_is_no_constant() -> None:
    untouched(
        f"g (float[4] x, float[4] o = {{1, 2, 3, 4}}) => (float[4] y) <{VALUES}> {{ c = Add(a, o)  y = Mul(x, c) }}",
        PASS,
    )


def test_before_initializers_could_be_overridden() -> None:
    body = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { c = Add(w, w)  y = Mul(x, c) }"
    assert rewritten(model(body, ir_version=3), PASS).nodes == ["y = Mul (x, c)"]


def test_other_domains_and_functions_are_left_alone() -> None:
    untouched(
        model(
            "g (float[4] x) => (float[4] y) <float[4] a = {1, 2, 3, 4}> { c = mine.Twice(a)  y = Add(x, c) }"
            '<opset_import: ["" : 17], domain: "mine"> Twice (v) => (w) { w = Add(v, v) }',
            imports=', "mine" : 1',
        ),
        PASS,
    )
    unknown = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "vendor" : 1]>'
        "g (float[4] x) => (float[4] y) <float[4] a = {1, 2, 3, 4}> { c = vendor.Strange(a)  y = Add(x, c) }"
    )
    untouched(unknown, PASS)


@pytest.mark.parametrize(
    "body",
    [
        "c = Tile(a, s)",
        "c = Expand(a, s)",
        "c = ConstantOfShape(s)",
        "c = Pad(a, p)",
        "c = OneHot<axis = 0>(zeros, big, onoff)",
        "c = HannWindow(big)",
        "r = Range(zero, big, one)  c = Cast<to = 1>(r)",
    ],
)
def test_nothing_is_blown_up(body: str) -> None:
    constants = (
        "float[1] a = {1.0}, int64[1] s = {1000000}, int64 zero = {0}, int64 big = {1000000}, int64 one = {1},"
        " int64[2] p = {0, 1000000}, int64[1] zeros = {0}, float[2] onoff = {0.0, 1.0}"
    )
    text = f"g (float x) => (float[...] y) <{constants}> {{ {body}  y = Add(x, c) }}".replace("[...]", "[N]")
    source = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    untouched(source, PASS)


def test_what_can_hardly_be_counted_is_not_tried() -> None:
    untouched(of(np.array([2**40, 2**20], np.int64), op="ConstantOfShape"), PASS)
    untouched(of(np.array(0, np.int64), np.array(2**62, np.int64), np.array(1, np.int64), op="Range"), PASS)
    untouched(of(np.zeros((1, 1), np.float32), np.array([2**31, 2**31], np.int64), op="Tile"), PASS)


def test_a_shape_that_lies_outside_of_the_model_is_not_trusted(tmp_path: Path) -> None:
    """It is not read on loading, so that nothing is known of how much it asks for."""
    (tmp_path / "weights.bin").write_bytes(np.array([2**20, 2**22], np.int64).tobytes())
    source = of(np.array([1, 1], np.int64), op="ConstantOfShape")
    tensor = source.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (tmp_path / "model.onnx").write_bytes(source.SerializeToString())
    graph = ir.load(tmp_path / "model.onnx")
    assert passes.run(graph, PASS)[0].rewrites == []


def test_the_growth_that_is_allowed_is_an_option() -> None:
    held = "float[1] a = {2.0}, int64[1] s = {2000}"
    text = f"g (float[2000] x) => (float[2000] y) <{held}> {{ c = Expand(a, s)  y = Mul(x, c) }}"
    assert rewritten(text, PASS).op_types == ["Mul"]
    untouched(text, PASS + "{growth=4096}")


def weighted(body: str) -> onnx.ModelProto:
    """A model with a weight `w` of 160,000 bytes, more than may be added."""
    found = model(f"g (float[200,200] x) => (float[200,200] y) <float[1] w = {{0}}> {{ {body} }}")
    found.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((200, 200), np.float32), "w"))
    return found


def test_a_constant_that_others_read_is_not_freed() -> None:
    """A transposed copy of a large weight pays only where the weight itself goes."""
    untouched(weighted("c = Transpose(w)  d = Mul(x, w)  y = Mul(c, d)"), PASS)
    assert rewritten(weighted("c = Transpose(w)  y = Mul(c, x)"), PASS).op_types == ["Mul"]


def test_a_constant_is_freed_when_its_other_reader_is_folded() -> None:
    """The Transpose comes first, and can go only after the Shape."""
    body = "c = Transpose(w)  s = Shape(w)  f = Cast<to = 1>(s)  d = ReduceSum(f)  e = Mul(x, d)  y = Mul(c, e)"
    assert rewritten(weighted(body), PASS, tolerance=Ulps(0)).op_types == ["Mul", "Mul"]


def test_all_results_of_a_node_fold_together() -> None:
    found = rewritten(
        f"g (float[2] x) => (float[2] y, float[2] z) <{VALUES}> {{"
        " p, q = Split<axis = 0>(a)  y = Add(x, p)  z = Identity(q) }",
        PASS,
    )
    assert found.op_types == ["Add"]
    np.testing.assert_array_equal(found.initializers["z"], np.array([2.5, 8], np.float32))


def test_an_output_that_folds_keeps_its_name_and_order() -> None:
    found = rewritten(f"g (float[4] x) => (float[4] y, float[4] z) <{VALUES}> {{ z = Add(a, b)  y = Neg(x) }}", PASS)
    assert [info.name for info in found.after.graph.output] == ["y", "z"]
    assert found.nodes == ["y = Neg (x)"]


def test_two_outputs_of_one_value() -> None:
    found = rewritten(f"g () => (float[4] y, float[4] z) <{VALUES}> {{ y = Add(a, b)  z = Identity(y) }}", PASS)
    assert found.op_types in ([], ["Identity"])


def test_nested_graphs_fold_inside_and_use_what_lies_outside() -> None:
    found = rewritten(
        f"""g (bool t, float[4] x) => (float[4] y) <{VALUES}> {{
            y = If(t) <
                then_branch = f () => (float[4] p) {{ c = Add(a, b)  p = Mul(x, c) }},
                else_branch = e () => (float[4] q) {{ q = Sub(a, b) }}
            >
        }}""",
        PASS,
    )
    assert found.op_types == ["If", "Mul"]


def test_a_control_flow_node_is_left_alone_although_all_is_known() -> None:
    untouched(
        f"""g (float[4] x) => (float[4] y) <{VALUES}, int64 n = {{3}}, bool on = {{1}}> {{
            c = Loop(n, on, a) <body = l (int64 i, bool go, float[4] v) => (bool on_, float[4] w) {{
                on_ = Identity(go)  w = Add(v, b)
            }}>
            y = Add(x, c)
        }}""",
        PASS,
    )


def test_old_forms() -> None:
    body = (
        "g (float[2,2] x) => (float[2,2] y) <float[1,2,2,1] a = {1.0, -2.0, 3.0, 4.0}> {"
        " b = Squeeze<axes = [0, 3]>(a)  c = Clip<min = 0.0, max = 2.5>(b)  d = ReduceSum<axes = [1], keepdims = 1>(c)"
        " e = Slice<starts = [0], ends = [1], axes = [0]>(d)  f = Unsqueeze<axes = [0]>(e)  h = Squeeze<axes = [0]>(f)"
        " y = Add(x, h) }"
    )
    found = rewritten(model(body, 7), PASS, tolerance=Ulps(0))
    assert found.op_types == ["Add"]


def test_softmax_of_opset_11_has_the_old_meaning() -> None:
    """Over all axes from `axis` on at once, where that is not the last alone."""
    text = (
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] a = {1, 2, 3, 4}> { c = Softmax<axis = 0>(a)  y = Mul(x, c) }"
    )
    untouched(model(text, 11), PASS)
    assert rewritten(model(text.replace("0>", "1>"), 11), PASS, tolerance=Ulps(4)).op_types == ["Mul"]


@pytest.mark.parametrize("x", [[1.0, np.nan, -0.0, 0.0], [np.inf, -np.inf, 1e-40, 0.0]])
def test_ties_and_nan_are_left_to_the_runtime(x: list[float]) -> None:
    array = np.array([x, x[::-1]], np.float32)
    for op in ("ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "Relu", "Sign"):
        rewritten(of(array, op=op), PASS)
    rewritten(of(array, array[::-1].copy(), op="Max"), PASS)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_tensors(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, np.float32)
    for op in ("Neg", "Shape", "Transpose", "Size"):
        assert rewritten(of(empty, op=op), PASS).nodes == []
    rewritten(of(empty, empty, op="Concat", attributes={"axis": 0}), PASS)
    rewritten(of(empty, op="ReduceSum"), PASS, tolerance=Ulps(0))


def test_strings() -> None:
    texts = np.array(["", "ä", "a"], np.object_)
    assert rewritten(of(texts, texts[::-1].copy(), op="Equal", opset=19), PASS).nodes == []
    assert rewritten(of(texts, np.array([2, -3], np.int64), op="Gather"), PASS).nodes == []


def test_indices_from_behind_and_outside() -> None:
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert rewritten(of(data, np.array([-1, 0, -3], np.int64), op="Gather", attributes={"axis": 1}), PASS).nodes == []
    untouched(of(data, np.array([3], np.int64), op="Gather", attributes={"axis": 1}), PASS)


def test_quantized_products_round_each_runtime_in_its_own_way() -> None:
    codes, scale, zero = np.array([[3, 250], [7, 128]], np.uint8), np.float32(0.5), np.uint8(128)
    given = [
        codes,
        np.array(scale),
        np.array(zero),
        codes,
        np.array(scale),
        np.array(zero),
        np.array(scale),
        np.array(zero),
    ]
    untouched(of(*given, op="QLinearMatMul"), PASS)


def test_resize_of_integers_rounds_each_runtime_in_its_own_way() -> None:
    codes = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    source = of(
        codes,
        np.array([], np.float32),
        np.array([1, 1, 1.7, 1.7], np.float32),
        op="Resize",
        attributes={"mode": "linear"},
    )
    untouched(source, PASS)


def test_large_parts_that_only_their_whole_reads_are_joined() -> None:
    body = "w = Concat<axis=0>(a, b, c, d)  y = Add(x, w)"
    source = net(body, {name: normal(40, 60, seed=ord(name)) for name in "abcd"}, "N,160,60", "N,160,60")
    assert rewritten(source, f"{PASS},remove-dead-nodes").op_types == ["Add"]
