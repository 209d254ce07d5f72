"""Root mean square normalisation, spelled out, becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.passes.fuse.moments import mean, quotient, scaled_quotient
from planish.passes.fuse.normalized import (
    STASHED,
    layer,
    ones,
    parameter,
    take_in_cast,
    take_in_scale,
    trailing_extents,
    w,
)
from planish.passes.fuse.walk import Root, claim, producer, reads_from
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_NORM = "RMSNormalization"
factor, raw = Var("factor"), Var("raw")
norm = layer(_NORM)
inner = Op(_NORM, (Op("Cast", (raw,), shared=True), w))


@rule(
    Root(("Div", "Mul"), reach=8, where=reads_from("Div", "Mul", "Pow", "Reciprocal", "Sqrt")),
    contract=Contract.REASSOCIATES,
    needs="squares that do not overflow",
)
def rms_norm(m: Match) -> Value | None:
    """x / Sqrt(ReduceMean(x * x) + epsilon) -> RMSNormalization(x, 1)

    Also x * (scale / Sqrt(...)). Squares, roots, quotients and means in any spelling. An element differs by as many of
    its roundings as there are elements behind the mean.
    """
    alone = quotient(m.root, m.graph)
    found, scale = (alone, None) if alone is not None else scaled_quotient(m.root, m.graph) or (None, None)
    if found is None or found.centred or found.numerator is not found.value:
        return None
    data = found.value
    difference = producer(data, ("Sub",), m.graph)
    centre = None if difference is None else mean(difference.operand(1), m.graph)
    if centre is not None and centre.axes == found.axes:
        return m.decline("it is a layer normalisation")
    if data.dtype is None or data.dtype not in STASHED:
        return m.decline("RMSNormalization works in single precision, and the element type is not one of that or less")
    extents = trailing_extents(m, data, found.axes)
    if extents is None or data.rank is None:
        return None
    weight = ones(m, extents, data.dtype) if scale is None else parameter(m, scale, extents, data.rank)
    if weight is None:
        return m.decline("the scale is not of the normalised extents")
    attributes = {"axis": -len(extents), "epsilon": found.epsilon}
    return m.add(_NORM, (data, weight), attributes) if claim(m, found.nodes) else None


@rule(Op("Mul", (norm, factor), commutes=True), contract=Contract.REASSOCIATES)
def rms_norm_scale(m: Match) -> Value | None:
    """RMSNormalization(x, 1) * factor -> RMSNormalization(x, factor)"""
    return take_in_scale(m, m[norm], m[factor])


@rule(Op("Cast", (inner,)), contract=Contract.REASSOCIATES)
def rms_norm_cast(m: Match) -> Value | None:
    """Cast(RMSNormalization(Cast(x), w)) -> RMSNormalization(x, w) of half precision, statistics in single"""
    return take_in_cast(m, m[inner], m[raw])


@dataclass(frozen=True)
class FuseRmsNorm(RulePass):
    """Fuse root mean square normalisation, in the spellings of exporters, into RMSNormalization of opset 23.

    Over the last axes, whose extents must be known. Scale, and Casts to single precision and back are taken in.
    """

    name: ClassVar[str] = "fuse-rms-norm"

    def rules(self) -> Sequence[Rule]:
        return (rms_norm, rms_norm_scale, rms_norm_cast)
