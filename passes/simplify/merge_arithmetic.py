"""Two steps of arithmetic with constants become one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from planish.ir import DType, Value
from planish.ir.types import Array
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, c, d = Var("x"), Const("c"), Const("d")
_LEAST_NORMAL = {DType.FLOAT16: 2.0**-14, DType.BFLOAT16: 2.0**-126, DType.FLOAT: 2.0**-126, DType.DOUBLE: 2.0**-1022}
_WRAPPING = (DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.UINT32, DType.INT64, DType.UINT64)
_FINITE = "results that neither overflow nor underflow on the way"
_LARGER = "the two constants broadcast to more than the larger of them, or others read that one"
_SMALL = 1024
Combine = Callable[[Array, Array], Array]
Kind = Literal["sum", "product", "quotient"]
"""quotient: the constant that comes out divides, or is divided by one, so that no zero may be among the two."""


def _combined(m: Match, combine: Combine, *, kind: Kind) -> Value | None:
    """A constant that is worked out of both in wider precision, where it is no larger than the larger one."""
    first, second = m[c].constant, m[d].constant
    if first is None or second is None or first.dtype is not second.dtype:
        return None
    if not first.in_memory or not second.in_memory:
        return m.decline("a constant is kept outside of the model")
    if not _is_no_larger(m):
        return m.decline(_LARGER)
    a, b, dtype = first.array(), second.array(), first.dtype
    if dtype in _WRAPPING:
        return m.constant(combine(a, b).astype(dtype.numpy), m[d].name)
    if dtype not in _LEAST_NORMAL:
        return None
    wide = np.longdouble if dtype is DType.DOUBLE else np.float64
    with np.errstate(all="ignore"):
        exact = combine(a.astype(wide), b.astype(wide))
        array = np.asarray(np.asarray(exact).astype(dtype.numpy))
    if not all(np.all(np.isfinite(side)) for side in (a, b, array)):
        return m.decline("a constant is not finite, or the two together overflow")
    if kind == "sum":
        largest = np.maximum(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
        if np.any(np.abs(array.astype(np.float64)) * 2 < largest):
            return m.decline("the two constants cancel, and what is rounded off between them may be meant")
    elif not _have_all_digits(kind, dtype, a, b, array):
        return m.decline("a constant or the two together are no normal numbers, which lack digits")
    return m.constant(array, m[d].name)


def _have_all_digits(kind: Kind, dtype: DType, a: Array, b: Array, array: Array) -> bool:
    """Whether none lies below the normal numbers, but for a zero that is a factor."""
    least = _LEAST_NORMAL[dtype]
    zero = ((a == 0) | (b == 0)) if kind == "product" else np.zeros((), np.bool_)
    short = [np.abs(side.astype(np.float64)) < least for side in (a, b, array)]
    if kind == "product":
        short = [short[0] & (a != 0), short[1] & (b != 0), short[2] & ~zero]
    return not any(np.any(side) for side in short)


def _is_no_larger(m: Match) -> bool:
    """Whether both broadcast to as many elements as one of them has, which are few or go when they are merged."""
    first, second = m[c], m[d]
    if first.constant is None or second.constant is None:
        return False
    try:
        size = math.prod(np.broadcast_shapes(first.constant.shape, second.constant.shape))
    except ValueError:
        return False
    return any(
        side.constant is not None and side.constant.size == size and (side.has_one_use or size <= _SMALL)
        for side in (first, second)
    )


def _is_wrapping(m: Match) -> bool:
    return m[c].dtype in _WRAPPING


# Products


times_c = Op("Mul", (x, c), commutes=True)
over_c = Op("Div", (x, c))


@rule(Op("Mul", (times_c, d), commutes=True), contract=Contract.EXACT)
def product_of_integers(m: Match) -> Value | None:
    """Mul(Mul(x, c), d) -> Mul(x, c * d), of integers, which wrap around"""
    constant = _combined(m, np.multiply, kind="product") if _is_wrapping(m) else None
    return None if constant is None else m.add("Mul", (m[x], constant))


@rule(Op("Mul", (times_c, d), commutes=True), contract=Contract.REASSOCIATES, needs=_FINITE)
def product(m: Match) -> Value | None:
    """Mul(Mul(x, c), d) -> Mul(x, c * d)"""
    if _ends_gelu(m[x]):
        return m.decline("runtimes look for the factor of a Gelu")
    constant = None if _is_wrapping(m) else _combined(m, np.multiply, kind="product")
    return None if constant is None else m.add("Mul", (m[x], constant))


def _ends_gelu(value: Value) -> bool:
    """Whether a value is something times one and an error function or a hyperbolic tangent."""
    if value.producer is None or value.producer.op != "Mul":
        return False
    sums = [o.producer for o in value.producer.operands if o is not None and o.producer is not None]
    inner = [o.producer for node in sums if node.op == "Add" for o in node.operands if o is not None]
    return any(node is not None and node.op in ("Erf", "Tanh") for node in inner)


@rule(Op("Div", (times_c, d)), contract=Contract.REASSOCIATES, needs=_FINITE)
def product_by(m: Match) -> Value | None:
    """Div(Mul(x, c), d) -> Mul(x, c / d), of floats"""
    constant = None if _is_wrapping(m) else _combined(m, np.divide, kind="quotient")
    return None if constant is None else m.add("Mul", (m[x], constant))


@rule(Op("Mul", (over_c, d), commutes=True), contract=Contract.REASSOCIATES, needs=_FINITE)
def times_quotient(m: Match) -> Value | None:
    """Mul(Div(x, c), d) -> Mul(x, d / c), of floats"""
    constant = None if _is_wrapping(m) else _combined(m, lambda a, b: np.divide(b, a), kind="quotient")
    return None if constant is None else m.add("Mul", (m[x], constant))


@rule(Op("Div", (over_c, d)), contract=Contract.REASSOCIATES, needs=_FINITE)
def quotient(m: Match) -> Value | None:
    """Div(Div(x, c), d) -> Div(x, c * d), of floats"""
    constant = None if _is_wrapping(m) else _combined(m, np.multiply, kind="quotient")
    return None if constant is None else m.add("Div", (m[x], constant))


# Sums


plus_c = Op("Add", (x, c), commutes=True)
minus_c = Op("Sub", (x, c))
less_x = Op("Sub", (c, x))


_ADDED = Op("Add", (plus_c, d), commutes=True)
_SUMS_OF_TWO: Sequence[tuple[str, str, Op, Combine, bool]] = (
    ("sum", "Add(Add(x, c), d) -> Add(x, c + d)", _ADDED, np.add, False),
    ("sum-less", "Sub(Add(x, c), d) -> Add(x, c - d)", Op("Sub", (plus_c, d)), np.subtract, False),
    (
        "difference-and",
        "Add(Sub(x, c), d) -> Add(x, d - c)",
        Op("Add", (minus_c, d), commutes=True),
        lambda a, b: np.subtract(b, a),
        False,
    ),
    ("difference-less", "Sub(Sub(x, c), d) -> Sub(x, c + d)", Op("Sub", (minus_c, d)), np.add, False),
    ("less-sum", "Sub(d, Add(x, c)) -> Sub(d - c, x)", Op("Sub", (d, plus_c)), lambda a, b: np.subtract(b, a), True),
    ("less-difference", "Sub(d, Sub(x, c)) -> Sub(d + c, x)", Op("Sub", (d, minus_c)), np.add, True),
    ("and-less", "Add(Sub(c, x), d) -> Sub(c + d, x)", Op("Add", (less_x, d), commutes=True), np.add, True),
    ("less-less", "Sub(Sub(c, x), d) -> Sub(c - d, x)", Op("Sub", (less_x, d)), np.subtract, True),
)
"""Name, summary, picture, how the constants come together, and whether x is taken from them."""


def _sum_rules() -> tuple[Rule, ...]:
    """A rule for each way in which two sums follow one another, for integers and for floats."""
    found: list[Rule] = []
    for name, summary, pattern, combine, reverses in _SUMS_OF_TWO:
        integers, floats = _sum(combine, reverses, True), _sum(combine, reverses, False)
        exact = f"{summary}, of integers, which wrap around"
        found.append(Rule(f"{name}-of-integers", pattern, Contract.EXACT, integers, exact))
        found.append(Rule(name, pattern, Contract.REASSOCIATES, floats, summary, _FINITE))
    return tuple(found)


def _sum(combine: Combine, reverses: bool, integers: bool) -> Callable[[Match], Value | None]:
    def apply(m: Match) -> Value | None:
        constant = _combined(m, combine, kind="sum") if _is_wrapping(m) == integers else None
        if constant is None:
            return None
        if reverses:
            return m.add("Sub", (constant, m[x]))
        both_taken = m.root.op == "Sub" and m.nodes[1].op == "Sub"
        return m.add("Sub" if both_taken else "Add", (m[x], constant))

    return apply


# Signs


@rule(Op("Mul", (Op("Neg", (x,)), c), commutes=True), contract=Contract.EXACT)
def negative_product(m: Match) -> Value | None:
    """Mul(Neg(x), c) -> Mul(x, -c)"""
    constant = _negative(m)
    return None if constant is None else m.add("Mul", (m[x], constant))


@rule(Op("Neg", (times_c,)), contract=Contract.EXACT)
def product_negated(m: Match) -> Value | None:
    """Neg(Mul(x, c)) -> Mul(x, -c)"""
    constant = _negative(m)
    return None if constant is None else m.add("Mul", (m[x], constant))


@rule(Op("Div", (Op("Neg", (x,)), c)), contract=Contract.EXACT)
def negative_quotient(m: Match) -> Value | None:
    """Div(Neg(x), c) -> Div(x, -c), of floats"""
    constant = None if _is_wrapping(m) else _negative(m)
    return None if constant is None else m.add("Div", (m[x], constant))


@rule(Op("Neg", (over_c,)), contract=Contract.EXACT)
def quotient_negated(m: Match) -> Value | None:
    """Neg(Div(x, c)) -> Div(x, -c), of floats"""
    constant = None if _is_wrapping(m) else _negative(m)
    return None if constant is None else m.add("Div", (m[x], constant))


@rule(Op("Add", (Op("Neg", (x,)), c), commutes=True), contract=Contract.EXACT)
def negative_and(m: Match) -> Value | None:
    """Add(Neg(x), c) -> Sub(c, x)"""
    return m.add("Sub", (m[c], m[x]))


@rule(Op("Sub", (Op("Neg", (x,)), c)), contract=Contract.EXACT)
def negative_less(m: Match) -> Value | None:
    """Sub(Neg(x), c) -> Sub(-c, x)"""
    constant = _negative(m)
    return None if constant is None else m.add("Sub", (constant, m[x]))


@rule(Op("Sub", (c, Op("Neg", (x,)))), contract=Contract.EXACT)
def less_negative(m: Match) -> Value | None:
    """Sub(c, Neg(x)) -> Add(x, c)"""
    return m.add("Add", (m[x], m[c]))


def _negative(m: Match) -> Value | None:
    tensor = m[c].constant
    if tensor is None or not tensor.in_memory or (tensor.dtype not in _WRAPPING and tensor.dtype not in _LEAST_NORMAL):
        return None
    if not m[c].has_one_use and tensor.size > _SMALL:
        return m.decline("others read the constant, and its negative would make the file grow")
    with np.errstate(all="ignore"):
        return m.constant(np.negative(tensor.array()), m[c].name)


# Zero


@rule(Op("Mul", (x, c), commutes=True), contract=Contract.EXACT)
def times_zero(m: Match) -> Value | None:
    """Mul(x, 0) -> 0, of integers of known shape"""
    tensor, shape = m[c].constant, m.root.result.shape
    if tensor is None or tensor.dtype not in _WRAPPING or not tensor.in_memory or tensor.uniform() != 0:
        return None
    known = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is None or len(known) < len(shape):
        return m.decline("the shape of the zeros is not known")
    if int(np.prod(known, dtype=object)) > max(_SMALL, tensor.size):
        return m.decline("the zeros would make the file grow")
    return m.constant(np.zeros(known, tensor.dtype.numpy))


@dataclass(frozen=True)
class MergeArithmetic(RulePass):
    """Merge Mul, Div, Add, Sub and Neg with constants where two of a kind follow one another.

    The constants may be of any shape, as long as the two together are no larger than the larger one.
    """

    name: ClassVar[str] = "merge-arithmetic"

    def rules(self) -> Sequence[Rule]:
        return (
            times_zero,
            negative_product, product_negated, negative_quotient, quotient_negated, negative_and, negative_less,
            less_negative,
            product_of_integers, product, product_by, times_quotient, quotient, *_SUMS,
        )  # fmt: skip


_SUMS = _sum_rules()
