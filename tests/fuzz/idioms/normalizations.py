"""Normalizations and softmax spelled out as exporters do, right or slightly wrong."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import (
    Idioms,
    affine,
    fellow,
    floats,
    inverse,
    mean,
    over_root,
    plus,
    product,
    quotient,
    root,
    square,
    swapped,
)
from tests.fuzz.operators import axis_of, extent, is_known, known, rank_of
from tests.fuzz.writer import FLOAT, REALS, Writer, dtype_of


def variance(w: Writer, x: Value, centred: Value, *axes: int) -> Value:
    """The mean of the squares of what is centred; or of x, less the square of its mean, as JAX has it."""
    if w.often(25):
        return w.node("Sub", mean(w, square(w, x), *axes), square(w, mean(w, x, *axes)))
    if w.often(15):
        size = int(np.prod([known(x, axis) for axis in axes]))
        return w.node("Div", w.node("ReduceSumSquare", centred, w.ints(*axes)), w.scalar(float(size), dtype_of(x)))
    return mean(w, square(w, centred), *axes)


def normalized(w: Writer, x: Value, *axes: int) -> Value:
    centred = w.node("Sub", x, mean(w, x, *axes))
    other = w.node("Sub", x, mean(w, x, *axes)) if w.often(20) else centred
    spread = plus(w, variance(w, x, other, *axes), w.choose((1e-5, 1e-3)))
    return over_root(w, centred, spread)


def layer_norm(w: Writer) -> None:
    x = w.pick(REALS if w.often(15) else FLOAT, least=2, most=4)
    size = known(x, -1)
    axis = -1 if w.often(85) else -2
    w.keep(affine(w, normalized(w, x, axis), size))


def distributed_layer_norm(w: Writer) -> None:
    """x * r + (bias - mean * r), as TensorFlow and Keras have it."""
    x = w.pick(REALS if w.often(15) else FLOAT, least=2, most=4)
    dtype, size = dtype_of(x), known(x, -1)
    centre = mean(w, x, -1)
    spread = plus(w, variance(w, x, w.node("Sub", x, centre), -1), 1e-3)
    factor = inverse(w, root(w, spread))
    if w.often(60):
        factor = product(w, factor, w.weight(size, dtype=dtype))
    if w.often(30):
        w.make("Sub", product(w, x, factor), product(w, centre, factor))
        return
    bias, moved = w.weight(size, dtype=dtype), product(w, centre, factor)
    rest = w.node("Sub", bias, moved) if w.often(70) else w.node("Sub", moved, bias)
    w.keep(swapped(w, "Add", product(w, x, factor), rest))


def cast_norm(w: Writer) -> None:
    """A normalization of half precision that is worked out in single, with weights that half precision may hold."""
    x = w.pick((DType.FLOAT16,), least=2, most=4)
    size = known(x, -1)
    wide = w.node("Cast", x, attributes={"to": int(DType.FLOAT)})

    def parameter() -> Value:
        array = np.random.default_rng(w.number(0, 99)).normal(1, 1, size)
        return w.fixed(array.astype(np.float16 if w.often(80) else np.float32).astype(np.float32))

    if w.often(40):
        y = w.node("RMSNormalization", wide, parameter(), attributes={"axis": -1})
    else:
        bias = (parameter(),) if w.often(50) else ()
        y = w.node("LayerNormalization", wide, parameter(), *bias, attributes={"axis": -1})
    to = DType.FLOAT16 if w.often(85) else DType.DOUBLE
    w.make("Cast", y, attributes={"to": int(to)})


def rms_norm(w: Writer) -> None:
    x = w.pick(REALS if w.often(15) else FLOAT, least=2, most=4)
    dtype, size = dtype_of(x), known(x, -1)
    spread = plus(w, mean(w, square(w, x), -1), w.choose((1e-5, 1e-6)))
    if w.often(20):
        w.keep(product(w, x, product(w, inverse(w, root(w, spread)), w.weight(size, dtype=dtype))))
        return
    y = over_root(w, x, spread)
    w.keep(product(w, y, w.weight(*w.choose(((size,), (1, size), (1,))), dtype=dtype)) if w.often(60) else y)


def instance_norm(w: Writer) -> None:
    """InstanceNormalization by means, or the operator, with scale and bias for each channel behind it."""
    x = w.pick(FLOAT, least=3, most=4, test=lambda v: is_known(v, *range(1, len(v.shape or ()))))
    channels, rank = known(x, 1), rank_of(x)
    axes = tuple(range(2, rank)) if w.often(90) else (rank - 1,)
    if w.often(60):
        y = normalized(w, x, *axes)
    else:
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        y = w.node("InstanceNormalization", x, w.fixed(ones), w.fixed(zeros))
    w.keep(affine(w, y, channels, *(1,) * (rank - 2)))


def group_norm(w: Writer) -> None:
    """Reshape, InstanceNormalization, Reshape, and scale and bias for each channel."""
    x = w.pick(FLOAT, least=3, most=4, test=lambda v: isinstance(extent(v, 1), int))
    channels, rank = known(x, 1), rank_of(x)
    groups = w.choose([n for n in (1, 2, 4) if channels % n == 0])
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    flat = w.node("Reshape", x, w.ints(0, groups, -1))
    scale = w.weight(groups) if w.often(10) else w.fixed(ones)
    y = w.node("InstanceNormalization", flat, scale, w.fixed(zeros))
    dims = x.shape or ()
    target = [dim if isinstance(dim, int) else 0 for dim in dims]
    y = w.node("Reshape", y, w.node("Shape", x) if 0 in target[1:] or w.often(60) else w.ints(*target))
    w.keep(affine(w, y, channels, *(1,) * (rank - 2)))


def unit_length(w: Writer) -> None:
    x = floats(w, least=2)
    axes = w.ints(w.choose((-1, 1)))
    form = w.choose(("l2", "root", "l1", "clamped", "absolute"))
    if form == "root":
        total = w.node("ReduceSumSquare", x, axes) if w.often(30) else w.node("ReduceSum", square(w, x), axes)
        w.keep(over_root(w, x, total))
        return
    if form == "absolute":
        length = w.node("ReduceSum", w.node("Abs", x), axes)
    else:
        length = w.node("ReduceL1" if form == "l1" else "ReduceL2", x, axes)
    if form == "clamped":
        length = w.node("Expand", w.node("Clip", length, w.single(1e-12, dtype_of(x))), w.node("Shape", x))
    w.keep(quotient(w, x, length))


def summed(w: Writer, op: str, x: Value, axis: int) -> Value:
    """A reduction whose axis stays, or comes back."""
    if w.often(15):
        y = w.node(op, x, w.ints(axis), attributes={"keepdims": 0})
        return w.node("Unsqueeze", y, w.ints(axis))
    return w.node(op, x, w.ints(axis))


def softmax(w: Writer) -> None:
    x = floats(w, least=1)
    _, axis = axis_of(w, x)
    if w.often(75):
        x = w.node("Sub", x, summed(w, "ReduceMax", x, axis))
    grown = w.node("Exp", x)
    y = quotient(w, grown, summed(w, "ReduceSum", grown, axis))
    w.keep(w.node("Log", y) if w.often(30) else y)


def log_softmax(w: Writer) -> None:
    """x less the logarithm of the sum of exponentials, guarded against overflow or not."""
    x = floats(w, least=1)
    _, axis = axis_of(w, x)
    form = w.choose(("op", "plain", "guarded", "exp", "log"))
    if form == "exp":
        w.make("Exp", w.node("LogSoftmax", x, attributes={"axis": axis}))
        return
    if form == "log":
        w.make("Log", w.node("Softmax", x, attributes={"axis": axis}))
        return
    largest = summed(w, "ReduceMax", x, axis) if form == "guarded" or w.often(30) else None
    data = x if largest is None else w.node("Sub", x, largest)
    if form == "op":
        total = summed(w, "ReduceLogSumExp", data, axis)
    elif w.often(30):
        total = summed(w, "ReduceLogSum", w.node("Exp", data), axis)
    else:
        total = w.node("Log", summed(w, "ReduceSum", w.node("Exp", data), axis))
    if form == "guarded" and largest is not None:
        w.make("Sub", x, swapped(w, "Add", total, largest))
    else:
        w.make("Sub", data, total)


def added_first(w: Writer) -> None:
    """A sum before Gelu or LayerNormalization: with one axis, of one shape, or of another."""
    x = w.pick(FLOAT, least=2, most=4)
    size = known(x, -1)
    other = w.weight(*w.choose(((size,), (1, size), (1,)))) if w.often(50) else fellow(w, x)
    y = swapped(w, "Add", x, other)
    if w.often(50):
        w.make("Gelu", y, attributes={"approximate": w.choose(("none", "tanh"))})
        return
    bias = (w.weight(size),) if w.often(60) else ()
    w.make("LayerNormalization", y, w.weight(size), *bias, attributes={"axis": -1})


NORMALIZATIONS: Idioms = {
    added_first: ("lower-add",),
    layer_norm: ("fuse-layer-norm",),
    distributed_layer_norm: ("fuse-layer-norm",),
    cast_norm: ("fuse-layer-norm", "fuse-rms-norm"),
    rms_norm: ("fuse-rms-norm",),
    instance_norm: ("fuse-instance-norm",),
    group_norm: ("fuse-group-norm",),
    unit_length: ("fuse-lp-norm",),
    softmax: ("fuse-softmax",),
    log_softmax: ("fuse-softmax",),
}
