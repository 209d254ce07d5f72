"""Operators on integers with scales become operators on real numbers, between DequantizeLinear and QuantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planish.ir import Value
from planish.ir.graph import Attribute
from planish.ir.types import Array
from planish.passes.pattern import Op
from planish.passes.quantize.dequantized import arrays, dequantized, quantized, real, unpacked
from planish.passes.rewrite import Contract, Match, Rule, rule

_HALF_A_STEP = "results that may move by half a step of each quantized tensor"
_CONTRIB = "com.microsoft::"


class _Elementwise(NamedTuple):
    """An operator of ONNX Runtime's domain on codes, each followed by its scale and zero point, then the result's."""

    operands: int
    attributes: tuple[str, ...] = ()


_ELEMENTWISE = {
    "Add": _Elementwise(2),
    "AveragePool": _Elementwise(1, ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")),
    "GlobalAveragePool": _Elementwise(1),
    "LeakyRelu": _Elementwise(1, ("alpha",)),
    "Mul": _Elementwise(2),
    "Sigmoid": _Elementwise(1),
    "Softmax": _Elementwise(1, ("axis",)),
}
_PER_COLUMN = -1
_OPSET_OF_ONE_AXIS = 13


@rule(Op("QLinearConv"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_conv(m: Match) -> Value | None:
    """QLinearConv(x, w, b) -> Quantize(Conv(Dequantize(x), Dequantize(w), b x_scale w_scale))"""
    node = m.root
    x = real(m, node.operands[0], node.operands[1], node.operands[2])
    w = real(m, node.operands[3], node.operands[4], node.operands[5], axis=0)
    if x is None or w is None:
        return m.decline("scales and zero points are not as the operator has them")
    operands = [x, w]
    if node.operand(8) is not None:
        bias = _bias(m, node.operand(8), (node.operands[1], node.operands[4]))
        if bias is None:
            return m.decline("the bias or a scale is computed")
        operands.append(bias)
    return quantized(m, m.add("Conv", operands, node.attributes), node.operands[6], node.operands[7], None)


def _bias(m: Match, codes: Value | None, scales: Sequence[Value | None], factor: float = 1.0) -> Value | None:
    known = arrays(m, (codes, *scales))
    if known is None or codes is None:
        return None
    scale = np.prod(np.broadcast_arrays(*[s.reshape(-1).astype(np.float64) for s in known[1:]]), axis=0) * factor
    return m.constant((known[0] * scale).astype(known[1].dtype), codes.name)


@rule(Op("QLinearMatMul"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_product(m: Match) -> Value | None:
    """QLinearMatMul(a, b) -> Quantize(MatMul(Dequantize(a), Dequantize(b)))"""
    node = m.root
    a = real(m, node.operands[0], node.operands[1], node.operands[2], axis=-2)
    b = real(m, node.operands[3], node.operands[4], node.operands[5], axis=_PER_COLUMN)
    if a is None or b is None:
        return m.decline("scales and zero points are not as the operator has them")
    return quantized(m, m.add("MatMul", (a, b)), node.operands[6], node.operands[7], None)


@rule(Op(f"{_CONTRIB}QGemm"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_gemm(m: Match) -> Value | None:
    """QGemm(a, b, c) -> Gemm(Dequantize(a), Dequantize(b), c a_scale b_scale alpha), quantized where it was"""
    node = m.root
    transposed, alpha = bool(node.attributes.get("transB", 0)), node.attributes.get("alpha", 1.0)
    a = real(m, node.operands[0], node.operands[1], node.operands[2])
    b = real(m, node.operands[3], node.operands[4], node.operands[5], axis=0 if transposed else 1)
    if a is None or b is None or not isinstance(alpha, float):
        return m.decline("scales and zero points are not as the operator has them")
    operands = [a, b]
    if node.operand(6) is not None:
        bias = _bias(m, node.operand(6), (node.operands[1], node.operands[4]), alpha)
        if bias is None:
            return m.decline("the bias or a scale is computed")
        operands.append(bias)
    product = m.add("Gemm", operands, node.attributes)
    return (
        product
        if node.operand(7) is None
        else quantized(m, product, node.operand(7), node.operand(8), node.operands[0])
    )


@rule(Op([f"{_CONTRIB}QLinear{name}" for name in _ELEMENTWISE]), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_elementwise(m: Match) -> Value | None:
    """QLinearAdd(a, b) -> Quantize(Add(Dequantize(a), Dequantize(b))), and so for other operators"""
    node = m.root
    name = node.op.removeprefix(f"{_CONTRIB}QLinear")
    kind = _ELEMENTWISE[name]
    if node.attributes.get("channels_last"):
        return m.decline("its channels are last, which the standard operator has first")
    opset = node.attributes.get("opset", _OPSET_OF_ONE_AXIS)
    if isinstance(opset, int) and opset < _OPSET_OF_ONE_AXIS and not _is_last(m):
        return m.decline("a Softmax of an old opset flattens the axes behind its own")
    operands = [_triple(m, 3 * place) for place in range(kind.operands)]
    whole = [operand for operand in operands if operand is not None]
    if len(whole) < kind.operands:
        return m.decline("scales and zero points are not as the operator has them")
    attributes = {key: value for key, value in node.attributes.items() if key in kind.attributes}
    last = 3 * kind.operands
    return quantized(m, m.add(name, whole, attributes), node.operand(last), node.operand(last + 1), node.operands[0])


def _triple(m: Match, first: int) -> Value | None:
    """What codes, their scale and their zero point, beginning at an operand, stand for."""
    return real(m, m.root.operand(first), m.root.operand(first + 1), m.root.operand(first + 2))


def _is_last(m: Match) -> bool:
    x, axis = m.root.operands[0], m.root.attributes.get("axis", -1)
    return x is not None and x.rank is not None and axis in (-1, x.rank - 1)


@rule(Op(f"{_CONTRIB}QLinearConcat"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_concat(m: Match) -> Value | None:
    """QLinearConcat(a, b) -> Quantize(Concat(Dequantize(a), Dequantize(b)))"""
    node = m.root
    parts = [_triple(m, place) for place in range(2, len(node.operands), 3)]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return m.decline("scales and zero points are not as the operator has them")
    joined = m.add("Concat", whole, {"axis": node.attributes.get("axis", 0)})
    return quantized(m, joined, node.operands[0], node.operands[1], node.operand(2))


@rule(Op(f"{_CONTRIB}QLinearWhere"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_where(m: Match) -> Value | None:
    """QLinearWhere(c, a, b) -> Quantize(Where(c, Dequantize(a), Dequantize(b)))"""
    node = m.root
    a, b = _triple(m, 1), _triple(m, 4)
    if a is None or b is None:
        return m.decline("scales and zero points are not as the operator has them")
    return quantized(m, m.add("Where", (node.operands[0], a, b)), node.operand(7), node.operand(8), node.operand(1))


@rule(Op(f"{_CONTRIB}MatMulIntegerToFloat"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_product_of_codes(m: Match) -> Value | None:
    """MatMulIntegerToFloat(a, b, bias) -> Add(MatMul(Dequantize(a), Dequantize(b)), bias)"""
    node = m.root
    a = real(m, node.operands[0], node.operands[2], node.operand(4), axis=-2)
    b = real(m, node.operands[1], node.operands[3], node.operand(5), axis=_PER_COLUMN)
    return _with_bias(m, a, b, node.operand(6))


@rule(Op(f"{_CONTRIB}DynamicQuantizeMatMul"), contract=Contract.APPROXIMATE, needs=_HALF_A_STEP)
def real_dynamic_product(m: Match) -> Value | None:
    """DynamicQuantizeMatMul(x, b, bias) -> Add(MatMul(x, Dequantize(b)), bias)"""
    node = m.root
    b = real(m, node.operands[1], node.operands[2], node.operand(3), axis=_PER_COLUMN)
    return _with_bias(m, node.operands[0], b, node.operand(4))


def _with_bias(m: Match, a: Value | None, b: Value | None, bias: Value | None) -> Value | None:
    if a is None or b is None:
        return m.decline("scales and zero points are not as the operator has them")
    product = m.add("MatMul", (a, b))
    return product if bias is None else m.add("Add", (product, bias))


@rule(Op(f"{_CONTRIB}MatMulNBits"), contract=Contract.APPROXIMATE, needs="a result that may round elsewhere")
def real_packed_product(m: Match) -> Value | None:
    """MatMulNBits(x, packed, scales, zeros, bias) -> Add(MatMul(x, w), bias)"""
    node = m.root
    rows, columns, bits, block = (_int(node.attributes.get(name, 4)) for name in ("K", "N", "bits", "block_size"))
    if node.operand(4) is not None or bits not in (2, 4, 8):
        return m.decline("its rows are in another order, or its weights of a size that no byte holds a number of")
    known = arrays(m, node.operands[1:3])
    if known is None:
        return m.decline("its weights are computed")
    blocks = -(-rows // block)
    codes = unpacked(known[0].reshape(columns, blocks, -1), bits, block).reshape(columns, -1)[:, :rows]
    zeros = _zeros(m, node.operand(3), bits, columns, blocks)
    if zeros is None:
        return m.decline("its zero points are computed, or no integers")
    weight = dequantized(codes, known[1].reshape(columns, blocks), zeros, axis=1, block=block)
    if weight is None:
        return m.decline("its scales are not as the operator has them")
    packed = node.operands[1]
    made = m.constant(np.ascontiguousarray(weight.T), "" if packed is None else packed.name)
    return _with_bias(m, node.operands[0], made, node.operand(5))


@rule(Op(f"{_CONTRIB}GatherBlockQuantized"), contract=Contract.APPROXIMATE, needs="a result that may round elsewhere")
def real_table(m: Match) -> Value | None:
    """GatherBlockQuantized(packed, i, scales, zeros) -> Gather(table, i), of bytes with blocks of each row"""
    node = m.root
    bits, block = (_int(node.attributes.get(name, default)) for name, default in (("bits", 4), ("block_size", 128)))
    known, indices = arrays(m, (node.operands[0], node.operands[2])), node.operands[1]
    if known is None or known[0].dtype != np.uint8 or known[0].ndim != 2 or bits not in (2, 4, 8) or indices is None:
        return m.decline("its table is computed, or no matrix of bytes")
    if (node.attributes.get("gather_axis", 0), node.attributes.get("quantize_axis", 1)) != (0, 1):
        return m.decline("it looks up columns, or its blocks are of columns")
    codes = unpacked(known[0], bits, known[0].shape[1] * 8 // bits)
    zeros = _zeros(m, node.operand(3), bits, *known[1].shape)
    table = None if zeros is None else dequantized(codes, known[1], zeros, axis=1, block=block)
    if table is None:
        return m.decline("its scales or zero points are not as the operator has them")
    packed = node.operands[0]
    return m.add("Gather", (m.constant(table, "" if packed is None else packed.name), indices), {"axis": 0})


def _int(attribute: Attribute) -> int:
    return attribute if isinstance(attribute, int) else 0


def _zeros(m: Match, zeros: Value | None, bits: int, columns: int, blocks: int) -> Array | None:
    if zeros is None:
        return np.full((columns, blocks), 1 << (bits - 1), np.uint8)
    if zeros.constant is None or not zeros.constant.dtype.is_integer:
        return None
    return unpacked(m.array(zeros).reshape(columns, -1), bits, blocks)


RULES: tuple[Rule, ...] = (
    real_conv, real_product, real_gemm, real_elementwise, real_concat, real_where, real_product_of_codes,
    real_dynamic_product, real_packed_product, real_table,
)  # fmt: skip
