"""Arithmetic that runtimes are slow at becomes arithmetic that they are fast at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops.broadcast import broadcasts_to
from planish.ir.types import Array
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, y, c = Var("x"), Var("y"), Const("c")
_LEAST_NORMAL = {DType.FLOAT16: 2.0**-14, DType.BFLOAT16: 2.0**-126, DType.FLOAT: 2.0**-126, DType.DOUBLE: 2.0**-1022}
_WITH_ROOTS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
_INTEGERS = (DType.INT32, DType.INT64)
_INTEGRAL = ("Ceil", "Floor", "Round")


def _reads(*ops: str) -> Callable[[Node], bool]:
    """A quick test for pictures that commute: whether one of the operands is made by one of the operators."""

    def test(node: Node) -> bool:
        for operand in node.operands:
            if operand is not None and operand.producer is not None and operand.producer.op in ops:
                return True
        return False

    return test


def _leads_to(node: Node, *ops: str, hops: int = 1) -> bool:
    """Whether one of the operators reads the result, or what is made of it within so many nodes."""
    front = [node]
    for _ in range(hops):
        front = [user for made in front for result in made.results for user in result.users]
        if any(user.op in ops for user in front):
            return True
    return False


# Quotients


@rule(Op("Div", (x, c)), contract=Contract.EXACT)
def quotient_by_power_of_two(m: Match) -> Value | None:
    """Div(x, c) -> Mul(x, 1 / c), where each c is a power of two"""
    inverse = _inverse(m)
    if inverse is None or not np.all(np.abs(np.frexp(m.array(m[c]).astype(np.float64))[0]) == 0.5):
        return None
    return m.add("Mul", (m[x], m.constant(inverse)))


@rule(Op("Div", (x, c)), contract=Contract.REASSOCIATES)
def quotient_by_constant(m: Match) -> Value | None:
    """Div(x, c) -> Mul(x, 1 / c)"""
    inverse = _inverse(m)
    return None if inverse is None else m.add("Mul", (m[x], m.constant(inverse)))


def _inverse(m: Match) -> Array | None:
    """1 / c, where it loses no digits and no fused kernel looks for the Div."""
    tensor = m[c].constant
    least = None if tensor is None else _LEAST_NORMAL.get(tensor.dtype)
    if tensor is None or least is None or not tensor.in_memory or not tensor.size:
        return None
    if _leads_to(m.root, "Erf") or _leads_to(m.root, "Softmax", "LogSoftmax", hops=3):
        return m.decline("runtimes look for a Div before Erf (Gelu) and before Softmax (attention)")
    with np.errstate(all="ignore"):
        wide = tensor.array().astype(np.float64 if tensor.dtype is not DType.DOUBLE else np.longdouble)
        inverse = np.asarray((1 / wide).astype(tensor.dtype.numpy))
    if not np.all(np.isfinite(inverse) & np.isfinite(wide)) or np.any(np.abs(inverse.astype(np.float64)) < least):
        return m.decline("the reciprocal of the constant is no normal number")
    return inverse


@rule(
    Op("Mul", (x, Op("Reciprocal", (y,))), commutes=True, where=_reads("Reciprocal")),
    contract=Contract.REASSOCIATES,
    needs="reciprocals that neither overflow nor underflow",
)
def times_reciprocal(m: Match) -> Value | None:
    """Mul(x, Reciprocal(y)) -> Div(x, y), where y is of the result's shape"""
    if m[y].shape is None or m[y].shape != m.root.result.shape:
        return m.decline("a reciprocal that is broadcast costs less than as many divisions")
    return m.add("Div", (m[x], m[y]))


@rule(
    Op("Mul", (x, Op("Div", (c, y))), commutes=True, where=_reads("Div")),
    contract=Contract.REASSOCIATES,
    needs="reciprocals that neither overflow nor underflow",
)
def times_one_by(m: Match) -> Value | None:
    """Mul(x, Div(1, y)) -> Div(x, y), where y is of the result's shape, of floats"""
    tensor = m[c].constant
    if tensor is None or not tensor.dtype.is_float or not tensor.in_memory or tensor.uniform() != 1:
        return None
    shape = m[y].shape
    if shape is None or shape != m.root.result.shape or not broadcasts_to(tensor.shape, shape):
        return m.decline("a reciprocal that is broadcast costs less than as many divisions")
    return m.add("Div", (m[x], m[y]))


# Powers


@rule(Op("Pow", (x, c)), contract=Contract.REASSOCIATES)
def square(m: Match) -> Value | None:
    """Pow(x, 2) -> Mul(x, x); ONNX Runtime's power rounds otherwise for one element in a thousand, in some shapes"""
    if _exponent(m) != 2:
        return None
    if _leads_to(m.root, "ReduceMean"):
        return m.decline("runtimes look for a Pow before the mean of squares of a layer normalization")
    return m.add("Mul", (m[x], m[x]))


