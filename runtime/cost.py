"""What a node computes: how many terms it sums into an element, and its multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from planish.ir import Dim, Node, Shape, Value
from planish.ir.dim import floor_div, product


def reduction_length(node: Node) -> Dim | None:
    """The number of terms that are summed into one element of the first result, as dims of the graph.

    1 for what works element by element, and None where a shape that decides is unknown.
    """
    rule = _TERMS.get(node.op)
    return 1 if rule is None else rule(node)


def macs(node: Node) -> Dim | None:
    """Multiply-accumulates of one run of a convolution, matrix product or recurrent layer; 0 for any other operator.

    None where a shape that decides is unknown. Padding counts as if it were data.
    """
    if node.op not in _PRODUCTS:
        return 0
    if node.op == "ConvTranspose":
        x, w = _shape(node, 0), _shape(node, 1)
        return None if x is None or w is None else product(x) * product(w[1:])
    if node.op in _RECURRENT:
        return _recurrent_macs(node)
    shape, terms = node.results[0].shape, reduction_length(node)
    return None if shape is None or terms is None else product(shape) * terms


def extent(dim: Dim | None, binding: Mapping[str, int], otherwise: int) -> int:
    """A dim as a number under a binding of the symbols; `otherwise` where that leaves it open."""
    if dim is not None and not isinstance(dim, int):
        dim = dim.substitute(binding)
    return dim if isinstance(dim, int) and dim >= 0 else otherwise


def _shape(node: Node, index: int) -> Shape | None:
    value: Value | None = node.operand(index)
    return None if value is None else value.shape


def _conv(weight: int) -> Callable[[Node], Dim | None]:
    def terms(node: Node) -> Dim | None:
        w = _shape(node, weight)
        return None if w is None else product(w[1:])

    return terms


def _conv_transpose(node: Node) -> Dim | None:
    w = _shape(node, 1)
    return None if w is None else floor_div(w[0], node.get_int("group")) * product(w[2:])


def _matmul(node: Node) -> Dim | None:
    a = _shape(node, 0)
    return a[-1] if a else None


def _gemm(node: Node) -> Dim | None:
    a = _shape(node, 0)
    return None if a is None else a[0 if node.get_int("transA") else -1]


def _einsum(node: Node) -> Dim | None:
    """The extents of the letters that the result lacks."""
    left, arrow, right = node.get_str("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [letter for term in terms for letter in term if letter.isalpha()]
    kept = right if arrow else "".join(letter for letter in letters if letters.count(letter) == 1)
    extents: dict[str, Dim] = {}
    for index, term in enumerate(terms):
        shape = _shape(node, index)
        if shape is None:
            return None
        head, dots, tail = term.partition("...")
        extents.update(zip(head, shape, strict=False))
        if dots:
            extents.update(zip(reversed(tail), reversed(shape), strict=False))
    return product(extent for letter, extent in extents.items() if letter not in kept)


def _shrink(node: Node) -> Dim | None:
    """Elements of the first operand for each of the result."""
    before, after = _shape(node, 0), node.results[0].shape
    if before is None or after is None:
        return None
    size, left = product(before), product(after)
    return 1 if size == 0 or left == 0 else floor_div(size, left)


def _kernel(node: Node) -> Dim | None:
    return math.prod(node.get_ints("kernel_shape") or (1,))


def _axis(node: Node) -> Dim | None:
    shape = _shape(node, 0)
    return None if not shape else shape[node.get_int("axis") % len(shape)]


def _from_axis(node: Node) -> Dim | None:
    shape = _shape(node, 0)
    return None if shape is None else product(shape[node.get_int("axis") :])


def _spatial(node: Node) -> Dim | None:
    shape = _shape(node, 0)
    return None if shape is None else product(shape[2:])


def _size(node: Node) -> Dim | None:
    shape = _shape(node, 0)
    return None if shape is None else product(shape)


def _recurrent(node: Node) -> Dim | None:
    """Terms along the whole sequence: each step sums the input and the state before it."""
    x, r = _shape(node, 0), _shape(node, 2)
    if x is None or r is None:
        return None
    steps = x[1 if node.get_int("layout") else 0]
    return steps * (x[-1] + r[-1])


def _recurrent_macs(node: Node) -> Dim | None:
    """Of x [steps, batch, input] by weights that end in [directions, gates * hidden, input] and [.., hidden]."""
    x, r = _shape(node, 0), _shape(node, 2)
    if x is None or r is None:
        return None
    return product(x[:-1]) * product(r[:-1]) * (x[-1] + r[-1])


_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Mean", "Prod", "Sum", "SumSquare")
_RECURRENT = frozenset(("LSTM", "GRU", "RNN"))
_TERMS: Mapping[str, Callable[[Node], Dim | None]] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "DeformConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    **{f"Reduce{name}": _shrink for name in _REDUCE},
    **{f"Global{name}": _shrink for name in ("AveragePool", "LpPool")},
    "AveragePool": _kernel,
    "LpPool": _kernel,
    "Softmax": _axis,
    "LogSoftmax": _axis,
    "CumSum": _size,
    "LayerNormalization": _from_axis,
    "RMSNormalization": _from_axis,
    "InstanceNormalization": _spatial,
    "GroupNormalization": _spatial,
    "MeanVarianceNormalization": _size,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
_PRODUCTS = frozenset((
    "Conv", "ConvInteger", "QLinearConv", "DeformConv", "ConvTranspose", "MatMul", "MatMulInteger", "QLinearMatMul",
    "Gemm", "Einsum", *_RECURRENT,
))  # fmt: skip
