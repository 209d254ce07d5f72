"""Attention in the spellings of exporters and of fused operators, with weights that leave no two heads alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import DType, Graph, Value
from planish.ir.graph import Attribute
from tests.passes.prune.topologies import Net

WORDS = ("N", "T", 12)
_FIRST = (0, 2, 1, 3)


def split(n: Net, x: Value, heads: int, size: int, order: Sequence[int] = _FIRST) -> Value:
    return n.op("Transpose", n.op("Reshape", x, n.ints(0, 0, heads, size)), perm=tuple(order))


def mixed(n: Net, q: Value, k: Value, v: Value, bias: Value | None = None) -> Value:
    """[batch, heads, length, size] of all three to [batch, length, heads * size]; k with its last axes swapped."""
    scores = n.op("Mul", n.op("MatMul", q, k), n.b.constant(np.array(0.3, np.float32)))
    scores = scores if bias is None else n.op("Add", scores, bias)
    y = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=-1), v), perm=_FIRST)
    return n.op("Reshape", y, n.ints(0, 0, -1))


def layer(n: Net, x: Value, context: Value | None = None, bias: Value | None = None, heads: int = 4) -> Value:
    """Three projections, and one behind; of cross attention keys and values are of the context."""
    other = x if context is None else context
    q = split(n, n.linear(x, (12, 8 * heads)), heads, 8)
    k = split(n, n.linear(other, (12, 8 * heads)), heads, 8, (0, 2, 3, 1))
    v = split(n, n.linear(other, (12, 4 * heads)), heads, 4)
    return n.linear(mixed(n, q, k, v, bias), (4 * heads, 12))


def cross() -> Graph:
    n = Net(WORDS)
    context = n.b.input("context", DType.FLOAT, ("N", "S", 12))
    return n.end(layer(n, layer(n, n.x), context))


def masked() -> Graph:
    """A bias of one number for each head (ALiBi, Press et al. 2022), and a mask that all heads share."""
    n = Net(WORDS)
    mask = n.b.input("mask", DType.FLOAT, ("N", 1, 1, "T"))
    return n.end(layer(n, n.x, bias=n.op("Add", mask, n.weight(1, 4, 1, 1))))


def packed_split(*, axis_of_parts: bool = False) -> Graph:
    """One projection of query, key and value, divided by a Split, or on an axis of their own."""
    n = Net(WORDS)
    y = n.linear(n.x, (12, 96))
    if axis_of_parts:
        y = n.op("Transpose", n.op("Reshape", y, n.ints(0, 0, 3, 4, 8)), perm=(2, 0, 3, 1, 4))
        q, k, v = (n.op("Gather", y, n.b.constant(np.array(place)), axis=0) for place in range(3))
    else:
        q, k, v = (split(n, part, 4, 8) for part in n.b.nodes("Split", (y, n.ints(32, 32, 32)), {"axis": 2}, results=3))
    return n.end(n.linear(mixed(n, q, n.op("Transpose", k, perm=(0, 1, 3, 2)), v), (32, 12)))


def packed_by_head() -> Graph:
    """Query, key and value of a head side by side (GPT-NeoX, BLOOM)."""
    n = Net(WORDS)
    y = n.op("Transpose", n.op("Reshape", n.linear(n.x, (12, 96)), n.ints(0, 0, 4, 24)), perm=_FIRST)
    q, k, v = n.b.nodes("Split", (y,), {"axis": 3, "num_outputs": 3}, results=3)
    return n.end(n.linear(mixed(n, q, n.op("Transpose", k, perm=(0, 1, 3, 2)), v), (32, 12)))


def computed_targets() -> Graph:
    """Targets that are worked out of shapes: the number of heads stands in one, the hidden size is their product."""
    n = Net(WORDS)

    def extent(x: Value, axis: int) -> Value:
        return n.op("Unsqueeze", n.op("Gather", n.op("Shape", x), n.b.constant(np.array(axis))), n.ints(0))

    def part(size: int) -> Value:
        y = n.linear(n.x, (12, 4 * size))
        each = n.op("Div", extent(y, 2), n.ints(4))
        target = n.op("Concat", extent(n.x, 0), extent(n.x, 1), n.ints(4), each, axis=0)
        return n.op("Transpose", n.op("Reshape", y, target), perm=_FIRST)

    q, k, v = part(8), part(8), part(4)
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))), axis=-1)
    y = n.op("Transpose", n.op("MatMul", scores, v), perm=_FIRST)
    hidden = n.op("Mul", extent(y, 2), extent(y, 3))
    y = n.op("Reshape", y, n.op("Concat", extent(y, 0), extent(y, 1), hidden, axis=0))
    return n.end(n.linear(y, (16, 12)))


def one_key() -> Graph:
    """Multi-query attention (Shazeer 2019): heads share the one key and value, which stay."""
    n = Net(WORDS)
    q = split(n, n.linear(n.x, (12, 32)), 4, 8)
    k, v = (split(n, n.linear(n.x, (12, 8)), 1, 8) for _ in range(2))
    return n.end(n.linear(mixed(n, q, n.op("Transpose", k, perm=(0, 1, 3, 2)), v), (32, 12)))


def tied() -> Graph:
    """Two layers with the same weights (ALBERT)."""
    n = Net(WORDS)
    weights = [n.weight(12, 32) for _ in range(3)]
    out, x = n.weight(32, 12), n.x
    for _ in range(2):
        q, k, v = (split(n, n.op("MatMul", x, w), 4, 8) for w in weights)
        x = n.op("Add", x, n.op("MatMul", mixed(n, q, n.op("Transpose", k, perm=(0, 1, 3, 2)), v), out))
    return n.end(x)


def nested() -> Graph:
    """Attention within the branch of an If, beside one that has none."""
    n = Net(WORDS)
    flag = n.b.input("flag", DType.BOOL, ())
    whole, attends, passes = n.b, n.b.body("attends"), n.b.body("passes")
    n.b = attends
    attends.output("a", layer(n, n.x))
    n.b = whole
    passes.output("p", passes.node("Neg", (n.x,)))
    branches: dict[str, Attribute] = {"then_branch": attends.graph(), "else_branch": passes.graph()}
    return n.end(n.b.node("If", (flag,), branches))


def fused(*, heads: int = 8, groups: int = 2, flat: bool = True, mask: Sequence[int] = ()) -> Graph:
    """Attention of opset 23; the mask is a constant, which ONNX Runtime does not broadcast over lengths."""
    n = Net((2, 5, 12) if mask else WORDS, opset=23)
    q, k, v = (n.linear(n.x, (12, size)) for size in (8 * heads, 8 * groups, 4 * groups))
    attributes: dict[str, Attribute] = {"q_num_heads": heads, "kv_num_heads": groups} if flat else {}
    if not flat:
        q, k, v = split(n, q, heads, 8), split(n, k, groups, 8), split(n, v, groups, 4)
    operands = (q, k, v, n.weight(*mask)) if mask else (q, k, v)
    y = n.b.node("Attention", operands, attributes)
    y = y if flat else n.op("Reshape", n.op("Transpose", y, perm=_FIRST), n.ints(0, 0, 4 * heads))
    return n.end(n.linear(y, (4 * heads, 12)))


def microsoft_multi(*, bias: bool = False) -> Graph:
    n = Net((2, 5, 12))
    q, k, v = (n.op("MatMul", n.x, n.weight(12, size)) for size in (32, 32, 16))
    scores = n.weight(1, 4, 5, 5) if bias else None
    y = n.b.node("com.microsoft::MultiHeadAttention", (q, k, v, n.weight(80), None, scores), {"num_heads": 4})
    return n.end(n.linear(y, (16, 12)))


def microsoft_packed(*sizes: int) -> Graph:
    n = Net(WORDS)
    width, attributes = sum(sizes) or 96, {"num_heads": 4, **({"qkv_hidden_sizes": sizes} if sizes else {})}
    y = n.b.node("com.microsoft::Attention", (n.x, n.weight(12, width), n.weight(width)), attributes)
    return n.end(n.linear(y, (sizes[2] if sizes else 32, 12)))


def microsoft_grouped() -> Graph:
    n = Net((2, 5, 12))
    q, k, v = (n.linear(n.x, (12, size)) for size in (64, 16, 16))
    lengths = n.b.constant(np.full(2, 4, np.int32)), n.b.constant(np.array(5, np.int32))
    operands = (q, k, v, None, None, *lengths)
    y = n.b.node("com.microsoft::GroupQueryAttention", operands, {"num_heads": 8, "kv_num_heads": 2})
    return n.end(n.linear(y, (64, 12)))


def transformer(*, free: int = 0) -> Graph:
    """Two layers of four heads of 8 elements, and inner neurons; of the second so many heads add next to nothing."""
    n = Net(WORDS)
    x = n.x
    for layer in range(2):
        w = n.random.standard_normal((12, 4, 8)).astype(np.float32) / np.float32(np.sqrt(12))
        w[:, : free * layer] *= 1e-4
        q, k, v = (
            n.op("MatMul", x, each) for each in (n.weight(12, 32), n.weight(12, 32), n.b.constant(w.reshape(12, 32)))
        )
        y = mixed(n, split(n, q, 4, 8), split(n, k, 4, 8, (0, 2, 3, 1)), split(n, v, 4, 8))
        x = n.op("Add", x, n.linear(y, (32, 12)))
        x = n.op("Add", x, n.linear(n.op("Gelu", n.linear(x, (12, 48))), (48, 12)))
    return n.end(x)


ATTENTIONS: dict[str, tuple[Callable[[], Graph], list[int]]] = {
    "cross": (cross, [4, 4]),
    "masked": (masked, [4]),
    "packed, split": (packed_split, [4]),
    "packed, gathered": (lambda: packed_split(axis_of_parts=True), [4]),
    "packed by head": (packed_by_head, [4]),
    "computed targets": (computed_targets, [4]),
    "one key": (one_key, [4]),
    "tied": (tied, [4]),
    "nested": (nested, [4]),
    "grouped": (fused, [2]),
    "as many keys": (lambda: fused(heads=4, groups=4), [4]),
    "a mask for each head": (lambda: fused(heads=4, groups=4, mask=(1, 4, 5, 5)), [4]),
    "a mask for each head of a group": (lambda: fused(mask=(8, 5, 5)), [2]),
    "a mask for all": (lambda: fused(mask=(1, 5, 5)), [2]),
    "heads apart": (lambda: fused(flat=False), [2]),
    "heads apart, a mask for each": (lambda: fused(heads=4, groups=4, flat=False, mask=(4, 5, 5)), [4]),
    "microsoft": (microsoft_multi, [4]),
    "microsoft, a bias for each head": (lambda: microsoft_multi(bias=True), [4]),
    "microsoft, packed": (microsoft_packed, [4]),
    "microsoft, packed unevenly": (lambda: microsoft_packed(32, 32, 16), [4]),
    "microsoft, grouped": (microsoft_grouped, [2]),
}
"""Graphs, and how many heads each layer may lose one by one."""
