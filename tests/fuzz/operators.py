"""Moves that lay down one operator each, over all its attributes and the types that ONNX Runtime has kernels for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import DType, Value
from planish.ir.dim import Dim
from planish.ir.graph import Attribute
from tests.fuzz.writer import ALL, FLOAT, FLOATS, INTS, NUMBERS, REALS, SkipError, Writer, dtype_of

Move = Callable[[Writer], object]

_SMOOTH_UNARY = (
    *("Identity", "Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Exp", "Sqrt", "Erf", "LeakyRelu", "Softplus"),
    *("HardSigmoid", "Elu", "Reciprocal", "Selu", "Sin", "Celu", "ThresholdedRelu", "HardSwish", "Mish", "Gelu"),
)
_JUMPS = ("Floor", "Ceil", "Round", "Sign")
_WIDE_UNARY = frozenset(("Identity", "Relu", "Neg", "Abs"))
_COMPARISONS = ("Less", "Equal", "Greater", "LessOrEqual", "GreaterOrEqual")
_REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum"),
)


def extent(value: Value, axis: int) -> Dim:
    shape = value.shape
    if shape is None:
        raise SkipError
    return shape[axis]


def is_known(value: Value, *axes: int) -> bool:
    """Whether these extents are known and not 0."""
    return all(isinstance(extent(value, axis), int) and extent(value, axis) != 0 for axis in axes)


def known(value: Value, axis: int) -> int:
    """The extent of an axis, which must be known and not 0."""
    found = extent(value, axis)
    if not isinstance(found, int) or found == 0:
        raise SkipError
    return found


def rank_of(value: Value) -> int:
    if value.rank is None:
        raise SkipError
    return value.rank


def axis_of(w: Writer, value: Value) -> tuple[int, int]:
    """An axis, and how it is written: from the front, or from behind."""
    rank = rank_of(value)
    if not rank:
        raise SkipError
    axis = w.number(0, rank - 1)
    return axis, axis - rank if w.often(40) else axis


def same_type(w: Writer, value: Value) -> Value:
    """Another value, or the same, of the element type."""
    return w.pick((dtype_of(value),))


# Elementwise


def unary(w: Writer) -> None:
    op = w.choose(_SMOOTH_UNARY if w.smooth else (*_SMOOTH_UNARY, *_JUMPS))
    x = w.pick(NUMBERS if op in _WIDE_UNARY else FLOAT)
    w.make(op, x)


def binary(w: Writer) -> None:
    x = w.pick(NUMBERS)
    op = w.choose(("Add", "Mul", "Sub", "Div", "Max", "Min"))
    if op == "Div" and not (x.dtype and x.dtype.is_float):
        op = "Mul"
    z = same_type(w, x)
    w.make(op, *((z, x) if w.often(30) else (x, z)))


def with_constant(w: Writer) -> None:
    """The most common place for a rewrite: a value and a constant, either way round."""
    x = w.pick((*NUMBERS, DType.FLOAT16))
    dtype = dtype_of(x)
    op = w.choose(("Mul", "Add", "Sub", "Div", "Max", "Min", "Pow"))
    c = w.any_constant(w.broadcastable(x), dtype)
    if not dtype.is_float and op in ("Div", "Pow"):
        op = "Add"
    if op == "Pow":
        w.make(op, x, w.scalar(w.choose((2.0, 0.5, 1.0, -1.0, 3.0, 0.0, -0.5)), dtype))
    else:
        w.make(op, *((c, x) if w.often(30) else (x, c)))


def integer_division(w: Writer) -> None:
    x = w.pick(INTS)
    dtype = dtype_of(x)
    divisor = w.constant(np.asarray(w.choose((2, 1, 3, 7)), dtype.numpy))
    op = w.choose(("Div", "Mod"))
    w.make(op, x, divisor)


def clip(w: Writer) -> None:
    x = w.pick((*REALS, DType.INT64, DType.FLOAT16))
    dtype = dtype_of(x)
    low, high = (w.choose((0.0, 6.0, 1.0, -1.0, 3.0, -3.0)) for _ in range(2))
    if not w.often(10):
        low, high = min(low, high), max(low, high)
    bounds = [w.fixed(np.asarray(end, dtype.numpy)) if not w.often(15) else None for end in (low, high)]
    w.make("Clip", x, *bounds)


def prelu(w: Writer) -> None:
    x = w.pick(FLOAT)
    w.make("PRelu", x, w.any_constant(w.broadcastable(x), DType.FLOAT))


def compare(w: Writer) -> None:
    x = w.raw((*REALS, *INTS))
    dtype = dtype_of(x)
    z = w.raw((dtype,)) if w.often(40) else w.any_constant(w.broadcastable(x), dtype)
    w.make(w.choose(_COMPARISONS), x, z)


def logic(w: Writer) -> None:
    x = w.pick((DType.BOOL,))
    op = w.choose(("Not", "And", "Or", "Xor", "Equal"))
    if op == "Not":
        w.make(op, x)
    else:
        other = w.pick((DType.BOOL,)) if w.often(50) else w.any_constant(w.broadcastable(x), DType.BOOL)
        w.make(op, x, other)


def where(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64))
    dtype = dtype_of(x)
    condition = w.pick((DType.BOOL,)) if w.often(60) else w.any_constant(w.broadcastable(x), DType.BOOL)
    z = same_type(w, x) if w.often(50) else w.any_constant(w.broadcastable(x), dtype)
    w.make("Where", condition, *((z, x) if w.often(40) else (x, z)))


def cast(w: Writer) -> None:
    to = w.choose((DType.FLOAT, DType.INT64, DType.DOUBLE, DType.INT32, DType.FLOAT16, DType.BOOL, DType.UINT8))
    x = w.pick(ALL) if to.is_float else w.raw((*INTS, DType.BOOL, DType.UINT8))
    if w.smooth and to is DType.FLOAT16:
        raise SkipError
    w.make("Cast", x, attributes={"to": int(to)})


def cast_like(w: Writer) -> None:
    x = w.pick((*FLOATS, *INTS))
    like = w.pick(REALS)
    w.make("CastLike", x, like)


def not_a_number(w: Writer) -> None:
    w.make(w.choose(("IsNaN", "IsInf")), w.raw(FLOAT))


# Shapes


def reshape(w: Writer) -> None:
    """To a shape that holds for every binding: dims copied by 0, one of them -1, static ones split or merged."""
    x = w.pick((*NUMBERS, DType.BOOL, DType.FLOAT16), least=1)
    dims = x.shape or ()
    form = w.choose(("flat", "copy", "split", "merge", "one"))
    numbers = [dim if isinstance(dim, int) else 0 for dim in dims]
    if form == "flat":
        target = [-1]
    elif form == "copy":
        target = [0 if w.often(50) else number for number in numbers]
        if w.often(40):
            target[w.number(0, len(target) - 1)] = -1
    elif form == "split":
        axis, _ = axis_of(w, x)
        size = known(x, axis)
        part = w.choose([n for n in range(1, size + 1) if size % n == 0])
        target = [*numbers[:axis], part, size // part]
        if any(number == 0 for number in numbers[axis + 1 :]):
            raise SkipError
        target += numbers[axis + 1 :]
    elif form == "merge":
        target = [0 if numbers[0] == 0 else numbers[0], -1]
    else:
        target = [0] * w.number(0, len(dims)) + [1, -1] if len(dims) else [1, -1]
        target = target[-len(dims) - 1 :]
    w.make("Reshape", x, w.ints(*target))


def transpose(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    w.make("Transpose", x, attributes={"perm": w.order(rank_of(x))})


def squeeze(w: Writer) -> None:
    x = w.pick(least=1)
    axes = [axis for axis in range(rank_of(x)) if extent(x, axis) == 1]
    if not axes:
        raise SkipError
    axis = w.choose(axes)
    w.make("Squeeze", x, w.ints(axis - rank_of(x) if w.often(40) else axis))


def unsqueeze(w: Writer) -> None:
    x = w.pick(most=3)
    rank = rank_of(x) + 1
    axis = w.number(0, rank - 1)
    w.make("Unsqueeze", x, w.ints(axis - rank if w.often(40) else axis))


def flatten(w: Writer) -> None:
    x = w.pick((*NUMBERS,), least=1)
    axis = w.number(0, rank_of(x))
    w.make("Flatten", x, attributes={"axis": axis - rank_of(x) if axis < rank_of(x) and w.often(30) else axis})


def slice_(w: Writer) -> None:
    """Backwards never to the largest end: ONNX Runtime goes on to the first element there, and onnx nowhere."""
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    _, axis = axis_of(w, x)
    start = w.choose((0, 1, -1, -2, 2, -(2**63)))
    end = w.choose((2**63 - 1, 2, -1, 3, 1, -(2**63)))
    step = w.choose((1, 2, -1, 1)) if end != 2**63 - 1 else w.choose((1, 2))
    w.make("Slice", x, w.ints(start), w.ints(end), w.ints(axis), *((w.ints(step),) if step != 1 or w.often(50) else ()))


def concat(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    axis, written = axis_of(w, x)

    def fits(value: Value) -> bool:
        if value.dtype is not x.dtype or value.rank != x.rank:
            return False
        pairs = enumerate(zip(value.shape or (), x.shape or (), strict=True))
        return all(place == axis or ours == theirs for place, (ours, theirs) in pairs)

    parts = [x, *(w.pick(test=fits) for _ in range(w.number(0, 2)))]
    w.make("Concat", *parts, attributes={"axis": written})


def split(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64), least=1)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    first = w.number(0, size)
    parts = w.b.nodes("Split", (x, w.ints(first, size - first)), {"axis": written}, results=2)
    for part in parts:
        if w.often(70):
            w.keep(part)


def gather(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL), least=1)
    axis, written = axis_of(w, x)
    size = known(x, axis)
    shape = w.choose(((), (1,), (2,), (2, 1), (size,)))
    places = [w.number(-size, size - 1) for _ in range(int(np.prod(shape)))]
    if shape == (size,) and w.often(40):
        places = list(range(size))
    index = w.fixed(np.asarray(places, np.int64).reshape(shape))
    w.make("Gather", x, index, attributes={"axis": written})


def expand(w: Writer) -> None:
    x = w.pick((*NUMBERS, DType.BOOL))
    shape = [w.choose((1, 2)) if dim == 1 else 1 for dim in x.shape or ()]
    shape = shape[w.number(0, len(shape)) :]
    if w.often(15):
        shape = [1] * (rank_of(x) + 1 - len(shape)) + shape
    w.make("Expand", x, w.ints(*shape))


def tile(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64), least=1, most=4)
    w.make("Tile", x, w.ints(*(w.choose((1, 1, 2, 0)) for _ in range(rank_of(x)))))


def pad(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64, DType.DOUBLE), least=1, most=4)
    dtype = dtype_of(x)
    pads = [w.choose((0, 0, 1, 2, -1)) for _ in range(2 * rank_of(x))]
    mode = w.choose(("constant", "constant", "edge", "reflect"))
    if mode == "reflect":
        pads = [max(0, min(amount, 1)) for amount in pads]
    value = w.fixed(np.asarray(w.choose((0, 1)), dtype.numpy)) if mode == "constant" and w.often(50) else None
    attributes: dict[str, Attribute | np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {"mode": mode}
    w.make("Pad", x, w.ints(*pads), *((value,) if value is not None else ()), attributes=attributes)


# Reductions and indices


def reduce(w: Writer) -> None:
    op = w.choose(_REDUCTIONS)
    x = w.pick((DType.FLOAT, DType.DOUBLE, DType.INT64, DType.INT32) if op in _REDUCTIONS[:4] else FLOAT, least=1)
    rank = rank_of(x)
    axes = sorted({w.number(0, rank - 1) for _ in range(w.number(1, 2))})
    written = [axis - rank if w.often(40) else axis for axis in axes]
    w.make(op, x, *((w.ints(*written),) if not w.often(10) else ()), attributes={"keepdims": int(w.often(60))})


def arg(w: Writer) -> None:
    x = w.raw(FLOAT, least=1)
    axis, written = axis_of(w, x)
    known(x, axis)
    w.make(w.choose(("ArgMax", "ArgMin")), x, attributes={"axis": written, "keepdims": int(w.often(50))})


def softmax(w: Writer) -> None:
    x = w.pick(REALS, least=1)
    _, axis = axis_of(w, x)
    w.make(w.choose(("Softmax", "LogSoftmax")), x, attributes={"axis": axis})


def shape_of(w: Writer) -> None:
    x = w.pick()
    if w.often(20):
        w.make("Size", x)
    else:
        w.make("Shape", x)


def dropout(w: Writer) -> None:
    x = w.pick(FLOAT)
    w.make("Dropout", x)


def random_like(w: Writer) -> None:
    """Seeded, so that it gives the same in two sessions; not to be folded, merged or moved into a branch."""
    x = w.pick(FLOAT)
    op = w.choose(("RandomNormalLike", "RandomUniformLike"))
    w.make(op, x, attributes={"seed": float(w.number(1, 3)), "dtype": int(DType.FLOAT)})


def filled(w: Writer) -> None:
    """A constant made by a node: ConstantOfShape of a shape, or a Range."""
    if w.often(50):
        x = w.pick(NUMBERS)
        value = np.asarray([w.choose((0.0, 1.0, 2.0))], np.float32)
        w.make("ConstantOfShape", w.node("Shape", x), attributes={"value": value})
    else:
        w.make("Range", w.index(0), w.index(w.number(0, 4)), w.index(1))


def trilu(w: Writer) -> None:
    x = w.pick((DType.FLOAT, DType.INT64), least=2)
    w.make("Trilu", x, w.index(w.number(-1, 1)), attributes={"upper": int(w.often(50))})


def einsum(w: Writer) -> None:
    equations = (("ij->ji", (2,)), ("ij,jk->ik", (2, 2)), ("bij,bkj->bik", (3, 3)), ("ij->i", (2,)), ("ii->i", (2,)))
    equation, ranks = w.choose(equations)
    w.make("Einsum", *(w.pick(FLOAT, least=rank, most=rank) for rank in ranks), attributes={"equation": equation})


OPERATORS: Sequence[Move] = (
    unary, unary, binary, binary, with_constant, with_constant, with_constant, integer_division, clip, clip, prelu,
    compare, logic, where, cast, cast_like, not_a_number, reshape, reshape, transpose, transpose, squeeze, unsqueeze,
    flatten, slice_, slice_, concat, split, gather, expand, tile, pad, reduce, reduce, arg, softmax, shape_of, dropout,
    random_like, filled, trilu, einsum,
)  # fmt: skip
