"""Chains of Relu, Clip, Min and Max by single numbers become one of them, and bounds that bound nothing go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import copysign, inf, isnan
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops.broadcast import broadcasts_to
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, c, low, high = Var("x"), Const("c"), Const("low"), Const("high")
inner_c, inner_low, inner_high = Const("inner_c"), Const("inner_low"), Const("inner_high")

_BOUNDED = frozenset(
    (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT32, DType.UINT32, DType.INT64)
)
_LARGEST = {DType.FLOAT: float(np.finfo(np.float32).max), DType.DOUBLE: float(np.finfo(np.float64).max)}
_LARGEST[DType.FLOAT16] = 65504.0
_WITH_CLIP = {DType.FLOAT: 1, DType.DOUBLE: 12}
"""The opsets since which runtimes have Clip for an element type that Min and Max have."""
_ABOVE_ONE = 1 + 2.0**-20
_RANGES: Mapping[str, tuple[float, float]] = {
    "Abs": (0, inf),
    "Exp": (0, inf),
    "HardSigmoid": (0, 1),
    "Sigmoid": (0, _ABOVE_ONE),
    "Softmax": (0, _ABOVE_ONE),
    "Softplus": (0, inf),
    "Sqrt": (0, inf),
    "Tanh": (-_ABOVE_ONE, _ABOVE_ONE),
}
"""What an operator of floats can give as ONNX Runtime computes it: its Sigmoid and its Tanh reach a step above 1."""


class Bounds(NamedTuple):
    """min(max(x, low), high), NaN staying NaN. A bound that Clip omits is the largest finite number, or its negative.

    sign_of_zero: whether it may lose the sign of a zero: Min and Max do so in all but the last elements of a tensor.
    """

    low: float
    high: float
    sign_of_zero: bool = False

    def apply(self, number: float) -> float:
        return min(max(number, self.low), self.high)

    def after(self, inner: Bounds) -> Bounds:
        """What both do, one after the other."""
        low, high = self.apply(inner.apply(-inf)), self.apply(inner.apply(inf))
        moved = inner.apply(0) != 0 and self.apply(inner.apply(0)) == 0
        zero = self.sign_of_zero or inner.sign_of_zero or moved or low == high == 0
        return Bounds(low, high, zero)


def bounds(node: Node) -> Bounds | None:
    """What a node bounds its data to; None where the bounds are not single numbers that are known."""
    dtype = node.result.dtype
    if dtype is None or dtype not in _BOUNDED:
        return None
    if node.op == "Relu":
        return Bounds(0, inf)
    if node.op == "Clip":
        ends = _ends(dtype)
        found = [_number(o) if o is not None else ends[i] for i, o in enumerate((node.operand(1), node.operand(2)))]
        return None if found[0] is None or found[1] is None else Bounds(found[0], found[1])
    data, bound = _data_and_bound(node)
    number = None if bound is None else _number(bound)
    if data is None or bound is None or bound.shape is None or number is None:
        return None
    if bound.shape and (data.shape is None or not broadcasts_to(bound.shape, data.shape)):
        return None
    return Bounds(number, inf, number == 0) if node.op == "Max" else Bounds(-inf, number, number == 0)


def _ends(dtype: DType) -> tuple[float, float]:
    """What Clip takes for the bounds that it omits."""
    if dtype in _LARGEST:
        return -_LARGEST[dtype], _LARGEST[dtype]
    return -inf, inf


def _data_and_bound(node: Node) -> tuple[Value | None, Value | None]:
    if len(node.operands) != 2:
        return None, None
    first, second = node.operands
    if second is not None and second.constant is not None:
        return first, second
    return second, first if first is not None and first.constant is not None else None


def _number(value: Value) -> float | None:
    """The number that a constant of one element holds: no NaN and no negative zero, whose order is no order."""
    tensor = value.constant
    if tensor is None or tensor.size != 1 or not tensor.in_memory:
        return None
    array = tensor.array().reshape(-1)
    number = int(array[0]) if tensor.dtype.is_integer else float(array.astype(np.float64)[0])
    return None if isnan(number) or (number == 0 and copysign(1, number) < 0) else number


def _chain(m: Match, *, exact: bool) -> Value | None:
    outer, inner = m.root, m.nodes[1]
    first, second = bounds(inner), bounds(outer)
    if first is None or second is None:
        return m.decline("a bound is not one known number, or would broadcast what it bounds")
    both = second.after(first)
    return None if both.sign_of_zero == exact else _bounded(m, m[x], both, {outer.op, inner.op})


def _bounded(m: Match, value: Value, both: Bounds, ops: set[str]) -> Value | None:
    """The one node that bounds a value so; `ops` are those that it replaces."""
    dtype = value.dtype
    if dtype is None:
        return None
    ends = _ends(dtype)
    if ops == {"Relu"}:
        return m.add("Relu", (value,))
    if "Clip" not in ops:
        if both.high == inf and both.low == 0 and dtype in _LARGEST:
            return m.add("Relu", (value,))
        if both.high == inf:
            return m.add("Max", (value, _scalar(m, both.low, dtype)))
        if both.low == -inf:
            return m.add("Min", (value, _scalar(m, both.high, dtype)))
        if m.graph.root.opset_imports.get("", 0) < _WITH_CLIP.get(dtype, 1 << 30):
            return m.decline("runtimes have no Clip of this element type")
    ends = [None if end == omitted else _scalar(m, end, dtype) for end, omitted in zip(both[:2], ends, strict=True)]
    if any(not np.isfinite(end) and omitted is not None for end, omitted in zip(both[:2], ends, strict=True)):
        return m.decline("Clip would bound infinities")
    return m.add("Clip", (value, *ends) if ends[1] is not None else (value, ends[0]))


def _scalar(m: Match, number: float, dtype: DType) -> Value:
    return m.constant(np.array(number, dtype.numpy))


def _inners() -> tuple[Op, ...]:
    relu, clip = Op("Relu", (x,)), Op("Clip", (x, Maybe(inner_low), Maybe(inner_high)))
    return relu, clip, Op(("Max", "Min"), (x, inner_c), commutes=True)


def _outers(inner: Op) -> tuple[Op, ...]:
    relu, clip = Op("Relu", (inner,)), Op("Clip", (inner, Maybe(low), Maybe(high)))
    return relu, clip, Op(("Max", "Min"), (inner, c), commutes=True)


_CHAINS = tuple(chain for inner in _inners() for chain in _outers(inner))
_SUMMARY = "Relu, Clip, Min or Max by a number of another -> one of them"


def _merge_exactly(m: Match) -> Value | None:
    return _chain(m, exact=True)


def _merge_but_for_zero(m: Match) -> Value | None:
    return _chain(m, exact=False)


_MERGING = (
    *(Rule("bounds-of-bounds", chain, Contract.EXACT, _merge_exactly, _SUMMARY) for chain in _CHAINS),
    *(
        Rule("bounds-of-bounds-at-zero", chain, Contract.REASSOCIATES, _merge_but_for_zero, f"{_SUMMARY}; zeros alike")
        for chain in _CHAINS
    ),
)


# Bounds that bound nothing


def _within(m: Match) -> Value | None:
    """Bounds of a value that lies within them -> the value"""
    inner = m.nodes[1].results[0]
    wider, known = bounds(m.root), _range(m.nodes[1])
    if wider is None or known is None or inner.dtype is not m.root.result.dtype:
        return None
    if known.low < wider.low or known.high > wider.high:
        if m.nodes[1].op in _RANGES:
            return m.decline(f"{m.nodes[1].op} may give what lies outside of the bounds")
        return None
    return None if wider.sign_of_zero else inner


def _range(node: Node) -> Bounds | None:
    if node.op not in _RANGES:
        found = bounds(node)
        return None if found is None else found.after(Bounds(-inf, inf))
    dtype = node.results[0].dtype
    return Bounds(*_RANGES[node.op]) if dtype is not None and dtype.is_float else None


_RANGED = Op((*_RANGES, "Clip", "Relu"), shared=True)
_NOTHING = tuple(
    Rule("bounds-of-what-lies-within", outer, Contract.EXACT, _within, "Relu(Exp(x)), ... -> Exp(x)")
    for outer in _outers(_RANGED)
)


# One form of one bound


@rule(Op("Max", (x, c), commutes=True), contract=Contract.REASSOCIATES)
def max_with_zero(m: Match) -> Value | None:
    """Max(x, 0) -> Relu(x); zeros alike"""
    found = bounds(m.root) if m[x].dtype in _WITH_CLIP else None
    return m.add("Relu", (m[x],)) if found is not None and found.low == 0 and m[x].constant is None else None


@rule(Op("Clip", (x, low, Maybe(high))), contract=Contract.REASSOCIATES, needs="values that are not infinite")
def clip_at_zero(m: Match) -> Value | None:
    """Clip(x, 0) -> Relu(x); what Clip makes of infinity is the largest finite number"""
    found = bounds(m.root) if m[x].dtype in _WITH_CLIP and m.get(high) is None else None
    return m.add("Relu", (m[x],)) if found is not None and found.low == 0 else None


@dataclass(frozen=True)
class MergeBounds(RulePass):
    """Merge chains of Relu, Clip, Min and Max by single constant numbers, and drop those that bound nothing.

    For disjoint bounds and bounds in the wrong order too. NaN stays NaN in all four. LeakyRelu and PRelu are no bounds.
    """

    name: ClassVar[str] = "merge-bounds"

    def rules(self) -> Sequence[Rule]:
        return (*_NOTHING, *_MERGING, max_with_zero, clip_at_zero)
