"""Shape arithmetic becomes constants that hold for every binding of the symbols, 0 and 1 among them."""

import itertools

import numpy as np
import pytest

from tests.equivalence import Array, Inputs, Rewritten, model, rewritten, untouched

PASS = "fold-shapes"
AXES = "int64 zero={0}, int64 one={1}, int64 two={2}, int64[1] first={0}, int64[1] minus={-1}, int64[1] four={4}"
EVERY = [dict(zip("NM", sizes, strict=True)) for sizes in itertools.product((0, 1, 2, 5), repeat=2)]


def shaped(body: str, given: str = "N,M,4", result: str = "A,B", constants: str = AXES) -> str:
    return f"g (float[{given}] x) => (float[{result}] y) <{constants}> {{ {body} }}"


def fold(text: str, pipeline: str = PASS, *, refusals: bool = False) -> Rewritten:
    return rewritten(text, pipeline, inputs=Inputs(bindings=EVERY, kinds=("ordinary",), refusals=refusals))


def targets(found: Rewritten) -> list[list[int]]:
    """The constant targets of the Reshapes that are left."""
    reshapes = [node for node in found.after.graph.node if node.op_type == "Reshape"]
    return [found.initializers[node.input[1]].tolist() for node in reshapes]


FLATTEN = "s = Shape(x)  n = Gather(s, first)  t = Concat<axis = 0>(n, minus)  y = Reshape(x, t)"


def test_text() -> None:
    found = fold(shaped(FLATTEN), refusals=True)
    assert found.rules == ["reshape-target"]
    assert found.op_types == ["Reshape"]
    assert targets(found) == [[0, -1]]


def test_all_but_one_dim_known() -> None:
    body = "s = Shape(x)  n = Gather(s, zero)  u = Unsqueeze(n, first)  t = Concat<axis = 0>(u, four, four)"
    found = fold(shaped(f"{body}  y = Reshape(x, t)", "N,16", "A,4,4"))
    assert targets(found) == [[0, 4, 4]]


def test_a_product_of_dims_is_worked_out() -> None:
    body = (
        "s = Shape(x)  n = Gather(s, zero)  m = Gather(s, one)  p = Mul(n, m)  u = Unsqueeze(p, first)"
        "  t = Concat<axis = 0>(u, four)  y = Reshape(x, t)"
    )
    found = fold(shaped(body), refusals=True)
    assert targets(found) == [[-1, 4]]


def test_half_a_dim_in_front_of_twice_another() -> None:
    body = (
        "s = Shape(x)  n = Gather(s, first)  h = Div(n, two)  e = Mul(four, two)"
        "  t = Concat<axis = 0>(h, e)  y = Reshape(x, t)"
    )
    found = fold(shaped(body, "N,4"), refusals=True)
    assert targets(found) == [[-1, 8]]


def test_known_elements_of_dynamic_shapes() -> None:
    body = "s = Shape(x)  c = Gather(s, two)  f = Cast<to = 1>(c)  y = Mul(x, f)"
    found = fold(shaped(body, result="N,M,4"))
    assert found.op_types == ["Cast", "Mul"]
    assert found.rules == ["known-elements"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("start = 1", [3, 4]),
        ("start = -1", [4]),
        ("end = -1", [2, 3]),
        ("start = -9, end = 9", [2, 3, 4]),
        ("start = 2, end = 1", []),
        ("start = 1, end = 2", [3]),
    ],
)
def test_shape_with_start_and_end(attributes: str, expected: list[int]) -> None:
    text = f"g (float[2,3,4] x) => (int64[A] y) {{ s = Shape<{attributes}>(x)  y = Neg(s) }}"
    found = rewritten(text, PASS)
    assert found.op_types == []
    assert found.initializers["y"].tolist() == [-dim for dim in expected]


ARITHMETIC = [
    ("Add", 7, -2),
    ("Sub", 2, 9),
    ("Mul", -3, 4),
    ("Div", -7, 2),
    ("Div", 7, -2),
    ("Mod", -7, 3),
    ("Mod", 7, -3),
    ("Max", -1, -5),
    ("Min", 3, 2**62),
]


