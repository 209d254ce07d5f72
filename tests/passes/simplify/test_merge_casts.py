"""A cast by way of another type goes where no value of any kind tells the two from a direct one."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.ir import DType
from planish.passes.simplify.merge_casts import holds
from tests.equivalence import Inputs, model, rewritten, untouched

PASS = "merge-casts"
TYPES = (
    *("float", "double", "float16", "bool"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 2049, 32768, 65504, 65519, 65520, 65536, 2**24 + 1, 2**25 + 3, 2**31 - 1)
WIDE = (2**31, 2**32 - 1, 2**32, 2**33 + 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
FRACTIONS = (0.0, -0.0, 0.3, -0.3, 1.5, 2.5, 1e-45, -6e-8, 5e-324, 1 + 2**-11, 1 + 2**-11 + 2**-24, 3e38, 1e300)


def number(name: str) -> int:
    return int(DType[name.upper()])


def chain(*types: str, between: str = "") -> str:
    source, middle, target = types
    return (
        f"g ({source}[N] x) => ({target}[N] y) {{ z = Identity(x)  a = Cast<to = {number(middle)}>(z)  {between}"
        f"  b = Cast<to = {number(target)}>(a)  y = Identity(b) }}"
    )


def edges(name: str) -> NDArray[np.generic]:
    """What tells casts apart: limits of integers, ties between floats, NaN, and both signs of it all."""
    dtype = DType[name.upper()].numpy
    if dtype.kind == "b":
        return np.array([0, 1], dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype.name)
        whole = {sign * edge + step for edge in (*EDGES, *WIDE) for sign in (1, -1) for step in (-1, 0, 1)}
        return np.array(sorted(edge for edge in whole if info.min <= edge <= info.max), dtype)
    with np.errstate(all="ignore"):
        signed = [sign * float(edge) for edge in (*EDGES, *WIDE, *FRACTIONS) for sign in (1, -1)]
        return np.array([*signed, np.nan, np.inf, -np.inf], np.float64).astype(dtype)


@pytest.mark.parametrize("source", TYPES)
def test_every_way_that_is_merged_gives_the_same_bits(source: str) -> None:
    """Over all types between and behind: what the pass does not merge it leaves alone, what it merges is run."""
    values, merged = edges(source), 0
    for middle, target in itertools.product(TYPES, TYPES):
        if middle in (source, target):
            continue
        found = rewritten(chain(source, middle, target), PASS, inputs=Inputs(({"N": 1},), {"x": [values]}))
        merged += bool(found.rules)
        if found.rules:
            assert found.op_types.count("Cast") == (target != source)
    assert merged >= {"double": 0, "float": 3}.get(source, 5)


@pytest.mark.parametrize(
    ("types", "merges"),
    [
        (("float", "double", "float"), True),
        (("float16", "float", "float16"), True),
        (("bool", "int64", "bool"), True),
        (("bool", "float", "int64"), True),
        (("int64", "int32", "int8"), True),
        (("int64", "float", "bool"), True),
        (("uint8", "int16", "int32"), True),
        (("float16", "float", "int32"), True),
        (("int32", "double", "int32"), True),
        (("float", "float16", "float"), False),
        (("int64", "float", "int64"), False),
        (("int64", "double", "int64"), False),
        (("int32", "float", "int32"), False),
        (("float", "int64", "float"), False),
        (("int64", "int32", "int64"), False),
        (("int64", "int32", "bool"), False),
        (("int64", "bool", "int64"), False),
        (("float", "bool", "float"), False),
        (("double", "float", "bool"), False),
        (("double", "float", "float16"), False),
        (("float", "double", "int32"), False),
        (("int8", "uint8", "int32"), False),
        (("int32", "double", "int8"), False),
        (("float16", "bfloat16", "float"), False),
        (("bfloat16", "float16", "float"), False),
    ],
)
def test_ways(types: tuple[str, str, str], merges: bool) -> None:
    if merges:
        values = {"x": [edges(types[0])]}
        assert rewritten(chain(*types), PASS, inputs=Inputs(({"N": 1},), values)).rules == ["cast-cast"]
    else:
        untouched(chain(*types), PASS)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (DType.FLOAT, DType.BFLOAT16, True),
        (DType.BFLOAT16, DType.UINT8, True),
        (DType.BFLOAT16, DType.INT16, False),
        (DType.FLOAT16, DType.BFLOAT16, False),
        (DType.FLOAT16, DType.INT16, False),
        (DType.INT64, DType.UINT64, False),
        (DType.UINT64, DType.INT8, False),
        (DType.INT16, DType.UINT8, True),
        (DType.BOOL, DType.INT8, False),
        (DType.FLOAT, DType.FLOAT8E4M3FN, False),
        (DType.STRING, DType.BOOL, False),
        (DType.INT8, DType.INT4, False),
    ],
)
def test_what_a_type_holds(wide: DType, narrow: DType, expected: bool) -> None:
    assert holds(wide, narrow) is expected


def test_strings_stay() -> None:
    untouched(chain("int64", "string", "int64"), PASS)
    untouched(chain("string", "int64", "string"), PASS)


def test_a_first_cast_that_others_read_stays() -> None:
    text = "g (int32[N] x) => (int64[N] a, float[N] y) { a = Cast<to = 7>(x)  y = Cast<to = 1>(a) }"
    untouched(text, PASS)
    back = "g (int32[N] x) => (int64[N] a, int32[N] y) { a = Cast<to = 7>(x)  b = Cast<to = 6>(a)  y = Neg(b) }"
    assert rewritten(back, PASS).op_types == ["Cast", "Neg"]


def test_something_between_stays() -> None:
    text = chain("float", "double", "float").replace("b = Cast", "c = Neg(a)  b = Cast").replace("= 1>(a)", "= 1>(c)")
    untouched(text, PASS)


def test_four_in_a_row() -> None:
    text = (
        "g (float16[N] x) => (float16[N] y) {"
        " a = Cast<to = 1>(x)  b = Cast<to = 11>(a)  c = Cast<to = 1>(b)  d = Cast<to = 10>(c)  y = Abs(d) }"
    )
    assert rewritten(text, PASS).op_types == ["Abs"]


@pytest.mark.parametrize(("like", "to"), [("int64", 7), ("float16", 10), ("bool", 9), ("double", 11)])
def test_a_cast_like_becomes_a_cast(like: str, to: int) -> None:
    text = f"g (float[N] x, {like}[M] l) => ({like}[N] y) {{ y = CastLike(x, l) }}"
    found = rewritten(text, PASS, inputs=Inputs(kinds=("ordinary",)))
    assert found.nodes == [f"y = Cast <to: int = {to}> (x)"]


def test_a_cast_like_a_type_with_options_stays() -> None:
    untouched(model("g (float[N] x, float8e4m3fn[M] l) => (float8e4m3fn[N] y) { y = CastLike(x, l) }", 19), PASS)


def test_a_cast_like_between_casts() -> None:
    text = "g (float[N] x, double[M] l) => (float[N] y) { a = CastLike(x, l)  b = Cast<to = 1>(a)  y = Neg(b) }"
    found = rewritten(text, PASS)
    assert found.op_types == ["Neg"]
    assert [info.name for info in found.after.graph.input] == ["x", "l"]


def test_nested_graphs() -> None:
    found = rewritten(
        """g (float[N] x, bool c) => (float[A] y) {
            a = Cast<to = 11>(x)
            y = If(c) <
                then_branch = t () => (float[D] p) { p = Cast<to = 1>(a) },
                else_branch = e () => (float[F] q) { d = Cast<to = 11>(x)  f = Cast<to = 1>(d)  q = Neg(f) }
            >
        }""",
        PASS,
    )
    assert found.op_types == ["Cast", "If", "Cast", "Neg"]
