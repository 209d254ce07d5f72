"""The logarithm of 1 + exp(x) becomes a Softplus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import ClassVar

from planish.ir import Value
from planish.passes.fuse.walk import EPSILON, number
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, limit = Var("x"), Const("limit")
one, zero = Const("one"), Const("zero")
_plain = Op("Log", (Op("Add", (Op("Exp", (x,)), one), commutes=True),))
_tail = Op("Softplus", (Op("Neg", (Op("Abs", (x,)),)),))
_softplus = Op("Softplus", (x,))


@rule(_plain, contract=Contract.REASSOCIATES, needs="exponentials that do not overflow")
def softplus(m: Match) -> Value | None:
    """Log(Exp(x) + 1) -> Softplus(x)

    An element differs by some roundings of 1 and of itself.
    """
    return _softplus_of(m) if _is(m, one, 1) else m.decline("the number that is added is not 1")


@rule(Op("Add", (Op("Relu", (x,)), _tail), commutes=True), contract=Contract.REASSOCIATES)
def relu_softplus(m: Match) -> Value | None:
    """Relu(x) + Softplus(-Abs(x)) -> Softplus(x)

    As log(1 + exp(x)) is guarded against overflow. An element differs by some roundings of itself.
    """
    return _softplus_of(m)


@rule(Op("Add", (Op("Max", (x, zero), commutes=True), _tail), commutes=True), contract=Contract.REASSOCIATES)
def max_softplus(m: Match) -> Value | None:
    """Max(x, 0) + Softplus(-Abs(x)) -> Softplus(x)

    As log(1 + exp(x)) is guarded against overflow. An element differs by some roundings of itself.
    """
    return _softplus_of(m) if _is(m, zero, 0) else m.decline("the lower bound is not 0")


@rule(
    Op("Where", (Op(("Greater", "GreaterOrEqual"), (x, limit)), x, _softplus)),
    contract=Contract.REASSOCIATES,
)
def limited_softplus(m: Match) -> Value | None:
    """Where(x > limit, x, Softplus(x)) -> Softplus(x), where the limit is so high that rounding makes x of it anyway"""
    return _unlimited(m)


@rule(
    Op("Where", (Op(("Less", "LessOrEqual"), (x, limit)), _softplus, x)),
    contract=Contract.REASSOCIATES,
)
def limited_softplus_below(m: Match) -> Value | None:
    """Where(x < limit, Softplus(x), x) -> Softplus(x), where the limit is so high that rounding makes x of it anyway

    A NaN stays one either way.
    """
    return _unlimited(m)


def _is(m: Match, part: Const, expected: float) -> bool:
    return number(m[part], m[x]) == expected


def _softplus_of(m: Match) -> Value:
    return m.add("Softplus", (m[x],))


def _unlimited(m: Match) -> Value | None:
    found, dtype = number(m[limit], m[x]), m[x].dtype
    epsilon = None if dtype is None else EPSILON.get(dtype)
    if found is None or epsilon is None or found <= 0 or exp(-found) > epsilon * found:
        return m.decline("Softplus differs from x at the limit by more than a rounding")
    return _softplus_of(m)


@dataclass(frozen=True)
class FuseSoftplus(RulePass):
    """Fuse log(1 + exp(x)), plain, guarded against overflow or limited, into Softplus.

    only_limits: take away no more than the limits around a Softplus, for targets whose kernel of it is the slower way.
    """

    name: ClassVar[str] = "fuse-softplus"
    only_limits: bool = False

    def rules(self) -> Sequence[Rule]:
        limits = (limited_softplus, limited_softplus_below)
        return limits if self.only_limits else (softplus, relu_softplus, max_softplus, *limits)
