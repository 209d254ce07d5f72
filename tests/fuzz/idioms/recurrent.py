"""Recurrent layers, with the states and lengths that exporters give them."""

from __future__ import annotations

import numpy as np

from planish.ir import DType, Value
from tests.fuzz.idioms.spelling import Idioms
from tests.fuzz.operators import extent, is_known, known
from tests.fuzz.writer import FLOAT, Writer

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_HIDDEN = 2


def recurrent(w: Writer) -> None:
    """An LSTM, GRU or RNN over [length, batch, features]; states are zero or nearly, lengths full or not."""
    x = w.pick(FLOAT, least=3, most=3, test=lambda v: is_known(v, 0, 2))
    op = w.choose(tuple(_GATES))
    gates, features = _GATES[op], known(x, 2)
    operands: list[Value | None] = [x, w.weight(1, gates * _HIDDEN, features), w.weight(1, gates * _HIDDEN, _HIDDEN)]
    operands.append(w.weight(1, 2 * gates * _HIDDEN) if w.often(50) else None)
    operands.append(_lengths(w, x) if w.often(40) else None)
    operands.append(_state(w, x) if w.often(80) else None)
    if op == "LSTM" and operands[-1] is not None and w.often(80):
        operands.append(_state(w, x))
    results = w.b.nodes(
        op, operands, {"hidden_size": _HIDDEN, "direction": "forward"}, results=3 if op == "LSTM" else 2
    )
    for result in results:
        if w.often(70):
            w.keep(result)


def _state(w: Writer, x: Value) -> Value:
    """[1, batch, hidden] of one number: a constant, or made of the batch's size."""
    batch, number = extent(x, 1), w.choose((0.0, 0.0, -0.0, 0.5))
    if isinstance(batch, int) and w.often(50):
        return w.constant(np.full((1, batch, _HIDDEN), number, np.float32))
    size = w.node("Shape", x, attributes={"start": 1, "end": 2})
    shape = w.node("Concat", w.ints(1), size, w.ints(_HIDDEN), attributes={"axis": 0})
    value = np.asarray([number], np.float32)
    return w.node("ConstantOfShape", shape, attributes={"value": value})


def _lengths(w: Writer, x: Value) -> Value:
    """[batch] of the length of x, or of one that is shorter by one."""
    length = known(x, 0) - int(w.often(25))
    size = w.node("Shape", x, attributes={"start": 1, "end": 2})
    return w.node("Expand", w.fixed(np.asarray([length], DType.INT32.numpy)), size)


RECURRENT: Idioms = {recurrent: ("remove-initial-states",)}
