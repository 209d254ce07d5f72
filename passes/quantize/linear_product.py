"""Products of an activation and a constant matrix, with their bias, however they are spelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planish.ir import DType, Node, Value
from planish.passes.quantize.scheme import Floats

_MATRIX = 2
_SUMS = ("Add", "Sum")


@dataclass(frozen=True)
class LinearProduct:
    """y = x W + b, of MatMul or Gemm. `weight` is the operand as it stands; `matrix` gives W [K, N].

    last: the node that gives y: the product itself, or an addition of constants that alone reads it.
    """

    node: Node
    x: Value
    weight: Value
    transposed: bool
    factor: float
    bias: Floats | None
    last: Node

    @property
    def shape(self) -> tuple[int, int]:
        """K and N."""
        rows, columns = self.weight.constant.shape if self.weight.constant is not None else (0, 0)
        return (columns, rows) if self.transposed else (rows, columns)

    def matrix(self) -> Floats | None:
        """W in single precision; None where not all of it is finite."""
        if self.weight.constant is None:
            return None
        array = np.asarray(self.weight.constant.array(), np.float32)
        if not np.isfinite(array).all():
            return None
        found = array.T if self.transposed else array
        return found if self.factor == 1 else found * np.float32(self.factor)


def linear_product(node: Node) -> LinearProduct | str:
    """The product that a node is, else why it is none; empty where nobody need ask."""
    x, weight = node.operand(0), node.operand(1)
    if node.op not in ("MatMul", "Gemm") or x is None or weight is None or weight.constant is None:
        return ""
    if x.constant is not None or len(weight.constant.shape) != _MATRIX:
        return ""
    if weight.dtype is not DType.FLOAT or x.dtype is not DType.FLOAT:
        return "it works on other numbers than float32"
    if x.rank is None or x.rank < _MATRIX:
        return "the rank of what it takes is not known, or 1"
    return _of_gemm(node, x, weight) if node.op == "Gemm" else _of_matmul(node, x, weight)


def _of_matmul(node: Node, x: Value, weight: Value) -> LinearProduct:
    bias, last = _added(node)
    return LinearProduct(node, x, weight, transposed=False, factor=1.0, bias=bias, last=last)


def _of_gemm(node: Node, x: Value, weight: Value) -> LinearProduct | str:
    transposed, factor = bool(node.get_int("transB")), node.get_float("alpha")
    if node.get_int("transA"):
        return "it transposes its activation"
    c = node.operand(2)
    if c is None:
        bias, last = _added(node)
        return LinearProduct(node, x, weight, transposed, factor, bias, last)
    columns = weight.constant.shape[0 if transposed else 1] if weight.constant is not None else 0
    bias = _row(c, columns)
    if bias is None:
        return "its bias is not constant, or differs between rows"
    return LinearProduct(node, x, weight, transposed, factor, bias * np.float32(node.get_float("beta")), node)


def _added(node: Node) -> tuple[Floats | None, Node]:
    """The constant row that is added to a product which nothing else reads, and the node that gives the sum."""
    value = node.result
    user = value.users[0] if value.has_one_use else None
    if user is None or user.op not in _SUMS or user.graph is not node.graph or len(user.operands) != _MATRIX:
        return None, node
    other = user.operands[1] if user.operands[0] is value else user.operands[0]
    weight = node.operand(1)
    if other is None or weight is None or weight.constant is None:
        return None, node
    columns = weight.constant.shape[0 if node.op == "Gemm" and node.get_int("transB") else 1]
    if other.rank is None or value.rank is None or other.rank > value.rank:
        return None, node
    bias = _row(other, columns)
    return (None, node) if bias is None else (bias, user)


def _row(value: Value, columns: int) -> Floats | None:
    """A constant that is the same for each row, as one of `columns` numbers."""
    if value.constant is None or value.dtype is not DType.FLOAT:
        return None
    array = np.asarray(value.constant.array(), np.float32)
    if array.size not in (1, columns) or (array.size > 1 and array.shape[-1] != columns):
        return None
    return np.array(np.broadcast_to(array.reshape(-1), (columns,)), np.float32)
