"""Types of operators that rearrange tensors and of those that compute with shapes: traps first."""

import pytest

from planish.ir import GraphError
from tests.ir.ops.conftest import type_of

X = "float[N, 3, 4] x, float u, int64[K] k, int64[2] two, float[2, 3] f, int64[U] v"


@pytest.mark.parametrize(
    ("target", "attributes", "expected"),
    [
        ("{-1}", "", "float[12*N]"),
        ("{0, -1}", "", "float[N, 12]"),
        ("{0, 0, 2, -1}", "", "float[N, 3, 2, 2]"),
        ("{-1, 6}", "", "float[2*N, 6]"),
        ("{-1, 5}", "", "float[2*N + floor((2*N)/(5)), 5]"),  # or ONNX Runtime refuses it
        ("{2, -1, 4}", "", "float[2, N + floor((N)/(2)), 4]"),
        ("{0, 3, 4}", "", "float[N, 3, 4]"),
        ("{5, 3, 4}", "", "float[5, 3, 4]"),
        ("{0, -1}", "<allowzero = 1>", "float[0, ?]"),
        ("{0, 3}", "<allowzero = 1>", "float[0, 3]"),
    ],
)
def test_reshape(target: str, attributes: str, expected: str) -> None:
    count = target.count(",") + 1
    assert type_of(X, f"y = Reshape {attributes} (x, t)", f"int64[{count}] t = {target}") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Reshape(x, two)", "float[?, ?]"),
        ("y = Reshape(x, k)", "float[...]"),
        ("s = Shape(x) y = Reshape(f, s)", "float[N, 3, 4]"),
        ("s = Shape(x) t = Sub(s, one) y = Reshape(f, t)", "float[?, 2, 3]"),  # N - 1 may be -1: what is left
        ("s = Shape(x) t = Mul(s, s) y = Reshape(f, t)", "float[N*N, 9, 16]"),
        ("t = Concat <axis = 0> (v, last) y = Reshape(f, t)", "float[...]"),
        ("t = Concat <axis = 0> (one, two, one) y = Reshape(f, t)", "float[1, ?, ?, 1]"),  # as far as it is known
        ("t = Concat <axis = 0> (two, zero, last) y = Reshape(f, t)", "float[?, ?, ?, ?]"),
        ("s = Shape <end = 1> (x) t = Concat <axis = 0> (two, s) y = Reshape(f, t)", "float[?, ?, ?]"),
        ("y = Squeeze(f)", "float[2, 3]"),
        ("y = Squeeze(x)", "float[...]"),  # N may be 1
        ("y = Squeeze(x, none)", "float[...]"),  # ONNX Runtime: no axes are all axes of 1
        ("y = Squeeze(x, zero)", "float[3, 4]"),
        ("y = Squeeze(x, k)", "float[...]"),
        ("y = Squeeze(c, last)", "float[1, 2]"),
        ("y = Squeeze(c)", "float[2]"),
        ("y = Unsqueeze(x, ends)", "float[1, N, 3, 4, 1]"),
        ("y = Unsqueeze(x, back)", "float[N, 3, 1, 4, 1]"),
        ("y = Unsqueeze(x, k)", "float[...]"),
        ("y = Flatten(x)", "float[N, 12]"),
        ("y = Flatten <axis = 0> (x)", "float[1, 12*N]"),
        ("y = Flatten <axis = -1> (x)", "float[3*N, 4]"),
        ("y = Flatten <axis = 3> (x)", "float[12*N, 1]"),
        ("y = Transpose(x)", "float[4, 3, N]"),
        ("y = Transpose <perm = [1, 0, 2]> (x)", "float[3, N, 4]"),
    ],
)
def test_rearranging(body: str, expected: str) -> None:
    constants = (
        "int64[1] zero = {0}, int64[1] one = {1}, int64[1] last = {-1}, int64[0] none = {}, int64[2] ends = {0, -1},"
        "int64[2] back = {-1, -3}, float[1, 2, 1] c = {1, 2}"
    )
    assert type_of(X, body, constants) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Expand(x, one)", "float[N, 3, 4]"),
        ("y = Expand(f, wide)", "float[5, 2, 3]"),
        ("s = Shape(f) y = Expand(e, s)", "float[2, 3]"),
        ("s = Shape(v) y = Expand(c, s)", "float[1, 2]"),  # U is 2, or 1 and the 2 of c stays
        ("n = Shape <end = 1> (x) y = Expand(d, n)", "float[N]"),
        ("s = Shape(x) y = Expand(f, s)", "refused"),
        ("n = Shape <end = 1> (x) m = Concat <axis = 0> (n, one, one) y = Expand(x, m)", "float[N, 3, 4]"),
        ("s = Shape(x) m = Mul(s, s) y = Expand(u, m)", "float[N*N, 9, 16]"),
        ("y = Expand(f, two)", "float[?, ?]"),
        ("y = Expand(f, k)", "float[...]"),
        ("y = Expand(f, both)", "refused"),
        ("y = Expand(x, minus)", "refused"),
        ("y = ConstantOfShape(minus)", "refused"),
        ("y = Expand(e, both)", "float[4, 3]"),  # each side stretches the other
        ("y = Tile(x, three)", "float[2*N, 3, 12]"),
        ("s = Shape(x) y = Tile(x, s)", "float[N*N, 9, 16]"),
        ("y = Tile(f, two)", "float[?, ?]"),
        ("y = Tile(f, three)", "refused"),
        ("s = Shape(x) y = ConstantOfShape(s)", "float[N, 3, 4]"),
        ("s = Shape(x) y = ConstantOfShape <value = bool[1] {1}> (s)", "bool[N, 3, 4]"),
        ("y = ConstantOfShape(two)", "float[?, ?]"),
        ("y = ConstantOfShape(none)", "float[]"),
        ("y = Range(i, j, l)", "int64[3]"),
        ("y = Range(j, i, l)", "int64[0]"),
        ("z = Shape <end = 1> (x) n = Squeeze(z) y = Range(i, n, l)", "int64[?]"),  # none where N is 0
        ("z = Shape <end = 1> (x) n = Squeeze(z) y = Range(o, n, l)", "int64[N]"),
        ("z = Shape <end = 1> (x) n = Squeeze(z) y = Range(o, n, t)", "int64[floor((1 + N)/(2))]"),
        ("z = Shape <end = 1> (x) n = Squeeze(z) y = Range(n, o, l)", "int64[?]"),
        ("y = Range(u, u, u)", "float[?]"),
    ],
)
def test_stretching(body: str, expected: str) -> None:
    constants = (
        "int64[1] one = {1}, int64[3] wide = {5, 1, 3}, int64[2] both = {4, 1}, int64[3] three = {2, 1, 3},"
        "int64[0] none = {}, int64[1] minus = {-1}, float[1, 2] c = {1, 2}, float[1] d = {1},"
        "float[1, 3] e = {1, 2, 3}, int64 i = {1}, int64 j = {4}, int64 l = {1}, int64 o = {0}, int64 t = {2}"
    )
    if expected == "refused":
        with pytest.raises(GraphError):
            type_of(X, body, constants)
    else:
        assert type_of(X, body, constants) == expected


