"""Transformers of random layers: each takes numbers that choose how its heads are made, split, masked and joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir import Graph, Value
from tests.passes.prune.attentions import WORDS, split
from tests.passes.prune.topologies import Net

_WIDTH = 12
_SWAPPED = (0, 1, 3, 2)


def attention_layers(layers: Sequence[Sequence[int]]) -> Graph:
    """Layers of five numbers each."""
    n = Net(WORDS, seed=len(layers))
    x, tables = n.x, [n.weight(_WIDTH, 32) for _ in range(2)]
    for numbers in layers:
        x = _layer(n, x, numbers, tables[numbers[0] % 2])
    return n.end(x)


def _layer(n: Net, x: Value, numbers: Sequence[int], table: Value) -> Value:
    kind, sizes, spelling, bias, around = numbers
    y = _norm(n, x) if around % 4 == 0 else x
    heads, size = (4, 2, 6, 3, 8, 5)[sizes % 6], (8, 4, 3)[sizes // 6 % 3]
    if kind % 5 == 0:
        q, k, v = _packed(n, y, heads, size, spelling)
    elif kind % 5 == 1:
        heads, size = 4, 8
        q, k, v = (split(n, n.op("MatMul", y, w), 4, 8) for w in (table, n.weight(_WIDTH, 32), table))
    elif kind % 5 == 2:
        q, k, v = _grouped(n, y, heads, size, spelling)
    else:
        q, k, v = (split(n, n.linear(y, (_WIDTH, heads * size)), heads, size) for _ in range(3))
    y = _joined(n, _attended(n, (q, k, v), bias, heads), heads * size, spelling)
    y = n.linear(y, (heads * size, _WIDTH))
    y = y if around % 3 == 0 else n.op("Add", x, y)
    y = _norm(n, y) if around % 4 == 1 else y
    if around % 2:
        y = n.op("Add", y, n.linear(n.op("Gelu", n.linear(y, (_WIDTH, 16))), (16, _WIDTH)))
    return y


def _norm(n: Net, x: Value) -> Value:
    return n.b.node("LayerNormalization", (x, n.positive(_WIDTH), n.weight(_WIDTH)), {"axis": -1, "epsilon": 1e-2})


def _packed(n: Net, x: Value, heads: int, size: int, how: int) -> Sequence[Value]:
    y = n.linear(x, (_WIDTH, 3 * heads * size))
    if how % 4 == 0:
        parts = n.b.nodes("Split", (y,), {"axis": -1, "num_outputs": 3}, results=3)
        return [split(n, part, heads, size) for part in parts]
    if how % 4 == 1:
        y = n.op("Transpose", n.op("Reshape", y, n.ints(0, 0, 3, heads, size)), perm=(2, 0, 3, 1, 4))
        return [n.op("Gather", y, n.b.constant(np.array(place)), axis=0) for place in range(3)]
    if how % 4 == 2:
        y = n.op("Transpose", n.op("Reshape", y, n.ints(0, 0, heads, 3 * size)), perm=(0, 2, 1, 3))
        return n.b.nodes("Split", (y, n.ints(size, size, size)), {"axis": 3}, results=3)
    y = n.op("Transpose", n.op("Reshape", y, n.ints(0, 0, heads, 3, size)), perm=(3, 0, 2, 1, 4))
    parts = n.b.nodes("Split", (y,), {"axis": 0, "num_outputs": 3}, results=3)
    return [n.op("Squeeze", part, n.ints(0)) for part in parts]


def _grouped(n: Net, x: Value, heads: int, size: int, how: int) -> Sequence[Value]:
    """Some heads of keys and values, each repeated."""
    few = max(count for count in (1, 2, 3) if heads % count == 0 and count <= 1 + how % 3)
    q = split(n, n.linear(x, (_WIDTH, heads * size)), heads, size)

    def repeated(y: Value) -> Value:
        if how % 2:
            return n.op("Gather", y, n.b.constant(np.repeat(np.arange(few), heads // few)), axis=1)
        y = n.op("Unsqueeze", y, n.ints(2))
        y = n.op("Concat", *[y] * (heads // few), axis=2)
        return n.op("Reshape", y, n.ints(0, heads, -1, size))

    k, v = (split(n, n.linear(x, (_WIDTH, few * size)), few, size) for _ in range(2))
    return q, repeated(k), repeated(v)


def _attended(n: Net, parts: Sequence[Value], how: int, heads: int) -> Value:
    q, k, v = parts
    if how % 7 == 0:
        q = n.op("Mul", q, n.weight(heads, 1, 1))
    if how % 5 == 0:
        k = n.op("LpNormalization", k, axis=-1)
    scores = n.op("MatMul", q, n.op("Transpose", k, perm=_SWAPPED))
    shape = (None, (1, heads, 1, 1), (heads, 1, 1), (1,))[how % 4]
    scores = scores if shape is None else n.op("Add", scores, n.weight(*shape))
    scores = n.op("Softmax", scores, axis=-1) if how % 3 else n.op("Sigmoid", scores)
    return n.op("MatMul", scores, v)


def _joined(n: Net, y: Value, hidden: int, how: int) -> Value:
    y = n.op("Transpose", y, perm=(0, 2, 1, 3))
    if how % 3 == 0:
        y = n.op("Mul", y, n.positive(y.shape[2], 1)) if y.shape and isinstance(y.shape[2], int) else y
    return n.op("Reshape", y, n.ints(0, 0, hidden if how % 2 else -1))
