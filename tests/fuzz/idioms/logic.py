"""Truths, comparisons and selections that are decided, reversed, or said twice."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import Idioms, fellow, shape_beside, swapped
from tests.fuzz.operators import extent
from tests.fuzz.writer import INTS, REALS, Writer, dtype_of

_COMPARISONS = ("Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual")


def truth(w: Writer) -> Value:
    """A boolean tensor: one that is there, or a comparison."""
    if w.often(50):
        return w.pick((DType.BOOL,))
    x = w.raw((w.choose((*INTS, DType.FLOAT)),))
    return w.node(w.choose(_COMPARISONS), x, w.any_constant(w.broadcastable(x), dtype_of(x)))


def comparisons(w: Writer) -> None:
    """Of integers, whose opposites are comparisons again, and of floats, among which a NaN may be."""
    x = w.raw((w.choose((*INTS, *REALS)),))
    z = x if w.often(35) else w.raw((dtype_of(x),))
    held = w.node(w.choose(_COMPARISONS), x, z)
    w.keep(w.node("Not", held) if w.often(60) else held)


def negations(w: Writer) -> None:
    x = truth(w)
    form = w.choose(("twice", "de morgan", "xor", "opposite"))
    if form == "twice":
        w.make("Not", w.node("Not", x))
        return
    y = w.pick((DType.BOOL,)) if form != "opposite" else x
    op = w.choose(("And", "Or", "Xor"))
    if form == "opposite":
        w.keep(swapped(w, op, x, w.node("Not", y)))
    else:
        w.make("Xor" if form == "xor" else op, w.node("Not", x), w.node("Not", y))


def one_truth_twice(w: Writer) -> None:
    x = truth(w)
    w.make(w.choose(("And", "Or", "Xor", "Equal")), x, x)


def known_truths(w: Writer) -> None:
    """Beside a constant that is the same all over, and may broadcast."""
    x = truth(w)
    c = w.constant(np.full(shape_beside(w, x), w.often(50)))
    w.keep(swapped(w, w.choose(("And", "Or", "Xor", "Equal")), x, c))


def selections(w: Writer) -> None:
    """Where by a constant, of one value, by an opposite, or of selections by the same condition."""
    x = w.pick((w.choose((DType.FLOAT, DType.INT64)),))
    z = fellow(w, x) if w.often(70) else w.pick((dtype_of(x),))
    form = w.choose(("constant", "same", "opposite", "chosen", "otherwise"))
    if form == "constant":
        c = w.constant(np.full(shape_beside(w, x), w.often(50)))
        w.make("Where", c, x, z)
        return
    condition = _condition(w, x)
    if form == "same":
        w.make("Where", condition, x, x)
    elif form == "opposite":
        w.make("Where", w.node("Not", condition), x, z)
    elif form == "chosen":
        w.make("Where", condition, w.node("Where", condition, x, z), fellow(w, x))
    else:
        w.make("Where", condition, fellow(w, x), w.node("Where", condition, x, z))


def _condition(w: Writer, x: Value) -> Value:
    """One that is mostly of a shape that cannot change what is selected."""
    if w.often(50):
        return truth(w) if w.often(50) else w.pick((DType.BOOL,), most=0)
    if dtype_of(x).is_integer:
        return w.node("Greater", x, w.single(1, dtype_of(x)))
    dims = [extent(x, axis) for axis in range(len(x.shape or ()))]
    shape = [dim if isinstance(dim, int) and w.often(50) else 1 for dim in dims]
    shape = shape_beside(w, x) if w.often(30) else tuple(shape)
    return w.constant(np.resize(np.asarray([True, False, False]), shape))


LOGIC: Idioms = {
    comparisons: ("simplify-logic",),
    negations: ("simplify-logic",),
    one_truth_twice: ("simplify-logic",),
    known_truths: ("simplify-logic", "remove-noops"),
    selections: ("simplify-logic",),
}
