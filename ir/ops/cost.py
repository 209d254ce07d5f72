"""What a model costs: the terms that a node sums into an element, its multiply-accumulates, and what is a weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from planish.ir import Dim, DType, Graph, Node, Shape, Value
from planish.ir.dim import floor_div, product
from planish.ir.tensor import Tensor

Axis = tuple[Value, int]
Axes = tuple[Axis, ...]
_CODE_BITS = 8


def reduction_length(node: Node) -> Dim | None:
    """The number of terms that are summed into one element of the first result, as dims of the graph.

    1 for what works element by element, and None where a shape that decides is unknown.
    """
    if node.op in _SUMMED:
        axes = _SUMMED[node.op](node)
        return None if axes is None else _extents(axes)
    rule = _TERMS.get(node.op)
    return 1 if rule is None else rule(node)


def macs(node: Node) -> Dim | None:
    """Multiply-accumulates of one run of a convolution, matrix product or recurrent layer; 0 for any other operator.

    None where a shape that decides is unknown. Padding counts as if it were data.
    """
    found, total = mac_axes(node), 0
    if found is None:
        return None
    for axes in found:
        total = total + _extents(axes)
    return total


def mac_axes(node: Node) -> tuple[Axes, ...] | None:
    """What multiply-accumulates grow with: sets of axes whose extents, multiplied, add up to `macs`."""
    if node.op in _RECURRENT:
        return _recurrent_axes(node)
    if node.op == "ConvTranspose":
        x, w = _axes(node.operand(0)), _axes(node.operand(1))
        return None if x is None or w is None else ((*x, *w[1:]),)
    rule = _SUMMED.get(node.op)
    if rule is None:
        return ()
    result, summed = _axes(node.results[0]), rule(node)
    return None if result is None or summed is None else ((*result, *summed),)


def weights(graph: Graph) -> dict[Value, Tensor]:
    """The constants of floats, or of codes of at most 8 bits, of a graph and of those nested in it; several values may
    hold one."""
    found = {value: value.constant or graph.defaults.get(value) for value in constants(graph)}
    return {value: tensor for value, tensor in found.items() if tensor is not None and _is_weight(tensor.dtype)}


def constants(graph: Graph) -> Iterator[Value]:
    """Initializers, and what nodes read or hold, of a graph and of those nested in it; some more than once."""
    yield from graph.initializers
    yield from graph.defaults
    for node in graph.nodes:
        yield from (
            value for value in (*node.operands, *node.results) if value is not None and value.constant is not None
        )
        for nested in node.graphs:
            yield from constants(nested)


def _is_weight(dtype: DType) -> bool:
    return dtype.is_float or (dtype is not DType.BOOL and 0 < dtype.bits <= _CODE_BITS)


def extent(dim: Dim | None, binding: Mapping[str, int], otherwise: int) -> int:
    """A dim as a number under a binding of the symbols; `otherwise` where that leaves it open."""
    if dim is not None and not isinstance(dim, int):
        dim = dim.substitute(binding)
    return dim if isinstance(dim, int) and dim >= 0 else otherwise


def _shape(node: Node, index: int) -> Shape | None:
    value: Value | None = node.operand(index)
    return None if value is None else value.shape


def _axes(value: Value | None) -> Axes | None:
    """All of a value's; None where it has no known rank."""
    return None if value is None or value.rank is None else tuple([(value, axis) for axis in range(value.rank)])


def _extents(axes: Axes) -> Dim:
    """Their product."""
    return product((value.shape or ())[axis] for value, axis in axes)


def _conv(weight: int) -> Callable[[Node], Axes | None]:
    def summed(node: Node) -> Axes | None:
        w = _axes(node.operand(weight))
        return None if w is None else w[1:]

    return summed


def _conv_transpose(node: Node) -> Dim | None:
    w = _shape(node, 1)
    return None if w is None else floor_div(w[0], node.get_int("group")) * product(w[2:])


def _matmul(node: Node) -> Axes | None:
    a = _axes(node.operand(0))
    return a[-1:] if a else None


def _gemm(node: Node) -> Axes | None:
    a = _axes(node.operand(0))
    return None if not a else (a[0 if node.get_int("transA") else -1],)


def _einsum(node: Node) -> Axes | None:
    """Of each letter that the result lacks."""
    left, arrow, right = node.get_str("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    letters = [letter for term in terms for letter in term if letter.isalpha()]
    kept = right if arrow else "".join(letter for letter in letters if letters.count(letter) == 1)
    found: dict[str, Axis] = {}
    for index, term in enumerate(terms):
        axes = _axes(node.operand(index))
        if axes is None:
            return None
        head, dots, tail = term.partition("...")
        found.update(zip(head, axes, strict=False))
        if dots:
            found.update(zip(reversed(tail), reversed(axes), strict=False))
    return tuple([axis for letter, axis in found.items() if letter not in kept])


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


def _recurrent_axes(node: Node) -> tuple[Axes, ...] | None:
    """Of x [steps, batch, input] by weights that end in [directions, gates * hidden, input] and [.., hidden]."""
    x, r = _axes(node.operand(0)), _axes(node.operand(2))
    if x is None or r is None:
        return None
    each = (*x[:-1], *r[:-1])
    return (*each, x[-1]), (*each, r[-1])


_REDUCE = ("L1", "L2", "LogSum", "LogSumExp", "Mean", "Prod", "Sum", "SumSquare")
_RECURRENT = frozenset(("LSTM", "GRU", "RNN"))
_SUMMED: Mapping[str, Callable[[Node], Axes | None]] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "DeformConv": _conv(1),
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
}
"""The axes that a product sums over."""
_TERMS: Mapping[str, Callable[[Node], Dim | None]] = {
    "ConvTranspose": _conv_transpose,
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