@pytest.mark.parametrize(("op", "a", "b"), ARITHMETIC)
def test_arithmetic_on_elements(op: str, a: int, b: int) -> None:
    text = f"g () => (int64[1] y) <int64[1] a = {{{a}}}, int64[1] b = {{{b}}}> {{ y = {op}(a, b) }}"
    assert rewritten(text, PASS).op_types == []


def test_arithmetic_that_wraps_around_is_not_known() -> None:
    text = "g () => (int64[1] y) <int64[1] a = {9223372036854775807}, int64[1] b = {2}> { y = Mul(a, b) }"
    untouched(text, PASS)
    narrow = "g () => (int32[1] y) <int32[1] a = {2147483647}, int32[1] b = {1}> { y = Add(a, b) }"
    untouched(narrow, PASS)


def test_slices_and_gathers_from_behind() -> None:
    body = "s = Shape(x)  p = Slice(s, minus, far)  q = Gather(s, minus)  r = Concat<axis = 0>(p, q, one)"
    constants = "int64[1] minus = {-1}, int64[1] far = {9223372036854775807}, int64[1] one = {1}, float[1] v = {2.0}"
    found = fold(shaped(f"{body}  y = Expand(v, r)", result="4,4,1", constants=constants))
    assert found.op_types == ["Expand"]


RUN = {
    "a dynamic dim": ("n = Gather(s, one)  f = Cast<to = 1>(n)  y = Mul(x, f)", "N,M,4", "N,M,4"),
    "two dims that change places": (
        "n = Gather(s, first)  m = Slice(s, second, third)  t = Concat<axis = 0>(m, n, four)  y = Reshape(x, t)",
        "N,M,4",
        "A,B,4",
    ),
    "one left open and one from elsewhere": (
        "n = Gather(s, first)  t = Concat<axis = 0>(minus, n)  y = Reshape(x, t)",
        "N,M,4",
        "A,B",
    ),
    "one copied and one worked out, which no element of an empty tensor can tell": (
        "n = Gather(s, first)  p = Mul(n, two)  t = Concat<axis = 0>(n, p)  y = Reshape(x, t)",
        "N,N,2",
        "A,B",
    ),
}


@pytest.mark.parametrize(("body", "given", "result"), RUN.values(), ids=RUN)
def test_what_depends_on_the_run_stays(body: str, given: str, result: str) -> None:
    constants = AXES + ", int64[1] second = {1}, int64[1] third = {2}"
    untouched(shaped(f"s = Shape(x)  {body}", given, result, constants), PASS)


def test_equal_once_is_not_equal() -> None:
    """N and M may be the same in one run; what is known of the one says nothing of the other."""
    body = "s = Shape(x)  n = Gather(s, zero)  m = Gather(s, one)  e = Equal(n, m)  f = Cast<to = 1>(e)  y = Mul(x, f)"
    untouched(shaped(body, result="N,M,4"), PASS)


def test_the_same_symbol_is_equal() -> None:
    body = "s = Shape(x)  n = Gather(s, zero)  m = Gather(s, one)  e = Equal(n, m)  f = Cast<to = 1>(e)  y = Mul(x, f)"
    found = fold(shaped(body, "N,N,4", "N,N,4"))
    assert found.op_types == ["Cast", "Mul"]


@pytest.mark.parametrize(
    ("comparison", "folds"), [("Less(n, neg)", True), ("Greater(n, neg)", True), ("Greater(n, zero)", False)]
)
def test_comparisons_know_that_a_dim_is_not_negative(comparison: str, folds: bool) -> None:
    """Whether it is above zero is not known: it may be empty."""
    body = f"s = Shape(x)  n = Gather(s, zero)  e = {comparison}  f = Cast<to = 1>(e)  y = Mul(x, f)"
    text = shaped(body, result="N,M,4", constants=AXES + ", int64 neg = {-1}")
    if folds:
        assert fold(text).op_types == ["Cast", "Mul"]
    else:
        untouched(text, PASS)


