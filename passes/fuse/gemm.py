"""Products of matrices as Gemm says them: alpha * A' * B' + beta * C, A and B perhaps transposed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.dim import is_positive
from planish.ir.graph import Attribute
from planish.ir.ops.broadcast import broadcasts_to
from planish.ir.ops.linear import FLOATS, single
from planish.passes.rewrite import Match

_RANK = 2
_KERNELS = (DType.FLOAT, DType.DOUBLE)


class Product(NamedTuple):
    """What a Gemm, or a MatMul of two matrices, computes; `c` is None where nothing is added."""

    a: Value
    b: Value
    c: Value | None = None
    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False


def product_of(m: Match, node: Node) -> Product | None:
    """A MatMul or Gemm as a product that a Gemm can compute; None where one cannot, or has no kernel."""
    a, b = node.operands[:2]
    if a is None or b is None or a.rank != _RANK or b.rank != _RANK:
        return m.decline("a Gemm multiplies matrices, and an operand has another rank or an unknown one")
    if node.op == "MatMul":
        if a.dtype not in _KERNELS:
            return m.decline("runtimes have a Gemm of float and double alone")
        return Product(a, b)
    if a.dtype not in FLOATS:
        return m.decline("the Gemm is one of integers")
    alpha, beta = single(node, "alpha"), single(node, "beta")
    addend = node.operand(2) if beta else None
    trans_a, trans_b = bool(node.get_int("transA")), bool(node.get_int("transB"))
    return Product(a, b, addend, alpha, beta if addend is not None else 1.0, trans_a, trans_b)


def add_gemm(m: Match, product: Product) -> Value:
    """The Gemm that computes a product."""
    given: dict[str, Attribute] = {}
    if product.alpha != 1:
        given["alpha"] = float(product.alpha)
    if product.beta != 1 and product.c is not None:
        given["beta"] = float(product.beta)
    if product.trans_a:
        given["transA"] = 1
    if product.trans_b:
        given["transB"] = 1
    operands = (product.a, product.b) if product.c is None else (product.a, product.b, product.c)
    return m.add("Gemm", operands, given)


def plus(m: Match, product: Product, addend: Value, result: Value, sign: float = 1.0) -> Product | None:
    """A product with `sign` * addend added to it; `result` is the value of the product, whose shape must stay."""
    if addend.shape is None or result.shape is None or not broadcasts_to(addend.shape, result.shape):
        return m.decline("what is added would broadcast the product, or has an unknown shape")
    if (sign != 1 or (product.c is not None and product.beta != 1)) and not sums_something(product.a, product.trans_a):
        return m.decline(EMPTY_SUMS)
    if product.c is None:
        return product._replace(c=addend, beta=sign)
    merged = _merged(m, product.c, product.beta, addend, sign)
    return None if merged is None else product._replace(c=merged, beta=1.0)


EMPTY_SUMS = "the inner axis may be empty, and ONNX Runtime forgets beta then"


def sums_something(a: Value, trans_a: bool) -> bool:
    """Whether the axis over which a product of matrices sums surely has elements; `a` is its left operand."""
    return a.shape is not None and len(a.shape) == _RANK and is_positive(a.shape[0 if trans_a else 1])


def _merged(m: Match, before: Value, beta: float, addend: Value, sign: float) -> Value | None:
    """beta * before + sign * addend as a constant."""
    if before.constant is None or addend.constant is None:
        return m.decline("the Gemm adds something already, and one of both is computed")
    shape = np.broadcast_shapes(before.constant.shape, addend.constant.shape)
    if np.prod(shape) > max(before.constant.size, addend.constant.size):
        return m.decline("what is added differs from row to row, and what the Gemm adds from column to column")
    with np.errstate(all="ignore"):
        total = m.array(before).astype(np.float64) * beta + m.array(addend).astype(np.float64) * sign
        array = total.astype(before.constant.dtype.numpy)
    if not np.isfinite(array).all():
        return m.decline("the sum of both addends is not finite")
    return m.constant(array, before.name)
