"""Instance normalisation, spelled out with means over the spatial axes, becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.passes.fuse.channels import channel_extents, take_in_bias, take_in_scale, uniform
from planish.passes.fuse.moments import centred, quotient, squared_centre
from planish.passes.fuse.walk import Root, claim, reads_from
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_NORM = "InstanceNormalization"
_FIRST_SPATIAL = 2
_NEEDS = "squares that do not overflow, and means that do not exceed the deviation so far that rounding covers it"
x, w, b, factor, term = Var("x"), Var("w"), Var("b"), Var("factor"), Var("term")
norm = Op(_NORM, (x, w, b))


@rule(
    Root(("Div", "Mul"), reach=8, where=reads_from("Div", "Pow", "Reciprocal", "Sqrt")),
    contract=Contract.REASSOCIATES,
    needs=_NEEDS,
)
def instance_norm(m: Match) -> Value | None:
    """d = x - ReduceMean(x); d / Sqrt(ReduceMean(d * d) + epsilon) -> InstanceNormalization(x, 1, 0)

    Over all spatial axes. Squares, roots, quotients and means in any spelling. An element differs by as many roundings
    of |x| over the deviation as there are elements behind a mean.
    """
    found = quotient(m.root, m.graph)
    if found is None:
        return None
    difference, squared = centred(found.numerator, m.graph), squared_centre(found, m.graph)
    if difference is None or squared is None:
        return None
    data = difference.x
    if data is not squared.x or not difference.axes == squared.axes == found.axes or data.shape is None:
        return m.decline("mean and variance are of other data, or over other axes")
    if not found.axes or found.axes != tuple(range(_FIRST_SPATIAL, len(data.shape))):
        return m.decline("the normalised axes are not the spatial ones")
    channels = data.shape[1]
    if not isinstance(channels, int) or data.dtype is None:
        return m.decline("the number of channels is not known")
    if not _is_by_channel(m, len(data.shape), channels):
        return m.decline("what follows scales other axes than channels, as after a layer normalisation")
    if not claim(m, (*found.nodes, *difference.nodes, *squared.nodes)):
        return None
    scale, bias = (uniform(m, value, channels, data.dtype) for value in (1, 0))
    return m.add(_NORM, (data, scale, bias), {"epsilon": found.epsilon})


@rule(Op("Mul", (norm, factor), commutes=True), contract=Contract.REASSOCIATES)
def instance_norm_scale(m: Match) -> Value | None:
    """InstanceNormalization(x, 1, 0) * factor -> InstanceNormalization(x, factor, 0)"""
    return take_in_scale(m, m[norm], m[factor])


@rule(Op("Add", (norm, term), commutes=True), contract=Contract.REASSOCIATES)
def instance_norm_bias(m: Match) -> Value | None:
    """InstanceNormalization(x, w, 0) + term -> InstanceNormalization(x, w, term)"""
    return take_in_bias(m, m[norm], m[term])


def _is_by_channel(m: Match, rank: int, channels: int) -> bool:
    """Whether the constants beside the result, if any, are one number a channel.

    With one spatial axis the same may be a layer normalisation, so that there must be such a constant.
    """
    found: list[bool] = []
    for reader in m.root.result.users:
        for operand in reader.operands if reader.op in ("Add", "Mul") else ():
            if operand is not None and operand.constant is not None:
                shape = operand.constant.shape
                found.append(bool(shape[1:]) and channel_extents(shape, rank) == channels)
    return all(found) and (bool(found) or rank > _FIRST_SPATIAL + 1)


@dataclass(frozen=True)
class FuseInstanceNorm(RulePass):
    """Fuse instance normalisation, in the spellings of exporters, into InstanceNormalization.

    The number of channels must be known. Should run before fuse-layer-norm, which can say the same over trailing axes.
    """

    name: ClassVar[str] = "fuse-instance-norm"

    def rules(self) -> Sequence[Rule]:
        return (instance_norm, instance_norm_scale, instance_norm_bias)
