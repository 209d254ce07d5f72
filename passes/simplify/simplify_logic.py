"""Boolean arithmetic, comparisons and selections that are decided, or that a single node says as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops.broadcast import broadcasts_to
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, y, z, a, b, c = Var("x"), Var("y"), Var("z"), Var("a"), Var("b"), Const("c")
_OPPOSITES = {"Less": "GreaterOrEqual", "Greater": "LessOrEqual", "LessOrEqual": "Greater", "GreaterOrEqual": "Less"}
_OPPOSITES_SINCE = 12
_ORDERED = (DType.INT32, DType.INT64)
_REFLEXIVE = {"Equal": True, "LessOrEqual": True, "GreaterOrEqual": True, "Less": False, "Greater": False}
_LARGEST = 1024
_GROWS = "the shape of the result is not known, or it is large"


def _filled(m: Match, value: bool) -> Value | None:
    """The root's result when every element is `value`."""
    shape = m.root.result.shape
    known = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is None or len(known) < len(shape) or prod(known) > _LARGEST:
        return m.decline(_GROWS)
    return m.constant(np.full(known, value))


def _uniform(m: Match) -> bool | None:
    """What every element of the constant is."""
    tensor = m[c].constant
    if tensor is None or tensor.dtype is not DType.BOOL or not tensor.in_memory:
        return None
    found = tensor.uniform()
    return None if found is None else bool(found)


def _keeps_shape(m: Match) -> bool:
    """Whether the constant leaves the shape of x as it is."""
    shape, tensor = m[x].shape, m[c].constant
    if tensor is None:
        return False
    return not tensor.shape if shape is None else broadcasts_to(tensor.shape, shape)


def _of_one_value(node: Node) -> bool:
    return len(node.operands) == 2 and node.operands[0] is node.operands[1]


# Not


@rule(Op("Not", (Op("Not", (x,), shared=True),)), contract=Contract.EXACT)
def twice(m: Match) -> Value | None:
    """Not(Not(x)) -> x"""
    return m[x]


compared = Op(tuple(_OPPOSITES), (x, y))


@rule(Op("Not", (compared,)), contract=Contract.EXACT)
def comparison_reversed(m: Match) -> Value | None:
    """Not(Less(x, y)) -> GreaterOrEqual(x, y), ..., of integers; NaN is neither less nor greater nor equal"""
    if m[x].dtype not in _ORDERED:
        return m.decline("with a NaN among floats both a comparison and its opposite are false")
    if m.graph.root.opset_imports.get("", 0) < _OPPOSITES_SINCE:
        return m.decline("the opset lacks the opposite comparison")
    return m.add(_OPPOSITES[m[compared].op], (m[x], m[y]))


@rule(Op(("And", "Or"), (Op("Not", (x,)), Op("Not", (y,)))), contract=Contract.EXACT)
def de_morgan(m: Match) -> Value | None:
    """And(Not(x), Not(y)) -> Not(Or(x, y)), and the other way round"""
    return m.add("Not", (m.add("Or" if m.root.op == "And" else "And", (m[x], m[y])),))


@rule(Op("Xor", (Op("Not", (x,)), Op("Not", (y,)))), contract=Contract.EXACT)
def xor_of_opposites(m: Match) -> Value | None:
    """Xor(Not(x), Not(y)) -> Xor(x, y)"""
    return m.add("Xor", (m[x], m[y]))


# Constants


@rule(Op(("Xor", "Equal"), (x, c), commutes=True), contract=Contract.EXACT)
def against_constant(m: Match) -> Value | None:
    """Xor(x, true) or Equal(x, false) -> Not(x); Equal(x, true) -> x; where the constant cannot broadcast x"""
    value = _uniform(m)
    if value is None or not _keeps_shape(m):
        return None
    if m.root.op == "Xor":
        return m.add("Not", (m[x],)) if value else m[x]
    return m[x] if value else m.add("Not", (m[x],))


@rule(Op(("And", "Or"), (x, c), commutes=True), contract=Contract.EXACT)
def absorbing(m: Match) -> Value | None:
    """And(x, false) -> false, Or(x, true) -> true, of known shape"""
    value = _uniform(m)
    return None if value is None or value != (m.root.op == "Or") else _filled(m, value)


# One value twice


@rule(Op(("And", "Or"), where=_of_one_value), contract=Contract.EXACT)
def idempotent(m: Match) -> Value | None:
    """And(x, x) or Or(x, x) -> x"""
    return m.root.operand(0)


@rule(Op("Xor", where=_of_one_value), contract=Contract.EXACT)
def xor_of_itself(m: Match) -> Value | None:
    """Xor(x, x) -> false, of known shape"""
    return _filled(m, False)


