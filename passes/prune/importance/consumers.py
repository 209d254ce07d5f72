"""The products that read the units of a group, with what their inputs were seen to hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.ir.ops.channels.atoms import Ids
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.removal_order import Consumer, Doubles
from planish.passes.prune.walk import readers
from planish.passes.quantize.gram import Gram, aim_of, gram_key


class Reading(NamedTuple):
    """A product that contracts units with a constant weight.

    key: of the Gram matrix of its rows. units: which unit each row of the weight belongs to, [groups, k], -1 for none.
    """

    node: Node
    key: str
    x: Value
    units: Ids


def readings(group: Group) -> Iterator[Reading]:
    """Conv, Gemm and MatMul; a depthwise convolution, whose channels are no sums of units, is none."""
    for member in group.constants:
        for node in readers(member.value):
            key, x, tensor = gram_key(node), node.operand(0), member.value.constant
            if (
                key is None
                or x is None
                or tensor is None
                or node.operand(1) is not member.value
                or member.axis != _axis(node)
            ):
                continue
            units = np.atleast_2d(member.units)
            if node.op == "Conv":
                units = np.repeat(units, math.prod(tensor.shape[2:]), axis=1)
            yield Reading(node, key, x, units)


def consumers(group: Group, grams: Mapping[str, Gram]) -> Iterator[Consumer]:
    """One for each group of each product whose Gram matrix is known.

    Where a bias can take care of the means of the inputs, what they add alike everywhere is nothing that is lost.
    """
    for reading in readings(group):
        gram = grams.get(reading.key)
        if gram is None:
            continue
        for place, weight in enumerate(weights(reading.node)):
            aim = aim_of(gram, place, has_bias=_has_bias(reading.node))
            yield Consumer(aim, weight, reading.units[place])


def weights(node: Node) -> Doubles:
    """Of a product, [groups, k, outputs]."""
    value = node.operands[1]
    if value is None or value.constant is None:
        raise ValueError(f"{node.label} has no constant weight")
    array = value.constant.array().astype(np.float64)
    if node.op == "Conv":
        groups = node.get_int("group")
        return array.reshape(groups, len(array) // groups, -1).transpose(0, 2, 1)
    return (array.T if node.op == "Gemm" and node.get_int("transB") else array.reshape(len(array), -1))[None]


def _has_bias(node: Node) -> bool:
    """Whether a row of constants is or may be added to the product's result."""
    if node.op != "MatMul":
        return True
    users = node.result.users
    return len(users) == 1 and users[0].op == "Add" and any(v is not None and v.constant for v in users[0].operands)


def _axis(node: Node) -> int:
    """Of the weight, over which the product sums."""
    return 1 if node.op == "Conv" or (node.op == "Gemm" and node.get_int("transB")) else 0
