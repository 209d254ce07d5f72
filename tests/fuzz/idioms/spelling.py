"""Arithmetic as exporters write it: one meaning, several spellings, and now and then a number that is a little off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.operators import extent, known, rank_of
from tests.fuzz.writer import FLOAT, FLOATS, Writer, dtype_of

Idioms = Mapping[Callable[[Writer], object], Sequence[str]]
"""Moves, each with the passes whose pictures it lays down, or nearly."""


def floats(w: Writer, *, least: int = 0, most: int = 5) -> Value:
    """Mostly single precision; now and then a type for which a rewrite may have no kernel, or not enough digits."""
    return w.pick(FLOATS if w.often(15) else FLOAT, least=least, most=most)


def fellow(w: Writer, x: Value) -> Value:
    """Another value of the very type."""
    if w.often(50):
        return w.pick(test=lambda v: v.type == x.type)
    return w.node("Not" if x.dtype is DType.BOOL else "Neg", x)


def shape_beside(w: Writer, x: Value) -> tuple[int, ...]:
    """Of a constant beside x: mostly one that leaves x's shape, now and then one that surely changes it."""
    dims = x.shape or ()
    if w.often(70):
        return w.choose(((), tuple(dim if isinstance(dim, int) else 1 for dim in dims), (1,) * len(dims)))
    ones = [axis for axis, dim in enumerate(dims) if dim == 1]
    shape = [dim if isinstance(dim, int) else 1 for dim in dims]
    if ones and w.often(60):
        shape[w.choose(ones)] = 2
        return tuple(shape)
    return (w.choose((1, 2)), *shape)


def times(w: Writer, x: Value, factor: float) -> Value:
    """A multiplication by a number, which may be written as a division."""
    dtype = dtype_of(x)
    factor = w.near(factor)
    if w.often(30):
        return w.node("Div", x, w.scalar(1 / factor, dtype))
    return swapped(w, "Mul", x, w.scalar(factor, dtype))


def plus(w: Writer, x: Value, term: float) -> Value:
    dtype = dtype_of(x)
    term = w.near(term)
    if w.often(20):
        return w.node("Sub", x, w.scalar(-term, dtype))
    return swapped(w, "Add", x, w.scalar(term, dtype))


def swapped(w: Writer, op: str, x: Value, y: Value) -> Value:
    """An operator that commutes, either way round."""
    return w.node(op, *((y, x) if w.often(40) else (x, y)))


def product(w: Writer, x: Value, y: Value) -> Value:
    return swapped(w, "Mul", x, y)


def square(w: Writer, x: Value) -> Value:
    return w.node("Mul", x, x) if w.often(40) else w.node("Pow", x, w.scalar(w.near(2.0), dtype_of(x)))


def root(w: Writer, x: Value) -> Value:
    return w.node("Pow", x, w.scalar(0.5, dtype_of(x))) if w.often(20) else w.node("Sqrt", x)


def inverse(w: Writer, x: Value) -> Value:
    """One divided by x."""
    form = w.choose(("reciprocal", "div", "pow"))
    if form == "reciprocal":
        return w.node("Reciprocal", x)
    number = w.scalar(w.near(1.0) if form == "div" else -1.0, dtype_of(x))
    return w.node("Div", number, x) if form == "div" else w.node("Pow", x, number)


def quotient(w: Writer, x: Value, y: Value) -> Value:
    return w.node("Div", x, y) if w.often(60) else product(w, x, inverse(w, y))


def over_root(w: Writer, x: Value, radicand: Value) -> Value:
    """x divided by a square root."""
    if w.often(20):
        return product(w, x, w.node("Pow", radicand, w.scalar(-0.5, dtype_of(radicand))))
    return quotient(w, x, root(w, radicand))


def mean(w: Writer, x: Value, *axes: int) -> Value:
    """Over axes that stay as extents of one; also a sum divided by their number, and one that loses its axes first."""
    form = w.choose(("mean", "mean", "sum", "dropped"))
    known_axes = all(isinstance(extent(x, axis), int) and extent(x, axis) != 0 for axis in axes)
    if form == "sum" and known_axes:
        count = int(np.prod([known(x, axis) for axis in axes]))
        return times(w, w.node("ReduceSum", x, w.ints(*axes)), 1 / count)
    if form == "dropped":
        rank = rank_of(x)
        y = w.node("ReduceMean", x, w.ints(*axes), attributes={"keepdims": 0})
        return w.node("Unsqueeze", y, w.ints(*sorted(axis % rank for axis in axes)))
    return w.node("ReduceMean", x, w.ints(*axes))


def affine(w: Writer, y: Value, *extents: int) -> Value:
    """Times a scale and plus a bias of these extents, or of others that broadcast to them."""
    dtype = dtype_of(y)

    def parameter() -> Value:
        return w.weight(*((1,) * len(extents) if w.often(8) else extents), dtype=dtype)

    if w.often(75):
        y = product(w, y, parameter())
    if w.often(65):
        y = swapped(w, "Add", y, parameter())
    return y