@rule(Op(("And", "Or", "Xor"), (x, Op("Not", (x,), shared=True)), commutes=True), contract=Contract.EXACT)
def with_its_opposite(m: Match) -> Value | None:
    """And(x, Not(x)) -> false, Or(x, Not(x)) or Xor(x, Not(x)) -> true, of known shape"""
    return _filled(m, m.root.op != "And")


@rule(Op(tuple(_REFLEXIVE), where=_of_one_value), contract=Contract.EXACT)
def compared_with_itself(m: Match) -> Value | None:
    """Equal(x, x) -> true, Less(x, x) -> false, ..., of integers of known shape; NaN does not equal itself"""
    first = m.root.operand(0)
    dtype = None if first is None else first.dtype
    if dtype is None or dtype.is_float or dtype in (DType.COMPLEX64, DType.COMPLEX128):
        return m.decline("a NaN does not equal itself")
    return _filled(m, _REFLEXIVE[m.root.op])


# Where


def _selected(m: Match, value: Value, *, exact: bool) -> Value | None:
    """What a Where always selects, where that has the result's shape; ONNX Runtime's Where may make -0.0 a 0.0."""
    if value.dtype is None or value.dtype.is_float == exact:
        return None
    shape = m.root.result.shape
    if shape is None or value.shape != shape:
        return m.decline("the other operands may broadcast what is selected")
    return value


def _taken(m: Match) -> Value | None:
    value = _uniform(m)
    return None if value is None else m[a] if value else m[b]


@rule(Op("Where", (c, a, b)), contract=Contract.EXACT)
def decided(m: Match) -> Value | None:
    """Where(true, a, b) -> a, Where(false, a, b) -> b, of anything but floats, where that is not broadcast"""
    taken = _taken(m)
    return None if taken is None else _selected(m, taken, exact=True)


@rule(Op("Where", (c, a, b)), contract=Contract.REASSOCIATES)
def decided_floats(m: Match) -> Value | None:
    """Where(true, a, b) -> a, Where(false, a, b) -> b, where that is not broadcast; zeros alike"""
    taken = _taken(m)
    return None if taken is None else _selected(m, taken, exact=False)


@rule(Op("Where", (x, a, a)), contract=Contract.EXACT)
def either_way(m: Match) -> Value | None:
    """Where(x, a, a) -> a, of anything but floats, where it is not broadcast"""
    return _selected(m, m[a], exact=True)


@rule(Op("Where", (x, a, a)), contract=Contract.REASSOCIATES)
def either_way_floats(m: Match) -> Value | None:
    """Where(x, a, a) -> a, where it is not broadcast; zeros alike"""
    return _selected(m, m[a], exact=False)


@rule(Op("Where", (Op("Not", (x,), shared=True), a, b)), contract=Contract.EXACT)
def opposite_condition(m: Match) -> Value | None:
    """Where(Not(x), a, b) -> Where(x, b, a), of anything but floats"""
    dtype = m[a].dtype
    return None if dtype is None or dtype.is_float else m.add("Where", (m[x], m[b], m[a]))


@rule(Op("Where", (Op("Not", (x,), shared=True), a, b)), contract=Contract.REASSOCIATES)
def opposite_condition_floats(m: Match) -> Value | None:
    """Where(Not(x), a, b) -> Where(x, b, a); zeros alike"""
    return m.add("Where", (m[x], m[b], m[a]))


@rule(Op("Where", (x, Op("Where", (x, a, z)), b)), contract=Contract.EXACT)
def selected_of_selected(m: Match) -> Value | None:
    """Where(x, Where(x, a, z), b) -> Where(x, a, b), where z does not broadcast the result"""
    return _unless_broadcast(m, m.add("Where", (m[x], m[a], m[b])))


@rule(Op("Where", (x, a, Op("Where", (x, z, b)))), contract=Contract.EXACT)
def otherwise_of_otherwise(m: Match) -> Value | None:
    """Where(x, a, Where(x, z, b)) -> Where(x, a, b), where z does not broadcast the result"""
    return _unless_broadcast(m, m.add("Where", (m[x], m[a], m[b])))


def _unless_broadcast(m: Match, made: Value) -> Value | None:
    if made.shape is None or m[z].shape is None or not broadcasts_to(m[z].shape or (), made.shape):
        return m.decline("what is never selected may broadcast the result")
    return made


@dataclass(frozen=True)
class SimplifyLogic(RulePass):
    """Simplify Not, And, Or, Xor, comparisons and Where, as far as the bits and the shapes of the results stay."""

    name: ClassVar[str] = "simplify-logic"

    def rules(self) -> Sequence[Rule]:
        return (
            twice, comparison_reversed, de_morgan, xor_of_opposites, against_constant, absorbing, idempotent,
            xor_of_itself, with_its_opposite, compared_with_itself,
            decided, decided_floats, either_way, either_way_floats, opposite_condition, opposite_condition_floats,
            selected_of_selected, otherwise_of_otherwise,
        )  # fmt: skip
