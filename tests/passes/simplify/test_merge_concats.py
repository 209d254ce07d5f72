"""Concats in a row, and of parts that were one."""

import pytest

from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-concats"
HIGH = 2**63 - 1
SPLIT = "a, b, c = Split<axis=1, num_outputs=3>(z)"
ANY = [{"N": n, "M": m} for n in range(6) for m in (0, 1, 3)]


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        ("a = Concat<axis=1>(p, q)  b = Concat<axis=1>(a, r)", "b = Concat <axis: int = 1> (p, q, r)"),
        ("a = Concat<axis=-1>(p, q)  b = Concat<axis=1>(r, a)", "b = Concat <axis: int = 1> (r, p, q)"),
        (
            "a = Concat<axis=1>(p, q)  c = Concat<axis=1>(r, p)  b = Concat<axis=-1>(a, q, c)",
            "b = Concat <axis: int = -1> (p, q, q, r, p)",
        ),
        (
            "a = Concat<axis=1>(p, q)  c = Concat<axis=1>(a, r)  b = Concat<axis=1>(q, c)",
            "b = Concat <axis: int = 1> (q, p, q, r)",
        ),
    ],
)
def test_concats_in_a_row_become_one(nodes: str, left: str) -> None:
    text = f"g (float[N,2] p, float[N,M] q, float[N,3] r) => (float[A,B] y) {{ {nodes}  y = Neg(b) }}"
    assert rewritten(text, PASS).nodes == [left, "y = Neg (b)"]


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param("a = Concat<axis=0>(p, q)  b = Concat<axis=1>(a, a)", id="another axis"),
        pytest.param("a = Concat<axis=1>(p, q)  b = Concat<axis=1>(a, a)", id="read twice"),
        pytest.param("a = Concat<axis=1>(p, q)  c = Neg(a)  d = Neg(c)  b = Concat<axis=1>(a, d)", id="read elsewhere"),
    ],
)
def test_concats_that_stay(nodes: str) -> None:
    untouched(f"g (float[2,2] p, float[2,2] q) => (float[A,B] y) {{ {nodes}  y = Neg(b) }}", PASS)


def test_one_that_others_read_beside_one_that_goes() -> None:
    text = (
        "g (float[N,2] p, float[N,3] q) => (float[N,5] a, float[N,10] y) {"
        " a = Concat<axis=1>(p, q)  b = Concat<axis=1>(q, p)  y = Concat<axis=1>(a, b) }"
    )
    assert rewritten(text, PASS).nodes[-1] == "y = Concat <axis: int = 1> (a, q, p)"


@pytest.mark.parametrize(
    ("order", "left"), [("a, c", "a, p, q"), ("c, a", "p, q, a"), ("a, c, d", "a, p, q, d"), ("a, d", "a, d")]
)
def test_one_along_another_axis_keeps_its_place(order: str, left: str) -> None:
    text = (
        "g (float[N,2] p, float[M,2] q, float[K,1] r) => (float[A,2] y) {"
        " a = Concat<axis=1>(r, r)  d = Concat<axis=-1>(r, r)  c = Concat<axis=0>(p, q)"
        f" b = Concat<axis=0>({order})  y = Neg(b) }}"
    ).replace("r, r, )", "r, r)")
    assert f"b = Concat <axis: int = 0> ({left})" in rewritten(text, PASS).nodes


@pytest.mark.parametrize(
    ("concat", "left"),
    [
        ("Concat<axis=1>(a, b, c)", ["Neg", "Neg"]),
        ("Concat<axis=-1>(a, b, c)", ["Neg", "Neg"]),
        ("Concat<axis=1>(z, a, b, c, z)", ["Neg", "Concat", "Neg"]),
        ("Concat<axis=1>(a, b, c, a, b, c)", ["Neg", "Concat", "Neg"]),
        ("Concat<axis=1>(a, a, b, c)", ["Neg", "Split", "Concat", "Neg"]),
    ],
)
def test_parts_of_a_split_put_together_again(concat: str, left: list[str]) -> None:
    text = f"g (float[N,6] x) => (float[A,B] y) {{ z = Neg(x)  {SPLIT}  w = {concat}  y = Neg(w) }}"
    assert rewritten(model(text, 18), PASS).op_types == left


@pytest.mark.parametrize(
    "concat",
    [
        "Concat<axis=1>(a, c, b)",
        "Concat<axis=1>(a, b)",
        "Concat<axis=0>(a, b, c)",
        "Concat<axis=1>(a, a, a)",
        "Concat<axis=1>(b, c, a)",
        "Concat<axis=1>(a, z, b, c)",
    ],
)
def test_parts_that_are_not_the_whole_stay(concat: str) -> None:
    text = f"g (float[2,6] x) => (float[A,B] y) {{ z = Neg(x)  {SPLIT}  w = {concat}  y = Neg(w) }}"
    untouched(model(text, 18), PASS)


