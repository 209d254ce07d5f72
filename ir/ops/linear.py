"""Matrix products and convolutions, plain and quantized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planish.ir.dim import Dim, Shape
from planish.ir.errors import GraphError
from planish.ir.graph import Node, Value
from planish.ir.ops.broadcast import broadcast
from planish.ir.ops.operator import Operator, unknown_dim, unknown_shape
from planish.ir.ops.sliding import convolved, transposed
from planish.ir.types import Array, DType, TensorType, Type

Arrays = Sequence[Array | None]
Types = Sequence[Type | None]
FLOATS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16, DType.BFLOAT16)
_MATRIX = 2


def _differ(a: Dim, b: Dim) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


def _typed(dtype: DType | None, shape: Shape | None) -> Types:
    return (None if dtype is None else TensorType(dtype, shape),)


def _shape(value: Value | None) -> Shape | None:
    return None if value is None else value.shape


# Matrix products


def product_shape(node: Node, left: Shape | None, right: Shape | None) -> Shape | None:
    """The shape of a matrix product: the last two axes multiply, those before them broadcast, a vector has no other."""
    if left == () or right == ():
        raise GraphError(f"{node.op} takes no scalar operand", node)
    if left is None or right is None:
        return None
    if _differ(left[-1], right[-_MATRIX if len(right) >= _MATRIX else 0]):
        raise GraphError(f"{node.op} cannot multiply shapes {list(left)} and {list(right)}", node)
    batch = broadcast(node, left[:-2], right[:-2])
    return (*batch, *left[-2:-1], *(right[-1:] if len(right) >= _MATRIX else ()))


def _infer_matmul(node: Node) -> Types:
    a, b = node.operands
    dtype = (None if a is None else a.dtype) or (None if b is None else b.dtype)
    return _typed(dtype, product_shape(node, _shape(a), _shape(b)))


def _infer_matmul_integer(node: Node) -> Types:
    return _typed(DType.INT32, product_shape(node, _shape(node.operands[0]), _shape(node.operands[1])))


def _infer_qlinear_matmul(node: Node) -> Types:
    zero_point = node.operand(7)
    shape = product_shape(node, _shape(node.operand(0)), _shape(node.operand(3)))
    return _typed(None if zero_point is None else zero_point.dtype, shape)


def _infer_gemm(node: Node) -> Types:
    a, b, c = node.operand(0), node.operand(1), node.operand(2)
    dtype = (None if a is None else a.dtype) or (None if b is None else b.dtype)
    m, k = _matrix(node, a, "transA")
    inner, n = _matrix(node, b, "transB")
    if _differ(k, inner):
        raise GraphError(f"Gemm cannot multiply [{m}, {k}] and [{inner}, {n}]", node)
    addend = _shape(c)
    if addend is not None and (
        len(addend) > _MATRIX or any(_differ(d, aim) and d != 1 for d, aim in zip(addend[::-1], (n, m), strict=False))
    ):
        raise GraphError(f"Gemm cannot broadcast an addend of shape {list(addend)} to [{m}, {n}]", node)
    return _typed(dtype, (m, n))


def _matrix(node: Node, value: Value | None, transpose: str) -> tuple[Dim, Dim]:
    """Rows and columns of an operand of Gemm as it enters the product."""
    shape = _shape(value)
    if shape is None:
        shape = unknown_shape(node, _MATRIX)
    if len(shape) != _MATRIX:
        raise GraphError(f"{node.op} takes matrices, and an operand has rank {len(shape)}", node)
    rows, columns = shape
    return (columns, rows) if node.get_int(transpose) else (rows, columns)


# Convolutions


def _infer_conv(node: Node) -> Types:
    x = node.operands[0]
    return _typed(None if x is None else x.dtype, _conv_shape(node, _shape(x), _shape(node.operands[1])))


def _infer_conv_integer(node: Node) -> Types:
    return _typed(DType.INT32, _conv_shape(node, _shape(node.operands[0]), _shape(node.operands[1])))


def _infer_qlinear_conv(node: Node) -> Types:
    zero_point = node.operand(7)
    shape = _conv_shape(node, _shape(node.operand(0)), _shape(node.operand(3)))
    return _typed(None if zero_point is None else zero_point.dtype, shape)


def _conv_shape(node: Node, x: Shape | None, weight: Shape | None) -> Shape | None:
    """x [N, C, spatial...] and weight [M, C/group, kernel...] give [N, M, spatial...]."""
    x, weight, kernel = _aligned(node, x, weight)
    if x is None:
        return None
    group = node.get_int("group")
    if weight is not None and _differ(x[1], weight[1] * group):
        raise GraphError(f"{node.op} of {x[1]} channels by a weight for {weight[1]} in each of {group} groups", node)
    channels = unknown_dim(node) if weight is None else weight[0]
    spatial = unknown_shape(node, len(x) - 2) if kernel is None else convolved(node, x[2:], kernel)
    return (x[0], channels, *spatial)


def _infer_conv_transpose(node: Node) -> Types:
    x = node.operands[0]
    dtype = None if x is None else x.dtype
    shape, weight, kernel = _aligned(node, _shape(x), _shape(node.operands[1]))
    if shape is None:
        return _typed(dtype, None)
    if weight is not None and _differ(shape[1], weight[0]):
        raise GraphError(f"ConvTranspose of {shape[1]} channels by a weight for {weight[0]}", node)
    channels = unknown_dim(node) if weight is None else weight[1] * node.get_int("group")
    spatial = unknown_shape(node, len(shape) - 2) if kernel is None else transposed(node, shape[2:], kernel)
    return _typed(dtype, (shape[0], channels, *spatial))


def _aligned(
    node: Node, x: Shape | None, weight: Shape | None
) -> tuple[Shape | None, Shape | None, tuple[Dim, ...] | None]:
    """Both shapes, of one rank if either is known, and the extents of the kernel where those of x are known too."""
    kernel = node.get_ints("kernel_shape") or None
    rank = len(x) if x is not None else len(weight) if weight is not None else len(kernel) + 2 if kernel else None
    if rank is None:
        return None, None, None
    if rank <= _MATRIX or (weight is not None and len(weight) != rank) or (kernel and len(kernel) != rank - 2):
        ranks = f"{rank} by a weight of rank {rank if weight is None else len(weight)}"
        raise GraphError(f"{node.op} of a tensor of rank {ranks}, kernel {list(kernel or ())}", node)
    if kernel is not None and weight is not None and any(map(_differ, kernel, weight[2:])):
        raise GraphError(f"{node.op} has kernel_shape={list(kernel)} and a weight of {list(weight[2:])}", node)
    if x is None:
        return unknown_shape(node, rank), weight, None
    return x, weight, weight[2:] if kernel is None and weight is not None else kernel


# Values on constants


def multiply(a: Array, b: Array) -> Array | None:
    """The matrix product, floats summed in double; None where a sum could overflow or a runtime's order could show."""
    if a.dtype.kind in "iu":
        return np.matmul(a, b) if a.dtype.itemsize >= np.dtype(np.int32).itemsize and a.shape[-1] else None
    if DType.of(a) not in FLOATS:
        return None
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    if not sums_fit(wide_a, wide_b, a.shape[-1], a.dtype):
        return None
    with np.errstate(over="ignore"):
        return np.matmul(wide_a, wide_b).astype(a.dtype)


