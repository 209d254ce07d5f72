"""What moves elements about and may pass, cancel or join: reshapes, transposes, splits, slices, concats, gathers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import Idioms, fellow, swapped
from tests.fuzz.layouts import END, one_reshape
from tests.fuzz.operators import axis_of, extent, is_known, known, rank_of
from tests.fuzz.writer import FLOAT, FLOATS, NUMBERS, SkipError, Writer, dtype_of

_MOST_RANK = 4


def elementwise(w: Writer, x: Value) -> Value:
    """One operator on each element, with one number or more beside."""
    if not dtype_of(x).is_float:
        return w.node("Neg", x)
    op = w.choose(("Relu", "Neg", "Abs", "Mul", "Add", "Sub", "Sqrt", "Sigmoid", "Clip"))
    dtype = dtype_of(x)
    if op == "Clip":
        return w.node(op, x, w.single(0.0, dtype), w.single(6.0, dtype))
    if op in ("Mul", "Add", "Sub"):
        c = w.scalar(2.0, dtype) if w.often(75) else w.any_constant(w.broadcastable(x), dtype)
        return w.node(op, *((c, x) if w.often(40) else (x, c)))
    return w.node(op, x)


def past_elementwise(w: Writer) -> None:
    """Two reshapes with one to four operators between them."""
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    y = one_reshape(w, x)
    for _ in range(w.number(1, 4)):
        y = elementwise(w, y)
    if w.often(40) and (x.shape or ()).count(0) == 0 and all(isinstance(dim, int) for dim in x.shape or ()):
        w.make("Reshape", y, w.ints(*[dim for dim in x.shape or () if isinstance(dim, int)]))
    else:
        w.keep(one_reshape(w, y))


def axes_of_one(w: Writer) -> None:
    """Unsqueezes and Squeezes behind one another, their axes counted from either end."""
    x = w.pick((DType.FLOAT, DType.INT64, DType.BOOL), most=3)
    for _ in range(w.number(2, 3)):
        rank = rank_of(x)
        ones = [axis for axis in range(rank) if extent(x, axis) == 1]
        if ones and w.often(50):
            axis = w.choose(ones)
            x = w.node("Squeeze", x, w.ints(axis - rank if w.often(40) else axis))
        else:
            axis = w.number(0, rank)
            x = w.node("Unsqueeze", x, w.ints(axis - rank - 1 if w.often(40) else axis))
    w.keep(x)


def squeezes(w: Writer) -> None:
    """Two axes of one taken away one after the other."""
    x = w.pick((DType.FLOAT, DType.INT64), test=lambda v: (v.shape or ()).count(1) > 1)
    for _ in range(2):
        rank = rank_of(x)
        axis = w.choose([axis for axis in range(rank) if extent(x, axis) == 1])
        x = w.node("Squeeze", x, w.ints(axis - rank if w.often(40) else axis))
    w.keep(x)


def unsayable(w: Writer) -> None:
    """A Transpose that moves an axis of one past dims that no Reshape can name, and a Reshape behind it that can."""
    x = w.pick(FLOAT, least=2, most=3)
    rank = rank_of(x)
    y = w.node("Unsqueeze", x, w.ints(w.choose((0, rank))))
    order = (rank, *range(rank)) if w.often(50) else (*range(1, rank + 1), 0)
    y = w.node("Transpose", y, attributes={"perm": order if w.often(85) else w.order(rank + 1)})
    if w.often(50):
        w.make("Reshape", y, w.ints(-1))
    else:
        w.make("Flatten", y, attributes={"axis": w.number(0, rank + 1)})


def between_transposes(w: Writer) -> None:
    """Transposes with what they may pass between them: sums, softmaxes, slices, pads, reductions, concats."""
    x = w.pick(FLOAT, least=2, most=_MOST_RANK)
    order = w.order(rank_of(x))
    back = tuple(int(axis) for axis in np.argsort(order))
    y = w.node("Transpose", x, attributes={"perm": order})
    for _ in range(w.number(1, 2)):
        y = _passable(w, y)
    if w.often(25):
        w.keep(elementwise(w, y))
    w.make("Transpose", y, attributes={"perm": back if w.often(75) else w.order(rank_of(y))})


def _passable(w: Writer, x: Value) -> Value:
    rank = rank_of(x)
    axis = w.number(0, rank - 1)
    form = w.choose(("elementwise", "softmax", "slice", "pad", "constant", "concat", "sum", "exp"))
    if form == "softmax":
        op = w.choose(("Softmax", "LogSoftmax"))
        return w.node(op, x, attributes={"axis": axis - rank if w.often(40) else axis})
    if form == "slice":
        return w.node("Slice", x, w.ints(0), w.ints(w.choose((2, END))), w.ints(axis))
    if form == "pad":
        return w.node("Pad", x, w.ints(*(w.choose((0, 1)) for _ in range(2 * rank))))
    if form == "constant":
        return swapped(w, "Add", x, w.any_constant(w.broadcastable(x), DType.FLOAT))
    if form == "concat":
        return w.node("Concat", x, x, attributes={"axis": axis})
    if form == "sum":
        return swapped(w, w.choose(("Add", "Mul")), x, w.node("Relu", x))
    return w.node(w.choose(("Exp", "Tanh", "Erf")), x) if form == "exp" else elementwise(w, x)


def reduced_transpose(w: Writer) -> None:
    dtype = w.choose((DType.FLOAT, DType.INT64, DType.DOUBLE))
    x = w.pick((dtype,), least=2, most=_MOST_RANK)
    rank = rank_of(x)
    y = w.node("Transpose", x, attributes={"perm": w.order(rank)})
    op = w.choose(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin") if dtype.is_float else ("ReduceMax", "ReduceMin")
    )
    axis = w.number(0, rank - 1)
    w.make(op, y, w.ints(axis - rank if w.often(40) else axis), attributes={"keepdims": int(w.often(50))})


def parts_used_alike(w: Writer) -> None:
    """The parts of a Split, each read by the same operator, or by nearly the same."""
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    cut = w.number(0, size)
    parts = w.b.nodes("Split", (x, w.ints(cut, size - cut)), {"axis": written}, results=2)
    op = w.choose(("Relu", "Abs", "Neg", "Mul", "Slice", "Sqrt", "Cast", "Clip", "LeakyRelu"))
    if op in ("Sqrt", "LeakyRelu") and not dtype_of(x).is_float:
        op = "Neg"
    other = w.number(0, rank_of(x) - 1)
    results = [_same_operator(w, op, part, other) for part in parts]
    if w.often(10):
        results[1] = w.node("Neg", results[1])
    if w.often(30):
        w.make("Concat", *results, attributes={"axis": written})
    else:
        for result in results:
            w.keep(result)


def _same_operator(w: Writer, op: str, part: Value, axis: int) -> Value:
    if op == "Mul":
        return w.b.node(op, (part, part))
    if op == "Slice":
        return w.b.node(op, (part, w.ints(0), w.ints(2), w.ints(axis)))
    if op == "Clip":
        dtype = dtype_of(part)
        return w.b.node(op, (part, w.single(w.choose((0.0, 0.0, 1.0)), dtype), w.single(3.0, dtype)))
    return w.b.node(op, (part,), {"to": int(DType.DOUBLE)} if op == "Cast" else {})


def shared_out(w: Writer) -> None:
    """Slices that share an axis out, beside a Split perhaps, and come together again perhaps."""
    x = w.pick((w.choose((*NUMBERS, DType.BOOL)),), least=1)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    cuts = sorted({0, w.number(0, size), w.number(0, size), size})
    if w.often(30):
        extents = [end - start for start, end in pairwise(cuts)]
        for part in w.b.nodes("Split", (x, w.ints(*extents)), {"axis": written}, results=len(extents)):
            w.keep(part)
    pieces: list[Value] = []
    for start, end in pairwise(cuts):
        last = w.choose((end, END)) if end == size else w.choose((end, end - size))
        pieces.append(w.b.node("Slice", (x, w.ints(start), w.ints(last), w.ints(written))))
    if w.often(35):
        w.make("Concat", *(pieces if w.often(80) else pieces[::-1]), attributes={"axis": written})
    else:
        for piece in pieces:
            w.keep(elementwise(w, piece) if w.often(30) and dtype_of(piece) is not DType.BOOL else piece)


def joined(w: Writer) -> None:
    """A Concat of Concats, of all parts of a Split among others, of nothing, or one that is sliced again."""
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    axis, written = axis_of(w, x)
    form = w.choose(("concat", "split", "slice", "empty", "halves"))
    if form == "halves":
        cut = w.choose((1, 2, -1))
        low = w.node("Slice", x, w.ints(0), w.ints(cut), w.ints(axis))
        high = w.node("Slice", x, w.ints(cut if w.often(90) else 0), w.ints(END), w.ints(written))
        w.make("Concat", low, high, attributes={"axis": written})
        return
    if form == "concat":
        y = w.node("Concat", x, w.node("Neg", x), attributes={"axis": axis if w.often(85) else 0})
    elif form == "split":
        size = known(x, axis)
        cut = w.number(0, size)
        parts = w.b.nodes("Split", (x, w.ints(cut, size - cut)), {"axis": written}, results=2)
        w.make("Concat", w.node("Abs", x), *(parts if w.often(80) else parts[::-1]), attributes={"axis": axis})
        return
    elif form == "slice":
        size = known(x, axis)
        y = w.node("Concat", w.node("Neg", x), x, attributes={"axis": written})
        start, end = w.choose(((0, size), (size, END), (-size, END), (1, size), (size - 1, size + 1)))
        w.make("Slice", y, w.ints(start), w.ints(end), w.ints(axis))
        return
    else:
        y = w.node("Slice", x, w.ints(0), w.ints(0), w.ints(axis))
    w.make("Concat", *((y, x) if w.often(60) else (x, y)), attributes={"axis": written})


def gathered(w: Writer) -> None:
    """A Gather whose axis goes or comes back, or that takes everything."""
    x = w.pick((w.choose((*NUMBERS, DType.BOOL)),), least=1, most=_MOST_RANK)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    form = w.choose(("unsqueeze", "squeeze", "all"))
    place = w.number(-size, size - 1)
    if form == "unsqueeze":
        y = w.node("Gather", x, w.index(place), attributes={"axis": written})
        w.make("Unsqueeze", y, w.ints(axis if w.often(85) else 0))
    elif form == "squeeze":
        y = w.node("Gather", x, w.ints(place), attributes={"axis": written})
        w.make("Squeeze", y, w.ints(w.choose((axis, axis - rank_of(x)))))
    else:
        places = list(range(size)) if w.often(70) else list(range(-size, 0))
        w.make("Gather", x, w.ints(*places), attributes={"axis": written})


def some_extents(w: Writer) -> None:
    """Some of a shape, by Gather, Slice or attributes, and a Reshape to them."""
    x = w.pick(least=2)
    rank = rank_of(x)
    shape = w.node("Shape", x, attributes={"start": 1} if w.often(15) else None)
    start = w.number(0, rank - 2)
    end = w.number(start + 1, rank)
    if w.often(50):
        taken = w.node("Gather", shape, w.ints(*range(start, end)))
    else:
        last = w.choose((end, end - rank)) if end < rank else w.choose((end, END))
        taken = w.node("Slice", shape, w.ints(start), w.ints(last), w.ints(0))
    if w.often(40):
        w.make("ConstantOfShape", taken)
    else:
        w.keep(taken)


def reductions(w: Writer) -> None:
    """One of a kind behind another, or with its axes dropped or brought back; and over axes of one, or none."""
    dtype = w.choose((DType.FLOAT, DType.INT64, DType.INT32, DType.FLOAT))
    x = w.pick((dtype,), least=1, most=_MOST_RANK)
    rank = rank_of(x)
    op = w.choose(
        ("ReduceMax", "ReduceSum", "ReduceMin", "ReduceMean", "ReduceProd")
        if dtype.is_float
        else ("ReduceMax", "ReduceMin", "ReduceSum")
    )
    form = w.choose(("twice", "shape", "ones", "nothing"))
    axis = w.number(0, rank - 1)
    written = axis - rank if w.often(30) else axis
    keep = {"keepdims": int(w.often(50))}
    if form == "twice":
        y = w.node(op, x, w.ints(written), attributes=keep)
        if not rank_of(y):
            raise SkipError
        w.make(op, y, w.ints(w.number(0, rank_of(y) - 1)), attributes=keep)
    elif form == "shape":
        y = w.node(op, x, w.ints(written), attributes=keep)
        w.make("Squeeze" if keep["keepdims"] else "Unsqueeze", y, w.ints(axis if w.often(85) else 0))
    elif form == "ones":
        y = w.node("Unsqueeze", x, w.ints(axis))
        w.make(op, y, w.ints(axis), attributes=keep)
    else:
        w.make(op, x, w.ints() if w.often(50) else None, attributes={**keep, "noop_with_empty_axes": 1})


def stacked(w: Writer) -> None:
    """A reduction over the axis along which values of one type are stacked, or over one beside it."""
    x = w.pick((*FLOATS[:2], DType.INT64), most=_MOST_RANK - 1)
    others = [fellow(w, x) for _ in range(w.number(0, 2))]
    axis = w.number(0, rank_of(x))
    written = axis - rank_of(x) - 1 if w.often(30) else axis
    parts = [w.node("Unsqueeze", part, w.ints(written)) for part in (x, *others)]
    stack = w.node("Concat", *parts, attributes={"axis": written})
    op = w.choose(("ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean"))
    over = axis if w.often(85) else w.number(0, rank_of(x))
    w.make(op, stack, w.ints(over), attributes={"keepdims": int(w.often(50))})


def stretched(w: Writer) -> None:
    """Expands of Expands, and before what broadcasts anyway."""
    x = w.pick(FLOAT, most=_MOST_RANK)
    y = w.node("Expand", x, w.ints(*[w.choose((1, 2)) if dim == 1 else 1 for dim in x.shape or ()]))
    if w.often(50):
        y = w.node("Expand", y, w.ints(*(1,) * w.number(1, rank_of(y) + 1)))
    if w.often(60):
        y = swapped(w, w.choose(("Add", "Mul")), y, w.pick(FLOAT))
    w.keep(y)


def one_repeated(w: Writer) -> None:
    """One number, expanded or gathered again and again to the extents of what it is combined with."""
    x = w.pick((*FLOATS[:2], DType.INT64), least=1, most=_MOST_RANK, test=_all_known)
    dims, dtype, rank = [known(x, axis) for axis in range(rank_of(x))], dtype_of(x), rank_of(x)
    if w.often(50):
        one = w.node("ReduceMax", x) if w.often(50) else w.any_constant((1,) * w.number(0, rank), dtype)
        repeated = w.node("Expand", one, w.ints(*dims))
    else:
        indices = np.full(dims, w.choose((1, 0, -1)))
        if indices.size and w.often(10):
            indices.flat[0] = 0
        repeated = w.node("Gather", w.any_constant((3,), dtype), w.fixed(indices))
    op = w.choose(("Mul", "Add", "Max", "Min", *(("Pow",) if dtype.is_float else ())))
    w.make(op, *((repeated, x) if w.often(50) else (x, repeated)))


def _all_known(value: Value) -> bool:
    return all(isinstance(dim, int) for dim in value.shape or ())


def padded_again(w: Writer) -> None:
    x = w.pick((w.choose((*FLOATS[:2], DType.INT64)),), least=1, most=_MOST_RANK)
    dtype = dtype_of(x)
    for _ in range(2):
        amounts = [w.choose((0, 1, 2)) for _ in range(2 * rank_of(x))]
        value = (w.single(w.choose((0.0, 0.0, 1.0)), dtype),) if w.often(40) else ()
        x = w.node("Pad", x, w.ints(*amounts), *value)
    w.keep(x)


def alone(w: Writer) -> None:
    """Operators of one operand, or with one part."""
    x = w.pick(FLOAT, least=1)
    axis, written = axis_of(w, x)
    form = w.choose(("split", "concat", "sum", "resize"))
    if form == "split" and is_known(x, axis):
        w.keep(w.b.nodes("Split", (x, w.ints(known(x, axis))), {"axis": written}, results=1)[0])
    elif form == "concat":
        w.make("Concat", x, attributes={"axis": written})
    else:
        w.make(w.choose(("Sum", "Max", "Min", "Mean")), x)


MOVES: Idioms = {
    past_elementwise: ("move-reshapes", "merge-reshapes"),
    axes_of_one: ("merge-reshapes", "move-reshapes"),
    squeezes: ("merge-reshapes",),
    unsayable: ("merge-transposes",),
    between_transposes: ("move-transposes", "merge-transposes"),
    reduced_transpose: ("move-transposes",),
    parts_used_alike: ("move-splits",),
    shared_out: ("merge-slices", "merge-concats"),
    joined: ("merge-concats", "merge-slices", "remove-noops"),
    gathered: ("merge-gathers", "remove-noops"),
    some_extents: ("merge-gathers", "fold-shapes"),
    stacked: ("merge-reductions",),
    reductions: ("merge-reductions", "remove-noops"),
    stretched: ("remove-expands",),
    one_repeated: ("remove-expands",),
    padded_again: ("merge-pads",),
    alone: ("remove-noops",),
}
