"""An addition that ONNX Runtime would fuse into a slower kernel is written as Sum, which it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import DType, Node, Value
from planish.passes.kernels import cpu
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

a, b = Var("a"), Var("b")
added = Op("Add", (a, b))


def _is_single(node: Node) -> bool:
    """Whether the node gives one result, of single precision: the slower kernels are of that type."""
    return node.results[0].dtype is DType.FLOAT and not any(result.is_used for result in node.results[1:])


def _is_erf(node: Node) -> bool:
    return _is_single(node) and node.get_str("approximate") == "none"


gelu = Op("Gelu", (added,), where=_is_erf)
norm = Op("LayerNormalization", (added, Var("scale"), Var("bias")), where=_is_single)


@rule(gelu, contract=Contract.EXACT)
def add_before_gelu(m: Match) -> Value | None:
    """Gelu(Add(a, b)) -> Gelu(Sum(a, b)), where b has one axis: ONNX Runtime would make BiasGelu of them"""
    if not any(operand.rank == 1 for operand in (m[a], m[b])):
        return m.decline("no addend has one axis, so that ONNX Runtime does not fuse it")
    return _summed(m)


@rule(norm, contract=Contract.EXACT)
def add_before_layer_norm(m: Match) -> Value | None:
    """LayerNormalization(Add(a, b), ...) -> LayerNormalization(Sum(a, b), ...), where ONNX Runtime would make
    SkipLayerNormalization of them
    """
    if m[a].rank is None or m[a].rank != m[b].rank:
        return m.decline("the addends have different ranks, so that ONNX Runtime does not fuse them")
    return _summed(m)


def _summed(m: Match) -> Value | None:
    if m.run.kernels.name != cpu().name:
        return m.decline("the fused kernels are slower on ONNX Runtime's CPU provider, and the target is another")
    total = m.add("Sum", (m[a], m[b]))
    total.name = m[added].result.name
    return m.add(m.root.op, (total, *m.root.operands[1:]), m.root.attributes)


@dataclass(frozen=True)
class LowerAdd(RulePass):
    """Write the sum before a Gelu or a LayerNormalization so that ONNX Runtime does not fuse it.

    The kernels into which it fuses them on its CPU provider, BiasGelu and SkipLayerNormalization, take 1.3 to 1.6 and
    2.6 to 4.8 times as long as the two nodes alone, measured with version 1.31 on x86-64. Sum of two is the same
    arithmetic as Add.
    """

    name: ClassVar[str] = "lower-add"

    def rules(self) -> Sequence[Rule]:
        return (add_before_gelu, add_before_layer_norm)
