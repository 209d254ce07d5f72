"""A tensor plus itself times a smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.types import DType
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, gate = Var("x"), Var("gate")
_FLOATS = frozenset((DType.FLOAT, DType.DOUBLE))


def _reads_a_product(node: Node) -> bool:
    left, right = node.operands[0], node.operands[1]
    if left is None or right is None or left is right:
        return False
    for product, other in ((left, right), (right, left)):
        if product.producer is not None and product.producer.op == "Mul" and other in product.producer.operands:
            return True
    return False


product = Op("Mul", (x, gate), commutes=True)


@rule(
    Op("Add", (x, product), commutes=True, where=_reads_a_product),
    contract=Contract.REASSOCIATES,
    needs="values that are finite, and products that do not overflow",
)
def scaled_sum(m: Match) -> Value | None:
    """x + x * gate -> x * (gate + 1), where the gate is smaller than x, as in squeeze-and-excite"""
    whole, part = m[x], m[gate]
    dtype = whole.dtype
    if dtype is None or dtype not in _FLOATS or whole.shape is None or part.shape is None or part is whole:
        return m.decline("the element type is not float or double, or a rank is not known")
    if len(part.shape) > len(whole.shape) or whole.shape != m.root.result.shape:
        return m.decline("the gate may broadcast what it scales")
    aligned = (1,) * (len(whole.shape) - len(part.shape)) + part.shape
    if not any(extent == 1 and full != 1 for extent, full in zip(aligned, whole.shape, strict=True)):
        return m.decline("the gate is as large as what it scales")
    one = m.constant(np.ones((), dtype.numpy), "one")
    return m.add("Mul", (whole, m.add("Add", (part, one))))


@dataclass(frozen=True)
class FuseScaledSum(RulePass):
    """Add one to the gate of a residual squeeze-and-excite block instead of the block's input to its product.

    As many nodes, but one of them works on the gate alone. The error stays within a few roundings of |x| (1 + |gate|).
    """

    name: ClassVar[str] = "fuse-scaled-sum"

    def rules(self) -> Sequence[Rule]:
        return (scaled_sum,)
