"""x * HardSigmoid(x), which HardSwish is: shut below a number, and with channels that are stretched."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.ir.graph import constant
from planish.passes.quantize.products import norm_obstacle, scale_and_shift
from planish.passes.quantize.scheme import Doubles

_STEEPEST = 2.0**20


class Gate(NamedTuple):
    """node: the HardSigmoid of x; product: that multiplies x by it, and alone reads both."""

    x: Value
    node: Node
    product: Node

    @property
    def shut(self) -> float:
        """How far below 0 the gate is still open."""
        return max(self.node.get_float("beta") / self.node.get_float("alpha"), 0.0)


def gate_before(value: Value) -> Gate | None:
    """The gate whose product a value is."""
    product = value.producer
    if product is None or product.op != "Mul":
        return None
    for x, opened in zip(product.operands, reversed(product.operands), strict=True):
        node = None if opened is None else opened.producer
        if x is None or node is None or node.op != "HardSigmoid" or node.operands[0] is not x:
            continue
        steep = node.get_float("alpha")
        if 1 / _STEEPEST <= steep <= _STEEPEST and node.result.has_one_use and set(x.users) == {node, product}:
            return Gate(x, node, product)
    return None


def opened_by_channel(gate: Gate, factors: Doubles) -> tuple[Node, Node]:
    """The gate of x / factors, one factor for each channel, that opens as it does for x.

    HardSigmoid(x) = clip(alpha x + beta, 0, 1), so alpha is a matter of the channel: BatchNormalization and Clip, of
    which quantize-static makes one integer kernel.
    """
    scale, ones = (gate.node.get_float("alpha") * factors).astype(np.float32), np.ones(factors.size, np.float32)
    shift = np.full(factors.size, gate.node.get_float("beta"), np.float32)
    parameters = [constant(array) for array in (scale, shift, np.zeros_like(ones), ones)]
    norm = Node("BatchNormalization", (gate.x, *parameters), {"epsilon": 0.0})
    ends = [constant(np.array(end, np.float32)) for end in (0, 1)]
    return norm, Node("Clip", (norm.result, *ends))


def floor_of(value: Value) -> float:
    """Below this a value that nothing reads but its gate and the product with it gives 0, so that it needs no code."""
    for user in value.users:
        level, opened = _shut_level(user)
        others = [other for other in value.users if other is not user]
        if opened is None or not opened.has_one_use:
            continue
        if all(other.op == "Mul" and set(other.operands) == {value, opened} for other in others):
            return level
    return -math.inf


def _shut_level(node: Node) -> tuple[float, Value | None]:
    """Below which number the gate that a node begins is shut in every channel, and what it gives; None of no gate."""
    if node.op == "HardSigmoid" and node.get_float("alpha") > 0:
        return -node.get_float("beta") / node.get_float("alpha"), node.result
    if node.op != "BatchNormalization" or norm_obstacle(node) or not node.result.has_one_use:
        return -math.inf, None
    clip, (scale, shift) = node.result.users[0], scale_and_shift(node)
    low = None if clip.op != "Clip" or clip.operand(1) is None else clip.operand(1)
    if low is None or low.constant is None or low.constant.uniform() != 0 or not (scale > 0).all():
        return -math.inf, None
    return float(np.min(-shift / scale)), clip.result
