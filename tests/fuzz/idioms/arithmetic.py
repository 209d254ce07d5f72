"""Chains of arithmetic with constants, signs, powers, roundings and bounds."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import Idioms, fellow, floats, inverse, product, shape_beside, swapped
from tests.fuzz.operators import is_known, rank_of
from tests.fuzz.writer import ALL, FLOAT, INTS, REALS, SkipError, Writer, dtype_of

NUMERIC = (DType.FLOAT, DType.INT64, DType.FLOAT, DType.INT32, DType.DOUBLE, DType.FLOAT16)


def with_constant(w: Writer, op: str, x: Value) -> Value:
    """Arithmetic of a value and a constant of any fitting shape, either way round."""
    dtype = dtype_of(x)
    c = w.scalar(w.choose((2.0, 7.0, -1.5, 20.0)), dtype) if w.often(50) else w.any_constant(w.broadcastable(x), dtype)
    return w.node(op, *((c, x) if w.often(30) else (x, c)))


def constants(w: Writer) -> None:
    """Two or three sums or products by constants, now and then both."""
    x = w.pick((w.choose(NUMERIC),))
    products = ("Mul", "Div") if dtype_of(x).is_float else ("Mul",)
    ops = w.choose((("Add", "Sub"), ("Sub", "Add"), products, ("Add", *products)))
    for _ in range(w.number(2, 3)):
        x = with_constant(w, w.choose(ops), x)
    w.keep(x)


def signs(w: Writer) -> None:
    """Negations around arithmetic with a constant."""
    x = w.pick((w.choose((*NUMERIC[:4], DType.DOUBLE)),))
    op = w.choose(("Mul", "Add", "Sub", "Div") if dtype_of(x).is_float else ("Mul", "Add", "Sub"))
    if w.often(40):
        w.make("Neg", with_constant(w, op, x))
    else:
        w.keep(with_constant(w, op, w.node("Neg", x)))


def opposites(w: Writer) -> None:
    """Negations of two values that meet."""
    x = w.pick((w.choose(NUMERIC[:5]),))
    dtype = dtype_of(x)
    y = fellow(w, x) if w.often(60) else w.pick((dtype,))
    form = w.choose(("minus minus", "plus minus", "both", "difference", "zero minus", "abs"))
    if form == "minus minus":
        w.make("Neg", w.node("Neg", x))
    elif form == "plus minus":
        w.make(w.choose(("Add", "Sub")), *((w.node("Neg", x), y) if w.often(30) else (y, w.node("Neg", x))))
    elif form == "both":
        op = w.choose(("Mul", "Div") if dtype.is_float else ("Mul",))
        w.make(op, w.node("Neg", x), w.node("Neg", y))
    elif form == "difference":
        w.make("Neg", w.node("Sub", x, y))
    elif form == "zero minus":
        w.make("Sub", w.scalar(0.0, dtype), x)
    else:
        w.make("Abs", w.node(w.choose(("Abs", "Neg")), x))


def inverses(w: Writer) -> None:
    """Products with one divided by something, of the same shape or not."""
    x = floats(w)
    y = fellow(w, x) if w.often(70) else w.pick((dtype_of(x),))
    w.keep(product(w, x, inverse(w, y)) if w.often(80) else inverse(w, w.node("Sqrt", w.node("Abs", y))))


def quotients(w: Writer) -> None:
    """Divisions by a constant, a power of two or not, with what may forbid to turn them into products."""
    x = floats(w)
    dtype = dtype_of(x)
    pool = (2.0, 3.0, 0.25, -8.0, 10.0) if w.smooth else (2.0, 3.0, 1e-30, 1e30, 1e-42, -math.inf)
    pool = (2.0, 3.0, -0.25) if dtype is DType.FLOAT16 else pool
    c = w.scalar(w.choose(pool), dtype) if w.often(70) else w.any_constant(w.broadcastable(x), dtype)
    y = w.node("Div", x, c)
    if w.often(20) and rank_of(x):
        y = w.node(w.choose(("Erf", "Softmax")), y)
    w.keep(y)


def folded(w: Writer) -> None:
    """Arithmetic on constants alone, and a value that meets what comes of it."""
    x = w.pick((w.choose((DType.FLOAT, DType.INT64, DType.DOUBLE)),))
    dtype = dtype_of(x)
    c = w.any_constant(w.broadcastable(x), dtype)
    for _ in range(w.number(1, 2)):
        ops = ("Exp", "Sigmoid", "Sqrt", "Neg", "Add", "Mul") if dtype is DType.FLOAT else ("Neg", "Abs", "Add", "Mul")
        op = w.choose(ops)
        c = w.node(op, c, w.any_constant((), dtype)) if op in ("Add", "Mul") else w.node(op, c)
    w.keep(swapped(w, w.choose(("Add", "Mul")), x, c))


def fills(w: Writer) -> None:
    """Arithmetic on a tensor that is one number everywhere, of the shape of another."""
    x = w.pick((DType.FLOAT, DType.INT64))
    number = np.asarray([w.choose((0.0, 2.0, -0.0, 1.0))]).astype(dtype_of(x).numpy)
    y = w.node("ConstantOfShape", w.node("Shape", x), attributes={"value": number})
    for _ in range(w.number(1, 2)):
        op = w.choose(("Neg", "Add", "Mul", "Exp", "Abs", "Sigmoid") if dtype_of(y).is_float else ("Neg", "Add", "Abs"))
        if op in ("Add", "Mul"):
            y = swapped(w, op, y, w.constant(np.full(shape_beside(w, y), 3).astype(dtype_of(y).numpy)))
        else:
            y = w.node(op, y)
    w.keep(swapped(w, "Add", x, y) if w.often(40) else y)


def powers(w: Writer) -> None:
    x = floats(w)
    dtype = dtype_of(x)
    number = w.choose((2.0, 0.5, -1.0, -0.5, 1.0, 3.0, 0.0))
    whole = number.is_integer() and w.often(20)
    w.make("Pow", x, w.scalar(number, DType.INT64 if whole else dtype))


def roundings(w: Writer) -> None:
    """Floor, Ceil and Round behind one another."""
    if w.smooth:
        raise SkipError
    x = w.pick(REALS)
    for _ in range(2):
        x = w.node(w.choose(("Floor", "Ceil", "Round")), x)
    w.keep(x)


def units(w: Writer) -> None:
    """What leaves a value as it is, but perhaps for its shape or the sign of a zero."""
    x = w.pick((w.choose((*NUMERIC, DType.BOOL)),))
    dtype = dtype_of(x)
    if dtype is DType.BOOL:
        truth, op = w.choose(((True, "And"), (False, "Or"), (False, "Xor"), (True, "Or"), (False, "And")))
        w.keep(swapped(w, op, x, _unit(w, float(truth), x)))
        return
    op, unit = w.choose((("Add", 0.0), ("Mul", 1.0), ("Sub", -0.0), ("Div", 1.0), ("Add", -0.0), ("Sub", 0.0)))
    if op == "Div" and not dtype.is_float:
        op = "Mul"
    if w.often(15):
        op, unit = ("Pow", 1.0) if dtype in (*REALS, *INTS) else ("Mul", 0.0)
    c = _unit(w, unit, x)
    w.keep(swapped(w, op, x, c) if op in ("Mul", "Add") else w.node(op, x, c))


def _unit(w: Writer, unit: float, x: Value) -> Value:
    """The number in a shape that broadcasts with x, and may change it."""
    return w.constant(np.full(shape_beside(w, x), unit).astype(dtype_of(x).numpy))


def zeros(w: Writer) -> None:
    x = w.pick((w.choose((*INTS, DType.FLOAT)),), test=lambda v: is_known(v, *range(len(v.shape or ()))))
    w.keep(swapped(w, "Mul", x, _unit(w, w.near(0.0), x)))


def bounds(w: Writer) -> None:
    """Clip, Relu, Min and Max behind one another, with bounds that may not meet."""
    x = w.pick((w.choose((*REALS, DType.INT64, DType.FLOAT16, DType.FLOAT)),))
    for _ in range(w.number(1, 3)):
        x = bound(w, x)
    w.keep(x)


def bound(w: Writer, x: Value) -> Value:
    dtype = dtype_of(x)
    op = w.choose(("Clip", "Relu", "Min", "Max"))
    if op == "Relu":
        return w.node(op, x)
    pool = (0.0, 6.0, 0.0, 1.0, -1.0)
    if dtype.is_float:
        pool += (3.0,) if w.smooth else (math.nan, math.inf, math.nan, -0.0)
    if op != "Clip":
        return swapped(w, op, x, w.constant(np.full(shape_beside(w, x), w.choose(pool)).astype(dtype.numpy)))
    low, high = (w.single(w.choose(pool), dtype) for _ in range(2))
    form = w.choose(("both", "low", "high", "both"))
    return w.node(op, x, low if form != "high" else None, *((high,) if form != "low" else ()))


def bounded(w: Writer) -> None:
    """A bound that what precedes it implies, or nearly."""
    x = w.pick(FLOAT, least=1)
    y = w.node(w.choose(("Sigmoid", "Tanh", "Relu", "Softmax", "HardSigmoid", "Abs", "Exp", "Sqrt", "Softplus")), x)
    form = w.choose(("clip", "relu", "number"))
    if form == "relu":
        w.make("Relu", y)
        return
    if form == "number":
        numbers = (-2.0, 2.0, 0.0) if w.smooth else (math.nan, -2.0, -math.inf, math.inf)
        w.keep(swapped(w, w.choose(("Max", "Min")), y, w.scalar(w.choose(numbers))))
        return
    low, high = w.choose(((0.0, 1.0), (-1.0, 1.0), (0.0, 3.4028234663852886e38), (0.0, 0.5), (-1.1, 1.1)))
    w.make("Clip", y, w.float32(low), w.float32(high))


def casts(w: Writer) -> None:
    """Casts there and back, by way of types that hold everything or not."""
    x = w.raw(ALL)
    floating = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
    types = floating if dtype_of(x).is_float else (DType.INT64, DType.INT32, DType.DOUBLE, DType.FLOAT, DType.UINT8)
    start = dtype_of(x)
    for turn in range(w.number(1, 3)):
        to = start if turn and w.often(30) else w.choose(types)
        if to.is_float:
            types = floating
        if not to.is_float and dtype_of(x).is_float:
            break
        like = w.single(1.0, to) if w.often(25) else None
        x = w.node("CastLike", x, like) if like is not None else w.node("Cast", x, attributes={"to": int(to)})
    w.keep(x)


ARITHMETIC: Idioms = {
    constants: ("merge-arithmetic",),
    signs: ("merge-arithmetic",),
    opposites: ("reduce-strength",),
    inverses: ("reduce-strength",),
    quotients: ("reduce-strength",),
    folded: ("fold-constants",),
    fills: ("fold-fills",),
    powers: ("reduce-strength",),
    roundings: ("reduce-strength",),
    units: ("remove-noops",),
    zeros: ("merge-arithmetic",),
    bounds: ("merge-bounds",),
    bounded: ("merge-bounds",),
    casts: ("merge-casts",),
}
