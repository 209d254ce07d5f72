"""Shape arithmetic: what small integer tensors hold, as dims, where that is sure."""

import pytest

from tests.ir.ops.conftest import elements_of, type_of

X = "float[N, 3, H, W] x"
CONSTANTS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] last = {-1}, int64[1] minus = {-6},"
    "int64[2] pair = {0, 2}, int64 index = {1}, int64[1] four = {4}, int64[0] none = {},"
    "int64[1] far = {9223372036854775807}, int64[1] near = {-9223372036854775808}"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Shape(x)", "N, 3, H, W"),
        ("y = Shape <start = 1> (x)", "3, H, W"),
        ("y = Shape <start = -2, end = -1> (x)", "H"),
        ("y = Shape <start = 3, end = 1> (x)", ""),
        ("y = Shape <start = -9, end = 9> (x)", "N, 3, H, W"),
        ("y = Size(x)", "3*H*N*W"),
        ("y = Shape(one)", "1"),
        ("y = Size(index)", "1"),
    ],
)
def test_shapes(body: str, expected: str) -> None:
    assert elements_of(X, body, CONSTANTS) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather(s, pair)", "N, H"),
        ("y = Gather(s, index)", "3"),
        ("y = Gather(s, last)", "W"),
        ("y = Slice(s, one, last)", "3, H"),
        ("y = Slice(s, last, near, zero, last)", "W, H, 3, N"),
        ("y = Slice(s, last, far, zero, last)", "W, H, 3, N"),  # ONNX Runtime: "to the end", backwards too
        ("y = Slice(s, zero, far, zero, two)", "N, H"),
        ("y = Slice(s, two, one)", ""),
        ("y = Concat <axis = 0> (s, last, one)", "N, 3, H, W, -1, 1"),
        ("y, z = Split <num_outputs = 2> (s)", "N, 3"),
        ("y, z = Split (s, t)", "N"),
        ("y = Reshape(s, four)", "N, 3, H, W"),
        ("a = Gather(s, index) y = Unsqueeze(a, zero)", "3"),
        ("a = Gather(s, last) y = Squeeze(a, zero)", "W"),
        ("a = Shape <start = 0, end = 1> (x) y = Expand(a, two)", "N, N"),
        ("y = Identity(s)", "N, 3, H, W"),
        ("y = Cast <to = 6> (s)", "N, 3, H, W"),
        ("y = ConstantOfShape <value = int64[1] {7}> (two)", "7, 7"),
        ("y = ConstantOfShape <value = int64[1] {7}> (none)", "7"),
    ],
)
def test_movement(body: str, expected: str) -> None:
    constants = f"{CONSTANTS}, int64[2] t = {{1, 3}}"
    assert elements_of(X, f"s = Shape(x) {body}", constants) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Add(s, one)", "1 + N, 4, 1 + H, 1 + W"),
        ("y = Sub(s, s)", "0, 0, 0, 0"),
        ("y = Mul(s, last)", "-1*N, -3, -1*H, -1*W"),
        ("y = Neg(s)", "-1*N, -3, -1*H, -1*W"),
        ("y = Abs(s)", "N, 3, H, W"),
        ("y = Mul(n, h)", "H*N"),
        ("a = Mul(n, h) y = Div(a, h)", "N"),
        ("y = Div(n, two)", "floor((N)/(2))"),
        ("y = Mod(n, two)", "N + -2*floor((N)/(2))"),
        ("y = Mod(minus, four)", "2"),  # the divisor's sign
        ("y = Div(minus, four)", "-1"),  # towards zero
        ("y = Max(n, zero)", "N"),
        ("y = Min(n, last)", "-1"),
        ("a = Add(n, one) y = Max(a, n, zero)", "1 + N"),
        ("a = Add(n, one) y = Min(a, n)", "N"),
        ("y = ReduceProd(s)", "3*H*N*W"),
        ("y = ReduceProd(s, zero)", "3*H*N*W"),
        ("y = ReduceSum <keepdims = 0> (s)", "3 + H + N + W"),
        ("y = ReduceSum <noop_with_empty_axes = 1> (s)", "N, 3, H, W"),
        ("a = Concat <axis = 0> (one, four, minus) y = ReduceMax(a)", "4"),
        ("a = Concat <axis = 0> (one, four, minus) y = ReduceMin(a)", "-6"),
        ("y = ReduceMin(p)", "N"),
        ("y = Range(i, j, d)", "1, 3"),
    ],
)
def test_arithmetic(body: str, expected: str) -> None:
    constants = f"{CONSTANTS}, int64 i = {{1}}, int64 j = {{4}}, int64 d = {{2}}"
    prelude = "s = Shape(x) n = Shape <end = 1> (x) h = Shape <start = 2, end = 3> (x) m = Add(n, four)"
    assert elements_of(X, f"{prelude} p = Concat <axis = 0> (m, n) {body}", constants) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Equal(s, s)", "1, 1, 1, 1"),
        ("y = Equal(n, last)", "0"),
        ("y = Equal(m, zero)", "0"),  # N + 4 is never 0
        ("y = Less(n, m)", "1"),
        ("y = Less(m, n)", "0"),
        ("y = LessOrEqual(zero, n)", "1"),
        ("y = GreaterOrEqual(n, zero)", "1"),
        ("y = Greater(last, n)", "0"),
        ("y = Greater(four, one)", "1"),
        ("a = Less(n, m) y = Not(a)", "0"),
        ("a = Less(n, m) b = Less(m, n) y = And(a, b)", "0"),
        ("a = Less(n, m) b = Less(m, n) y = Or(a, b)", "1"),
        ("a = Less(n, m) b = Less(m, n) y = Xor(a, b)", "1"),
        ("a = Equal(s, last) y = Where(a, one, s)", "N, 3, H, W"),
        ("a = Concat <axis = 0> (last, four) b = Equal(a, last) y = Where(b, n, a)", "N, 4"),
    ],
)
def test_decisions(body: str, expected: str) -> None:
    prelude = "s = Shape(x) n = Shape <end = 1> (x) m = Add(n, four)"
    assert elements_of(X, f"{prelude} {body}", CONSTANTS) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Equal(n, one)",  # N may be 1
        "y = Equal(n, h)",
        "y = Equal(n, zero)",
        "y = Less(n, h)",
        "y = Less(zero, n)",
        "y = LessOrEqual(n, zero)",
        "a = Equal(n, one) y = Where(a, one, n)",
        "a = Equal(n, one) y = Not(a)",
        "a = Equal(n, one) b = Less(n, m) y = And(a, b)",
        "y = Max(n, h)",
        "y = Max(n, one)",
        "a = Sub(n, one) y = Abs(a)",
        "a = Sub(n, four) y = Div(a, two)",  # truncates, and N - 4 may be negative
        "y = Div(n, zero)",
        "y = Mod(n, zero)",
        "y = Mod <fmod = 1> (minus, four)",
        "y = Mul(far, two)",  # wraps around
        "y = Gather(s, four)",
        "y = Cast <to = 1> (s)",
        "a = Add(far, zero) y = Cast <to = 6> (a)",
        "y = ReduceSumSquare(s)",
        "y = ReduceMax(s)",
    ],
)
def test_what_depends_on_the_run_is_not_said(body: str) -> None:
    prelude = "s = Shape(x) n = Shape <end = 1> (x) h = Shape <start = 2, end = 3> (x) m = Add(n, four)"
    assert elements_of(X, f"{prelude} {body}", CONSTANTS) is None


def test_a_matrix_has_no_elements() -> None:
    assert elements_of(X, "s = Shape(x) y = Reshape(s, t)", "int64[2] t = {2, 2}") is None
    assert elements_of("float[2, 2] x", "y = Identity(c)", "int64[2, 2] c = {1, 2, 3, 4}") is None


def test_a_chain_resolves_to_a_shape() -> None:
    body = """
        s = Shape(x)
        n = Gather(s, i)
        a = Unsqueeze(n, zero)
        t = Concat <axis = 0> (a, last)
        f = Reshape(x, t)
        r = Shape <start = 1> (f)
        u = Div(r, three)
        v = Concat <axis = 0> (a, three, u)
        y = Reshape(f, v)
    """
    constants = "int64 i = {0}, int64[1] zero = {0}, int64[1] last = {-1}, int64[1] three = {3}"
    assert type_of(X, body, constants) == "float[N, 3, H*W]"
