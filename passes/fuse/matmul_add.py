"""MatMul or Gemm + Add or Sub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.fuse.gemm import add_gemm, plus, product_of
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

a, b, c, d = Var("a"), Var("b"), Var("c"), Var("d")
product = Op(("MatMul", "Gemm"), (a, b, Maybe(c)))
_FINITE = "sums that do not overflow in any order"


def _of_a_matrix(node: Node) -> bool:
    return node.result.rank in (None, 2)


@rule(Op("Add", (product, d), commutes=True, where=_of_a_matrix), contract=Contract.REASSOCIATES, needs=_FINITE)
def matmul_add(m: Match) -> Value | None:
    """Add(MatMul(a, b), d) -> Gemm(a, b, d), and Add(Gemm(a, b, c), d) -> Gemm(a, b, c + d)"""
    return _absorb(m, 1, 1)


@rule(Op("Sub", (product, d), where=_of_a_matrix), contract=Contract.REASSOCIATES, needs=_FINITE)
def matmul_sub(m: Match) -> Value | None:
    """Sub(MatMul(a, b), d) -> Gemm<beta = -1>(a, b, d), and Sub(Gemm(a, b, c), d) -> Gemm(a, b, c - d)"""
    return _absorb(m, 1, -1)


@rule(Op("Sub", (d, product), where=_of_a_matrix), contract=Contract.REASSOCIATES, needs=_FINITE)
def sub_matmul(m: Match) -> Value | None:
    """Sub(d, MatMul(a, b)) -> Gemm<alpha = -1>(a, b, d), and Sub(d, Gemm(a, b, c)) -> Gemm<alpha = -1>(a, b, d - c)"""
    return _absorb(m, -1, 1)


def _absorb(m: Match, sign: int, of_addend: int) -> Value | None:
    """sign * product + of_addend * d as one Gemm."""
    node = m[product]
    before = product_of(m, node)
    if before is None:
        return None
    before = before._replace(alpha=sign * before.alpha, beta=sign * before.beta)
    after = plus(m, before, m[d], node.result, of_addend)
    return None if after is None else add_gemm(m, after)


@dataclass(frozen=True)
class FuseMatMulAdd(RulePass):
    """Make a Gemm of a MatMul of two matrices and what is added to it, in float and double.

    What is added may be computed, and must broadcast to the product; the product must have no other reader. To a Gemm
    that adds a constant already, another constant is added.
    """

    name: ClassVar[str] = "fuse-matmul-add"

    def rules(self) -> Sequence[Rule]:
        return (matmul_add, matmul_sub, sub_matmul)