def test_a_part_that_others_read() -> None:
    nodes = "z = Neg(x)  a, b = Split<axis=1, num_outputs=2>(z)  c = Concat<axis=1>(a, b)  y = Neg(c)"
    text = f"g (float[N,6] x) => (float[N,6] y, float[N,3] b) {{ {nodes} }}"
    assert rewritten(model(text, 18), PASS).op_types == ["Neg", "Split", "Neg"]


def cut(*bounds: tuple[int, int], axis: int = 0, along: int = 0, shape: str = "N,M") -> str:
    held = ", ".join(f"int64[1] s{i}={{{s}}}, int64[1] e{i}={{{e}}}" for i, (s, e) in enumerate(bounds))
    slices = "  ".join(f"a{i} = Slice(z, s{i}, e{i}, ax)" for i in range(len(bounds)))
    names = ", ".join(f"a{i}" for i in range(len(bounds)))
    return (
        f"g (float[{shape}] x) => (float[A,B] y) <int64[1] ax={{{axis}}}, {held}> {{"
        f" z = Neg(x)  {slices}  b = Concat<axis={along}>({names})  y = Neg(b) }}"
    )


@pytest.mark.parametrize(
    "bounds",
    [
        ((0, 3), (3, HIGH)),
        ((0, -3), (-3, HIGH)),
        ((0, 1), (1, 4), (4, HIGH)),
        ((0, -4), (-4, -1), (-1, 2**31 - 1)),
        ((0, 0), (0, HIGH)),
    ],
)
def test_slices_put_together_again(bounds: tuple[tuple[int, int], ...]) -> None:
    found = rewritten(cut(*bounds), PASS, inputs=Inputs(ANY, kinds=("ordinary",)))
    assert found.op_types == ["Neg", "Neg"]


@pytest.mark.parametrize(
    ("bounds", "axis", "along"),
    [
        pytest.param(((0, 3), (-2, HIGH)), 0, 0, id="a gap or overlap by chance"),
        pytest.param(((0, 3), (3, -1), (-1, HIGH)), 0, 0, id="both sides, which overlap when it is short"),
        pytest.param(((0, 4), (4, 2), (2, HIGH)), 0, 0, id="back and forth"),
        pytest.param(((3, HIGH), (0, 3)), 0, 0, id="rolled"),
        pytest.param(((0, 3), (4, HIGH)), 0, 0, id="a gap"),
        pytest.param(((0, 3), (3, 9)), 0, 0, id="not to the end"),
        pytest.param(((1, 3), (3, HIGH)), 0, 0, id="not from the beginning"),
    ],
)
def test_slices_that_are_not_the_whole_stay(bounds: tuple[tuple[int, int], ...], axis: int, along: int) -> None:
    untouched(cut(*bounds, axis=axis, along=along), PASS)


def test_slices_along_another_axis_stay() -> None:
    untouched(cut((0, 3), (3, HIGH), axis=1, along=0, shape="2,6"), PASS)


def test_slices_of_two_values_stay() -> None:
    text = cut((0, 3), (3, HIGH)).replace("a1 = Slice(z", "a1 = Slice(x")
    untouched(text, PASS)


def test_every_second_element_stays() -> None:
    text = cut((0, 3), (3, HIGH)).replace("a0 = Slice(z, s0, e0, ax)", "a0 = Slice(z, s0, e0, ax, st)")
    untouched(text.replace("int64[1] ax", "int64[1] st={2}, int64[1] ax"), PASS)


def test_a_concat_of_parts_in_a_branch() -> None:
    """What a graph around it sliced stays: the branch may not run."""
    untouched(
        """g (float[N] x, bool c) => (float[A] y) <int64[1] z={0}, int64[1] t={3}, int64[1] h={9223372036854775807}> {
            a = Slice(x, z, t)
            b = Slice(x, t, h)
            y = If(c) <
                then_branch = t () => (float[D] p) { p = Concat<axis=0>(a, b) },
                else_branch = e () => (float[F] q) { q = Concat<axis=0>(b, a) }
            >
        }""",
        PASS,
    )


def test_a_chain_without_end_does_not_become_one_node() -> None:
    chain = "  ".join(f"c{i + 1} = Concat<axis=0>(c{i}, x)" for i in range(300))
    text = f"g (float[1] x) => (float[A] y) {{ c0 = Neg(x)  {chain}  y = Neg(c300) }}"
    assert rewritten(text, PASS, inputs=Inputs(kinds=("ordinary",))).op_types == ["Neg", "Concat", "Concat", "Neg"]
