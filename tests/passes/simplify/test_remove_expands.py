"""Expands before readers that broadcast, and those whose result would not be the same for every binding."""

import pytest

from tests.equivalence import Inputs, Ulps, model, rewritten, untouched

PASS = "remove-expands"


def before(shape: str, target: str, other: str, reader: str = "y = Add(a, z)", *, out: str = "float") -> str:
    rank = len(target.split(","))
    result = ",".join("ABCDE"[: max(rank, len(other.split(",")))])
    return (
        f"g (float[{shape}] x, float[{other}] z) => ({out}[{result}] y) <int64[{rank}] s={{{target}}}> {{"
        f" n = Neg(x)  a = Expand(n, s)  {reader} }}"
    )


@pytest.mark.parametrize(
    ("shape", "target", "other"),
    [
        ("1,64", "8,64", "8,64"),
        ("8,1", "8,64", "8,64"),
        ("64", "4,64", "4,64"),
        ("1,1", "3,40", "2,3,40"),
        ("1,64", "1,64", "8,64"),
        ("1,64", "0,64", "0,64"),
        ("2,64", "3,1,1", "3,2,64"),
    ],
)
@pytest.mark.parametrize("reader", ["y = Add(a, z)", "y = Sub(z, a)", "y = Pow(a, z)", "y = Max(z, a, z)"])
def test_an_expand_before_a_broadcast_goes(shape: str, target: str, other: str, reader: str) -> None:
    source = before(shape, target, other, reader)
    assert rewritten(source, PASS, tolerance=Ulps(2)).op_types == ["Neg", reader[4:].partition("(")[0]]


@pytest.mark.parametrize("reader", ["y = Pow(z, a)", "y = Max(a, z)", "y = Min(z, a)"])
def test_what_asks_whether_it_broadcasts_is_not_exact(reader: str) -> None:
    """ONNX Runtime squares by one number 2 and raises to a tensor of them; which of two zeros Max takes depends too."""
    untouched(before("1,64", "8,64", "8,64", reader), PASS, fp="strict")
    assert rewritten(before("1,64", "8,64", "8,64", "y = Add(z, a)"), PASS, fp="strict").rules == [
        "expand-for-broadcast"
    ]


@pytest.mark.parametrize("reader", ["y = Max(a, z)", "y = Min(z, a)"])
def test_integers_have_one_zero(reader: str) -> None:
    source = before("1,64", "8,64", "8,64", reader).replace("float", "int64")
    assert rewritten(source, PASS, fp="strict").op_types == ["Neg", reader[4:7]]


def test_a_power_of_integers_may_wrap_or_saturate() -> None:
    untouched(before("1,64", "8,64", "8,64", "y = Pow(z, a)").replace("float", "int32"), PASS)


def test_dims_that_both_share() -> None:
    text = (
        "g (float[1,64] x, float[N,64] z) => (float[N,64] y) {"
        " s = Shape(z)  n = Neg(x)  a = Expand(n, s)  y = Mul(a, z) }"
    )
    assert rewritten(text, PASS).op_types == ["Neg", "Mul"]


def test_several_readers() -> None:
    found = rewritten(before("1,64", "8,64", "8,64", "b = Add(a, z)  c = Sub(a, z)  y = Mul(b, c)"), PASS)
    assert found.op_types == ["Neg", "Add", "Sub", "Mul"]


def test_a_dim_that_is_one_or_the_other() -> None:
    source = before("N,64", "8,1", "8,64")
    assert rewritten(source, PASS, inputs=Inputs(({"N": 1}, {"N": 8}))).op_types == ["Neg", "Add"]


def test_a_where() -> None:
    found = rewritten(before("1,64", "8,64", "8,64", "c = Less(z, z)  y = Where(c, a, z)"), PASS)
    assert found.op_types == ["Neg", "Less", "Where"]


def test_a_tile_of_one_element() -> None:
    text = before("1,64", "8,1", "8,64").replace("Expand", "Tile")
    assert rewritten(text, PASS).op_types == ["Neg", "Add"]
    untouched(before("2,64", "4,1", "8,64").replace("Expand", "Tile"), PASS)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(before("1,64", "8,64", "1,64"), id="the other operand is not of that shape"),
        pytest.param(before("1,64", "8,64", "64"), id="the other operand lacks the axis"),
        pytest.param(before("1,64", "8,64", "N,64"), id="the other operand is of that shape by chance"),
        pytest.param(before("1,64", "8,64", "8,64", "y = Add(a, a)"), id="no other operand"),
        pytest.param(before("1,64", "8,64", "8,64", "y = MatMul(a, z)").replace("8,64] z", "64,8] z"), id="MatMul"),
        pytest.param(before("1,64", "8,64", "8,64", "y = Concat<axis=0>(a, z)"), id="Concat"),
        pytest.param(before("1,64", "8,64", "8,64", "b = Add(a, z)  y = Softmax(a)"), id="one reader of two"),
        pytest.param(before("1,64", "8,64", "8,64", "b = Add(a, z)  y = Neg(a)"), id="a unary reader"),
        pytest.param(before("1,4", "8,4", "8,4"), id="short runs"),
        pytest.param(before("1,N", "8,1", "8,N"), id="runs of unknown length"),
        pytest.param(
            before("1,64", "8,64", "8,64").replace("(float[A,B] y)", "(float[A,B] y, float[C,D] a)"), id="an output"
        ),
        pytest.param(
            "g (float[1,64] x, int64[2] s, float[8,64] z) => (float[A,B] y) {"
            " n = Neg(x)  a = Expand(n, s)  y = Add(a, z) }",
            id="to an unknown shape",
        ),
    ],
)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_one_of_two_expanded_operands_stays() -> None:
    text = (
        "g (float[1,64] x, float[1,64] z) => (float[8,64] y) <int64[2] s={8,64}> {"
        " a = Expand(x, s)  b = Expand(z, s)  y = Add(a, b) }"
    )
    assert rewritten(text, PASS).op_types == ["Expand", "Add"]


