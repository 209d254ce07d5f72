"""A node that gives back its operand goes; one that only looks like it stays."""

import numpy as np
import pytest

from tests.equivalence import Inputs, Ulps, model, rewritten, run, untouched
from tests.passes.simplify.noops import around

PASS = "remove-noops"


ONES = "float[4] c = {1.0, 1.0, 1.0, 1.0}"


@pytest.mark.parametrize(
    ("noop", "constants", "rule"),
    [
        ("b = Identity(a)", "", "identity"),
        ("b = Dropout(a)", "", "dropout"),
        ("b = Dropout(a, r)", "float r = {0.9}", "dropout"),
        ("b = Dropout(a, r, off)", "float r = {0.9}, bool off = {0}", "dropout"),
        ("b, mask = Dropout(a)", "", "dropout"),
        ("b = Cast<to = 1>(a)", "", "cast"),
        ("b = CastLike(a, x)", "", "cast"),
        ("b = Reshape(a, s)", "int64[3] s = {0, 0, 0}", "same-shape"),
        ("b = Reshape(a, s)", "int64[3] s = {0, 3, 4}", "same-shape"),
        ("b = Reshape(a, s)", "int64[3] s = {-1, 3, 4}", "same-shape"),
        ("s = Shape(x)  b = Reshape(a, s)", "", "same-shape"),
        ("s = Shape(x)  b = Expand(a, s)", "", "same-shape"),
        ("b = Expand(a, s)", "int64[1] s = {1}", "same-shape"),
        ("b = Expand(a, s)", "int64[3] s = {1, 3, 1}", "same-shape"),
        ("b = Tile(a, s)", "int64[3] s = {1, 1, 1}", "same-shape"),
        ("b = Transpose<perm = [0, 1, 2]>(a)", "", "transpose"),
        ("b = Slice(a, zero, end)", "int64[1] zero = {0}, int64[1] end = {9223372036854775807}", "slice-all"),
        ("b = Slice(a, s, e, ax)", "int64[2] s = {-9, 0}, int64[2] e = {3, 99}, int64[2] ax = {-2, 2}", "slice-all"),
        ("b = Pad(a, p)", "int64[6] p = {0, 0, 0, 0, 0, 0}", "pad-nothing"),
        ('b = Pad<mode = "reflect">(a, p)', "int64[6] p = {0, 0, 0, 0, 0, 0}", "pad-nothing"),
        ('b = Pad<mode = "edge">(a, p, , ax)', "int64[2] p = {0, 0}, int64[1] ax = {-1}", "pad-nothing"),
        ("b = Concat<axis = -1>(a)", "", "of-one"),
        ("b = Sum(a)", "", "of-one"),
        ("b = Max(a)", "", "of-one"),
        ("b = Min(a)", "", "of-one"),
        ("b = Mean(a)", "", "of-one"),
        ("b = Split<axis = 1, num_outputs = 1>(a)", "", "split-into-one"),
        ("b = Split<axis = 1>(a, n)", "int64[1] n = {3}", "split-into-one"),
        ("b = ReduceSum<noop_with_empty_axes = 1>(a)", "", "reduce-nothing"),
        ("b = ReduceMax<noop_with_empty_axes = 1>(a)", "", "reduce-nothing"),
        ("b = Mul(a, c)", ONES, "times-one"),
        ("b = Mul(c, a)", "float[1,3,1] c = {1.0, 1.0, 1.0}", "times-one"),
        ("b = Div(a, c)", "float c = {1.0}", "by-one"),
        ("b = Pow(a, c)", "float c = {1.0}", "by-one"),
        ("b = Add(a, c)", "float c = {-0.0}", "plus-negative-zero"),
        ("b = Add(c, a)", "float[1] c = {-0.0}", "plus-negative-zero"),
        ("b = Sub(a, c)", "float c = {0.0}", "minus-zero"),
    ],
)
def test_what_gives_back_its_operand_goes(noop: str, constants: str, rule: str) -> None:
    found = rewritten(model(around(noop, constants), 18), PASS)
    assert found.rules == [rule]
    assert found.nodes[-1] == "y = Neg (a)"
    assert not any(node.startswith(("b =", "b,")) for node in found.nodes)


