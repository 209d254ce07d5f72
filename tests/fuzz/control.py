"""Nodes that hold graphs, whose nodes read what lies around them; and sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import DType, Graph, Value
from tests.fuzz.operators import Move, compare, is_known, known, unary, where, with_constant
from tests.fuzz.writer import FLOAT, REALS, SkipError, Writer

_INNER: Sequence[Move] = (unary, with_constant, compare, where)
_MOST_DEPTH = 2


def condition(w: Writer) -> Value:
    """A scalar: constant, the caller's, or worked out from a shape."""
    form = w.choose(("constant", "value", "shape", "constant"))
    if form == "value":
        return w.pick((DType.BOOL,), most=0)
    if form == "shape":
        x = w.pick(least=1)
        size = w.node("Size", x) if w.often(50) else w.node("Gather", w.node("Shape", x), w.index(0))
        return w.node("Equal", size, w.index(w.choose((0, 1, 4))))
    return w.constant(np.asarray(w.often(50)))


def body(w: Writer, name: str, result: Callable[[Writer], Value]) -> Graph:
    """A graph of a few nodes; what it gives back is `result`, by itself, a captured value, or a constant."""
    inner = Writer(w.draw, w.b.body(w.name(name)), smooth=w.smooth, outer=w)
    inner.b.output(w.name("r"), result(inner))
    return inner.b.graph()


def arithmetic(w: Writer, x: Value) -> Value:
    """A value of the same type as `x`, by at most three nodes."""
    y = x
    for _ in range(w.number(0, 3)):
        op = w.choose(("Neg", "Add", "Mul", "Identity", "Abs", "Relu"))
        if op in ("Add", "Mul"):
            assert x.dtype is not None
            y = w.b.node(op, (y, x if w.often(50) else w.fixed(np.asarray(w.choose((2.0, 0.0, 1.0)), x.dtype.numpy))))
        else:
            y = w.b.node(op, (y,))
    return y


def conditional(w: Writer) -> None:
    """An If whose branches give back the same, or what lies around them, or something else."""
    if w.depth >= _MOST_DEPTH:
        raise SkipError
    held = condition(w)
    x = w.pick(REALS)
    z = w.pick(test=lambda v: v.type == x.type) if w.often(40) else x

    def branch(inner: Writer, value: Value) -> Value:
        if inner.often(20):
            inner.values = [v for v in inner.values if v.type == x.type]
            nested(inner)
            fits = [v for v in inner.values if v.type == x.type]
            value = fits[-1]
        return arithmetic(inner, value)

    graphs = {side: body(w, "b", lambda i, v=v: branch(i, v)) for side, v in (("then_branch", x), ("else_branch", z))}
    w.make("If", held, attributes=graphs)


def nested(w: Writer) -> None:
    try:
        conditional(w)
    except SkipError:
        return


def loop(w: Writer) -> None:
    """None to three rounds; one value is carried on, changed or not, and one may be gathered."""
    if w.depth >= _MOST_DEPTH:
        raise SkipError
    x, z = w.pick(FLOAT), w.pick(FLOAT, most=2)
    trips = w.fixed(np.asarray(w.choose((1, 0, 2, 3)), np.int64)) if w.often(70) else None
    go = None if w.often(30) and trips is not None else w.fixed(np.asarray(True))
    if trips is None:
        trips = w.node("Gather", w.node("Shape", w.pick(least=1)), w.index(0))
    inner = Writer(w.draw, w.b.body(w.name("b")), smooth=w.smooth, outer=w)
    inner.b.input(w.name("i"), DType.INT64, ())
    on = inner.b.input(w.name("on"), DType.BOOL, ())
    carried = inner.b.input(w.name("h"), x.type)
    fixed = inner.b.input(w.name("h"), z.type)
    invariant = inner.b.node(w.choose(("Neg", "Sigmoid")), (z,))
    inner.b.output(w.name("on"), inner.b.node("Identity", (on,)))
    inner.b.output(w.name("r"), arithmetic(inner, carried), x.type)
    inner.b.output(w.name("r"), fixed if w.often(60) else arithmetic(inner, fixed), z.type)
    gathers = w.often(50)
    if gathers:
        inner.b.output(w.name("r"), invariant if w.often(50) else inner.b.node("Add", (invariant, z)))
    results = w.b.nodes("Loop", (trips, go, x, z), {"body": inner.b.graph()}, results=3 if gathers else 2)
    for result, initial in zip(results, (x, z, None), strict=False):
        if w.often(80):
            w.keep(result if initial is None or w.often(40) else w.like(result, initial))


def scan(w: Writer) -> None:
    """Over the first axis, with a state."""
    if w.depth >= _MOST_DEPTH:
        raise SkipError
    x = w.pick(FLOAT, least=2, most=3, test=lambda v: is_known(v, 0))
    row = (x.shape or ())[1:]
    inner = Writer(w.draw, w.b.body(w.name("b")), smooth=w.smooth, outer=w)
    state = inner.b.input(w.name("s"), DType.FLOAT, ())
    part = inner.b.input(w.name("p"), DType.FLOAT, row)
    inner.b.output(w.name("r"), state if w.often(30) else inner.b.node("Add", (state, w.float32(1.0))))
    inner.b.output(w.name("r"), arithmetic(inner, part))
    attributes = {"body": inner.b.graph(), "num_scan_inputs": 1}
    final, rows = w.b.nodes("Scan", (w.float32(w.choose((0.0, 2.0))), x), attributes, results=2)
    w.keep(final)
    w.keep(rows)


def sequence(w: Writer) -> None:
    """Tensors put into a sequence and taken out again."""
    x = w.pick(FLOAT, least=1)
    z = w.pick(test=lambda v: v.type == x.type)
    held = w.b.node("SequenceConstruct", (x, z, x) if w.often(50) else (x, z))
    if w.often(30):
        held = w.b.node("SequenceInsert", (held, z, w.index(w.choose((0, 1, -1)))))
    if w.often(20):
        held = w.b.node("SequenceErase", (held, w.index(0)))
    form = w.choose(("at", "length", "concat"))
    if form == "at":
        w.make("SequenceAt", held, w.index(w.choose((0, -1, 1))))
    elif form == "length":
        w.make("SequenceLength", held)
    else:
        w.make("ConcatFromSequence", held, attributes={"axis": 0})


def split_to_sequence(w: Writer) -> None:
    x = w.pick(FLOAT, least=1, test=lambda v: is_known(v, 0))
    size = known(x, 0)
    held = w.b.node("SplitToSequence", (x, w.index(1)), {"axis": 0, "keepdims": 1})
    w.make("SequenceAt", held, w.index(w.number(0, size - 1)))


CONTROL: Sequence[Move] = (conditional, conditional, loop, scan, sequence, split_to_sequence)
