"""Types of operators that pick, join and place parts of tensors: traps first."""

import pytest

from planish.ir import GraphError
from tests.ir.ops.conftest import type_of

X = (
    "float[N, 6, 4] x, float[M, 6, 4] z, float[2, 6] f, int64[K] k, int64[2, 3] ij, int64[N, R] nr, int64 i,"
    "float[N, 5, 4] w5"
)
CONSTANTS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] last = {-1},"
    "int64[1] far = {9223372036854775807}, int64[1] near = {-9223372036854775808}, int64[1] int32 = {2147483647},"
    "int64[1] minus = {-3}, int64[1] five = {5},"
    "int64[2] both = {0, -1}, int64[2] sizes = {2, 4}, int64 depth = {7}, float[2] values = {0, 1}"
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Slice(x, one, far, two)", "float[N, 6, 3]"),
        ("y = Slice(x, one, last, one)", "float[N, 4, 4]"),
        ("y = Slice(x, minus, far, last)", "float[N, 6, 3]"),
        ("y = Slice(x, five, two, one)", "float[N, 0, 4]"),
        ("y = Slice(x, last, near, one, last)", "float[N, 6, 4]"),
        ("y = Slice(x, last, zero, one, last)", "float[N, 5, 4]"),
        ("y = Slice(x, last, near, one, minus)", "float[N, 2, 4]"),
        ("y = Slice(x, minus, far, one, last)", "float[N, 4, 4]"),  # backwards, "to the end" is the beginning
        ("y = Slice(x, near, far, one, two)", "float[N, 3, 4]"),
        ("y = Slice(x, five, far, one, two)", "float[N, 1, 4]"),
        ("y = Slice(x, zero, far, zero)", "float[N, 6, 4]"),
        ("y = Slice(x, zero, int32, zero, two)", "float[floor((1 + N)/(2)), 6, 4]"),
        ("y = Slice(x, last, near, zero, last)", "float[N, 6, 4]"),
        ("y = Slice(x, last, near, zero, minus)", "float[floor((2 + N)/(3)), 6, 4]"),
        # Where N is 0 nothing is left, and where it is small it is cut short.
        ("y = Slice(x, one, far, zero)", "float[?, 6, 4]"),
        ("y = Slice(x, zero, two, zero)", "float[?, 6, 4]"),
        ("y = Slice(x, zero, last, zero)", "float[?, 6, 4]"),
        ("y = Slice(x, last, far, zero)", "float[?, 6, 4]"),
        ("p = Concat <axis = 0> (x, f3) y = Slice(p, one, far, zero)", "float[1 + N, 6, 4]"),
        ("p = Concat <axis = 0> (x, f3) y = Slice(p, zero, last, zero)", "float[1 + N, 6, 4]"),
        ("p = Concat <axis = 0> (x, f3) y = Slice(p, zero, two, zero)", "float[2, 6, 4]"),
        ("p = Concat <axis = 0> (x, f3) y = Slice(p, last, far, zero)", "float[1, 6, 4]"),
        ("y = Slice(x, k, k, one)", "float[N, ?, 4]"),
        ("y = Slice(x, k, k)", "float[?, ?, ?]"),
        ("y = Slice(x, zero, k)", "float[?, ?, ?]"),
        ("s = Shape <end = 1> (z) y = Slice(x, zero, s, one)", "float[N, min(6, M), 4]"),
        ("s = Shape <end = 1> (z) y = Slice(x, zero, s, zero, one)", "float[min(M, N), 6, 4]"),
        ("s = Shape <end = 1> (x) y = Slice(x, zero, s, zero)", "float[N, 6, 4]"),
        ("s = Shape <end = 1> (x) y = Slice(x, zero, s)", "float[N, ?, ?]"),
        ("s = Shape <end = 1> (z) y = Slice(x, one, s, one)", "float[N, ?, 4]"),
        ("s = Shape <end = 1> (z) y = Slice(x, zero, s, one, two)", "float[N, ?, 4]"),
        ("s = Shape <end = 1> (z) t = Sub(s, two) y = Slice(x, zero, t, one)", "float[N, ?, 4]"),
        # An extent that is cut to M fits M, or nothing runs.
        ("s = Shape <end = 1> (z) t = Slice(x, zero, s, one) y = Concat <axis = 1> (t, t)", "float[N, 2*min(6, M), 4]"),
    ],
)
def test_slice(body: str, expected: str) -> None:
    constants = f"{CONSTANTS}, float[2, 6, 4] f3 = {{{', '.join(['0'] * 48)}}}"
    assert type_of(X, body, constants) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Concat <axis = 1> (x, x)", "float[N, 12, 4]"),
        ("y = Concat <axis = -1> (x, x, x)", "float[N, 6, 12]"),
        ("y = Concat <axis = 0> (x, z)", "float[M + N, 6, 4]"),
        ("y, w = Split <axis = 1, num_outputs = 2> (x)", "float[N, 3, 4]"),
        ("w, y = Split <axis = 1, num_outputs = 2> (w5)", "float[N, 2, 4]"),
        ("a, b, c, y = Split <axis = 1, num_outputs = 4> (x)", "float[N, ?, 4]"),  # 2, 2, 2 leave none
        ("a, y = Split <axis = 1> (x, sizes)", "float[N, 4, 4]"),
        ("a, y = Split <axis = 0, num_outputs = 2> (x)", "float[N + -1*floor((1 + N)/(2)), 6, 4]"),
        ("d = Concat <axis = 0> (x, x) a, y = Split <num_outputs = 2> (d)", "float[N, 6, 4]"),
        (
            "n = Shape <end = 1> (x) t = Concat <axis = 0> (n, n) d = Concat <axis = 0> (x, x) a, y = Split(d, t)",
            "float[N, 6, 4]",
        ),
        ("a, y = Split(x, k)", "float[?, 6, 4]"),
        ("y = Gather(x, i)", "float[6, 4]"),
        ("y = Gather <axis = -2> (x, ij)", "float[N, 2, 3, 4]"),
        ("y = Gather <axis = 1> (x, k)", "float[N, K, 4]"),
        ("y = GatherElements <axis = 1> (f, ij)", "float[2, 3]"),
        ("y = GatherND(x, ij)", "float[2]"),
        ("y = GatherND(x, sizes)", "float[4]"),
        ("y = GatherND <batch_dims = 1> (x, nr)", "float[...]"),
        ("y = GatherND <batch_dims = 1> (f, q)", "float[2]"),
        ("y = ScatterND(x, ij, f)", "float[N, 6, 4]"),
        ("y = OneHot(nr, depth, values)", "float[N, R, 7]"),
        ("y = OneHot <axis = 0> (nr, depth, values)", "float[7, N, R]"),
        ("y = OneHot(nr, i, values)", "float[N, R, ?]"),
        ("y = EyeLike <dtype = 7> (f)", "int64[2, 6]"),
        ("y = EyeLike(f)", "float[2, 6]"),
        ("y = Trilu(x)", "float[N, 6, 4]"),
    ],
)
def test_picking_and_joining(body: str, expected: str) -> None:
    assert type_of(X, body, f"{CONSTANTS}, int64[2, 1] q = {{0, 1}}") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Pad(x, p)", "float[1 + N, 8, 7]"),
        ("y = Pad(x, both, , last)", "float[N, 6, 3]"),
        ("y = Pad(x, both, , zero)", "float[?, 6, 4]"),  # N - 1: there may be nothing to cut
        ("y = Pad(x, k, , last)", "float[N, 6, ?]"),
        ("y = Pad(x, k)", "float[?, ?, ?]"),
        ("n = Shape <end = 1> (x) t = Concat <axis = 0> (zero, n) y = Pad(x, t, , two)", "float[N, 6, 4 + N]"),
    ],
)
def test_pad(body: str, expected: str) -> None:
    assert type_of(X, body, f"{CONSTANTS}, int64[6] p = {{0, 1, 1, 1, 1, 2}}") == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Concat <axis = 3> (x, x)",
        "y = Concat <axis = 1> (x, f)",
        "y = Concat <axis = 0> (f, ij2)",
        "y = Slice(x, one, two, depths)",
        "y = Slice(x, one, two, five)",
        "y = Slice(x, one, two, one, zero)",
        "y = Slice(x, both, both, same)",
        "a, y = Split <axis = 2> (x, sizes)",
        "y = Gather <axis = 3> (x, i)",
        "y = GatherND(f, ij)",
        "y = GatherND <batch_dims = 3> (x, nr)",
        "y = Pad(x, both)",
        "y = Pad(x, both, , five)",
        "y = OneHot <axis = 5> (nr, depth, values)",
    ],
)
def test_what_cannot_be_is_refused(body: str) -> None:
    constants = f"{CONSTANTS}, int64[2] depths = {{0, 1}}, int64[2] same = {{1, -2}}, float[1, 3] ij2 = {{1, 2, 3}}"
    with pytest.raises(GraphError):
        type_of(X, body, constants)
