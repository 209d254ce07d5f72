"""x * tanh(softplus(x)) becomes a Mish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x = Var("x")


@rule(Op("Mul", (x, Op("Tanh", (Op("Softplus", (x,)),))), commutes=True), contract=Contract.REASSOCIATES)
def mish(m: Match) -> Value | None:
    """x * Tanh(Softplus(x)) -> Mish(x)

    An element differs by some roundings of |x|.
    """
    return m.add("Mish", (m[x],))


@dataclass(frozen=True)
class FuseMish(RulePass):
    """Fuse x * tanh(softplus(x)) into Mish of opset 18. Expects fuse-softplus to have run."""

    name: ClassVar[str] = "fuse-mish"

    def rules(self) -> Sequence[Rule]:
        return (mish,)
