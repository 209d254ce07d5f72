"""An If whose condition is known becomes the branch that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Value
from planish.ir.graph import RETURN, constant
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Op
from planish.passes.replacing import needs_copy
from planish.passes.rewrite import Contract, Match, Rule, rule

condition = Const("condition")


@rule(Op("If", (condition,)), contract=Contract.EXACT)
def inline_if(m: Match) -> tuple[Value, ...] | None:
    """If(constant) -> the nodes of the branch that it takes"""
    tensor = m[condition].constant
    if tensor is None or tensor.size != 1:
        return None
    return inline_branch(m, taken=any(tensor.ints()))


def inline_branch(m: Match, *, taken: bool) -> tuple[Value, ...] | None:
    """The results of the branch that the root takes, whose nodes move before the root."""
    branch = m.root.subgraph("then_branch" if taken else "else_branch")
    if len(branch.outputs) != len(m.root.results):
        return m.decline("the branch gives back another number of values than the If")
    outputs = m.inline(branch)
    return tuple([nameable(m, old, new) for old, new in zip(m.root.results, outputs, strict=True)])


def nameable(m: Match, old: Value, new: Value) -> Value:
    """The branch's result, through an Identity where the graph gives it back and it has another name already.

    A constant that is given back becomes one of its own, for another result may be the same one.
    """
    for user in old.users:
        if user.op == RETURN and new.constant is not None and new.producer is None:
            return constant(new.constant, new.name)
        if user.op == RETURN and user.graph is not None and needs_copy(new, user.graph, m.created):
            return m.add("Identity", (new,))
    return new


@dataclass(frozen=True)
class InlineConstantIf(RulePass):
    """Replace an If whose condition is a constant by the branch that it takes.

    The branch may give back captured values, constants and initializers; the outputs of the model keep their names.
    """

    name: ClassVar[str] = "inline-constant-if"

    def rules(self) -> Sequence[Rule]:
        return (inline_if,)