@pytest.mark.parametrize(
    "body",
    [
        "y = Reshape(f, seven)",
        "y = Reshape(f, five)",
        "y = Reshape(f, four)",
        "y = Squeeze(x, one)",
        "y = Squeeze(x, five)",
        "y = Unsqueeze(x, twice)",
        "y = Unsqueeze(x, five)",
        "y = Flatten <axis = 4> (x)",
        "y = Transpose <perm = [0, 1]> (x)",
        "y = Transpose <perm = [0, 1, 1]> (x)",
    ],
)
def test_what_cannot_be_is_refused(body: str) -> None:
    constants = (
        "int64[1] seven = {7}, int64[1] one = {1}, int64[1] five = {5}, int64[2] twice = {1, -4},"
        "int64[2] four = {4, -1}"
    )
    with pytest.raises(GraphError):
        type_of(X, body, constants)


def test_depth_and_space() -> None:
    assert type_of("float[N, 8, H, W] x", "y = DepthToSpace <blocksize = 2> (x)") == "float[N, 2, 2*H, 2*W]"
    assert type_of("float[N, 8, 6, W] x", "y = SpaceToDepth <blocksize = 2> (x)") == "float[N, 32, 3, floor((W)/(2))]"
    assert type_of("float x", "y = Shape(x)") == "int64[0]"