def sums_fit(a: NDArray[np.float64], b: NDArray[np.float64], terms: int, dtype: np.dtype[np.generic]) -> bool:
    """Whether a sum of so many products, in any order, surely stays finite in `dtype`."""
    largest = float(np.max(np.abs(a), initial=0)) * float(np.max(np.abs(b), initial=0)) * max(terms, 1)
    return largest < _largest(dtype) / 2


def single(node: Node, name: str) -> float:
    """An attribute as ONNX keeps it, in single precision."""
    return float(np.float32(node.get_float(name)))


def _largest(dtype: np.dtype[np.generic]) -> float:
    return float(np.finfo(np.float32 if dtype.itemsize <= np.dtype(np.float32).itemsize else np.float64).max)


def _fold_matmul(_: Node, arrays: Arrays) -> Sequence[Array] | None:
    a, b = arrays
    product = None if a is None or b is None else multiply(a, b)
    return None if product is None else [np.asarray(product)]


def _fold_gemm(node: Node, arrays: Arrays) -> Sequence[Array] | None:
    """ONNX Runtime has kernels for floats alone, and reads no addend that beta=0 multiplies."""
    a, b, c = (*arrays, None)[:3]
    if a is None or b is None or DType.of(a) not in FLOATS:
        return None
    alpha, beta = single(node, "alpha"), single(node, "beta")
    left = (a.T if node.get_int("transA") else a).astype(np.float64)
    right = (b.T if node.get_int("transB") else b).astype(np.float64)
    addend = np.zeros(1) if c is None or not beta else c.astype(np.float64)
    fits = sums_fit(left, right * max(1, abs(alpha)), left.shape[-1], a.dtype)
    if not fits or not sums_fit(addend, np.full(1, max(1, abs(beta))), 1, a.dtype):
        return None
    with np.errstate(over="ignore"):
        return [(np.matmul(left, right) * alpha + addend * beta).astype(a.dtype)]


OPERATORS: dict[str, Operator] = {
    "MatMul": Operator(_infer_matmul, fold=_fold_matmul),
    "Gemm": Operator(_infer_gemm, fold=_fold_gemm),
    "MatMulInteger": Operator(_infer_matmul_integer),
    "QLinearMatMul": Operator(_infer_qlinear_matmul),
    "Conv": Operator(_infer_conv),
    "ConvTranspose": Operator(_infer_conv_transpose),
    "ConvInteger": Operator(_infer_conv_integer),
    "QLinearConv": Operator(_infer_qlinear_conv),
}
