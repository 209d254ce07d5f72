"""Operators of ONNX Runtime's own domain, as its quantizer and its optimizer leave them in models and passes add them.

All but attention with a cache are functions of their operands alone. ONNX Runtime's page of contrib operators says what
each gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planish.ir.dim import Shape, floor_div
from planish.ir.graph import Node, Value
from planish.ir.ops.broadcast import broadcast
from planish.ir.ops.elementwise import infer_same
from planish.ir.ops.linear import product_shape
from planish.ir.ops.operator import Infer, Operator
from planish.ir.types import DType, TensorType, Type

Types = Sequence[Type | None]
_HIDDEN, _HEADS = 3, 4


def _shape(value: Value | None) -> Shape | None:
    return None if value is None else value.shape


def _typed(dtype: DType | None, shape: Shape | None) -> Types:
    return (None if dtype is None else TensorType(dtype, shape),)


def _infer_lstm(node: Node) -> Types:
    """x [steps, batch, size], w [directions, ...]: y [steps, directions, batch, hidden], then the two last states."""
    x, w = node.operand(0), node.operand(1)
    if x is None or x.dtype is None:
        return ()
    given, weights, hidden = x.shape, _shape(w), node.attribute("hidden_size")
    if given is None or len(given) != 3 or not weights or not isinstance(hidden, int):
        return (TensorType(x.dtype),) * len(node.results)
    state = TensorType(x.dtype, (weights[0], given[1], hidden))
    return (TensorType(x.dtype, (given[0], weights[0], given[1], hidden)), state, state)[: len(node.results)]


def _infer_quantized_pair(node: Node) -> Types:
    """(a, scale, zero point, b, ...): elementwise, of the type of a."""
    a, b = node.operand(0), node.operand(3)
    left, right = _shape(a), _shape(b)
    shape = None if left is None or right is None else broadcast(node, left, right)
    return _typed(None if a is None else a.dtype, shape)


def _product(dtype_of: int) -> Infer:
    """A matrix product of the first two operands, of the element type of one of the operands."""

    def infer(node: Node) -> Types:
        typed = node.operand(dtype_of)
        shape = product_shape(node, _shape(node.operand(0)), _shape(node.operand(1)))
        return _typed(None if typed is None else typed.dtype, shape)

    return infer


def _infer_gather_blocks(node: Node) -> Types:
    """Rows of a table [n, ...] as Gather gives them, of the type of the scales; a byte holds several numbers."""
    data, scales, bits = node.operand(0), node.operand(2), node.attribute("bits")
    table, indices, dtype = _shape(data), _shape(node.operand(1)), None if scales is None else scales.dtype
    if not table or indices is None or data is None or node.attribute("gather_axis") not in (None, 0):
        return _typed(dtype, None)
    in_byte = 8 // (bits if isinstance(bits, int) and bits > 0 else 4) if data.dtype is DType.UINT8 else 1
    return _typed(dtype, (*indices, *table[1:-1], table[-1] * in_byte))


def _infer_multi_head_attention(node: Node) -> Sequence[Type | None]:
    """[batch, length, hidden of the value]; of packed operands and of what was before them nothing is said."""
    query, value = node.operand(0), node.operand(2)
    found: list[Type | None] = [None] * len(node.results)
    if query is None or query.dtype is None or query.shape is None or len(query.shape) != _HIDDEN:
        return found
    if value is None or value.shape is None:
        return found
    if len(value.shape) == _HIDDEN:
        found[0] = TensorType(query.dtype, (*query.shape[:2], value.shape[2]))
    elif len(value.shape) == _HEADS:
        found[0] = TensorType(query.dtype, (*query.shape[:2], value.shape[1] * value.shape[3]))
    return found


def _infer_grouped_attention(node: Node) -> Types:
    """Of the query's type and shape; of a packed query nothing is said."""
    query, found = node.operand(0), [None] * (len(node.results) - 1)
    if query is None or query.dtype is None or node.operand(1) is None:
        return (None, *found)
    return (TensorType(query.dtype, query.shape), *found)


def _infer_packed_attention(node: Node) -> Types:
    """x [batch, length, channels] and w [channels, query, key and value]: [batch, length, value]."""
    x, w, sizes = node.operand(0), _shape(node.operand(1)), node.get_ints("qkv_hidden_sizes")
    if x is None or x.dtype is None or x.shape is None or len(x.shape) != _HIDDEN or w is None or len(w) != 2:
        return (None,) * len(node.results)
    hidden = sizes[2] if sizes else floor_div(w[1], 3)
    return (TensorType(x.dtype, (*x.shape[:2], hidden)), *[None] * (len(node.results) - 1))


def _keeps_nothing(*past: int) -> Callable[[Node], bool]:
    """Whether there is no cache of earlier keys and values, which the operator may write to."""

    def keeps_nothing(node: Node) -> bool:
        return all(node.operand(position) is None for position in past) and len(node.results) == 1

    return keeps_nothing


def _pure(_: Node) -> bool:
    return True


def _entry(infer: Infer) -> Operator:
    return Operator(infer, pure=_pure)


_QUANTIZED_UNARY = ("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax")
_ACTIVATIONS = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")
OPERATORS: dict[str, Operator] = {
    **{f"com.microsoft::{name}": _entry(infer_same) for name in (*_ACTIVATIONS, *_QUANTIZED_UNARY)},
    "com.microsoft::DynamicQuantizeLSTM": _entry(_infer_lstm),
    "com.microsoft::DynamicQuantizeMatMul": _entry(_product(0)),
    "com.microsoft::GatherBlockQuantized": _entry(_infer_gather_blocks),
    "com.microsoft::MatMulIntegerToFloat": _entry(_product(2)),
    "com.microsoft::Attention": Operator(_infer_packed_attention, pure=_keeps_nothing(4)),
    "com.microsoft::GroupQueryAttention": Operator(_infer_grouped_attention, pure=_keeps_nothing(3, 4)),
    "com.microsoft::MultiHeadAttention": Operator(_infer_multi_head_attention, pure=_keeps_nothing(6, 7)),
    "com.microsoft::QLinearAdd": _entry(_infer_quantized_pair),
    "com.microsoft::QLinearMul": _entry(_infer_quantized_pair),
}