def test_a_reshape_whose_zero_means_nothing_is_copied() -> None:
    """`allowzero` takes 0 at its word; a dim that is copied says the same without it."""
    body = "s = Shape(x)  n = Gather(s, first)  t = Concat<axis = 0>(n, four)  y = Reshape<allowzero = 1>(x, t)"
    assert targets(fold(shaped(body, "N,4"))) == [[0, 4]]
    left = body.replace("(n, four)", "(n, left, pair)")
    held = AXES + ", int64[1] left = {-1}, int64[1] pair = {2}"
    assert targets(fold(shaped(left, "N,4,6", "N,12,2", constants=held))) == [[0, 12, 2]]
    untouched(shaped(left, "N,M,6", "N,A,2", constants=held), PASS)


def test_an_axis_without_elements_is_not_a_copied_one() -> None:
    body = "s = Shape(x)  n = Gather(s, first)  t = Concat<axis = 0>(n, none)  y = Reshape<allowzero = 1>(x, t)"
    untouched(shaped(body, "N,0", "N,0", constants=AXES + ", int64[1] none = {0}"), PASS)
    rest = body.replace("(n, none)", "(n, four, rest)")
    untouched(shaped(rest, "N,0", "N,4,0", constants=AXES + ", int64[1] rest = {-1}"), PASS)


def test_a_size_divided_exactly() -> None:
    body = "z = Size(x)  q = Div(z, e)  u = Unsqueeze(q, first)  t = Concat<axis = 0>(u, four)  y = Reshape(x, t)"
    found = fold(shaped(body, constants=AXES + ", int64 e = {4}"), refusals=True)
    assert targets(found) == [[-1, 4]]


def test_the_shape_of_an_input_that_the_caller_may_override() -> None:
    found = rewritten("g (float[2] x = {1, 2}) => (int64[1] y) { y = Shape(x) }", PASS)
    assert found.op_types == []


def test_an_input_of_no_known_rank() -> None:
    source = model("g (float[N] x) => (int64[M] y) { s = Shape(x)  y = Neg(s) }")
    source.graph.input[0].type.tensor_type.ClearField("shape")
    untouched(source, PASS)


def test_shapes_in_a_loop_may_change() -> None:
    """What a value's shape is in the first iteration says nothing of the second."""
    untouched(
        """g (int64 n, float[2] x) => (float[N] y, int64[M,1] z) <bool on = {1}> {
            y, z = Loop(n, on, x) <body = b (int64 i, bool go, float[K] v) => (bool on_, float[L] w, int64[1] u) {
                on_ = Identity(go)  w = Concat<axis = 0>(v, v)  u = Shape(v)
            }>
        }""",
        PASS,
    )


def test_nested_graphs_know_the_shapes_outside() -> None:
    found = rewritten(
        """g (float[N,4] x, bool c) => (int64 y) <int64 one = {1}, int64 zero = {0}> {
            s = Shape(x)
            y = If(c) <then_branch = t () => (int64 p) { p = Gather(s, one) },
                       else_branch = e () => (int64 q) { q = Gather(s, zero) }>
        }""",
        PASS,
    )
    assert found.op_types == ["Shape", "If", "Gather"]


def test_an_output_keeps_its_name() -> None:
    body = "s = Shape(x)  y = Gather(s, one)  z = Size(s)"
    found = rewritten(f"g (float[N,4] x) => (int64 y, int64 z) <int64 one = {{1}}> {{ {body} }}", PASS)
    assert {"y", "z"} <= set(found.initializers)
    assert found.op_types == []


def test_what_has_effects_stays_even_where_its_elements_are_known() -> None:
    found = rewritten("g (float[2] x) => (int64[1] y) { r = RandomNormalLike(x)  s = Shape(r)  y = Neg(s) }", PASS)
    assert found.op_types == ["RandomNormalLike"]


