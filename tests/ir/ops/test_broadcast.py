"""Broadcasting over symbolic shapes says only what holds for every binding."""

import pytest

from planish.ir import Graph, GraphError, Node
from planish.ir.dim import Dim, Shape, minimum, symbol
from planish.ir.ops.broadcast import broadcast, broadcasts_to
from tests.ir.ops.conftest import type_of

N, M = symbol("N"), symbol("M")


def node() -> Node:
    made = Node("Add")
    Graph("g").insert(made)
    return made


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((2, 3), (3,), (2, 3)),
        ((3,), (2, 1), (2, 3)),
        ((), (2, 3), (2, 3)),
        ((N, 3), (1,), (N, 3)),
        ((N, 3), (N, 1), (N, 3)),
        ((1, 4), (5, 4), (5, 4)),
        # An extent other than 1 decides, whatever the symbol is: 1, or the same.
        ((N,), (4,), (4,)),
        ((4,), (N,), (4,)),
        ((0,), (N,), (0,)),
        ((N,), (1, 1), (1, N)),
        ((2, N), (M * 1, N), (2, N)),
        ((N * 2,), (2 * N,), (2 * N,)),
        # What is cut to an extent has that extent, or is 1.
        ((minimum(512, N),), (N,), (N,)),
        ((3, minimum(1, N)), (N,), (3, N)),
    ],
)
def test_what_is_sure(left: Shape, right: Shape, expected: Shape) -> None:
    assert broadcast(node(), left, right) == expected
    assert broadcast(node(), right, left) == expected


def test_two_symbols_may_be_one_extent_or_1() -> None:
    (dim,) = broadcast(node(), (N,), (M,))
    assert type_of("float[N] a, float[M] b", "y = Add(a, b)") == "float[?]"
    assert dim not in (N, M)


@pytest.mark.parametrize("cut", [minimum(M, N), minimum(512, N) + 1])
def test_what_is_cut_to_nothing_does_not_grow(cut: Dim) -> None:
    (dim,) = broadcast(node(), (cut,), (N,))
    assert dim not in (N, cut)


@pytest.mark.parametrize(("left", "right"), [((2,), (3,)), ((0,), (2,)), ((N, 2), (3, 3))])
def test_what_cannot_be_broadcast_is_refused(left: Shape, right: Shape) -> None:
    with pytest.raises(GraphError, match="Add cannot broadcast"):
        broadcast(node(), left, right)


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((), (N, 3), True),
        ((1, 3), (N, 3), True),
        ((3,), (N, 3), True),
        ((N, 3), (N, 3), True),
        ((1, 1), (3,), False),  # raises the rank
        ((N,), (3,), False),
        ((3,), (N,), False),  # N may be 1
        ((M,), (N,), False),
    ],
)
def test_what_leaves_a_shape_as_it_is(shape: Shape, target: tuple[Dim, ...], *, expected: bool) -> None:
    assert broadcasts_to(shape, target) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Add(x, c)", "float[N, 3, 4]"),
        ("y = Less(x, c)", "bool[N, 3, 4]"),
        ("y = Where(m, x, c)", "float[N, 3, 4]"),
        ("y = Where(m, c, c)", "float[3, 4]"),
        ("y = Max(c, x, c)", "float[N, 3, 4]"),
        ("y = Pow(x, i)", "float[N, 3, 4]"),
        ("y = Pow(i, x)", "int64[N, 3, 4]"),
        ("y = Cast <to = 7> (x)", "int64[N, 3, 4]"),
        ("y = Cast <to = 16> (m)", "bfloat16[4]"),
        ("y = CastLike(x, m)", "bool[N, 3, 4]"),
        ("y = IsNaN(x)", "bool[N, 3, 4]"),
    ],
)
def test_element_types(body: str, expected: str) -> None:
    assert type_of("float[N, 3, 4] x, float[3, 1] c, bool[4] m, int64[4] i", body) == expected


@pytest.mark.parametrize("body", ["y = Cast <to = 99> (x)", "y = Cast <to = 0> (x)", "y = EyeLike <dtype = 29> (x)"])
def test_a_number_that_is_no_element_type_is_refused(body: str) -> None:
    with pytest.raises(GraphError, match="no element type"):
        type_of("float[2, 3] x", body)
