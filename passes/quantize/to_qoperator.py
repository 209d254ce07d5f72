"""DequantizeLinear, an operator and QuantizeLinear become one operator on codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.graph import Attribute
from planish.ir.ops.elementwise import integer_limits
from planish.passes.kernels import CONTRIB
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.quantize.bounds import MOVES
from planish.passes.quantize.coded import Coded, dequantized_from, quantized_by
from planish.passes.quantize.forms import nearest_obstacle
from planish.passes.quantize.scheme import Doubles
from planish.passes.rewrite import Contract, Match, Rule, rule

_NEEDS = "results that may move by a step of the codes"
_MATRIX = 2
_OPSET_OF_ONE_AXIS = 13
_SAME_SCALE = 2.0**-20
"""How far, as a part of it, the scale of a bias may be from that of the accumulator: in 2^20 steps, one."""
Made = tuple[str, Sequence[Value | None], Mapping[str, Attribute]]
"""An operator, its operands and its attributes."""


# What each operator becomes


def _conv(m: Match, node: Node, made: Coded) -> Made | None:
    x, w = dequantized_from(m, node.operand(0)), dequantized_from(m, node.operand(1))
    if x is None or w is None or x.is_by_channel or not w.is_along(0) or DType.INT32 in (x.dtype, w.dtype):
        return _left(m, node, "its operands are not dequantized with known scales, those of its weights by filter")
    if not (w.zeros == w.zeros.reshape(-1)[0]).all():
        return _left(m, node, "the zero points of its weights differ, for which no runtime has a kernel")
    bias = _bias(m, node, node.operand(2), x.scales * w.scales)
    if bias is None or not _is_normal(x.scales * w.scales / made.scales):
        return _left(m, node, "the bias is not int32 codes in the steps of x_scale w_scale, or these are out of range")
    return "QLinearConv", (*x.operands, *w.operands, made.scale, made.zero, *bias), node.attributes


def _matmul(m: Match, node: Node, made: Coded) -> Made | None:
    operands = _factors(m, node, -1)
    if operands is None or not _is_normal(operands[0].scales * operands[1].scales / made.scales):
        return _left(m, node, _NO_FACTORS)
    return "QLinearMatMul", (*operands[0].operands, *operands[1].operands, made.scale, made.zero), {}


def _gemm(m: Match, node: Node, made: Coded) -> Made | None:
    product = _product_of_rows(m, node)
    if product is None:
        return None
    op, operands, attributes = product
    return op, (*(operands if len(operands) > _QGEMM_BIAS else (*operands, None)), made.scale, made.zero), attributes


def _unary(m: Match, node: Node, made: Coded) -> Made | None:
    x = dequantized_from(m, node.operand(0))
    kept = _UNARY[node.op]
    if x is None or x.is_by_channel or x.dtype is not made.dtype:
        return _left(m, node, _NO_CODES)
    if any(step != 1 for step in (node.get_ints("dilations") or ()) if node.op == "AveragePool"):
        return _left(m, node, "its window has gaps, which the operator on codes has not")
    attributes = {key: value for key, value in node.attributes.items() if key in kept}
    if node.op == "Softmax":
        attributes["opset"] = _OPSET_OF_ONE_AXIS
    return f"QLinear{node.op}", (*x.operands, made.scale, made.zero), attributes


def _binary(m: Match, node: Node, made: Coded) -> Made | None:
    parts = _parts(m, node.operands, made)
    if parts is None:
        return _left(m, node, _NO_CODES)
    operands = [operand for part in parts for operand in part.operands]
    return f"QLinear{node.op}", (*operands, made.scale, made.zero), {}


def _concat(m: Match, node: Node, made: Coded) -> Made | None:
    parts = _parts(m, node.operands, made)
    if parts is None:
        return _left(m, node, _NO_CODES)
    operands = [operand for part in parts for operand in part.operands]
    return "QLinearConcat", (made.scale, made.zero, *operands), node.attributes


def _where(m: Match, node: Node, made: Coded) -> Made | None:
    parts = _parts(m, node.operands[1:], made)
    if parts is None:
        return _left(m, node, _NO_CODES)
    operands = [operand for part in parts for operand in part.operands]
    return "QLinearWhere", (node.operands[0], *operands, made.scale, made.zero), {}


_UNARY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "AveragePool": ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"),
        "GlobalAveragePool": (),
        "LeakyRelu": ("alpha",),
        "Sigmoid": (),
        "Softmax": ("axis",),
    }
)
"""Operators of one activation, with the attributes that they keep."""
_WRITERS: Mapping[str, Callable[[Match, Node, Coded], Made | None]] = MappingProxyType(
    {
        "Conv": _conv,
        "MatMul": _matmul,
        "Gemm": _gemm,
        "Add": _binary,
        "Mul": _binary,
        "Concat": _concat,
        "Where": _where,
        **dict.fromkeys(_UNARY, _unary),
    }
)
_STANDARD = ("Conv", "MatMul")
_QGEMM_BIAS = 6
_NO_FACTORS = "its operands are not dequantized with known scales, those of the second one by column"
_NO_CODES = "its operands are not dequantized with one known scale, from codes of the type that it gives"


def _left(m: Match, node: Node, why: str) -> None:
    m.run.note(f"{node.label} stays between DequantizeLinear and QuantizeLinear: {why}")
    return m.decline(why)


def _is_allowed(m: Match, node: Node) -> bool:
    if CONTRIB in m.run.kernels.domains:
        return True
    m.run.note(f"{node.op} on codes is an operator of {CONTRIB}, which the target does not allow: see --allow")
    m.decline(f"the target does not allow operators of {CONTRIB}")
    return False


def _parts(m: Match, values: Sequence[Value | None], made: Coded) -> Sequence[Coded] | None:
    """Operands that have one scale each, and the type of the result."""
    found = [dequantized_from(m, value) for value in values]
    whole = [part for part in found if part is not None and not part.is_by_channel and part.dtype is made.dtype]
    return whole if len(whole) == len(values) else None


def _factors(m: Match, node: Node, columns: int) -> tuple[Coded, Coded] | None:
    """columns: the axis of the second operand whose indices may have scales of their own, of a matrix."""
    a, b = dequantized_from(m, node.operand(0)), dequantized_from(m, node.operand(1))
    if a is None or b is None or a.is_by_channel or DType.INT32 in (a.dtype, b.dtype):
        return None
    if b.is_by_channel and (b.codes.rank != _MATRIX or not b.is_along(columns)):
        return None
    return a, b


def _product_of_rows(m: Match, node: Node) -> Made | None:
    """A QGemm that gives real numbers."""
    transposed, alpha = node.get_int("transB"), node.get_float("alpha")
    operands = _factors(m, node, 0 if transposed else 1)
    if operands is None:
        return _left(m, node, _NO_FACTORS)
    step = operands[0].scales * operands[1].scales * alpha
    bias = _bias(m, node, node.operand(2), step)
    if bias is None or not _is_normal(step):
        return _left(m, node, "the bias is not int32 codes in the steps of a_scale b_scale, or these are out of range")
    if bias and (alpha, node.get_float("beta")) != (1, 1):
        return _left(m, node, "it has a bias, and alpha or beta is not 1")
    attributes = {"alpha": alpha, "transA": node.get_int("transA"), "transB": transposed}
    return f"{CONTRIB}::QGemm", (*operands[0].operands, *operands[1].operands, *bias), attributes


def _bias(m: Match, node: Node, bias: Value | None, step: Doubles) -> tuple[Value, ...] | None:
    """The codes of a bias, nothing of none; None where they are not steps of the accumulator."""
    if bias is None:
        return ()
    found = dequantized_from(m, bias)
    if found is None or found.dtype is not DType.INT32 or found.codes.rank != 1 or found.zeros.any():
        return None
    wanted = np.broadcast_to(step, np.broadcast_shapes(step.shape, found.scales.shape))
    near = np.abs(found.scales - wanted) <= _SAME_SCALE * np.abs(wanted)
    return (found.codes,) if near.all() else None


def _is_normal(factors: Doubles) -> bool:
    """Whether an accumulator times these is finite and no subnormal number, in float32."""
    limits = np.finfo(np.float32)
    return bool(np.all((np.abs(factors) >= float(limits.tiny)) & (np.abs(factors) <= float(limits.max) / 2**32)))


# Rules

scale, zero = Var("scale"), Var("zero")
inner = Op(tuple(_WRITERS))


@rule(Op("QuantizeLinear", (inner, scale, Maybe(zero))), contract=Contract.APPROXIMATE, needs=_NEEDS)
def operator_on_codes(m: Match) -> Value | None:
    """Quantize(Conv(Dequantize(x), Dequantize(w), Dequantize(b))) -> QLinearConv(x, w, b), and so for others

    MatMul becomes QLinearMatMul; where com.microsoft is allowed, Gemm becomes QGemm, and Add, AveragePool, Concat,
    GlobalAveragePool, LeakyRelu, Mul, Sigmoid, Softmax and Where the operators called QLinear... there.
    """
    node = m[inner]
    made = quantized_by(m, m.root)
    if made is None or made.is_by_channel:
        return _left(m, node, "its result is not quantized to 8 bits with one known scale")
    if node.op not in _STANDARD and not _is_allowed(m, node):
        return None
    written = _WRITERS[node.op](m, node, made)
    if written is None:
        return None
    op, operands, attributes = written
    domain = "" if node.op in _STANDARD or "::" in op else f"{CONTRIB}::"
    return m.add_node(Node(f"{domain}{op}", operands, attributes, 1, node.name)).result


@rule(Op(("Gemm", "MatMul")), contract=Contract.APPROXIMATE, needs=_NEEDS)
def product_of_codes(m: Match) -> Value | None:
    """MatMul(Dequantize(a), Dequantize(b)) -> MatMulIntegerToFloat(a, b), Gemm -> QGemm, both of com.microsoft

    Where nothing quantizes the result.
    """
    node = m.root
    if any(dequantized_from(m, operand) is None for operand in node.operands[:2]):
        return m.decline("its operands are not dequantized with known scales")
    if any(user.op == "QuantizeLinear" for user in node.result.users):
        return m.decline("its result is quantized")
    if not _is_allowed(m, node):
        return None
    if node.op == "Gemm":
        found = _product_of_rows(m, node)
        return None if found is None else m.add_node(Node(*found, 1, node.name)).result
    factors = _factors(m, node, -1)
    if factors is None or not _is_normal(factors[0].scales * factors[1].scales):
        return _left(m, node, _NO_FACTORS)
    a, b = factors
    operands = (a.codes, b.codes, a.scale, b.scale, a.zero, b.zero)
    return m.add_node(Node(f"{CONTRIB}::MatMulIntegerToFloat", operands, None, 1, node.name)).result


moved = Op((*sorted(MOVES - {"Identity"}), "ReduceMax", "ReduceMin", "Resize"))


@rule(Op("QuantizeLinear", (moved, scale, Maybe(zero))), contract=Contract.EXACT, needs="no NaN")
def moved_codes(m: Match) -> Value | None:
    """Quantize(Reshape(Dequantize(q))) -> Reshape(q) with one scale, and so for what else moves numbers or takes maxima

    A code comes back as itself, since scales are normal numbers.
    """
    node, made = m[moved], quantized_by(m, m.root)
    x = dequantized_from(m, node.operand(0))
    if made is None or x is None or not x.is_like(made):
        return m.decline("it does not read codes of the scale and zero point with which its result is quantized")
    if any(result.is_used for result in node.results[1:]) or (node.op == "Resize" and nearest_obstacle(node)):
        return m.decline("its other results are read, or it interpolates")
    return m.add_node(Node(node.op, (x.codes, *node.operands[1:]), node.attributes, 1, node.name)).result


clip = Op(("Clip", "Relu"))


@rule(Op("QuantizeLinear", (clip, scale, Maybe(zero))), contract=Contract.EXACT, needs="no NaN")
def implied_clip(m: Match) -> Value | None:
    """Quantize(Relu(x)) -> Quantize(x), and so for Clip, where no code stands for a number beyond the bounds"""
    node, made = m[clip], quantized_by(m, m.root)
    limits = None if made is None or made.dtype is None else integer_limits(made.dtype.numpy)
    if made is None or limits is None or made.is_by_channel:
        return m.decline("its result is not quantized to 8 bits with one known scale")
    low, high = _bounds(node)
    ends = [(limit - float(made.zeros)) * float(made.scales) for limit in limits]
    if not low <= ends[0] <= ends[1] <= high:
        return m.decline("there are codes for numbers that it clips, or its bounds are computed")
    return m.add("QuantizeLinear", (node.operands[0], *m.root.operands[1:]), m.root.attributes)


def _bounds(node: Node) -> tuple[float, float]:
    """NaN for one that is computed."""
    return (0.0, math.inf) if node.op == "Relu" else (_bound(node, 1, -math.inf), _bound(node, 2, math.inf))


def _bound(node: Node, place: int, absent: float) -> float:
    value = node.operand(place)
    if value is None:
        return absent
    return math.nan if value.constant is None else float(value.constant.array().astype(np.float64).reshape(-1)[0])


@rule(Op("Split"), contract=Contract.EXACT)
def split_codes(m: Match) -> tuple[Value, ...] | None:
    """Split(Dequantize(q)) -> Dequantize(Split(q)), where each part is quantized as q is"""
    node = m.root
    x = dequantized_from(m, node.operand(0))
    if x is None or x.is_by_channel or not all(_is_quantized_like(m, result, x) for result in node.results):
        return m.decline("not all of its parts are quantized with the scale and zero point of what it reads")
    parts = m.add_node(Node("Split", (x.codes, *node.operands[1:]), node.attributes, len(node.results), node.name))
    return tuple([m.add("DequantizeLinear", (part, x.scale, x.zero)) for part in parts.results])


def _is_quantized_like(m: Match, value: Value, x: Coded) -> bool:
    readers = [quantized_by(m, user) if user.op == "QuantizeLinear" else None for user in value.users]
    return bool(readers) and all(reader is not None and x.is_like(reader) for reader in readers)


@rule(Op("QuantizeLinear", (Op("DequantizeLinear", shared=True), scale, Maybe(zero))), contract=Contract.EXACT)
def same_codes(m: Match) -> Value | None:
    """Quantize(Dequantize(q)) -> q with one scale and zero point"""
    made, x = quantized_by(m, m.root), dequantized_from(m, m.root.operand(0))
    return x.codes if made is not None and x is not None and x.is_like(made) else None


@dataclass(frozen=True)
class ToQOperator(RulePass):
    """Write operators between DequantizeLinear and QuantizeLinear as operators on codes: QLinearConv, QLinearMatMul.

    ONNX Runtime's CPU provider makes the same of the longer form when it opens a model, to the same bits. The shorter
    one is for other runtimes, for sessions without optimizations, and for fewer nodes. Where the target allows
    com.microsoft (--allow com.microsoft), so are Gemm, sums, pooling, activations and products that give real numbers.
    A bias must be int32 codes in the steps of the accumulator. ConvInteger is never written: it is slower than float.
    `remove-quantization` takes it back.
    """

    name: ClassVar[str] = "to-qoperator"
    lossy: ClassVar[bool] = True

    def rules(self) -> Sequence[Rule]:
        return (implied_clip, operator_on_codes, moved_codes, split_codes, same_codes, product_of_codes)