@rule(Op("Pow", (x, c)), contract=Contract.REASSOCIATES, needs="a base that is not minus infinity")
def square_root(m: Match) -> Value | None:
    """Pow(x, 0.5) -> Sqrt(x)"""
    if _exponent(m) != 0.5 or m[x].dtype not in _WITH_ROOTS:
        return None
    return m.add("Sqrt", (m[x],))


@rule(Op("Pow", (x, c)), contract=Contract.REASSOCIATES)
def reciprocal(m: Match) -> Value | None:
    """Pow(x, -1) -> Reciprocal(x), of floats"""
    if _exponent(m) != -1 or m[x].dtype not in _WITH_ROOTS:
        return None
    return m.add("Reciprocal", (m[x],))


def _exponent(m: Match) -> float | None:
    """The number that a Pow raises to, where it is a single one that cannot broadcast the base."""
    tensor, shape = m[c].constant, m[x].shape
    if tensor is None or tensor.size != 1 or not tensor.in_memory or tensor.dtype not in (*_WITH_ROOTS, *_INTEGERS):
        return None
    if tensor.shape and (shape is None or not broadcasts_to(tensor.shape, shape)):
        return m.decline("the exponent would broadcast the base, or the base's shape is not known")
    return tensor.uniform()


# Signs


@rule(Op("Neg", (Op("Neg", (x,), shared=True),)), contract=Contract.EXACT)
def twice_negated(m: Match) -> Value | None:
    """Neg(Neg(x)) -> x"""
    return m[x]


@rule(Op("Abs", (Op(("Abs", "Neg"), (x,)),)), contract=Contract.EXACT)
def magnitude(m: Match) -> Value | None:
    """Abs(Abs(x)) or Abs(Neg(x)) -> Abs(x)"""
    return m.add("Abs", (m[x],))


rounded = Op(_INTEGRAL, (x,), shared=True)


@rule(Op(_INTEGRAL, (rounded,)), contract=Contract.EXACT)
def rounded_again(m: Match) -> Value | None:
    """Floor, Ceil or Round of a Floor, Ceil or Round -> the inner one"""
    return m[rounded].result


@rule(Op("Add", (x, Op("Neg", (y,))), commutes=True, where=_reads("Neg")), contract=Contract.EXACT)
def plus_negative(m: Match) -> Value | None:
    """Add(x, Neg(y)) -> Sub(x, y)"""
    return m.add("Sub", (m[x], m[y]))


@rule(Op("Sub", (x, Op("Neg", (y,)))), contract=Contract.EXACT)
def minus_negative(m: Match) -> Value | None:
    """Sub(x, Neg(y)) -> Add(x, y)"""
    return m.add("Add", (m[x], m[y]))


@rule(Op("Mul", (Op("Neg", (x,)), Op("Neg", (y,)))), contract=Contract.EXACT)
def product_of_negatives(m: Match) -> Value | None:
    """Mul(Neg(x), Neg(y)) -> Mul(x, y)"""
    return m.add("Mul", (m[x], m[y]))


@rule(Op("Div", (Op("Neg", (x,)), Op("Neg", (y,)))), contract=Contract.EXACT)
def quotient_of_negatives(m: Match) -> Value | None:
    """Div(Neg(x), Neg(y)) -> Div(x, y), of floats"""
    dtype = m[x].dtype
    return m.add("Div", (m[x], m[y])) if dtype is not None and dtype.is_float else None


@rule(Op("Neg", (Op("Sub", (x, y)),)), contract=Contract.EXACT)
def negative_difference(m: Match) -> Value | None:
    """Neg(Sub(x, y)) -> Sub(y, x), of integers"""
    dtype = m[x].dtype
    return m.add("Sub", (m[y], m[x])) if dtype is not None and dtype.is_integer else None


@rule(Op("Neg", (Op("Sub", (x, y)),)), contract=Contract.REASSOCIATES)
def negative_difference_of_floats(m: Match) -> Value | None:
    """Neg(Sub(x, y)) -> Sub(y, x); the zero of equal operands becomes positive"""
    return m.add("Sub", (m[y], m[x]))


@dataclass(frozen=True)
class ReduceStrength(RulePass):
    """Turn quotients by constants into products, powers into products and roots, and drop pairs of signs.

    Measured on the CPU provider: a product takes half the time of a quotient and less than half that of a square by
    Pow; a root takes a tenth of a Pow. Best run last, for fused kernels are found by the forms that exporters write.
    """

    name: ClassVar[str] = "reduce-strength"

    def rules(self) -> Sequence[Rule]:
        return (
            twice_negated, magnitude, rounded_again, plus_negative, minus_negative, product_of_negatives,
            quotient_of_negatives, negative_difference, negative_difference_of_floats,
            times_reciprocal, times_one_by, quotient_by_power_of_two, quotient_by_constant,
            square, square_root, reciprocal,
        )  # fmt: skip
