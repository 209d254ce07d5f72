"""Fragments that invite rewrites: functions spelled out as exporters do, right or slightly wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.operators import Move, extent, is_known, known
from tests.fuzz.writer import FLOAT, INTS, REALS, Writer, dtype_of


def times(w: Writer, x: Value, factor: float) -> Value:
    """A multiplication by a number, which may be written as a division."""
    dtype = dtype_of(x)
    factor = w.near(factor)
    if w.often(30):
        return w.node("Div", x, w.scalar(1 / factor, dtype))
    c = w.scalar(factor, dtype)
    return w.node("Mul", *((c, x) if w.often(40) else (x, c)))


def plus(w: Writer, x: Value, term: float) -> Value:
    dtype = dtype_of(x)
    term = w.near(term)
    if w.often(20):
        return w.node("Sub", x, w.scalar(-term, dtype))
    c = w.scalar(term, dtype)
    return w.node("Add", *((c, x) if w.often(40) else (x, c)))


def product(w: Writer, x: Value, y: Value) -> Value:
    return w.node("Mul", *((y, x) if w.often(40) else (x, y)))


def square(w: Writer, x: Value) -> Value:
    dtype = dtype_of(x)
    return w.node("Mul", x, x) if w.often(40) else w.node("Pow", x, w.scalar(w.near(2.0), dtype))


# Activations


def gelu(w: Writer) -> None:
    x = w.pick(FLOAT)
    phi = plus(w, w.node("Erf", times(w, x, 1 / math.sqrt(2))), 1.0)
    form = w.choose(("x*phi*half", "x*(phi*half)", "(x*half)*phi"))
    if form == "x*phi*half":
        w.keep(times(w, product(w, x, phi), 0.5))
    elif form == "x*(phi*half)":
        w.keep(product(w, x, times(w, phi, 0.5)))
    else:
        w.keep(product(w, times(w, x, 0.5), phi))


def gelu_tanh(w: Writer) -> None:
    x = w.pick(FLOAT)
    cube = w.node("Pow", x, w.scalar(3.0)) if w.often(60) else product(w, square(w, x), x)
    inner = w.node("Add", x, times(w, cube, 0.044715))
    phi = plus(w, w.node("Tanh", times(w, inner, math.sqrt(2 / math.pi))), 1.0)
    half = times(w, x, 0.5)
    w.keep(product(w, half, phi))


def sigmoid_gate(w: Writer) -> None:
    """Swish, with its own factor or without; quick Gelu."""
    x = w.pick(FLOAT)
    inner = times(w, x, 1.702) if w.often(40) else x
    w.keep(product(w, x, w.node("Sigmoid", inner)))


def softplus(w: Writer) -> None:
    x = w.pick(FLOAT)
    y = w.node("Log", plus(w, w.node("Exp", x), 1.0)) if w.often(60) else w.node("Softplus", x)
    if w.often(50):
        y = product(w, x, w.node("Tanh", y))
    w.keep(y)


def hard_gate(w: Writer) -> None:
    """HardSigmoid and HardSwish."""
    x = w.pick(FLOAT)
    form = w.choose(("clip", "minmax", "unit", "op", "relu"))
    if form == "op":
        gate = w.node("HardSigmoid", x, attributes={"alpha": w.near(1 / 6), "beta": 0.5})
    elif form == "unit":
        line = plus(w, times(w, x, w.choose((1 / 6, 0.2))), 0.5)
        gate = w.node("Clip", line, w.float32(0.0), w.float32(1.0))
    else:
        line = plus(w, x, 3.0)
        if form == "clip":
            gate = w.node("Clip", line, w.float32(0.0), w.float32(w.near(6.0)))
        elif form == "relu":
            gate = w.node("Min", w.node("Relu", line), w.scalar(6.0))
        else:
            gate = w.node("Max", w.node("Min", line, w.scalar(6.0)), w.scalar(0.0))
        if w.often(30):
            w.keep(times(w, product(w, x, gate), 1 / 6))
            return
        gate = times(w, gate, 1 / 6)
    w.keep(product(w, x, gate) if w.often(60) else gate)


def selected(w: Writer) -> None:
    """LeakyRelu, Elu and their kin as Where or Max."""
    x = w.pick(FLOAT)
    if w.smooth or w.often(50):
        w.keep(w.node("Max", x, times(w, x, 0.1)))
    else:
        w.keep(w.node("Where", w.node("Greater", x, w.scalar(0.0)), x, times(w, x, 0.1)))


def softmax(w: Writer) -> None:
    x = w.pick(FLOAT, least=1)
    axes = w.ints(-1)
    if w.often(60):
        x = w.node("Sub", x, w.node("ReduceMax", x, axes))
    grown = w.node("Exp", x)
    y = w.node("Div", grown, w.node("ReduceSum", grown, axes))
    w.keep(w.node("Log", y) if w.often(30) else y)


def log_of_softmax(w: Writer) -> None:
    x = w.pick(FLOAT, least=1)
    if w.often(50):
        w.make("Log", w.node("Softmax", x, attributes={"axis": -1}))
    else:
        w.make("Sub", x, w.node("ReduceLogSumExp", x, w.ints(-1)))


# Normalizations


def layer_norm(w: Writer) -> None:
    x = w.pick(REALS, least=2, most=4)
    dtype = dtype_of(x)
    size = known(x, -1)
    axes = w.ints(-1 if w.often(85) else -2)
    centred = w.node("Sub", x, w.node("ReduceMean", x, axes))
    other = w.node("Sub", x, w.node("ReduceMean", x, axes)) if w.often(25) else centred
    deviation = w.node("Sqrt", plus(w, w.node("ReduceMean", square(w, other), axes), 1e-5))
    y = inverse_product(w, centred, deviation)
    affine(w, y, size, dtype)


def inverse_product(w: Writer, x: Value, deviation: Value) -> Value:
    form = w.choose(("div", "reciprocal"))
    return w.node("Div", x, deviation) if form == "div" else product(w, x, w.node("Reciprocal", deviation))


def affine(w: Writer, y: Value, size: int, dtype: DType) -> None:
    if w.often(70):
        y = product(w, y, w.weight(size, dtype=dtype))
        if w.often(70):
            bias = w.weight(size, dtype=dtype)
            y = w.node("Add", *((bias, y) if w.often(40) else (y, bias)))
    w.keep(y)


def rms_norm(w: Writer) -> None:
    x = w.pick(REALS, least=2, most=4)
    dtype = dtype_of(x)
    size = known(x, -1)
    mean = plus(w, w.node("ReduceMean", square(w, x), w.ints(-1)), 1e-5)
    y = w.node("Pow", mean, w.scalar(-0.5, dtype)) if w.often(40) else None
    y = product(w, x, y) if y is not None else inverse_product(w, x, w.node("Sqrt", mean))
    if w.often(60):
        y = product(w, y, w.weight(size, dtype=dtype))
    w.keep(y)


def channel_norm(w: Writer) -> None:
    """GroupNormalization as Reshape, InstanceNormalization, Reshape; or InstanceNormalization by means."""
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: isinstance(extent(v, 1), int))
    channels = known(x, 1)
    if w.often(50):
        axes = w.ints(2, 3)
        centred = w.node("Sub", x, w.node("ReduceMean", x, axes))
        spread = plus(w, w.node("ReduceMean", square(w, centred), axes), 1e-5)
        y = w.node("Div", centred, w.node("Sqrt", spread))
    else:
        groups = 2 if channels % 2 == 0 else 1
        flat = w.node("Reshape", x, w.ints(0, groups, -1))
        y = w.node("InstanceNormalization", flat, w.weight(groups), w.weight(groups))
        y = w.node("Reshape", y, w.node("Shape", x))
    scale = product(w, y, w.weight(channels, 1, 1))
    w.keep(w.node("Add", scale, w.weight(channels, 1, 1)))


def unit_length(w: Writer) -> None:
    x = w.pick(FLOAT, least=2)
    axes = w.ints(w.choose((-1, 1)))
    form = w.choose(("l2", "root", "l1", "clamped"))
    if form == "root":
        length = w.node("Sqrt", w.node("ReduceSum", square(w, x), axes))
    else:
        length = w.node("ReduceL1" if form == "l1" else "ReduceL2", x, axes)
    if form == "clamped":
        length = w.node("Expand", w.node("Clip", length, w.float32(1e-12)), w.node("Shape", x))
    w.make("Div", x, length)


# Attention


def attention(w: Writer) -> None:
    x = w.pick(FLOAT, least=3, most=3, test=lambda v: is_known(v, -1) and known(v, -1) % 2 == 0)
    width = known(x, -1)
    head = width // 2
    split = w.choose(((0, 0, 2, head), (0, -1, 2, head)))

    def heads(order: tuple[int, ...]) -> Value:
        y = w.node("MatMul", x, w.weight(width, width))
        y = w.node("Add", w.weight(width), y) if w.often(60) else y
        return w.node("Transpose", w.node("Reshape", y, w.ints(*split)), attributes={"perm": order})

    scale = 1 / math.sqrt(head)
    q, k, v = heads((0, 2, 1, 3)), heads((0, 2, 3, 1)), heads((0, 2, 1, 3))
    where = w.choose(("scores", "query", "both", "none"))
    if where in ("query", "both"):
        q = times(w, q, scale if where == "query" else math.sqrt(scale))
    if where == "both":
        k = times(w, k, math.sqrt(scale))
    scores = w.node("MatMul", q, k)
    scores = times(w, scores, scale) if where == "scores" else scores
    if w.often(25):
        scores = w.node("Add", scores, w.weight(1, 1, 1, 1))
    mixed = w.node("MatMul", w.node("Softmax", scores, attributes={"axis": -1}), v)
    mixed = w.node("Transpose", mixed, attributes={"perm": (0, 2, 1, 3)})
    w.make("Reshape", mixed, w.ints(0, 0, width))


def rotary(w: Writer) -> None:
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, -1, -2) and known(v, -1) % 2 == 0)
    size, length = known(x, -1), known(x, -2)
    half = size // 2
    first = w.node("Slice", x, w.ints(0), w.ints(half), w.ints(3))
    second = w.node("Slice", x, w.ints(half), w.ints(2**63 - 1), w.ints(3))
    turned = w.node("Concat", w.node("Neg", second), first, attributes={"axis": -1})
    angles = np.random.default_rng(w.number(0, 9)).normal(0, 1, (1, 1, length, half))
    angles = np.concatenate((angles, angles), -1)
    cosine, sine = (w.fixed(f(angles).astype(np.float32)) for f in (np.cos, np.sin))
    w.make("Add", product(w, x, cosine), product(w, turned, sine))


# Arithmetic


def constants(w: Writer) -> None:
    """Chains of operations with numbers."""
    x = w.pick((*REALS, *INTS))
    dtype = dtype_of(x)
    for _ in range(w.number(2, 3)):
        op = w.choose(("Mul", "Add", "Sub") if not dtype.is_float else ("Mul", "Add", "Div", "Sub"))
        c = w.any_constant(w.broadcastable(x), dtype)
        x = w.node(op, *((c, x) if w.often(25) else (x, c)))
    w.keep(x)


def opposites(w: Writer) -> None:
    x = w.pick(NUMERIC)
    dtype = dtype_of(x)
    y = w.pick((dtype,))
    form = w.choose(("minus minus", "plus minus", "zero minus", "over root", "inverse", "abs", "minus one"))
    if form == "minus minus":
        w.make("Neg", w.node("Neg", x))
    elif form == "plus minus":
        w.make(w.choose(("Add", "Sub")), y, w.node("Neg", x))
    elif form == "zero minus":
        w.make("Sub", w.scalar(0.0, dtype), x)
    elif form == "abs":
        w.make("Abs", w.node(w.choose(("Abs", "Neg")), x))
    elif form == "minus one":
        w.make("Mul", x, w.scalar(-1.0, dtype))
    elif form == "inverse" and dtype.is_float:
        w.make("Mul", y, w.node("Reciprocal", x))
    else:
        positive = w.node("Abs", x)
        w.make("Reciprocal", w.node("Sqrt", positive))


NUMERIC = (DType.FLOAT, DType.DOUBLE, DType.INT64)


def powers(w: Writer) -> None:
    x = w.pick(REALS)
    dtype = dtype_of(x)
    w.make("Pow", x, w.scalar(w.choose((2.0, 0.5, -1.0, -0.5, 1.0, 3.0, 0.0)), dtype))


def bounds(w: Writer) -> None:
    """Clip, Relu, Min and Max behind one another, with bounds that may not meet."""
    x = w.pick((*REALS, DType.INT64))
    dtype = dtype_of(x)
    for _ in range(w.number(2, 3)):
        op = w.choose(("Clip", "Relu", "Min", "Max"))
        pool = (0.0, 6.0, 1.0, -1.0, 3.0) if w.smooth else (0.0, 6.0, 1.0, -1.0, math.inf, math.nan, -0.0)
        if not dtype.is_float:
            pool = (0.0, 6.0, 1.0, -1.0)
        if op == "Relu":
            x = w.node(op, x)
        elif op == "Clip":
            low, high = (w.fixed(np.asarray(w.choose(pool), dtype.numpy)) for _ in range(2))
            x = w.node(op, x, low if w.often(70) else None, high)
        else:
            c = w.scalar(w.choose(pool), dtype)
            x = w.node(op, *((c, x) if w.often(30) else (x, c)))
    w.keep(x)


def bounded(w: Writer) -> None:
    """A bound that what precedes it implies, or nearly."""
    x = w.pick(FLOAT, least=1)
    y = w.node(w.choose(("Sigmoid", "Tanh", "Relu", "Softmax", "HardSigmoid", "Abs", "Exp")), x)
    low, high = w.choose(((0.0, 1.0), (-1.0, 1.0), (0.0, 3.4028234663852886e38), (0.0, 0.5)))
    w.make("Clip", y, w.float32(low), w.float32(high))


def truths(w: Writer) -> None:
    """Comparisons, negated; conditions that are constant."""
    x = w.raw((*REALS, *INTS))
    dtype = dtype_of(x)
    z = w.raw((dtype,)) if w.often(70) else x
    held = w.node(w.choose(("Less", "Greater", "Equal", "LessOrEqual", "GreaterOrEqual")), x, z)
    form = w.choose(("not", "not not", "where not", "where", "and", "cast"))
    if form == "not":
        w.make("Not", held)
    elif form == "not not":
        w.make("Not", w.node("Not", held))
    elif form.startswith("where"):
        w.make("Where", w.node("Not", held) if form == "where not" else held, x, z)
    elif form == "and":
        w.make(w.choose(("And", "Or", "Xor")), held, w.fixed(np.asarray(w.choose((True, False)))))
    else:
        w.make(
            "Cast",
            w.node("Cast", held, attributes={"to": int(w.choose((DType.INT64, DType.FLOAT)))}),
            attributes={"to": int(DType.BOOL)},
        )


IDIOMS: Sequence[Move] = (
    gelu, gelu_tanh, sigmoid_gate, softplus, hard_gate, selected, softmax, log_of_softmax, layer_norm, rms_norm,
    channel_norm, unit_length, attention, rotary, constants, constants, opposites, powers, bounds, bounds, bounded,
    truths,
)  # fmt: skip