@pytest.mark.parametrize(
    ("noop", "constants", "rule"),
    [("b = Add(a, c)", "float c = {0.0}", "plus-zero"), ("b = Sub(a, c)", "float c = {-0.0}", "minus-negative-zero")],
)
def test_zeros_of_the_other_sign_change_the_sign_of_zero_alone(noop: str, constants: str, rule: str) -> None:
    source = model(around(noop, constants))
    found = rewritten(source, PASS, tolerance=Ulps(0))
    assert found.rules == [rule]
    untouched(source, PASS, fp="strict")
    negative = {"x": np.zeros((1, 3, 4), np.float32)}
    (before,), (after,) = (run(proto, negative) for proto in (source, found.after))
    assert isinstance(before, np.ndarray)
    assert isinstance(after, np.ndarray)
    assert np.signbit(before).all()
    assert not np.signbit(after).any()


@pytest.mark.parametrize(
    ("dtype", "noop", "constants"),
    [
        ("int64", "b = Add(a, c)", "int64 c = {0}"),
        ("int64", "b = Sub(a, c)", "int64[1] c = {0}"),
        ("int64", "b = Mul(c, a)", "int64 c = {1}"),
        ("int64", "b = Div(a, c)", "int64 c = {1}"),
        ("int32", "b = Cast<to = 6>(a)", ""),
        ("bool", "b = And(a, c)", "bool c = {1}"),
        ("bool", "b = Or(c, a)", "bool c = {0}"),
        ("bool", "b = Xor(a, c)", "bool[1] c = {0}"),
    ],
)
def test_integers_and_booleans(dtype: str, noop: str, constants: str) -> None:
    found = rewritten(model(around(noop, constants, dtype=dtype), 18), PASS)
    assert len(found.rules) == 1
    assert len(found.nodes) == 2


