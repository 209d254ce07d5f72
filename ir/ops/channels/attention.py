"""Fused attention: as many elements of every head must stay, and a query's go with the key's that they multiply."""

from __future__ import annotations

import math

import numpy as np

from planish.ir.graph import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker

_FLAT, _SPLIT = 3, 4
_MICROSOFT = "com.microsoft::MultiHeadAttention"


def _plain(node: Node) -> tuple[Value, Value, Value] | None:
    """Query, key and value of equal rank, where nothing is kept from one run to the next."""
    query, key, value = (node.operand(i) for i in range(3))
    past = node.operands[4:6] if node.op == "Attention" else node.operands[6:]
    if query is None or key is None or value is None or any(past) or any(r.is_used for r in node.results[1:]):
        return None
    return (query, key, value) if query.rank == key.rank == value.rank else None


def _heads(node: Node, query: Value) -> tuple[int, int]:
    """How many heads the hidden axis of the query holds, and how many that of the key."""
    if node.op == _MICROSOFT:
        return node.get_int("num_heads"), node.get_int("num_heads")
    if query.rank == _FLAT:
        return node.get_int("q_num_heads"), node.get_int("kv_num_heads")
    return 1, 1


def _track_attention(node: Node, t: Tracker) -> None:
    found = _plain(node)
    if found is None:
        return
    query, key, value = found
    if query.rank == _FLAT:
        _flat(node, query, key, value, t)
    elif query.rank == _SPLIT and node.op == "Attention":
        _split(node, query, key, value, t)


def _flat(node: Node, query: Value, key: Value, value: Value, t: Tracker) -> None:
    """[batch, length, heads * size]; several heads of the query may share one of key and value."""
    many, few = _heads(node, query)
    q, k, v = (t.ids(part, 2) for part in (query, key, value))
    if not few or many % few or q is None or k is None or v is None:
        for ids in (q, k, v):
            t.freeze(ids, "the hidden axis of query, key or value stays")
        return
    t.atoms.unite(k.reshape(few, 1, -1), q.reshape(few, many // few, -1))
    result: Ids = v.reshape(few, 1, -1).repeat(many // few, axis=1).ravel()
    what = f"the heads of {node.label}"
    for ids, heads in ((q, many), (k, few), (v, few)):
        t.equal_counts(ids, heads, what)
    bias = node.operand(3) if node.op == _MICROSOFT else None
    if bias is not None:
        t.unite(t.ids(bias, 0), np.concatenate([q, k, v]))
    t.give(node.result, 2, result)
    t.give(node.result, 0, t.unite(*[t.ids(part, 0) for part in (query, key, value)]))
    t.give(node.result, 1, t.ids(query, 1))


def _split(node: Node, query: Value, key: Value, value: Value, t: Tracker) -> None:
    """[batch, heads, length, size]."""
    t.unite(t.ids(query, 3), t.ids(key, 3))
    t.give(node.result, 3, t.ids(value, 3))
    t.give(node.result, 2, t.ids(query, 2))


def _shrink_attention(node: Node, kept: Kept) -> Shrunk:
    """The products are scaled by what the size of a head was."""
    found = _plain(node)
    if found is None or node.attributes.get("scale"):
        return Shrunk({}, {})
    query = found[0]
    axis = 2 if query.rank == _FLAT else 3
    size = query.shape[axis] if query.shape is not None else 0
    if kept.positions(query, axis) is None or not isinstance(size, int):
        return Shrunk({}, {})
    return Shrunk({}, {"scale": 1 / math.sqrt(size // _heads(node, query)[0])})


CHANNELS: dict[str, Channels] = {
    "Attention": Channels(_track_attention, _shrink_attention),
    _MICROSOFT: Channels(_track_attention, _shrink_attention),
}
