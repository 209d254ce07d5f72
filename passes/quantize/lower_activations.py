"""Activations without an integer kernel are written as operators that have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Node, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x = Var("x")


def _is_single(node: Node) -> bool:
    return node.results[0].dtype is DType.FLOAT


@rule(Op("HardSwish", (x,), where=_is_single), contract=Contract.REASSOCIATES, needs="x / 6 that does not underflow")
def hard_swish(m: Match) -> Value | None:
    """HardSwish(x) -> x * HardSigmoid(x, alpha = 1 / 6, beta = 0.5)"""
    return m.add("Mul", (m[x], m.add("HardSigmoid", (m[x],), {"alpha": 1 / 6, "beta": 0.5})))


@rule(Op("Swish", (x,), where=_is_single), contract=Contract.REASSOCIATES)
def swish(m: Match) -> Value | None:
    """Swish(x) -> x * Sigmoid(x)"""
    if m.root.get_float("alpha") != 1:
        return m.decline("its sigmoid is of a multiple of x")
    return m.add("Mul", (m[x], m.add("Sigmoid", (m[x],))))


@dataclass(frozen=True)
class LowerActivations(RulePass):
    """Write HardSwish and Swish as a product with a gate, as quantize-static looks for them.

    ONNX Runtime has integer kernels for the product and for Sigmoid; a HardSigmoid is a sum whose codes clip.
    """

    name: ClassVar[str] = "lower-activations"
    lossy: ClassVar[bool] = True  # no loss, but fuse-hard-swish would undo it

    def rules(self) -> Sequence[Rule]:
        return (hard_swish, swish)
