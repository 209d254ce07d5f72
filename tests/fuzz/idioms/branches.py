"""Ifs, loops and sequences that are decided, repeated or carried for nothing."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Graph, Value
from tests.fuzz.control import arithmetic, body
from tests.fuzz.idioms.spelling import Idioms, fellow
from tests.fuzz.operators import axis_of, is_known, known, rank_of
from tests.fuzz.writer import FLOAT, SkipError, Writer

_MOST_DEPTH = 2


def _condition(w: Writer) -> Value:
    """A truth that only a run knows: the caller's, or one about a tensor's size."""
    if w.often(60):
        return w.pick((DType.BOOL,), most=0)
    x = w.pick(least=1)
    return w.node(w.choose(("Equal", "Less")), w.node("Size", x), w.index(w.choose((0, 4, 8))))


def _flat(w: Writer) -> None:
    if w.depth >= _MOST_DEPTH:
        raise SkipError


def decided_again(w: Writer) -> None:
    """An If inside a branch of one by the same truth, or by its opposite."""
    _flat(w)
    held, x = _condition(w), w.pick(FLOAT)
    turned = w.node("Not", held) if w.often(50) else held

    def inner_if(inner: Writer) -> Value:
        graphs = {side: body(inner, "b", lambda i: arithmetic(i, x)) for side in ("then_branch", "else_branch")}
        return inner.b.node("If", (w.choose((turned, held)),), graphs)

    graphs = {"then_branch": body(w, "b", inner_if), "else_branch": body(w, "b", lambda i: arithmetic(i, x))}
    w.make("If", turned if w.often(30) else held, attributes=graphs)


def same_branches(w: Writer) -> None:
    """Branches of the same nodes, or nearly; with integers, that choose between what is there."""
    _flat(w)
    held = _condition(w)
    if w.often(50):
        held = w.node("Not", held)
    x = w.pick((w.choose((DType.INT64, DType.FLOAT)),), most=2)
    z = fellow(w, x)
    form = w.choose(("same", "captured", "constants"))
    op = w.choose(("Neg", "Abs"))

    def branch(inner: Writer, value: Value) -> Value:
        if form == "same":
            return inner.b.node(op if inner.often(90) else "Identity", (x,))
        if form == "constants":
            return inner.b.node("Identity", (inner.single(w.choose((1.0, 1.0, 2.0)), DType.INT64),))
        return inner.b.node("Identity", (value,))

    graphs = {side: body(w, "b", lambda i, v=v: branch(i, v)) for side, v in (("then_branch", x), ("else_branch", z))}
    w.make("If", held, attributes=graphs)


def several_results(w: Writer) -> None:
    """An If that gives back more than is read, and the same from both branches."""
    _flat(w)
    held, x = _condition(w), w.pick(FLOAT)
    graphs: dict[str, Graph] = {}
    for side in ("then_branch", "else_branch"):
        inner = Writer(w.draw, w.b.body(w.name("b")), smooth=w.smooth, outer=w)
        inner.b.output(w.name("r"), arithmetic(inner, x))
        inner.b.output(w.name("r"), x if w.often(60) else inner.b.node("Neg", (x,)))
        inner.b.output(w.name("r"), inner.single(w.choose((2.0, 2.0, 3.0)), DType.FLOAT))
        graphs[side] = inner.b.graph()
    for result in w.b.nodes("If", (held,), graphs, results=3):
        if w.often(60):
            w.keep(result)


def impossible_branch(w: Writer) -> None:
    """Branches of other ranks or extents, of which what follows can take one, or both."""
    _flat(w)
    x = w.pick(FLOAT, least=1, most=3, test=lambda v: is_known(v, -1))
    size, held = known(x, -1), _condition(w)
    other = w.choose(("unsqueeze", "doubled", "same"))

    def branch(inner: Writer) -> Value:
        if other == "unsqueeze":
            return inner.b.node("Unsqueeze", (x, inner.ints(0)))
        if other == "doubled":
            return inner.b.node("Concat", (x, x), {"axis": -1})
        return inner.b.node("Neg", (x,))

    graphs = {"then_branch": body(w, "b", lambda i: arithmetic(i, x)), "else_branch": body(w, "b", branch)}
    y = w.b.node("If", (held,), graphs)
    follower = w.choose(("matmul", "transpose", "squeeze"))
    if follower == "matmul":
        w.make("MatMul", y, w.weight(size, 2))
    elif follower == "transpose":
        w.make("Transpose", y, attributes={"perm": w.order(rank_of(x))})
    else:
        w.make("Unsqueeze", w.b.node("Squeeze", (y, w.ints(0))), w.ints(0))


def repeated(w: Writer) -> None:
    """A Loop of none, one or more rounds: a state that stays, one that leads nowhere, work that is always the same."""
    _flat(w)
    x, z = w.pick(FLOAT), w.pick(FLOAT, most=2)
    trips = w.single(w.choose((1, 0, 2, 3)), DType.INT64)
    go = w.fixed(np.asarray(w.often(85))) if w.often(40) else None
    inner = Writer(w.draw, w.b.body(w.name("b")), smooth=w.smooth, outer=w)
    inner.b.input(w.name("i"), DType.INT64, ())
    on = inner.b.input(w.name("on"), DType.BOOL, ())
    states = [inner.b.input(w.name("h"), value.type) for value in (x, z)]
    inner.b.output(w.name("on"), inner.b.node("Identity", (on,)) if w.often(80) else inner.fixed(np.asarray(False)))
    steady = inner.b.node(w.choose(("Sigmoid", "Neg", "Abs")), (z,))
    inner.b.output(w.name("r"), arithmetic(inner, states[0]), x.type)
    inner.b.output(w.name("r"), states[1] if w.often(50) else inner.b.node("Add", (states[1], steady)), z.type)
    gathers = w.often(60)
    if gathers:
        inner.b.output(w.name("r"), inner.b.node("Mul", (steady, steady)))
    results = w.b.nodes("Loop", (trips, go, x, z), {"body": inner.b.graph()}, results=3 if gathers else 2)
    for result, initial in zip(results, (x, z, None), strict=False):
        if w.often(60):
            w.keep(result if initial is None or w.often(40) else w.like(result, initial))


def sequence(w: Writer) -> None:
    """Tensors put into a sequence, changed in it, and taken out again."""
    x = w.pick(FLOAT, least=1)
    z = w.pick(test=lambda v: v.type == x.type)
    held = w.node("SequenceConstruct", x, z) if w.often(85) else w.b.node("SequenceEmpty", (), {})
    for _ in range(w.number(0, 2)):
        if w.often(70):
            held = w.b.node("SequenceInsert", (held, z, *((w.index(w.choose((0, 1, -1))),) if w.often(60) else ())))
        else:
            held = w.b.node("SequenceErase", (held, *((w.index(w.choose((0, -1))),) if w.often(60) else ())))
    taken_out(w, held)


def taken_out(w: Writer, held: Value) -> None:
    form = w.choose(("at", "length", "concat", "stack"))
    if form == "at":
        w.make("SequenceAt", held, w.index(w.choose((0, -1, 1))))
    elif form == "length":
        w.make("SequenceLength", held)
    else:
        w.make("ConcatFromSequence", held, attributes={"axis": 0, "new_axis": int(form == "stack")})


def cut_into_sequence(w: Writer) -> None:
    """A tensor cut along an axis, and a part taken, or all put together again."""
    x = w.pick(FLOAT, least=1, most=3)
    axis, written = axis_of(w, x)
    form = w.choose(("each", "even", "listed", "dropped"))
    sizes: tuple[Value, ...] = ()
    if form == "even":
        sizes = (w.index(w.choose((1, 2))),)
    elif form == "listed":
        size = known(x, axis)
        sizes = (w.ints(1, size - 1),)
    held = w.b.node("SplitToSequence", (x, *sizes), {"axis": written, "keepdims": int(form != "dropped")})
    if w.often(40):
        new = form == "dropped" if w.often(85) else form != "dropped"
        w.make("ConcatFromSequence", held, attributes={"axis": axis if w.often(80) else 0, "new_axis": int(new)})
    else:
        taken_out(w, held)


BRANCHES: Idioms = {
    decided_again: ("simplify-ifs", "inline-constant-if"),
    same_branches: ("simplify-ifs",),
    several_results: ("simplify-ifs",),
    impossible_branch: ("simplify-ifs", "merge-reshapes"),
    repeated: ("simplify-loops",),
    sequence: ("simplify-sequences",),
    cut_into_sequence: ("simplify-sequences",),
}
