"""An Expand or Tile goes where its readers broadcast anyway, and so does a Gather of one row again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Dim, Shape
from planish.ir.ops import elementwise
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.filled import filled

x, s, t = Var("x"), Var("s"), Var("t")
table, index = Const("table"), Var("index")
first = Op("Expand", (x, s))
last = Op("Expand", (first, t))
_KINDS = tuple(elementwise.OPERATORS[op].infer for op in ("Add", "Pow", "Equal", "Where"))
BROADCASTING = frozenset(op for op, entry in elementwise.OPERATORS.items() if entry.infer in _KINDS)
_DEPENDS_ON_PATH = frozenset(("Max", "Min", "Pow"))
"""ONNX Runtime squares by a single 2 and raises to a tensor of them, and which of two zeros is larger depends too."""
_READERS = 8
_LEAST_RUN = 32


@rule(last, contract=Contract.EXACT)
def expand_expand(m: Match) -> Value | None:
    """Expand(Expand(x)) to a known shape -> Expand(x)"""
    shape = [dim for dim in m.root.result.shape or (-1,) if isinstance(dim, int)]
    if len(shape) != m.root.result.rank:
        return m.decline("the shape is not known")
    return m.add("Expand", (m[x], m.constant(np.array(shape, np.int64))))


@rule(Op(("Expand", "Tile"), (x, s)), contract=Contract.EXACT)
def expand_for_broadcast(m: Match) -> Value | None:
    """Add(Expand(x), y) -> Add(x, y), where y has what the Expand gives; so for every reader of it; Tile likewise"""
    if any(_depends_on_path(user) for user in m.root.result.readers):
        return m.decline("a reader of it rounds a broadcast operand in another way, or takes another one of two zeros")
    return _unexpanded(m)


@rule(Op(("Expand", "Tile"), (x, s)), contract=Contract.REASSOCIATES)
def expand_for_broadcast_rounding(m: Match) -> Value | None:
    """Pow(y, Expand(x)) -> Pow(y, x); Max and Min likewise, of floats, zeros alike"""
    readers = [user for user in m.root.result.readers if _depends_on_path(user)]
    if not readers or any(not _is_float(user) for user in readers):
        return m.decline("a power of integers is worked out in double, or wraps around, as its exponent is broadcast")
    return _unexpanded(m)


def _depends_on_path(user: Node) -> bool:
    return user.op == "Pow" or (user.op in _DEPENDS_ON_PATH and _is_float(user))


def _is_float(user: Node) -> bool:
    dtype = user.results[0].dtype if user.results else None
    return dtype is None or dtype.is_float


def _unexpanded(m: Match) -> Value | None:
    shape, made = m[x].shape, m.root.result
    tiled = zip(shape or (), made.shape or (), strict=False) if m.root.op == "Tile" else ()
    if any(dim not in (1, aim) for dim, aim in tiled):
        return m.decline("it repeats more than one element")
    return m[x] if _readers_broadcast(m, shape) else None


@rule(Op("Gather", (table, index)), contract=Contract.EXACT)
def gather_for_broadcast(m: Match) -> Value | None:
    """Add(Gather(table, i), y) -> Add(table[i], y), where every index is i and y has what the Gather gives"""
    rows, row = m[table].constant, filled(m[index])
    if rows is None or not isinstance(row, int | float) or m.root.get_int("axis") or not rows.shape:
        return m.decline("the indices are not surely the same, or the table is not constant along its first axis")
    if any(_depends_on_path(user) for user in m.root.result.readers):
        return m.decline("a reader of it rounds a broadcast operand in another way, or takes another one of two zeros")
    if not -rows.shape[0] <= row < rows.shape[0] or not _readers_broadcast(m, rows.shape[1:]):
        return None
    return m.constant(rows.array()[int(row)], m[table].name)


def _readers_broadcast(m: Match, shape: Shape | None) -> bool:
    """Whether every reader of the root gives the same where it reads the elements of `shape` that the root repeats."""
    made = m.root.result
    if shape is None or made.shape is None or not 0 < len(made.readers) <= _READERS:
        m.decline("the shapes are not known, or it has many readers")
    elif any(user.op not in BROADCASTING for user in made.readers):
        m.decline("a reader of it does not broadcast")
    elif not _in_long_runs(shape, made.shape):
        m.decline("the readers would broadcast in short runs, which is slower, or runs of unknown length")
    elif not all(_broadcasts_alone(user, made, shape) for user in made.readers):
        m.decline("a reader of it has no other operand of that shape")
    else:
        return True
    return False


def _broadcasts_alone(user: Node, made: Value, shape: Shape) -> bool:
    """Whether the other operands give the result of `user` its shape, for every binding, if that of `made` is less."""
    others = [operand.shape for operand in user.operands if operand is not made and operand is not None]
    aims = (made.shape or ())[::-1]
    for place, aim in enumerate(aims):
        own = shape[-1 - place] if place < len(shape) else None
        if own != aim and not any(_has(other, place, aim) for other in others):
            return False
    return True


def _has(shape: Shape | None, place: int, dim: Dim) -> bool:
    return shape is not None and place < len(shape) and shape[-1 - place] == dim


def _in_long_runs(shape: Shape, made: Shape) -> bool:
    """Whether the last axes, along which x is either there in full or repeated, hold many elements together."""
    run, kind = 1, None
    for place, aim in enumerate(reversed(made)):
        if aim == 1:
            continue
        full = place < len(shape) and shape[-1 - place] == aim
        if kind is not None and full != kind:
            return run >= _LEAST_RUN
        kind = full
        if not isinstance(aim, int):
            return run >= _LEAST_RUN
        run *= aim
    return True


@dataclass(frozen=True)
class RemoveExpands(RulePass):
    """Remove an Expand or Tile whose readers all broadcast to the same result without it, for every binding.

    So is a Gather from a constant whose indices are all the same, as of token types that nobody gives. Only where they
    broadcast in runs of some length: a runtime is slow to broadcast a few elements at a time.
    """

    name: ClassVar[str] = "remove-expands"

    def rules(self) -> Sequence[Rule]:
        return (expand_expand, expand_for_broadcast, expand_for_broadcast_rounding, gather_for_broadcast)
