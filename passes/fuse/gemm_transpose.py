"""Gemm or MatMul of a transposed matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.passes.fuse.gemm import add_gemm, product_of
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

a, b, c = Var("a"), Var("b"), Var("c")
_PRODUCTS = ("Gemm", "MatMul")


def _swaps(node: Node) -> bool:
    """Whether a Transpose swaps the two axes of a matrix."""
    return node.result.rank == 2 and node.get_ints("perm") in (None, (), (1, 0))


transpose_a, transpose_b = Op("Transpose", (a,), where=_swaps), Op("Transpose", (b,), where=_swaps)
_FINITE = "sums that do not overflow in any order"


@rule(Op(_PRODUCTS, (transpose_a, b, Maybe(c))), contract=Contract.REASSOCIATES, needs=_FINITE)
def transposed_left(m: Match) -> Value | None:
    """Gemm(Transpose(a), b, c) or MatMul(Transpose(a), b) of matrices -> Gemm<transA = 1>(a, b, c)"""
    product = product_of(m, m.root)
    return None if product is None else add_gemm(m, product._replace(a=m[a], trans_a=not product.trans_a))


@rule(Op(_PRODUCTS, (a, transpose_b, Maybe(c))), contract=Contract.REASSOCIATES, needs=_FINITE)
def transposed_right(m: Match) -> Value | None:
    """Gemm(a, Transpose(b), c) or MatMul(a, Transpose(b)) of matrices -> Gemm<transB = 1>(a, b, c)"""
    product = product_of(m, m.root)
    return None if product is None else add_gemm(m, product._replace(b=m[b], trans_b=not product.trans_b))


@dataclass(frozen=True)
class FuseGemmTranspose(RulePass):
    """Let a Gemm read a matrix as it is instead of transposed; a MatMul of matrices in float or double becomes a Gemm.

    The transposed matrix must have no other reader.
    """

    name: ClassVar[str] = "fuse-gemm-transpose"

    def rules(self) -> Sequence[Rule]:
        return (transposed_left, transposed_right)
