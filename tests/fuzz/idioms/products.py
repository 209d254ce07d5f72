"""Matrix products with scales, biases and transpositions around them, and as Einsum."""

from __future__ import annotations

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import Idioms, swapped
from tests.fuzz.operators import extent, known, rank_of
from tests.fuzz.writer import FLOAT, REALS, Writer, dtype_of


def _factor(w: Writer, x: Value) -> Value:
    """x times one number, or one for each column, or nearly."""
    size = extent(x, -1)
    columns = isinstance(size, int) and w.often(50)
    c = w.weight(*((size,) if columns and isinstance(size, int) else ()), dtype=dtype_of(x), positive=True)
    if w.often(10):
        c = w.weight(*w.broadcastable(x), dtype=dtype_of(x), positive=True)
    return w.node("Div", x, c) if w.often(30) else swapped(w, "Mul", x, c)


def _moved(w: Writer, x: Value) -> Value:
    """Nothing, or a node that moves elements and may be passed."""
    form = w.choose(("nothing", "reshape", "transpose", "nothing"))
    if form == "reshape":
        return w.node("Unsqueeze", x, w.ints(0))
    if form == "transpose" and rank_of(x) > 2:
        return w.node("Transpose", x, attributes={"perm": (1, 0, *range(2, rank_of(x)))})
    return x


def scaled_product(w: Writer) -> None:
    """Factors before and behind a product with a weight, a bias perhaps between."""
    x = w.pick(REALS if w.often(20) else FLOAT, least=2, most=4)
    dtype, inner, outer = dtype_of(x), known(x, -1), w.choose((2, 3, 4))
    if w.often(50):
        x = _moved(w, _factor(w, x))
    inner = known(x, -1)
    if rank_of(x) == 2 and w.often(50):
        bias = (w.weight(outer, dtype=dtype),) if w.often(60) else ()
        y = w.node("Gemm", x, w.weight(inner, outer, dtype=dtype), *bias)
    else:
        y = w.node("MatMul", x, w.weight(inner, outer, dtype=dtype))
        if w.often(40):
            y = swapped(w, "Add", y, w.weight(*w.choose(((outer,), (1,))), dtype=dtype))
    if w.often(60):
        y = _factor(w, _moved(w, y))
    w.keep(y)


def sums_of_products(w: Writer) -> None:
    """A product of two matrices, and what is added to it or taken from it or from which it is taken."""
    x = w.pick(REALS if w.often(20) else FLOAT, least=2, most=2 if w.often(85) else 3)
    dtype, inner, outer = dtype_of(x), known(x, -1), w.choose((2, 3, 4))
    weight = w.weight(inner, outer, dtype=dtype)
    if w.often(30):
        y = w.node("Gemm", x, weight, *((w.weight(outer, dtype=dtype),) if w.often(50) else ()))
    else:
        y = w.node("MatMul", x, weight)
    other = w.weight(*w.choose(((outer,), (1, outer), (1,), ())), dtype=dtype)
    if w.often(20):
        other = w.pick((dtype,), most=2)
    op = w.choose(("Sub", "Add"))
    w.make(op, *((other, y) if w.often(50) else (y, other)))


def transposed_product(w: Writer) -> None:
    """Of matrices of which one is transposed first."""
    x = w.pick(REALS if w.often(20) else FLOAT, least=2, most=2)
    dtype = dtype_of(x)
    turned = w.node("Transpose", x, attributes={"perm": (1, 0)})
    rows, columns = extent(x, 0), extent(x, 1)
    if w.often(50) and isinstance(rows, int):
        operands = (turned, w.weight(rows, 3, dtype=dtype))
    else:
        operands = (w.weight(2, known(x, 1), dtype=dtype) if isinstance(columns, int) else x, turned)
    op = w.choose(("MatMul", "Gemm"))
    bias = (w.weight(1, dtype=dtype),) if op == "Gemm" and w.often(40) else ()
    w.make(op, *operands, *bias)


def normalized_gemm(w: Writer) -> None:
    x = w.pick(FLOAT, least=2, most=2)
    inner, outer = known(x, 1), w.choose((2, 4))
    across = int(w.often(50))
    weight = w.weight(outer, inner) if across else w.weight(inner, outer)
    bias = (w.weight(*w.choose(((outer,), (1, outer), (1,)))),) if w.often(60) else ()
    y = w.node("Gemm", x, weight, *bias, attributes={"transB": across, "alpha": w.choose((1.0, 0.5))})
    parameters = (w.weight(outer), w.weight(outer), w.weight(outer), w.weight(outer, positive=True))
    w.make("BatchNormalization", y, *parameters)


def einsum(w: Writer) -> None:
    """Products, sums and transpositions by name, and what none of them is."""
    x = w.pick((DType.FLOAT, DType.DOUBLE) if w.often(20) else FLOAT, least=2, most=3)
    rank, dtype = rank_of(x), dtype_of(x)
    letters = "ijk"[:rank]
    form = w.choose(("turned", "total", "by columns", "weight", "across", "diagonal"))
    if form == "turned":
        equation, operands = f"{letters}->{letters[::-1]}", (x,)
    elif form == "total":
        equation, operands = f"{letters}->{w.choose((letters[:-1], letters[1:], letters[0], ''))}", (x,)
    elif form == "by columns":
        equation, operands = f"{letters},{letters[-1]}->{letters}", (x, w.weight(known(x, -1), dtype=dtype))
    elif form == "weight":
        size, turned = known(x, -1), w.often(40)
        weight = w.weight(*((3, size) if turned else (size, 3)), dtype=dtype)
        right = f"z{letters[-1]}" if turned else f"{letters[-1]}z"
        equation, operands = f"{letters},{right}->{letters[:-1]}z", (x, weight)
    elif form == "across":
        other = letters[:-2] + "z" + letters[-1]
        equation, operands = (
            f"{letters},{other}->{letters[:-2]}{w.choose((letters[-2] + 'z', 'z' + letters[-2]))}",
            (x, x),
        )
    else:
        equation, operands = w.choose(("ii->i", "ii")) if rank == 2 else "iij->ij", (x,)
    w.make("Einsum", *operands, attributes={"equation": equation})


PRODUCTS: Idioms = {
    scaled_product: ("fuse-matmul-scale", "fuse-matmul-add"),
    sums_of_products: ("fuse-matmul-add",),
    transposed_product: ("fuse-gemm-transpose",),
    normalized_gemm: ("fuse-gemm-bn",),
    einsum: ("lower-einsum",),
}
