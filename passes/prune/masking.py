"""The same graph with channels at 0 instead of gone: what a graph without them is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.ir.ops.channels.atoms import Flags
from planish.ir.ops.table import lookup
from planish.ir.types import Array
from planish.passes.prune.dependency import Group
from planish.passes.prune.removal import staying

Staying = Mapping[tuple[Value, int], Flags]


def mask_channels(graph: Graph, groups: Sequence[Group], gone: Sequence[Flags]) -> None:
    """Put 0 wherever a unit that goes lies: in the weights, and behind every node that makes activations of it.

    Codes of quantized tensors stay as they are: what is 0 before they are made is 0 behind.
    """
    stays = staying(groups, gone)
    for value in dict.fromkeys(value for value, _ in stays):
        if value.dtype is None or not value.dtype.is_float:
            continue
        if value.constant is not None:
            axes = [axis for other, axis in stays if other is value]
            graph.replace_all_uses_with(value, constant(_masked(value, axes, stays), value.name))
        else:
            _mask(value, stays)


def mask_filters(graph: Graph, groups: Sequence[Group], gone: Sequence[Flags]) -> None:
    """Put 0 into the weights that make the channels of units that go; their biases stay, and what reads them."""
    stays = staying(groups, gone)
    for node in graph.walk():
        rule = lookup(node.op).channels
        found = None if rule is None or rule.filters is None else rule.filters(node)
        weight = None if found is None else node.operands[found.weight]
        if found is not None and weight is not None and (weight, found.axis) in stays:
            masked = constant(_masked(weight, [found.axis], stays), weight.name)
            if node.graph is not None:
                node.graph.set_operand(node, found.weight, masked)


def _masked(value: Value, axes: Sequence[int], staying: Staying) -> Array:
    if value.constant is None:
        raise ValueError(f"{value} is no constant")
    found = value.constant.array().copy()
    for axis in axes:
        stays = staying[value, axis]
        if stays.ndim == 1:
            found[(slice(None),) * axis + (~stays,)] = 0
        else:
            for row, part in zip(stays, np.split(found, len(stays), axis=0), strict=True):
                part[(slice(None),) * axis + (~row,)] = 0
    return found


def _mask(value: Value, staying: Staying) -> None:
    """Where(stays, value, 0) in the place of a value: NaN and infinities vanish, too."""
    node, graph = value.producer, value.graph
    if node is None or graph is None or value.rank is None or value.dtype is None:
        return
    masked = value
    for axis in [axis for other, axis in staying if other is value]:
        shape = [-1 if place == axis else 1 for place in range(value.rank)]
        nothing = constant(np.zeros((), value.dtype.numpy))
        following = masked.producer.after if masked.producer is not None else node.after
        where = Node("Where", (constant(staying[value, axis].reshape(shape)), masked, nothing))
        graph.insert(where, before=None if following is graph.returns else following)
        infer(where)
        _read_instead(masked, where.result, where)
        masked = where.result


def _read_instead(old: Value, new: Value, but: Node) -> None:
    for user in old.users:
        for position, operand in enumerate(user.operands):
            if operand is old and user is not but and user.graph is not None:
                user.graph.set_operand(user, position, new)
