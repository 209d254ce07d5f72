"""Fused attention: heads vanish whole, or as many elements of each, a query's with the key's that they multiply."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from planish.ir.graph import Attribute, Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker

_FLAT, _SPLIT = 3, 4
_PACKED = "com.microsoft::Attention"
_GROUPED = "com.microsoft::GroupQueryAttention"
_MULTI = "com.microsoft::MultiHeadAttention"
_STAYS = "the hidden axis of query, key or value stays"


class _Form(NamedTuple):
    """What an operator calls the parts of attention."""

    query: str
    """The attribute that counts the heads of the query."""
    key: str
    past: slice
    """Operands that hold earlier keys and values, or say where these are."""
    bias: int | None = None
    """The operand that is added to query, key and value."""
    mask: int | None = None
    """The operand that is added to the scores [..., heads or 1, length, length]."""
    sink: int | None = None
    """The operand with a number for each head."""


_FORMS: dict[str, _Form] = {
    "Attention": _Form("q_num_heads", "kv_num_heads", slice(4, 6), mask=3),
    _GROUPED: _Form("num_heads", "kv_num_heads", slice(3, 5), mask=10, sink=11),
    _MULTI: _Form("num_heads", "num_heads", slice(6, None), bias=3, mask=5),
    _PACKED: _Form("num_heads", "num_heads", slice(4, 5), bias=2, mask=5),
}


def _keeps_nothing(node: Node) -> bool:
    """Whether nothing goes on from one run to the next, and the result alone is read."""
    return not any(node.operands[_FORMS[node.op].past]) and not any(result.is_used for result in node.results[1:])


def _plain(node: Node) -> tuple[Value, Value, Value] | None:
    """Query, key and value of equal rank."""
    query, key, value = (node.operand(i) for i in range(3))
    if query is None or key is None or value is None or not _keeps_nothing(node):
        return None
    return (query, key, value) if query.rank == key.rank == value.rank else None


def _counts(node: Node) -> tuple[int, int]:
    """How many heads the query has, and how many the key."""
    found = [node.attribute(name) for name in _FORMS[node.op][:2]]
    query, key = (number if isinstance(number, int) else 0 for number in found)
    return query, key


def _track_attention(node: Node, t: Tracker) -> None:
    found = _plain(node)
    if found is None:
        return
    query, key, value = found
    if query.rank == _FLAT and (t.whole_heads or node.op != _GROUPED):
        _flat(node, query, key, value, t)
    elif query.rank == _SPLIT and node.op == "Attention":
        _split(node, query, key, value, t)


def _flat(node: Node, query: Value, key: Value, value: Value, t: Tracker) -> None:
    """[batch, length, heads * size]; several heads of the query may share one of key and value."""
    q, k, v = (t.ids(part, 2) for part in (query, key, value))
    t.give(node.result, 2, _tie(node, q, k, v, t))
    bias = _operand(node, _FORMS[node.op].bias)
    if bias is not None and q is not None and k is not None and v is not None:
        t.unite(t.ids(bias, 0), np.concatenate([q, k, v]))
    t.give(node.result, 0, t.unite(*[t.ids(part, 0) for part in (query, key, value)]))
    t.give(node.result, 1, t.ids(query, 1))


def _tie(node: Node, q: Ids | None, k: Ids | None, v: Ids | None, t: Tracker) -> Ids | None:
    """Say which elements of query, key and value vanish together; the atoms of the result's hidden axis."""
    many, few = _counts(node)
    if few < 1 or many % few or q is None or k is None or v is None or q.size * few != k.size * many or v.size % few:
        for ids in (q, k, v):
            t.freeze(ids, _STAYS)
        return None
    t.atoms.unite(k.reshape(few, 1, -1), q.reshape(few, many // few, -1))
    if t.whole_heads:
        heads = k.reshape(few, -1)[:, :1].copy()
        t.atoms.unite(heads, k.reshape(few, -1))
        t.atoms.unite(heads, v.reshape(few, -1))
        t.add_heads(heads.ravel())
        _tie_masks(node, q.reshape(many, -1)[:, 0].copy(), t)
    else:
        for ids, heads in ((q, many), (k, few), (v, few)):
            t.equal_counts(ids, heads, f"the heads of {node.label}")
    result: Ids = v.reshape(few, 1, -1).repeat(many // few, axis=1).ravel()
    return result


def _tie_masks(node: Node, heads: Ids, t: Tracker) -> None:
    """What has an element for each head goes with it."""
    form = _FORMS[node.op]
    for value, axis in ((_operand(node, form.mask), -3), (_operand(node, form.sink), -1)):
        dim = None if value is None or value.shape is None or len(value.shape) < -axis else value.shape[axis]
        if dim == len(heads) != 1:
            t.unite(heads, t.ids(value, axis))
        elif dim not in (None, 1):
            t.freeze(heads, "it is not known whether a mask tells its heads apart")


def _operand(node: Node, position: int | None) -> Value | None:
    return None if position is None else node.operand(position)


def _split(node: Node, query: Value, key: Value, value: Value, t: Tracker) -> None:
    """[batch, heads, length, size]."""
    t.unite(t.ids(query, 3), t.ids(key, 3))
    t.give(node.result, 3, t.ids(value, 3))
    t.give(node.result, 2, t.ids(query, 2))
    if t.whole_heads:
        q, k, v = (t.ids(part, 1) for part in (query, key, value))
        if t.unite(k, v) is None or k is None or q is None or q.size % k.size:
            for ids in (q, k, v):
                t.freeze(ids, "the heads of query, key or value stay")
            return
        t.atoms.unite(k[:, None], q.reshape(len(k), -1))
        t.add_heads(k)
        _tie_masks(node, q, t)
        t.give(node.result, 1, q)


def _track_packed(node: Node, t: Tracker) -> None:
    """One weight [channels, query, key and value] makes all three; a rotary embedding pairs elements of a head."""
    x, w, bias = node.operand(0), node.operand(1), node.operand(2)
    sizes = None if w is None else _packed_sizes(node, w)
    if x is None or w is None or w.rank != 2 or sizes is None or not _keeps_nothing(node):
        return
    if node.attribute("do_rotary") and not t.whole_heads:
        return
    t.unite(t.ids(x, 2), t.ids(w, 0))
    ids = t.ids(w, 1)
    if bias is not None:
        ids = t.unite(ids, t.ids(bias, 0))
    q, k, v = (None, None, None) if ids is None else np.split(ids, [sizes[0], sizes[0] + sizes[1]])
    t.give(node.result, 2, _tie(node, q, k, v, t))
    t.give(node.result, 0, t.ids(x, 0))
    t.give(node.result, 1, t.ids(x, 1))


def _packed_sizes(node: Node, w: Value) -> tuple[int, int, int] | None:
    """How many columns of the weight make query, key and value."""
    named, width = node.get_ints("qkv_hidden_sizes"), None if not w.shape else w.shape[-1]
    if not isinstance(width, int):
        return None
    if named:
        return (named[0], named[1], named[2]) if len(named) == 3 and sum(named) == width else None
    return (width // 3, width // 3, width // 3) if width % 3 == 0 else None


# What counts heads and their elements


def _shrink_attention(node: Node, kept: Kept) -> Shrunk:
    found = _plain(node)
    if found is None or found[0].rank != _FLAT:
        return _scaled(node, found, kept)
    query, key, _ = found
    many, few = _counts(node)
    positions = kept.positions(query, 2), kept.positions(key, 2)
    form = _FORMS[node.op]
    attributes = _fallen(form.query, positions[0], _size(query, many), node)
    return Shrunk({}, {**attributes, **_fallen(form.key, positions[1], _size(key, few), node, scales=False)})


def _shrink_packed(node: Node, kept: Kept) -> Shrunk:
    w = node.operand(1)
    sizes = None if w is None else _packed_sizes(node, w)
    positions = None if w is None else kept.positions(w, 1)
    if sizes is None or positions is None:
        return Shrunk({}, {})
    query = positions[positions < sizes[0]]
    bounds = np.searchsorted(positions, np.cumsum([0, *sizes]))
    attributes = _fallen("num_heads", query, sizes[0] // _counts(node)[0], node)
    return Shrunk({}, {**attributes, "qkv_hidden_sizes": tuple(np.diff(bounds).tolist())})


def _fallen(
    name: str, positions: Ids | None, size: int, node: Node, *, scales: bool = True
) -> dict[str, Attribute | None]:
    """The number of heads that is left; where their size falls, products are scaled by what it was."""
    if positions is None or size < 1:
        return {}
    heads = len(set((positions // size).tolist()))
    found: dict[str, Attribute | None] = {name: heads}
    if scales and len(positions) < heads * size and not node.attribute("scale"):
        found["scale"] = 1 / math.sqrt(size)
    return found


def _scaled(node: Node, found: tuple[Value, Value, Value] | None, kept: Kept) -> Shrunk:
    """Of heads on an axis of their own, whose number no attribute has to hold."""
    if found is None or found[0].rank != _SPLIT:
        return Shrunk({}, {})
    named = zip(_FORMS[node.op][:2], found, strict=False)
    attributes: dict[str, Attribute | None] = {
        name: kept.extent(value, 1) for name, value in named if name in node.attributes
    }
    if kept.positions(found[0], 3) is not None and not node.attribute("scale"):
        attributes["scale"] = 1 / math.sqrt(_size(found[0], 1))
    return Shrunk({}, attributes)


def _size(value: Value, heads: int) -> int:
    """Elements of a head; 0 where that is not known."""
    dim = None if value.shape is None else value.shape[-1]
    return dim // heads if isinstance(dim, int) and heads else 0


CHANNELS: dict[str, Channels] = {
    "Attention": Channels(_track_attention, _shrink_attention),
    _GROUPED: Channels(_track_attention, _shrink_attention),
    _MULTI: Channels(_track_attention, _shrink_attention),
    _PACKED: Channels(_track_packed, _shrink_packed),
}