def test_an_expand_of_an_expand() -> None:
    text = (
        "g (float[1,4] x) => (float[2,8,4] y) <int64[2] s={8,1}, int64[3] t={2,1,4}> {"
        " a = Expand(x, s)  b = Expand(a, t)  y = Neg(b) }"
    )
    assert rewritten(text, PASS).op_types == ["Expand", "Neg"]
    open_shape = text.replace("float[1,4] x", "float[N,4] x").replace("{8,1}", "{1,1}").replace("[2,8,4]", "[2,N,4]")
    untouched(open_shape, PASS)


def test_an_empty_dim() -> None:
    inputs = Inputs(({"N": 0}, {"N": 1}, {"N": 5}))
    text = "g (float[1,64] x, float[N,64] z) => (float[N,64] y) { s = Shape(z)  a = Expand(x, s)  y = Add(z, a) }"
    assert rewritten(model(text), PASS, inputs=inputs).op_types == ["Add"]


TABLE = f"float[2,64] e = {{{','.join(map(str, range(128)))}}}"


ZEROS = "p = ConstantOfShape<value=int64[1]{0}>(s)"


def gathered(indices: str, *, reader: str = "y = Add(z, a)", more: str = "", axis: int = 0) -> str:
    return (
        f"g (float[N,M,64] z{more}) => (float[A,B,C] y) <{TABLE}> {{"
        f" s = Shape<start=0, end=2>(z)  {indices}  a = Gather<axis={axis}>(e, i)  {reader} }}"
    )


@pytest.mark.parametrize(
    "indices",
    [
        "i = ConstantOfShape<value=int64[1]{1}>(s)",
        "i = ConstantOfShape<value=int64[1]{-1}>(s)",
        "c = Constant<value=int32[1,1]{0}>()  i = Expand(c, s)",
        f"{ZEROS}  c = Constant<value=int64[1,3]{{1,1,1}}>()  f = GatherElements<axis=1>(c, p)  i = Expand(f, s)",
    ],
)
def test_one_row_of_a_table_again_and_again(indices: str) -> None:
    found = rewritten(
        gathered(indices), f"{PASS},remove-dead-nodes", inputs=Inputs(({"N": 1, "M": 3}, {"N": 1, "M": 1}))
    )
    assert found.op_types == ["Add"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(gathered("i = Identity(j)", more=", int64[N,M] j"), id="indices that are given"),
        pytest.param(gathered("c = Constant<value=int64[1,2]{0,1}>()  i = Expand(c, s)"), id="two rows"),
        pytest.param(gathered(ZEROS.replace("p =", "i ="), reader="y = Neg(a)"), id="none else of that shape"),
        pytest.param(gathered(ZEROS.replace("p =", "i ="), reader="y = Concat<axis=2>(z, a)"), id="a Concat"),
        pytest.param(gathered("i = ConstantOfShape<value=int64[1]{2}>(s)"), id="no such row"),
    ],
)
def test_rows_that_stay(source: str) -> None:
    untouched(source, PASS)


def test_positions_cut_to_the_length_of_a_text() -> None:
    """As BERT has them: the sum is as long as the text, or does not run."""
    text = f"""g (float[N,T,64] z) => (float[A,B,C] y) <int64[1,9] p = {{0,0,0,0,0,0,0,0,0}}, int64[1] o = {{1}},
        int64[1] b = {{0}}, {TABLE}> {{
        n = Shape<start=0, end=1>(z)  l = Shape<start=1, end=2>(z)  s = Concat<axis=0>(n, l)
        q = Slice(p, b, l, o)  i = Expand(q, s)  a = Gather(e, i)  y = Add(z, a) }}"""
    found = rewritten(
        text, f"{PASS},remove-dead-nodes", inputs=Inputs(({"N": 2, "T": 4}, {"N": 1, "T": 9}, {"N": 3, "T": 1}))
    )
    assert found.op_types == ["Add"]
