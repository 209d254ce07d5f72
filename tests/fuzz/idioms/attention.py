"""Attention and rotary position embedding as exporters spell them."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import Value
from tests.fuzz.idioms.spelling import Idioms, product, swapped, times
from tests.fuzz.operators import is_known, known
from tests.fuzz.writer import FLOAT, SkipError, Writer

_HEADS = 2


def _hidden(w: Writer) -> Value:
    """[batch, length, hidden], whose hidden axis splits into heads."""
    return w.pick(FLOAT, least=3, most=3, test=lambda v: is_known(v, -1) and known(v, -1) % _HEADS == 0)


def _split(w: Writer, x: Value, order: tuple[int, ...]) -> Value:
    """One of query, key and value, as heads."""
    width = known(x, -1)
    y = w.node("MatMul", x, w.weight(width, width))
    if w.often(50):
        y = w.node("Add", w.weight(width), y)
    y = w.node("Reshape", y, w.ints(*w.choose(((0, 0, _HEADS, width // _HEADS), (0, -1, _HEADS, width // _HEADS)))))
    if order == (0, 2, 3, 1) and w.often(30):
        y = w.node("Transpose", y, attributes={"perm": (0, 2, 1, 3)})
        return w.node("Transpose", y, attributes={"perm": (0, 1, 3, 2)})
    return w.node("Transpose", y, attributes={"perm": order})


def _split_at_once(w: Writer, x: Value) -> tuple[Value, Value, Value]:
    """Query, key and value from one product, their parts in front."""
    width = known(x, -1)
    y = w.node("MatMul", x, w.weight(width, 3 * width))
    y = w.node("Reshape", y, w.ints(0, 0, 3, _HEADS, width // _HEADS))
    y = w.node("Transpose", y, attributes={"perm": (2, 0, 3, 1, 4)})
    form = w.choose(("gather", "split", "slice"))
    if form == "gather":
        q, k, v = (w.node("Gather", y, w.index(part), attributes={"axis": 0}) for part in (0, 1, w.choose((2, -1))))
    elif form == "split":
        parts = w.b.nodes("Split", (y, w.ints(1, 1, 1)), {"axis": 0}, results=3)
        q, k, v = (w.node("Squeeze", part, w.ints(0)) for part in parts)
    else:
        parts = [w.node("Slice", y, w.ints(part), w.ints(part + 1), w.ints(0)) for part in range(3)]
        q, k, v = (w.node("Squeeze", part, w.ints(0)) for part in parts)
    return q, w.node("Transpose", k, attributes={"perm": (0, 1, 3, 2)}), v


def attention(w: Writer) -> None:
    x = _hidden(w)
    width = known(x, -1)
    scale = 1 / math.sqrt(width // _HEADS)
    if w.often(40):
        q, k, v = _split_at_once(w, x)
    else:
        q, k, v = _split(w, x, (0, 2, 1, 3)), _split(w, x, (0, 2, 3, 1)), _split(w, x, (0, 2, 1, 3))
    where = w.choose(("scores", "query", "both", "none"))
    if where in ("query", "both"):
        q = times(w, q, scale if where == "query" else math.sqrt(scale))
    if where == "both":
        k = times(w, k, math.sqrt(scale))
    scores = w.node("MatMul", q, k)
    scores = times(w, scores, scale) if where == "scores" else scores
    if w.often(30):
        scores = swapped(w, "Add", scores, _mask(w, scores))
    mixed = w.node("MatMul", w.node("Softmax", scores, attributes={"axis": -1 if w.often(92) else 1}), v)
    mixed = w.node("Transpose", mixed, attributes={"perm": (0, 2, 1, 3)})
    w.make("Reshape", mixed, w.ints(0, 0, width))


def _mask(w: Writer, scores: Value) -> Value:
    """Numbers to add, some of them as good as minus infinity; a whole row of these is what must not be fused."""
    length = known(scores, -1)
    mask = np.random.default_rng(w.number(0, 99)).normal(
        0, 1, (1, 1, *w.choose(((1, 1), (1, length), (length, length))))
    )
    if w.often(40):
        place = slice(None) if w.often(20) else -1
        mask[..., place] = w.choose((-1e4, float(np.finfo(np.float32).min), -math.inf))
    return w.fixed(mask.astype(np.float32))


def rotary(w: Writer) -> None:
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, -1, -2) and known(v, -1) % 2 == 0)
    size, length = known(x, -1), known(x, -2)
    half = size // 2
    if w.often(30):
        first, second = w.b.nodes("Split", (x, w.ints(half, half)), {"axis": -1}, results=2)
    else:
        first = w.node("Slice", x, w.ints(0), w.ints(half), w.ints(3))
        second = w.node("Slice", x, w.ints(half), w.ints(w.choose((2**63 - 1, size))), w.ints(w.choose((3, -1))))
    pair = (w.node("Neg", second), first) if w.often(90) else (w.node("Neg", first), second)
    turned = w.node("Concat", *pair, attributes={"axis": -1})
    cosine, sine = _angles(w, x, length, half)
    w.keep(swapped(w, "Add", product(w, x, cosine), product(w, turned, sine)))


def _angles(w: Writer, x: Value, length: int, half: int) -> tuple[Value, Value]:
    """Cosines and sines [batch, 1, length, size] that repeat: constants, or worked out of a Concat with itself."""
    batch = x.shape[0] if x.shape is not None and w.often(85) else 1
    if not isinstance(batch, int):
        raise SkipError
    angles = np.random.default_rng(w.number(0, 9)).normal(0, 1, (batch, length, half))
    if w.often(60):
        doubled = np.concatenate((angles, angles if w.often(90) else angles + 1), -1)[:, None]
        return w.fixed(np.cos(doubled).astype(np.float32)), w.fixed(np.sin(doubled).astype(np.float32))
    source = w.pick(FLOAT, least=1)
    shift = w.node("ReduceMax", source, attributes={"keepdims": 0})
    moved = w.node("Add", w.fixed(angles.astype(np.float32)), shift)
    doubled = w.node("Concat", moved, moved, attributes={"axis": -1})
    cosine, sine = w.node("Cos", doubled), w.node("Sin", doubled)
    return w.node("Unsqueeze", cosine, w.ints(1)), w.node("Unsqueeze", sine, w.ints(w.choose((1, -3))))


ATTENTION: Idioms = {attention: ("fuse-attention", "fuse-multi-head-attention"), rotary: ("fuse-rotary-embedding",)}