def test_the_chain_of_attention() -> None:
    """[batch, length, 8] to [batch, 2 heads, length, 4] and back, as exporters write it."""
    body = (
        "s = Shape(x)  b = Gather(s, zero)  l = Gather(s, one)  b1 = Unsqueeze(b, first)  l1 = Unsqueeze(l, first)"
        "  t = Concat<axis = 0>(b1, l1, heads, width)  r = Reshape(x, t)  h = Transpose<perm = [0, 2, 1, 3]>(r)"
        "  i = Transpose<perm = [0, 2, 1, 3]>(h)  j = Concat<axis = 0>(b1, l1, all)  k = Reshape(i, j)  y = Neg(k)"
    )
    constants = AXES + ", int64[1] heads = {2}, int64[1] width = {4}, int64[1] all = {8}"
    source = shaped(body, "N,M,8", "N,M,8", constants)
    assert fold(source, "simplify").op_types == ["Neg"]
    found = fold(source, PASS)
    assert targets(found) == [[0, 0, 2, 4], [0, 0, 8]]
    assert found.op_types == ["Reshape", "Transpose", "Transpose", "Reshape", "Neg"]


def test_reshape_after_reshape_with_zero_and_minus_one() -> None:
    text = (
        "g (float[N,M,4] x) => (float[A,B] y) <int64[2] s = {0, -1}, int64[2] t = {-1, 0}, int64[3] u = {0, 2, -1}> {"
        " a = Reshape(x, u)  b = Reshape(a, s)  c = Shape(b)  d = Reshape(x, s)  e = Reshape(d, c)  y = Neg(e) }"
    )
    inputs = Inputs(bindings=EVERY, kinds=("ordinary",), refusals=True)
    for pipeline in (PASS, "simplify"):
        rewritten(text, pipeline, inputs=inputs)


def test_expand_to_a_shape_that_may_broadcast() -> None:
    text = "g (float[N,1] x, float[N,M] z) => (float[A,B] y) { s = Shape(z)  e = Expand(x, s)  y = Neg(e) }"
    for pipeline in (PASS, "simplify"):
        found = rewritten(text, pipeline)
        assert "Expand" in found.op_types


def test_constants_of_shape_count() -> None:
    text = (
        "g (float[N,M,4] x) => (float[A,B,C] y) {"
        " s = Shape(x)  d = Shape(s)  z = ConstantOfShape<value = int64[1] {3}>(d)  y = Tile(x, z) }"
    )
    found = fold(text)
    assert found.op_types == ["Tile"]
    values: Array = next(iter(found.initializers.values()))
    np.testing.assert_array_equal(values, [3, 3, 3])


@pytest.mark.parametrize("given", ["4,N", "N,M,3"])
def test_an_extent_of_zero_is_taken_for_one_to_copy(given: str) -> None:
    """Reshape to (N, -1) copies an axis where N is 0, so that its last extent is not what it is otherwise."""
    extent = "n = Gather(s, second)" if given == "4,N" else "a = Gather(s, first)  b = Gather(s, second)  n = Mul(a, b)"
    text = (
        f"g (float[{given}] x) => (int64[1] y)"
        " <int64[1] first = {0}, int64[1] second = {1}, int64[1] minus = {-1}> {"
        f" s = Shape(x)  {extent}  t = Concat<axis = 0>(n, minus)  r = Reshape(x, t)  q = Shape(r)"
        " y = Gather(q, second) }"
    )
    for pipeline in (PASS, "simplify"):
        fold(text, pipeline, refusals=True)


@pytest.mark.parametrize("nodes", ["t = Add(n, c)  y = Less(t, n)", "t = Mul(n, c)  m = Mul(t, c)  y = Less(m, n)"])
@pytest.mark.parametrize(("dtype", "large"), [("int32", 2**31 - 2), ("int64", 2**63 - 2)])
def test_what_wraps_around_is_not_known(nodes: str, dtype: str, large: int) -> None:
    text = (
        f"g (float[N,2] x) => (bool[1] y) <{dtype}[1] c = {{{large}}}, int64[1] first = {{0}}> {{"
        f" s = Shape(x)  g = Gather(s, first)  n = Cast<to = {6 if dtype == 'int32' else 7}>(g)  {nodes} }}"
    )
    fold(text)
