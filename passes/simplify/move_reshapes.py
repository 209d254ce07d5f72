"""A Reshape moves up past elementwise operators where another one waits to merge with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule
from planish.passes.simplify.reshaping import RESHAPES, UNSAYABLE, never_empty, reshaped_to

STEPS = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu",
    "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min",
    "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    "Xor",
)  # fmt: skip
"""What works element by element, by itself or with single numbers."""

x = Var("x")
first = Op(RESHAPES, (x, Maybe(Var("s"))))


def _behind(inner: Op, name: str, *, swapped: bool = False) -> Op:
    """One step behind another, the data in front of its constants or, swapped, behind one."""
    one, two = Const(f"{name}1"), Const(f"{name}2")
    return Op(STEPS, (one, inner) if swapped else (inner, Maybe(one), Maybe(two)))


def _rule(name: str, steps: Sequence[Op]) -> Rule:
    """The rule for a Reshape behind these steps, the last one first."""
    root = Op(RESHAPES, (steps[0], Maybe(Var("t"))))

    def move(m: Match) -> Value | None:
        """Reshape(Relu(Reshape(x))) -> Relu(Reshape(x)), or Relu(x) where the shape comes back"""
        shape, between = m.root.result.shape, m[first].result
        nodes = [m[step] for step in reversed(steps)]
        if shape is None or between.rank is None:
            return m.decline("the ranks are not known")
        if not all(_single_numbers(node, min(len(shape), between.rank)) for node in nodes):
            return m.decline("an operator between them reads more than single numbers beside")
        value = reshaped_to(m, m[x], shape, never_empty(m[first]) | never_empty(m.root))
        if value is None:
            return m.decline(UNSAYABLE)
        for node, step in zip(nodes, reversed(steps), strict=True):
            operands = [
                value if operand is not None and operand.constant is None else operand for operand in node.operands
            ]
            value = m.add(m[step].op, operands, node.attributes)
        return value

    move.__name__ = name
    return rule(root, contract=Contract.EXACT)(move)


def _single_numbers(node: Node, rank: int) -> bool:
    """Whether the constants that a node reads are one number each, of no higher rank than the data."""
    tensors = [operand.constant for operand in node.operands if operand is not None and operand.constant is not None]
    return all(tensor.size == 1 and len(tensor.shape) <= rank for tensor in tensors)


one = _behind(first, "a")
one_swapped = _behind(first, "a", swapped=True)
two = _behind(one, "b")
three = _behind(two, "c")


@dataclass(frozen=True)
class MoveReshapes(RulePass):
    """Move a Reshape, Squeeze, Unsqueeze or Flatten up to another one, past at most three elementwise operators.

    The two become one, in front of what lay between them, or none. It moves nowhere else, and never down.
    """

    name: ClassVar[str] = "move-reshapes"

    def rules(self) -> Sequence[Rule]:
        return RULES


RULES = (
    _rule("reshape_past_one", (one,)),
    _rule("reshape_past_one_swapped", (one_swapped,)),
    _rule("reshape_past_two", (two, one)),
    _rule("reshape_past_three", (three, two, one)),
)
