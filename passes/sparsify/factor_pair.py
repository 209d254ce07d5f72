"""Whether a product is one of two that stand for a single one."""

from __future__ import annotations

import math

from planish.ir import Node
from planish.passes.quantize.gram import PRODUCTS
from planish.passes.quantize.stored_weights import StoredWeight, stored_weight


def is_factor(node: Node) -> bool:
    """Whether it and the product before or behind it compute a linear map for less than one product would."""
    x = node.operand(0)
    before = None if x is None else x.producer
    if before is not None and is_pair(before, node):
        return True
    readers = node.result.users
    return len(readers) == 1 and is_pair(node, readers[0])


def is_pair(first: Node, second: Node) -> bool:
    """Only `second` reads what `first` gives, which has no bias."""
    if first.op != second.op or first.op not in PRODUCTS or first.operand(2) is not None:
        return False
    if second.operand(0) is not first.result or not first.result.has_one_use:
        return False
    left, right = stored_weight(first), stored_weight(second)
    if left is None or right is None or left.groups != 1 or right.groups != 1 or len(left.shape) != len(right.shape):
        return False
    if (first.op == "Gemm" and second.get_int("transA")) or _columns(left) == 0:
        return False
    return left.rows * _columns(left) + right.rows * _columns(right) < _whole(left, right)


def _columns(weight: StoredWeight) -> int:
    return weight.shape[0] if weight.channels_first else weight.shape[1]


def _whole(left: StoredWeight, right: StoredWeight) -> int:
    """Multiply-accumulates of one product in place of both, for each element of a channel."""
    if not left.is_image:
        return left.rows * _columns(right)
    kernel = [a + b - 1 for a, b in zip(left.shape[2:], right.shape[2:], strict=True)]
    return left.shape[1] * _columns(right) * math.prod(kernel)
