"""Matrix products and convolutions: contracted axes are one, and so are those that reach the result."""

from __future__ import annotations

import numpy as np

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.elementwise import aligned
from planish.ir.ops.channels.tracker import KERNEL, Blocked, Channels, Doubles, Filters, Kept, Shrunk, Tracker

_CHANNELS = 1


def _track_matmul(node: Node, t: Tracker) -> None:
    track_product(node, node.operands[0], node.operands[1], t)


def track_product(node: Node, a: Value | None, b: Value | None, t: Tracker) -> None:
    """Of matrices, or stacks of them."""
    if a is None or b is None or not a.rank or not b.rank:
        return
    result, vector_a, vector_b = node.result, a.rank == 1, b.rank == 1
    t.unite(t.ids(a, -1), t.ids(b, -1 if vector_b else -2))
    last = len(result.shape or ())
    if not vector_b:
        last -= 1
        t.give(result, last, t.ids(b, -1))
    if not vector_a:
        last -= 1
        t.give(result, last, t.ids(a, -2))
    batched = [value for value in (a, b) if (value.rank or 0) > 2]
    computed = a.constant is None and b.constant is None
    for axis in range(last):
        ids = aligned(batched, axis - last - 2, t)  # from the end of operands that are matrices
        t.give(result, axis, ids)
        t.add_heads(ids if computed else None)


def _track_gemm(node: Node, t: Tracker) -> None:
    a, b, c = node.operand(0), node.operand(1), node.operand(2)
    if a is None or b is None:
        return
    turned_a, turned_b = node.get_int("transA"), node.get_int("transB")
    t.unite(t.ids(a, 0 if turned_a else 1), t.ids(b, 1 if turned_b else 0))
    rows, columns = t.ids(a, 1 if turned_a else 0), t.ids(b, 0 if turned_b else 1)
    if c is not None and c.shape is not None:
        for axis, ids in ((-1, columns), (-2, rows)):
            if len(c.shape) >= -axis and c.shape[axis] != 1:
                t.unite(ids, t.ids(c, axis))
            elif len(c.shape) >= -axis:
                t.ids(c, axis)
    t.give_all(node.result, [rows, columns])


def _track_conv(node: Node, t: Tracker) -> None:
    track_convolution(node, (node.operand(0), node.operand(1), node.operand(2)), t)


