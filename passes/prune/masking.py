"""The same graph with channels at 0 instead of gone: what a graph without them is held against."""

from __future__ import annotations

import numpy as np

from planish.ir import Graph, Node, Value
from planish.ir.graph import constant
from planish.ir.infer import infer
from planish.ir.types import Array
from planish.passes.prune.removal import Removal


def mask_channels(graph: Graph, removal: Removal) -> None:
    """Put 0 wherever a unit that goes lies: in the weights, and behind every node that makes activations of it.

    Codes of quantized tensors stay as they are: what is 0 before they are made is 0 behind.
    """
    for value in removal.values:
        dtype = value.dtype
        if dtype is None or not dtype.is_float:
            continue
        if value.constant is not None:
            graph.replace_all_uses_with(value, constant(_masked(value.constant.array(), value, removal), value.name))
        else:
            _mask(value, removal)


def _masked(array: Array, value: Value, removal: Removal) -> Array:
    found = array.copy()
    for axis in removal.values[value]:
        stays = removal.staying[value, axis]
        if stays.ndim == 1:
            found[(slice(None),) * axis + (~stays,)] = 0
        else:
            for row, part in zip(stays, np.split(found, len(stays), axis=0), strict=True):
                part[(slice(None),) * axis + (~row,)] = 0
    return found


def _mask(value: Value, removal: Removal) -> None:
    """Where(stays, value, 0) in the place of a value: NaN and infinities vanish, too."""
    node, graph = value.producer, value.graph
    if node is None or graph is None or value.rank is None or value.dtype is None:
        return
    masked = value
    for axis in removal.values[value]:
        stays = removal.staying[value, axis]
        shape = [-1 if place == axis else 1 for place in range(value.rank)]
        nothing = constant(np.zeros((), value.dtype.numpy))
        following = masked.producer.after if masked.producer is not None else node.after
        where = Node("Where", (constant(stays.reshape(shape)), masked, nothing))
        graph.insert(where, before=None if following is graph.returns else following)
        infer(where)
        readers = [user for user in masked.users if user is not where]
        for user in readers:
            for position, operand in enumerate(user.operands):
                if operand is masked and user.graph is not None:
                    user.graph.set_operand(user, position, where.result)
        masked = where.result