@pytest.mark.parametrize(
    ("noop", "constants", "shape"),
    [
        pytest.param("b = Mul(a, c)", "float[4] c = {1.0, 1.0, 1.0, 2.0}", "N,3,4", id="not all ones"),
        pytest.param("b = Mul(a, c)", "float[4] c = {1.0, 1.0, 1.0, 1.0}", "N,3,M", id="ones on a symbolic dim"),
        pytest.param("b = Add(a, c)", "float[1,1,1,1] c = {-0.0}", "N,3,4", id="raises the rank"),
        pytest.param("b = Div(a, c)", "float[2,1,1] c = {1.0, 1.0}", "1,3,4", id="broadcasts a dim of one up"),
        pytest.param(
            "b = Sub(a, c)", "float[3,4] c = {0,0,0,0,0,0,0,0,0,0,0,0}", "N,1,4", id="broadcasts the middle up"
        ),
        pytest.param("b = Div(c, a)", "float c = {1.0}", "N,3,4", id="one divided by x"),
        pytest.param("b = Pow(c, a)", "float c = {1.0}", "N,3,4", id="one to the power of x"),
        pytest.param("b = Sub(c, a)", "float c = {0.0}", "N,3,4", id="zero less x"),
        pytest.param("b = Mul(a, c)", "float c = {0.0}", "N,3,4", id="times zero, which keeps NaN and infinities"),
        pytest.param("b = Sub(a, a)", "", "N,3,4", id="x less x, which keeps NaN"),
        pytest.param("b = Div(a, a)", "", "N,3,4", id="x by x"),
        pytest.param("b = Expand(a, s)", "int64[3] s = {2, 1, 1}", "N,3,4", id="an Expand that may broadcast"),
        pytest.param("b = Tile(a, s)", "int64[3] s = {1, 2, 1}", "N,0,4", id="a Tile of nothing"),
        pytest.param("b = Reshape(a, s)", "int64[3] s = {0, -1, 3}", "N,3,4", id="a Reshape that moves axes"),
        pytest.param("b = Transpose<perm = [0, 2, 1]>(a)", "", "N,4,4", id="a Transpose of equal extents"),
        pytest.param("b = Transpose(a)", "", "4,3,4", id="a Transpose with no perm"),
        pytest.param("b = Slice(a, s, e)", "int64[1] s = {0}, int64[1] e = {3}", "N,3,4", id="a Slice that may cut"),
        pytest.param(
            "b = Slice(a, s, e, ax)", "int64[1] s = {0}, int64[1] e = {-1}, int64[1] ax = {0}", "N,3,4", id="to -1"
        ),
        pytest.param(
            "b = Slice(a, s, e, ax)", "int64[1] s={1}, int64[1] e={99}, int64[1] ax={0}", "N,3,4", id="from 1"
        ),
        pytest.param(
            "b = Slice(a, s, e, ax, st)",
            "int64[1] s={-1}, int64[1] e={-9223372036854775808}, int64[1] ax={1}, int64[1] st={-1}",
            "N,3,4",
            id="a Slice backwards",
        ),
        pytest.param(
            "b = Slice(a, s, e, ax, st)",
            "int64[1] s={0}, int64[1] e={9223372036854775807}, int64[1] ax={1}, int64[1] st={2}",
            "N,3,4",
            id="every second",
        ),
        pytest.param(
            "b = Slice(a, s, e, ax, st)",
            "int64[1] s={0}, int64[1] e={9223372036854775807}, int64[1] ax={0}, int64[1] st={2}",
            "N,3,4",
            id="every second of a symbolic dim",
        ),
        pytest.param("b = Pad(a, p)", "int64[6] p = {1, 0, 0, -1, 0, 0}", "N,3,4", id="pads that cancel"),
        pytest.param("b = Pad(a, p)", "int64[6] p = {0, 0, 0, 0, 0, 1}", "N,3,4", id="one pad"),
        pytest.param("b = ReduceSum<keepdims = 1>(a, s)", "int64[1] s = {0}", "N,1,4", id="a sum over an unknown dim"),
        pytest.param("b = ReduceMax<keepdims = 1>(a)", "", "1,1,N", id="a maximum over all"),
        pytest.param("b = ReduceL2<keepdims = 1>(a, s)", "int64[1] s = {1}", "N,1,4", id="a norm of one"),
        pytest.param("b = ReduceLogSum<keepdims = 1>(a, s)", "int64[1] s = {1}", "N,1,4", id="a logarithm of one"),
        pytest.param("b = Gather<axis = 1>(a, c)", "int64[3] c = {0, 2, 1}", "N,3,4", id="a Gather that permutes"),
        pytest.param("b = Gather<axis = 1>(a, c)", "int64[2] c = {0, 1}", "N,3,4", id="a Gather of some"),
        pytest.param("b = Gather<axis = 0>(a, c)", "int64[3] c = {0, 1, 2}", "N,3,4", id="a Gather of a symbolic dim"),
        pytest.param("b = Resize(a, , c)", "float[3] c = {1.0, 1.1, 1.1}", "N,3,4", id="a Resize to the same size"),
        pytest.param('b = Resize<mode = "cubic">(a, , c)', "float[3] c = {1.0, 1.0, 1.0}", "N,3,4", id="cubic"),
        pytest.param("b = Resize<antialias = 1>(a, , c)", "float[3] c = {1.0, 1.0, 1.0}", "N,3,4", id="antialiasing"),
        pytest.param("b = ReduceL1<noop_with_empty_axes = 1>(a)", "", "N,3,4", id="a norm over no axis"),
        pytest.param("b = Max(a, a)", "", "N,3,4", id="Max of two"),
        pytest.param("h = Cast<to = 10>(a)  b = Cast<to = 1>(h)", "", "N,3,4", id="Cast there and back"),
        pytest.param("i = Cast<to = 7>(a)  b = Cast<to = 1>(i)", "", "N,3,4", id="Cast by way of integers"),
        pytest.param(
            "b, mask = Dropout(a, r, on)", "float r = {0.5}, bool on = {1}", "N,3,4", id="Dropout in training"
        ),
        pytest.param("b = Clip(a)", "", "N,3,4", id="Clip without bounds, which bounds infinities in ONNX Runtime"),
    ],
)
def test_what_only_looks_like_it_stays(noop: str, constants: str, shape: str) -> None:
    text = around(noop, constants, shape).replace(f"=> (float[{shape}] y)", "=> (float[A,B,C] y)")
    source = model(text if "1,1,1,1" not in constants else text.replace("[A,B,C]", "[A,B,C,D]"), 18)
    untouched(source, PASS)