def track_convolution(node: Node, operands: tuple[Value | None, Value | None, Value | None], t: Tracker) -> None:
    """operands: image, weight and bias."""
    x, w, b = operands
    if x is None or w is None or x.shape is None or w.shape is None:
        return
    group, channels, filters = node.get_int("group"), x.shape[1], w.shape[0]
    for axis in range(2, len(w.shape)):
        t.keep(w, axis, KERNEL)
    if not isinstance(channels, int) or not isinstance(filters, int) or group < 1 or channels % group:
        return
    into, out = t.ids(x, _CHANNELS), t.ids(w, 0)
    if group == 1:
        t.unite(into, t.ids(w, _CHANNELS))
    elif group == channels:
        _depthwise(x, w, filters // group, t)
    else:
        _grouped(node, w, group, t)
    if b is not None:
        t.unite(out, t.ids(b, 0))
    t.give(node.result, 0, t.ids(x, 0))
    t.give(node.result, _CHANNELS, out)


def _depthwise(x: Value, w: Value, each: int, t: Tracker) -> None:
    """Every channel has filters of its own, which vanish with it."""
    into, out = t.ids(x, _CHANNELS), t.ids(w, 0)
    t.ids(w, _CHANNELS)
    t.unite(out, None if into is None else into.repeat(each))
    if out is None:
        t.freeze(into, "the filters of a depthwise convolution stay")


def _grouped(node: Node, w: Value, group: int, t: Tracker) -> None:
    """Each block of filters reads a block of channels: as many must stay of each."""
    into, out = t.ids(node.operands[0], _CHANNELS), t.ids(w, 0)
    if w.constant is None or into is None:
        t.freeze(into, "a grouped convolution has weights that are not constant")
        t.freeze(t.ids(w, 1), "a grouped convolution has weights or channels that stay")
    else:
        t.equal_counts(into, group, f"the {group} groups of {node.label}")
        t.block(w, Blocked(1, 0, into.reshape(group, -1)))
    t.equal_counts(out, group, f"the {group} groups of {node.label}")


def shrink_convolution(node: Node, kept: Kept) -> Shrunk:
    """A depthwise convolution has as many groups as channels."""
    x = node.operands[0]
    if x is None or x.shape is None or node.get_int("group") == 1 or node.get_int("group") != x.shape[1]:
        return Shrunk({}, {})
    return Shrunk({}, {"group": kept.extent(x, _CHANNELS)})


def _track_conv_transpose(node: Node, t: Tracker) -> None:
    """The weight is [channels, filters of a group, kernel...]."""
    x, w, b = node.operand(0), node.operand(1), node.operand(2)
    if x is None or w is None or x.shape is None or w.shape is None:
        return
    group, channels, each = node.get_int("group"), x.shape[1], w.shape[1]
    for axis in range(2, len(w.shape)):
        t.keep(w, axis, KERNEL)
    if not isinstance(channels, int) or not isinstance(each, int) or group < 1:
        return
    into = t.unite(t.ids(x, _CHANNELS), t.ids(w, 0))
    if group == 1:
        out = t.ids(w, 1)
    elif group == channels:
        t.keep(w, 1, "the filters of one channel stay together")
        out = None if into is None else into.repeat(each)
    else:
        t.freeze(into, "a transposed convolution has groups of several channels")
        out = None
        t.keep(w, 1, "a transposed convolution has groups of several channels")
    if b is not None:
        if out is None:
            t.keep(b, 0, "the filters of a transposed convolution stay")
        else:
            t.unite(out, t.ids(b, 0)) if b.shape != (1,) else t.freeze(out, "the bias has one element")
    t.give(node.result, 0, t.ids(x, 0))
    t.give(node.result, _CHANNELS, out)


# Constants that channels carry


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.constant is not None and value.constant.dtype.is_float


def _conv_filters(node: Node) -> Filters | None:
    return Filters(1, 0, 2, 1, 1) if _is_constant(node.operand(1)) else None


def _conv_transpose_filters(node: Node) -> Filters | None:
    """Of several groups, the weights of a channel do not lie at one index."""
    return Filters(1, 1, 2, 1, 1) if _is_constant(node.operand(1)) and node.get_int("group") == 1 else None


def _matmul_filters(node: Node) -> Filters | None:
    b = node.operand(1)
    return Filters(1, 1, None, -1, -1) if b is not None and _is_constant(b) and b.rank == 2 else None


def _gemm_filters(node: Node) -> Filters | None:
    if not _is_constant(node.operand(1)):
        return None
    rows, reads = (0 if node.get_int("transB") else 1), (0 if node.get_int("transA") else 1)
    return Filters(1, rows, 2, 1, reads, node.get_float("beta"))


def _conv_contribution(node: Node, constants: Doubles) -> Doubles | None:
    """The same everywhere only where no window reaches beyond the image; channels of their own add to no other."""
    w = node.operands[1]
    if w is None or w.constant is None or not _is_constant(w):
        return None
    if node.get_int("group") == len(constants) > 1:
        return np.zeros(w.constant.shape[0])
    if node.get_int("group") != 1:
        return None
    if any(node.get_ints("pads") or ()) or node.get_str("auto_pad") not in ("NOTSET", "VALID"):
        return None
    weights = np.asarray(w.constant.array(), np.float64)
    return weights.reshape(*weights.shape[:2], -1).sum(axis=2) @ constants


def _product_contribution(node: Node, constants: Doubles) -> Doubles | None:
    w = node.operands[1]
    if w is None or w.constant is None or not _is_constant(w) or w.rank != 2:
        return None
    weights = np.asarray(w.constant.array(), np.float64)
    if node.op == "MatMul":
        return constants @ weights
    return node.get_float("alpha") * (weights @ constants if node.get_int("transB") else constants @ weights)


CHANNELS: dict[str, Channels] = {
    "MatMul": Channels(_track_matmul, filters=_matmul_filters, contribution=_product_contribution),
    "Gemm": Channels(_track_gemm, filters=_gemm_filters, contribution=_product_contribution),
    "Conv": Channels(_track_conv, shrink_convolution, filters=_conv_filters, contribution=_conv_contribution),
    "ConvTranspose": Channels(_track_conv_transpose, shrink_convolution, filters=_conv_transpose_filters),
}
