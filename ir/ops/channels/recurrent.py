"""LSTM, GRU and RNN: a hidden unit is a row of each gate, and a column of what is fed back.

A unit without weights stays at 0: gates that are nonlinear elsewhere than at 0 only scale it. That holds for the usual
activations alone.
"""

from __future__ import annotations

from planish.ir.graph import Node
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Channels, Kept, Shrunk, Tracker

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_W, _R, _B, _STATE, _CELL, _PEEPHOLES = 1, 2, 3, 5, 6, 7


def _track_recurrent(node: Node, t: Tracker) -> None:
    """x [steps, batch, size], w [directions, gates * hidden, size], r [..., hidden], b [..., 2 * gates * hidden]."""
    x, w, r, b = node.operand(0), node.operand(_W), node.operand(_R), node.operand(_B)
    if x is None or w is None or r is None or node.get_int("layout") or node.attributes.get("activations"):
        return
    t.unite(t.ids(x, 2), t.ids(w, 2))
    hidden = t.ids(r, 2)
    gates = _GATES[node.op]
    _gates(t.ids(w, 1), hidden, gates, t)
    _gates(t.ids(r, 1), hidden, gates, t)
    if b is not None:
        _gates(t.ids(b, 1), hidden, 2 * gates, t)
    for position in (_STATE, _CELL):
        state = node.operand(position)
        if state is not None:
            t.unite(hidden, t.ids(state, 2))
    peepholes = node.operand(_PEEPHOLES)
    if peepholes is not None:
        _gates(t.ids(peepholes, 1), hidden, 3, t)
    for result in node.results:
        t.give(result, -1, hidden)


def _gates(ids: Ids | None, hidden: Ids | None, count: int, t: Tracker) -> None:
    """One axis holds the units of each gate, one gate behind the other."""
    if ids is None or hidden is None:
        t.freeze(ids, "the hidden units stay")
        t.freeze(hidden, "the gates of the hidden units stay")
        return
    t.atoms.unite(hidden[None], ids.reshape(count, -1))


def _shrink_recurrent(node: Node, kept: Kept) -> Shrunk:
    r = node.operand(_R)
    return Shrunk({}, {"hidden_size": kept.extent(r, 2)} if r is not None and "hidden_size" in node.attributes else {})


CHANNELS: dict[str, Channels] = {name: Channels(_track_recurrent, _shrink_recurrent) for name in _GATES}
