"""Fragments that move elements about and back again, and arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir import DType, Value
from planish.ir.graph import Attribute
from tests.fuzz.operators import Move, axis_of, extent, known, rank_of
from tests.fuzz.writer import ALL, FLOAT, FLOATS, INTS, NUMBERS, SkipError, Writer, dtype_of

END = 2**63 - 1


def elementwise(w: Writer, x: Value) -> Value:
    """Nothing, or an operator that a layout may move past."""
    if x.dtype is not DType.FLOAT or w.often(40):
        return x
    op = w.choose(("Relu", "Neg", "Sigmoid", "Mul", "Add", "Cast"))
    if op in ("Mul", "Add"):
        return w.node(
            op, x, w.scalar(w.choose((2.0, 0.5))) if w.often(60) else w.any_constant(w.broadcastable(x), DType.FLOAT)
        )
    return w.node(op, x, attributes={"to": int(DType.DOUBLE)} if op == "Cast" else None)


def one_reshape(w: Writer, x: Value) -> Value:
    form = w.choose(("flat", "reshape", "unsqueeze", "squeeze", "flatten", "copy"))
    rank = rank_of(x)
    if form == "flat":
        return w.node("Reshape", x, w.ints(-1))
    if form == "unsqueeze" and rank < 5:
        axis = w.number(0, rank)
        return w.node("Unsqueeze", x, w.ints(axis - rank - 1 if w.often(40) else axis))
    if form == "squeeze":
        axes = [axis for axis in range(rank) if extent(x, axis) == 1]
        if axes:
            return w.node("Squeeze", x, w.ints(w.choose(axes)))
    if form == "flatten" and rank:
        return w.node("Flatten", x, attributes={"axis": w.number(0, rank)})
    if form == "copy" and rank:
        return w.node("Reshape", x, w.ints(0, -1) if rank > 1 else w.ints(0, 1))
    dims = [dim if isinstance(dim, int) else -1 for dim in x.shape or ()]
    if dims.count(-1) > 1 or 0 in dims:
        return w.node("Reshape", x, w.ints(*([0] * rank)))
    return w.node("Reshape", x, w.ints(*(reversed(dims) if w.often(50) else dims), 1))


def reshapes(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    for _ in range(w.number(2, 3)):
        x = one_reshape(w, elementwise(w, x))
    w.keep(x)


def there_and_back(w: Writer) -> None:
    """Reshape, something, and Reshape to the shape that was."""
    x = w.pick(FLOAT, least=1)
    y = elementwise(w, one_reshape(w, x))
    dims = [dim if isinstance(dim, int) else -1 for dim in x.shape or ()]
    if dims.count(-1) > 1 or w.often(40):
        w.make("Reshape", y, w.node("Shape", x))
    else:
        w.make("Reshape", y, w.ints(*dims))


def transposes(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=2)
    order = w.order(rank_of(x))
    y = elementwise(w, w.node("Transpose", x, attributes={"perm": order}))
    back = tuple(int(axis) for axis in np.argsort(order)) if w.often(60) else w.order(rank_of(y))
    w.make("Transpose", y, attributes={"perm": back})


def transposed_pair(w: Writer) -> None:
    """Two values turned alike, brought together, and turned back or reduced."""
    x = w.pick(FLOAT, least=2)
    order = w.order(rank_of(x))
    others = [w.node("Relu", x) if w.often(40) else x for _ in range(2)]
    turned = [w.node("Transpose", other, attributes={"perm": order}) for other in others]
    op = w.choose(("Add", "Concat", "Mul"))
    axis: dict[str, Attribute] = {"axis": w.number(0, rank_of(x) - 1)}
    y = w.node(op, *turned, attributes=axis if op == "Concat" else None)
    if w.often(40):
        w.make("ReduceMean", y, w.ints(w.number(0, rank_of(x) - 1)), attributes={"keepdims": int(w.often(50))})
    else:
        w.make("Transpose", y, attributes={"perm": tuple(int(axis) for axis in np.argsort(order))})


def slices(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    rank = rank_of(x)
    for _ in range(2):
        axis = w.number(0, rank - 1)
        start, end, step = w.choose((0, 1, -2)), w.choose((END, 3, -1, 2)), w.choose((1, 1, 2))
        bounds = (w.ints(start), w.ints(end), w.ints(axis - rank if w.often(40) else axis), w.ints(step))
        if w.often(20):
            bounds = (w.ints(-1), w.ints(-(2**63)), bounds[2], w.ints(-1))
        x = w.node("Slice", x, *bounds)
    w.keep(x)


def parts(w: Writer) -> None:
    """Slices that share out an axis, or miss a piece; sometimes put together again."""
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    cut = w.number(0, size)
    last = w.choose((END, size, size - 1))
    if w.often(40):
        pieces = w.b.nodes("Split", (x, w.ints(cut, size - cut)), {"axis": written}, results=2)
    else:
        spans = ((0, cut), (cut, last))
        pieces = tuple(w.node("Slice", x, w.ints(low), w.ints(high), w.ints(written)) for low, high in spans)
    if w.often(50):
        order = pieces if w.often(70) else pieces[::-1]
        w.make("Concat", *order, attributes={"axis": written})
    else:
        for piece in pieces:
            w.keep(elementwise(w, piece))


def concats(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    axis, written = axis_of(w, x)
    y = w.node("Concat", x, elementwise(w, x), attributes={"axis": written})
    y = w.node("Concat", y, x, attributes={"axis": axis})
    if w.often(40):
        size = extent(x, axis)
        y = w.node("Slice", y, w.ints(0), w.ints(size if isinstance(size, int) else 1), w.ints(axis))
    w.keep(y)


def pads(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64), least=1, most=4)
    dtype = dtype_of(x)
    for _ in range(2):
        amounts = [w.choose((0, 1, 0, -1)) for _ in range(2 * rank_of(x))]
        value = w.fixed(np.asarray(w.choose((0, 0, 1)), dtype.numpy))
        x = w.node("Pad", x, w.ints(*amounts), *((value,) if w.often(40) else ()))
    w.keep(x)


def casts(w: Writer) -> None:
    x = w.raw((*FLOATS, *INTS, DType.BOOL, DType.UINT8))
    types = [DType.FLOAT, DType.DOUBLE, DType.FLOAT16]
    if x.dtype is not None and not x.dtype.is_float:
        types = [DType.INT64, DType.INT32, DType.FLOAT, DType.DOUBLE, DType.BOOL]
    for _ in range(w.number(2, 3)):
        to = w.choose(types)
        if to.is_float:
            types = [DType.FLOAT, DType.DOUBLE, DType.FLOAT]
        x = w.node("Cast", x, attributes={"to": int(to)})
    w.keep(x)


def reduced(w: Writer) -> None:
    """A reduction and Squeeze, Unsqueeze or Reshape, or two of them."""
    x = w.pick(FLOAT, least=2)
    rank = rank_of(x)
    axis = w.number(0, rank - 1)
    op = w.choose(("ReduceMax", "ReduceSum", "ReduceMean", "ReduceMin", "ReduceSumSquare"))
    keep = w.often(60)
    y = w.node(op, x, w.ints(axis - rank if w.often(40) else axis), attributes={"keepdims": int(keep)})
    form = w.choose(("shape", "again"))
    if form == "again":
        w.make(w.choose((op, "ReduceSum")), y, w.ints(w.number(0, rank_of(y) - 1)), attributes={"keepdims": int(keep)})
    else:
        w.make("Squeeze" if keep else "Unsqueeze", y, w.ints(axis))


def stretched(w: Writer) -> None:
    """Expand or Tile in front of an operator that broadcasts anyway."""
    x = w.pick(FLOAT)
    z = w.pick(FLOAT)
    y = w.node("Expand", x, w.node("Shape", z) if w.often(50) else w.ints(*(1,) * max(rank_of(x), rank_of(z))))
    if w.often(30):
        y = w.node("Expand", y, w.ints(1))
    w.make(w.choose(("Add", "Mul", "Max")), *((z, y) if w.often(40) else (y, z)))


def dims_of(w: Writer, x: Value, axis: int) -> Value:
    """One extent as a vector, by Shape and Gather or Slice."""
    rank = rank_of(x)
    shape = w.node("Shape", x)
    place = axis - rank if w.often(30) else axis
    form = w.choose(("gather", "slice", "vector", "attributes"))
    if form == "slice":
        return w.node("Slice", shape, w.ints(axis), w.ints(axis + 1), w.ints(0))
    if form == "vector":
        return w.node("Gather", shape, w.ints(place))
    if form == "attributes":
        return w.node("Shape", x, attributes={"start": axis, "end": axis + 1})
    return w.node("Unsqueeze", w.node("Gather", shape, w.index(place)), w.ints(0))


def shape_arithmetic(w: Writer) -> None:
    """Reshape to dims that are worked out one by one."""
    x = w.pick((*NUMBERS,), least=1, most=4)
    pieces: list[Value] = []
    for axis, dim in enumerate(x.shape or ()):
        piece = w.ints(dim) if isinstance(dim, int) and w.often(50) else dims_of(w, x, axis)
        if w.often(20):
            piece = w.node("Div", w.node("Mul", piece, w.ints(2)), w.ints(2))
        pieces.append(piece)
    form = w.choose(("same", "merge", "add"))
    if form == "merge" and len(pieces) > 1:
        pieces = [w.node("Mul", pieces[0], pieces[1]), *pieces[2:]]
    if form == "add":
        pieces.append(w.ints(1))
    w.make(
        w.choose(("Reshape", "Expand") if form == "same" else ("Reshape",)),
        x,
        w.node("Concat", *pieces, attributes={"axis": 0}),
    )


def extent_as_number(w: Writer) -> None:
    x = w.pick(FLOAT, least=1)
    axis = w.number(0, rank_of(x) - 1)
    one = w.node("Gather", w.node("Shape", x), w.index(axis))
    w.make("Div" if w.often(20) else "Mul", x, w.node("Cast", one, attributes={"to": int(DType.FLOAT)}))


def nothings(w: Writer) -> None:
    """Operators that do nothing, and some that nearly do."""
    x = w.pick(ALL)
    form = w.choose(("identity", "cast", "dropout", "sum", "transpose", "expand", "slice", "pad", "tile"))
    rank = rank_of(x)
    if form == "identity":
        x = w.node("Identity", w.node("Identity", x))
    elif form == "cast" and x.dtype is not None:
        x = w.node("Cast", x, attributes={"to": int(x.dtype)})
    elif form == "dropout" and x.dtype is DType.FLOAT:
        x = w.node("Dropout", x)
    elif form == "sum" and x.dtype is DType.FLOAT:
        x = w.node(w.choose(("Sum", "Max", "Mean")), x)
    elif form == "transpose" and rank:
        x = w.node("Transpose", x, attributes={"perm": tuple(range(rank))})
    elif form == "expand":
        x = w.node("Expand", x, w.ints(*(1,) * rank))
    elif form == "slice" and rank:
        x = w.node("Slice", x, w.ints(0), w.ints(END), w.ints(0))
    elif form == "pad" and rank and x.dtype is DType.FLOAT:
        x = w.node("Pad", x, w.ints(*(0,) * (2 * rank)))
    elif form == "tile" and rank and x.dtype is DType.FLOAT:
        x = w.node("Tile", x, w.ints(*(1,) * rank))
    w.keep(x)


def again(w: Writer) -> None:
    """A node once more, random ones too."""
    x = w.pick(test=lambda v: v.producer is not None and not v.producer.graphs and len(v.producer.results) == 1)
    node = x.producer
    if node is None or node.op == "Constant":
        raise SkipError
    w.keep(w.b.node(node.op, node.operands, node.attributes))


LAYOUTS: Sequence[Move] = (
    reshapes, reshapes, there_and_back, transposes, transposed_pair, slices, parts, parts, concats, pads, casts,
    reduced, stretched, shape_arithmetic, shape_arithmetic, extent_as_number, nothings, again,
)  # fmt: skip
