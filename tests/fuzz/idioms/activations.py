"""Activations spelled out as exporters do, right or slightly wrong."""

from __future__ import annotations

import math

from planish.ir import DType
from tests.fuzz.idioms.spelling import Idioms, floats, inverse, plus, product, square, swapped, times
from tests.fuzz.writer import FLOAT, Writer, dtype_of


def gelu(w: Writer) -> None:
    """By the error function; the square root of 2 now and then with few digits."""
    x = floats(w)
    dtype = dtype_of(x)
    roots = (math.sqrt(2), math.sqrt(2), 1.41421, 1.4142135, 1.414, 1.5)
    inner = w.node("Div", x, w.scalar(w.choose(roots), dtype)) if w.often(60) else times(w, x, 1 / math.sqrt(2))
    phi = plus(w, w.node("Erf", inner), 1.0)
    form = w.choose(("x*phi*half", "x*(phi*half)", "(x*half)*phi"))
    if form == "x*phi*half":
        w.keep(times(w, product(w, x, phi), 0.5))
    elif form == "x*(phi*half)":
        w.keep(product(w, x, times(w, phi, 0.5)))
    else:
        w.keep(product(w, times(w, x, 0.5), phi))


def gelu_tanh(w: Writer) -> None:
    x = floats(w)
    dtype = dtype_of(x)
    cube = w.node("Pow", x, w.scalar(3.0, dtype)) if w.often(60) else product(w, square(w, x), x)
    inner = swapped(w, "Add", x, times(w, cube, 0.044715))
    if w.often(20):
        inner = product(w, x, plus(w, times(w, square(w, x), 0.044715), 1.0))
    phi = plus(w, w.node("Tanh", times(w, inner, math.sqrt(2 / math.pi))), 1.0)
    w.keep(product(w, times(w, x, 0.5), phi))


def sigmoid_gate(w: Writer) -> None:
    """Swish, with its own factor or without; quick Gelu; the sigmoid spelled out."""
    x = floats(w)
    inner = times(w, x, 1.702) if w.often(30) else x
    form = w.choose(("sigmoid", "quotient", "inverse"))
    if form == "sigmoid":
        w.keep(product(w, x, w.node("Sigmoid", inner)))
        return
    under = plus(w, w.node("Exp", w.node("Neg", inner) if w.often(80) else times(w, inner, -1.0)), 1.0)
    w.keep(w.node("Div", x, under) if form == "quotient" else product(w, x, inverse(w, under)))


def softplus(w: Writer) -> None:
    """Plain, guarded against overflow, or limited; and Mish, which is made of one."""
    x = floats(w)
    dtype = dtype_of(x)
    form = w.choose(("plain", "op", "relu", "max"))
    if form == "plain":
        y = w.node("Log", plus(w, w.node("Exp", x), 1.0))
    elif form == "op":
        y = w.node("Softplus", x)
    else:
        tail = w.node("Softplus", w.node("Neg", w.node("Abs", x)))
        head = w.node("Relu", x) if form == "relu" else swapped(w, "Max", x, w.scalar(w.near(0.0), dtype))
        y = swapped(w, "Add", head, tail)
    w.keep(product(w, x, w.node("Tanh", y)) if w.often(40) else y)


def limited_softplus(w: Writer) -> None:
    """x itself where it is large: a jump only where the limit is low."""
    x = floats(w)
    limit = w.scalar(w.choose((20.0, 40.0, 20.0) if w.smooth else (20.0, 40.0, 8.0, 1.0)), dtype_of(x))
    y = w.node("Softplus", x)
    if w.often(50):
        w.make("Where", w.node(w.choose(("Greater", "GreaterOrEqual")), x, limit), x, y)
    else:
        w.make("Where", w.node(w.choose(("Less", "LessOrEqual")), x, limit), y, x)


def hard_gate(w: Writer) -> None:
    """HardSigmoid and HardSwish."""
    x = floats(w)
    dtype = dtype_of(x)
    form = w.choose(("clip", "minmax", "unit", "op", "relu"))
    if form == "op":
        gate = w.node("HardSigmoid", x, attributes={"alpha": w.near(1 / 6), "beta": 0.5})
    elif form == "unit":
        line = plus(w, times(w, x, w.choose((1 / 6, 0.2))), 0.5)
        gate = w.node("Clip", line, w.single(0.0, dtype), w.single(1.0, dtype))
    else:
        line = plus(w, x, 3.0)
        if form == "clip":
            gate = w.node("Clip", line, w.single(0.0, dtype), w.single(w.near(6.0), dtype))
        elif form == "relu":
            gate = w.node("Min", w.node("Relu", line), w.scalar(6.0, dtype))
        else:
            gate = w.node("Max", w.node("Min", line, w.scalar(6.0, dtype)), w.scalar(0.0, dtype))
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


def gated_sum(w: Writer) -> None:
    """x + x * gate, as squeeze-and-excite with a residual ends; the gate is mostly smaller."""
    x = w.pick((DType.FLOAT, DType.DOUBLE) if w.often(20) else FLOAT, least=1)
    rank = len(x.shape or ())
    axes = (rank - 1,) if rank < 3 or w.often(30) else tuple(range(2, rank))
    gate = x if w.often(10) else w.node(w.choose(("ReduceMean", "ReduceMax")), x, w.ints(*axes))
    if w.often(60) and gate.dtype is DType.FLOAT:
        gate = w.node(w.choose(("Sigmoid", "Relu")), gate)
    w.keep(swapped(w, "Add", x, product(w, x, gate)))


ACTIVATIONS: Idioms = {
    gelu: ("fuse-gelu",),
    gelu_tanh: ("fuse-gelu",),
    sigmoid_gate: ("fuse-swish",),
    softplus: ("fuse-softplus", "fuse-mish"),
    limited_softplus: ("fuse-softplus",),
    hard_gate: ("fuse-hard-sigmoid", "fuse-hard-swish"),
    selected: (),
    gated_sum: ("fuse-scaled-sum",),
}
