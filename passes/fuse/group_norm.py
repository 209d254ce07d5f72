"""Group normalisation, spelled as an instance normalisation of groups, becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.ir.dim import is_positive
from planish.ir.ops import elementwise
from planish.ir.ops.shape import constant_ints
from planish.passes.fuse.channels import is_uniform, take_in_bias, take_in_scale, uniform
from planish.passes.fuse.normalized import STASHED
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

_NORM = "GroupNormalization"
_LEAST_RANK = 3
_REACH = 16
x, w, b, factor, term = Var("x"), Var("w"), Var("b"), Var("factor"), Var("term")
groups_shape = Var("groups")
grouped = Op("Reshape", (x, groups_shape))
instance = Op("InstanceNormalization", (grouped, w, b))
norm = Op(_NORM, (x, w, b))


@rule(Op("Reshape", (instance, Var("shape"))), contract=Contract.REASSOCIATES, needs="squares that do not overflow")
def group_norm(m: Match) -> Value | None:
    """Reshape(InstanceNormalization(Reshape(x, [N, groups, -1]), 1, 0), Shape(x)) -> GroupNormalization(x, 1, 0)

    An element differs by as many roundings of |x| over the deviation as there are elements in a group. Runtimes refuse
    an empty tensor, so where that is possible, what is written must refuse it too.
    """
    data, within = m[x], m[grouped].result.shape
    if data.shape is None or within is None or m.root.result.shape != data.shape or len(data.shape) < _LEAST_RANK:
        return m.decline("the shape of the result is not known to be that of the data")
    if not is_uniform(m[w], 1) or not is_uniform(m[b], 0):
        return m.decline("the groups have scales or biases of their own")
    channels, groups = data.shape[1], within[1]
    if within[0] != data.shape[0] or not isinstance(channels, int) or not isinstance(groups, int):
        return m.decline("the batch is reshaped too, or the number of channels or groups is not known")
    if not groups or channels % groups or data.dtype is None or data.dtype not in STASHED:
        return m.decline("the groups hold no whole channels, or the element type is wider than single precision")
    if not (is_positive(data.shape[0]) or _needs_a_batch(m[groups_shape])) or not _has_pixels(data):
        return m.decline("the data may be empty, which runtimes refuse to normalise in groups: give it static extents")
    scale, bias = (uniform(m, value, channels, data.dtype) for value in (1, 0))
    attributes = {"num_groups": groups, "epsilon": m[instance].get_float("epsilon")}
    return m.add(_NORM, (data, scale, bias), attributes)


def _needs_a_batch(target: Value) -> bool:
    """Whether a Reshape to this shape fails for an empty batch: where nothing is left, nothing shows what -1 is."""
    found = constant_ints(target)
    return found is not None and found[:1] == (0,) and -1 in found


def _has_pixels(value: Value) -> bool:
    """Whether an image surely has some: by its extents, or as a convolution, which refuses others, led to it."""
    queue = [value]
    for _ in range(_REACH):
        if not queue:
            return False
        found = queue.pop()
        node, shape = found.producer, found.shape
        if (shape is not None and all(map(is_positive, shape[2:]))) or (node is not None and node.op == "Conv"):
            return True
        if node is not None and node.op in elementwise.OPERATORS:
            queue += [o for o in node.operands if o is not None and shape is not None and o.shape == shape]
    return False


@rule(Op("Mul", (norm, factor), commutes=True), contract=Contract.REASSOCIATES)
def group_norm_scale(m: Match) -> Value | None:
    """GroupNormalization(x, 1, 0) * factor -> GroupNormalization(x, factor, 0)"""
    return take_in_scale(m, m[norm], m[factor])


@rule(Op("Add", (norm, term), commutes=True), contract=Contract.REASSOCIATES)
def group_norm_bias(m: Match) -> Value | None:
    """GroupNormalization(x, w, 0) + term -> GroupNormalization(x, w, term)"""
    return take_in_bias(m, m[norm], m[term])


@dataclass(frozen=True)
class FuseGroupNorm(RulePass):
    """Fuse a reshaped instance normalisation, with scale and bias a channel, into GroupNormalization of opset 21."""

    name: ClassVar[str] = "fuse-group-norm"

    def rules(self) -> Sequence[Rule]:
        return (group_norm, group_norm_scale, group_norm_bias)