def test_an_overridable_constant_is_none() -> None:
    untouched("g (float[3] x, float c = {1.0}) => (float[3] y) { a = Neg(x)  b = Mul(a, c)  y = Neg(b) }", PASS)


def test_ones_that_are_no_constant_stay() -> None:
    untouched("g (float[N] x, float c) => (float[N] y) { a = Neg(x)  b = Mul(a, c)  y = Neg(b) }", PASS)


@pytest.mark.parametrize("mask", ["float[N,4] y, bool[N,4] m", "float[N,4] y"])
def test_a_dropout_whose_mask_is_read_stays(mask: str) -> None:
    read = "" if "bool" in mask else "w = Where(m, b, x)  "
    last = "Neg(b)" if "bool" in mask else "Neg(w)"
    untouched(f"g (float[N,4] x) => ({mask}) {{ a = Neg(x)  b, m = Dropout(a)  {read}y = {last} }}", PASS)


def test_a_dropout_whose_mode_the_caller_chooses_stays() -> None:
    body = "g (float[N] x, bool t) => (float[N] y) <float r={0.5}> { a = Neg(x)  b, m = Dropout(a, r, t)  y = Neg(b) }"
    untouched(body, PASS)


def test_old_forms() -> None:
    body = (
        "g (float[N,3,4] x) => (float[N,3,4] y) {"
        " a = Neg(x)  b = Dropout<ratio = 0.5>(a)  c = Pad<pads = [0,0,0,0,0,0]>(b)"
        " d = Slice<starts = [0], ends = [2147483647]>(c)  e = Split<axis = 2>(d)  y = Neg(e) }"
    )
    assert rewritten(model(body, 7), PASS).nodes == ["a = Neg (x)", "y = Neg (a)"]


def test_a_slice_of_an_old_form_keeps_what_it_cuts() -> None:
    slices = "b = Slice<axes = [1], starts = [0], ends = [2]>(a)"
    untouched(model(f"g (float[N,3] x) => (float[N,M] y) {{ a = Neg(x)  {slices}  y = Neg(b) }}", 7), PASS)


def test_the_names_of_outputs_stay() -> None:
    found = rewritten("g (float[N] x) => (float[N] y) { a = Neg(x)  y = Identity(a) }", PASS)
    assert found.nodes == ["y = Neg (x)"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("g (float[N] x) => (float[N] y) { y = Identity(x) }", id="an output that is an input"),
        pytest.param("g (float[N] x) => (float[N] y, float[N] z) { y = Neg(x)  z = Identity(y) }", id="two names"),
        pytest.param(
            "g (float[N] x) => (float[N] y, float[N] z) { y = Identity(x)  z = Identity(x) }", id="two of one"
        ),
        pytest.param(
            "g (float[2] x, float[2] w = {1.0, 2.0}) => (float[2] y) { y = Identity(w) }", id="an overridable"
        ),
    ],
)
def test_an_identity_that_names_an_output_stays(body: str) -> None:
    untouched(body, PASS)


def test_an_output_that_is_a_constant() -> None:
    found = rewritten("g (float[N] x) => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Identity(w) }", PASS)
    assert found.nodes == []
    assert list(found.initializers) == ["y"]


def test_before_initializers_could_be_overridden_too() -> None:
    interface = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y, float[2] z)"
    found = rewritten(model(f"{interface} {{ a = Identity(w)  y = Identity(w)  z = Add(x, a) }}", ir_version=3), PASS)
    assert "Add" in found.op_types


