"""The walk over a graph that gathers what is known of its channels."""

from __future__ import annotations

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.ir.ops.channels.tracker import Radix, Reason, Tracker
from planish.ir.ops.table import lookup

_INPUT = "an input of the model, or of a nested graph, is given as it is"
_OUTPUT = "an output has the shape that its readers know"
_CAPTURED = "a nested graph reads it"
_OTHER_PART = "another part of the axis was chosen to shrink"


def track(graph: Graph, *, inexact: bool = False, whole_heads: bool = False) -> Tracker:
    """Follow the channels through a graph and those nested in it."""
    tracker = Tracker(inexact=inexact, whole_heads=whole_heads)
    _track_graph(graph, tracker)
    _resolve(tracker)
    return tracker


def _track_graph(graph: Graph, t: Tracker) -> None:
    for value in graph.inputs:
        t.add_input(value, value.name, _INPUT)
    for node in graph.nodes:
        for operand in node.operands:
            if operand is not None and operand.constant is None and operand.graph is not graph:
                t.keep_all(operand, node.label if graph.owner is None else graph.owner.label, _CAPTURED)
        t.look_at(node, None if node.graphs else lookup(node.op).channels)
        for nested in node.graphs:
            _track_graph(nested, t)
    for name, value in zip(graph.output_names, graph.returns.operands, strict=False):
        if value is not None:
            t.keep_all(value, name, _OUTPUT)


def _resolve(t: Tracker) -> None:
    """Choose for each axis that is made of others which of them it shrinks with.

    Where all but one stay, it is that one. Once nothing else follows, it is one with which another axis shrinks
    already, else the longest, of two the last; before all of these, heads where whole ones shall go.
    """
    pending, count = list(t.radices), -1
    while len(pending) != count:
        count = len(pending)
        pending = [radix for radix in pending if not _settle(radix, t)]
    chosen = np.zeros(0, np.int64)
    for radix in pending:
        if not _settle(radix, t):
            chosen = np.union1d(t.atoms.roots(chosen), t.atoms.roots(_choose(radix, chosen, t)))
            _settle(radix, t)


def _settle(radix: Radix, t: Tracker) -> bool:
    """Freeze what must stay because a part or the whole does; whether the axis has found what it shrinks with."""
    merged = radix.merged.reshape(radix.extents)
    frozen = t.atoms.frozen(merged)
    for place, factor in enumerate(radix.factors):
        if factor is not None:
            others = tuple([axis for axis in range(merged.ndim) if axis != place])
            stays = frozen.any(axis=others)
            if stays.any():
                t.atoms.freeze(factor[stays], radix.reason)
    alive = [
        place for place, factor in enumerate(radix.factors) if factor is not None and not t.atoms.frozen(factor).all()
    ]
    if len(alive) > 1:
        return False
    if not alive:
        t.atoms.freeze(radix.merged, radix.reason)
    for place in alive:
        _carry(radix, place, t)
    return True


def _carry(radix: Radix, place: int, t: Tracker) -> None:
    """Let an element of the axis vanish with an index of one part."""
    factor = radix.factors[place]
    if factor is not None:
        spread: Ids = factor.reshape([-1 if axis == place else 1 for axis in range(len(radix.extents))])
        t.atoms.unite(spread, radix.merged.reshape(radix.extents))


def _choose(radix: Radix, chosen: Ids, t: Tracker) -> Ids:
    """Keep every part but the one that is best to shrink; its atoms."""
    roots = t.atoms.roots(chosen)
    heads = t.atoms.roots(np.concatenate([np.zeros(0, np.int64), *(t.heads if t.whole_heads else ())]))
    ranks: list[tuple[bool, bool, bool, int, int]] = []
    for place, (factor, extent) in enumerate(zip(radix.factors, radix.extents, strict=True)):
        alive = factor is not None and not bool(t.atoms.frozen(factor).all())
        shrinks, is_head = (
            factor is not None and bool(np.isin(t.atoms.roots(factor), known).any()) for known in (roots, heads)
        )
        ranks.append((alive, is_head, shrinks, extent, place))
    best = max(ranks)[-1]
    for place, factor in enumerate(radix.factors):
        if factor is not None and place != best:
            t.reasons.append(Reason(t.reasons[radix.reason].node, _OTHER_PART))
            t.atoms.freeze(factor, len(t.reasons) - 1)
    carrier = radix.factors[best]
    return np.zeros(0, np.int64) if carrier is None else carrier


def readers(value: Value) -> list[Node]:
    """The nodes that read a value, without the `Return` of a graph."""
    return [user for user in value.users if user.graph is None or user is not user.graph.returns]