def test_nested_graphs() -> None:
    found = rewritten(
        """g (float[N] x, bool c) => (float[N] y) {
            a = Neg(x)  b = Identity(a)
            y = If(c) <
                then_branch = t () => (float[N] p) { d = Identity(b)  p = Neg(d) },
                else_branch = e () => (float[N] q) { q = Identity(b) }
            >
        }""",
        PASS,
    )
    assert found.op_types == ["Neg", "If", "Neg", "Identity"]


def test_a_loop_gives_on_what_it_was_given() -> None:
    untouched(
        """g (int64 n, float[N] x) => (float[N] y) <bool on = {1}> {
            y = Loop(n, on, x) <body = b (int64 i, bool go, float[N] v) => (bool on_, float[N] w) {
                on_ = Identity(go)  w = Identity(v)
            }>
        }""",
        PASS,
    )


def test_sequences_and_optionals() -> None:
    found = rewritten(
        """g (float[N] x) => (float[M] y) {
            s = SequenceConstruct(x, x)  t = Identity(s)  y = ConcatFromSequence<axis = 0>(t)
        }""",
        PASS,
    )
    assert found.op_types == ["SequenceConstruct", "ConcatFromSequence"]


@pytest.mark.parametrize(("dtype", "one"), [("float16", 0x3C00), ("double", 1)])
def test_other_floats(dtype: str, one: int) -> None:
    text = around("b = Mul(a, c)", f"{dtype}[1] c = {{{one}}}", dtype=dtype).replace("Neg", "Abs")
    assert rewritten(model(text, 18), PASS).rules == ["times-one"]


def test_integer_powers_go_through_floating_point_in_onnx_runtime() -> None:
    """So it rounds what is beyond 2**53, and leaving the node out would not."""
    untouched(model(around("b = Pow(a, c)", "int64 c = {1}", dtype="int64")), PASS)
    narrow = rewritten(model(around("b = Pow(a, c)", "int32 c = {1}", dtype="int32")), PASS)
    assert narrow.rules == ["by-one"]


def test_a_chain_goes_at_once() -> None:
    found = rewritten(
        "g (float[N,4] x) => (float[N,4] y) <float[4] one={1,1,1,1}, float zero={-0.0}> {"
        " a = Neg(x) b = Identity(a) c = Mul(b, one) d = Add(zero, c) e = Cast<to = 1>(d) y = Neg(e) }",
        PASS,
    )
    assert found.nodes == ["a = Neg (x)", "y = Neg (a)"]
    assert [rewrite.number for rewrite in found.rewrites] == [1, 2, 3, 4]


def test_transposes_of_axes_of_one_element() -> None:
    found = rewritten(model(around("b = Transpose<perm = [2, 1, 0, 3]>(a)", shape="1,N,1,4")), PASS)
    assert found.rules == ["transpose"]
    untouched(model(around("b = Transpose<perm = [0, 2, 1]>(a)", shape="2,M,M")), PASS)
    moved = around("b = Transpose<perm = [1, 0, 2]>(a)", shape="1,N,4").replace("(float[1,N,4] y)", "(float[A,B,4] y)")
    untouched(model(moved), PASS)


def test_inputs_that_only_a_noop_reads_stay() -> None:
    found = rewritten("g (float[N] x, float[N] z) => (float[N] y) { a = Neg(x)  y = CastLike(a, z) }", PASS)
    assert [info.name for info in found.after.graph.input] == ["x", "z"]


def test_bindings_where_the_model_itself_fails() -> None:
    """A Reshape by -1 fails on an empty tensor in ONNX Runtime; without it there is nothing to fail."""
    body = "g (float[N,M] x) => (float[N,M] y) <int64[2] s={0, -1}> { a = Neg(x) b = Reshape(a, s)  y = Neg(b) }"
    assert rewritten(body, PASS, inputs=Inputs(refusals=True)).rules == ["same-shape"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
@pytest.mark.parametrize("shape", ["1,2,5,7", "N,2,3,M", "1,4"])
def test_a_resize_by_one(mode: str, coordinates: str, shape: str) -> None:
    """Whatever lies between the corners, NaN and infinities too."""
    rank = len(shape.split(","))
    options = f'mode = "{mode}", coordinate_transformation_mode = "{coordinates}"'
    by_scale = around(f"b = Resize<{options}>(a, , c)", f"float[{rank}] c = {{{','.join(['1.0'] * rank)}}}", shape)
    assert rewritten(model(by_scale, 19), PASS).rules == ["resize-nothing"]
    sizes = f"int64[{rank}] c = {{{shape}}}" if "N" not in shape else ""
    to_size = around(f"{'' if sizes else 'c = Shape(x)  '}b = Resize<{options}>(a, , , c)", sizes, shape)
    assert rewritten(model(to_size, 19), PASS).rules == ["resize-nothing"]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "float16"])
def test_a_resize_by_one_of_other_types(dtype: str) -> None:
    interface = f"g ({dtype}[1,2,5,7] x) => ({dtype}[1,2,5,7] y)"
    text = f"{interface} <float[4] c = {{1,1,1,1}}> {{ b = Resize(x, , c)  y = Sign(b) }}"
    assert rewritten(model(text, 19), PASS).op_types == ["Sign"]


def test_a_resize_that_crops_stays() -> None:
    crop = 'b = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(a, roi, c)'
    held = "float[6] roi = {0.0, 0.0, 0.0, 1.0, 0.5, 0.5}, float[3] c = {1.0, 1.0, 1.0}"
    untouched(model(around(crop, held, "2,3,4"), 19), PASS)


@pytest.mark.parametrize("index", ["{0, 1, 2}", "{0, -2, -1}", "{-3, -2, -1}"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_gather_of_all(index: str, dtype: str) -> None:
    found = rewritten(around("b = Gather<axis = -2>(a, c)", f"{dtype}[3] c = {index}"), PASS)
    assert found.rules == ["gather-all"]


@pytest.mark.parametrize(
    ("inputs", "axis", "left"),
    [
        ("float[N,3] x, float[N,0] p, float[N,2] q", 1, "Concat <axis: int = 1> (a, q)"),
        ("float[N,3] x, float[N,0] p, float[N,0] q", -1, "Neg (a)"),
        ("float[0,3] x, float[0,3] p, float[0,3] q", 0, "Neg (a)"),
    ],
)
def test_parts_of_a_concat_without_elements_go(inputs: str, axis: int, left: str) -> None:
    text = f"g ({inputs}) => (float[A,B] y) {{ a = Neg(x)  b = Concat<axis = {axis}>(a, p, q)  y = Neg(b) }}"
    found = rewritten(text, PASS)
    assert found.nodes[1].endswith(left)
    assert [info.name for info in found.after.graph.input] == ["x", "p", "q"]


@pytest.mark.parametrize("inputs", ["float[N,3] x, float[N,M] p", "float[0,3] x, float[N,3] p"])
def test_parts_of_a_concat_that_may_have_elements_stay(inputs: str) -> None:
    untouched(f"g ({inputs}) => (float[A,B] y) {{ a = Neg(x)  b = Concat<axis = 1>(a, p)  y = Neg(b) }}", PASS)


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool", "LpPool"])
def test_a_window_larger_than_its_axis(pool: str) -> None:
    """Of one element ONNX Runtime makes one window of two, where half of one is none."""
    text = (
        "g (float[1,1,N] x) => (float[1,1,P] y) <int64[1] two = {2}>"
        f" {{ a = {pool}<kernel_shape = [2], strides = [2]>(x)"
        "  s = Shape(x)  n = Gather(s, two)  h = Div(n, two)  y = Expand(a, h) }"
    )
    inputs = Inputs(bindings=[{"N": extent} for extent in (1, 2, 3, 5)], kinds=("ordinary",))
    assert "Expand" in rewritten(text, f"fold-shapes,{PASS}", inputs=inputs).op_types
