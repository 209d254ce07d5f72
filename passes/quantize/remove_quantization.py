"""A quantized model becomes one of real numbers again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.types import Array, DType
from planish.passes.fuse.walk import Root
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.quantize.bounds import MOVES, bounds
from planish.passes.quantize.dequantized import arrays, dequantized, real
from planish.passes.quantize.forms import nearest_obstacle
from planish.passes.quantize.real_operators import RULES
from planish.passes.rewrite import Contract, Match, Rule, rule

x, scale, zero, scale_behind, zero_behind = Var("x"), Var("scale"), Var("zero"), Var("scale"), Var("zero")
quantize = Op("QuantizeLinear", (x, scale, Maybe(zero)), shared=True)
dequantize = Op("DequantizeLinear", (quantize, scale_behind, Maybe(zero_behind)))
_NEEDS = "results that may move by half a step of each quantized tensor"
_BYTES = {DType.UINT8: (0, 255), DType.INT8: (-128, 127), DType.UINT16: (0, 65535), DType.INT16: (-32768, 32767)}
_LEVELS = _BYTES | {DType.UINT4: (0, 15), DType.INT4: (-8, 7), DType.UINT2: (0, 3), DType.INT2: (-2, 1)}


_MOVES = MOVES | {"Pad", "ReduceMax", "ReduceMin", "Resize", "Split"}


def _pair(keep_clips: bool, m: Match) -> Value | None:
    """Dequantize(Quantize(x)) -> x, or Clip(x) to the range of the codes where x may be beyond it"""
    same = _same(m.get(scale), m.get(scale_behind)) and _same(m.get(zero), m.get(zero_behind))
    if not same or m[quantize].result.dtype not in _LEVELS or m[x].dtype is not m.root.result.dtype:
        return m.decline("the two have different scales, zero points or types")
    if not keep_clips:
        return m[x]
    known = arrays(m, (m[scale],) if m.get(zero) is None else (m[scale], m[zero]))
    if known is None:
        return m.decline("the scale is computed, so that the range is not known; keep-clips=false drops it")
    low, high = _range(m[quantize], known)
    least, largest = bounds(m[x])
    below, above = least >= float(low.max()), largest <= float(high.min())
    if below and above:
        return m[x]
    return _clipped(m, None if below else low, None if above else high)


def _range(node: Node, known: Sequence[Array]) -> tuple[Array, Array]:
    """What the lowest and the highest code stand for, shaped to meet x."""
    dtype = node.result.dtype or DType.UINT8
    offset = known[1].astype(np.float64) if len(known) > 1 else np.zeros(())
    ends = [(level - offset) * known[0].astype(np.float64) for level in _LEVELS[dtype]]
    rank, axis = node.result.rank, node.get_int("axis")
    if ends[0].size > 1 and rank is not None:
        shape = [-1 if place == axis % rank else 1 for place in range(rank)]
        ends = [end.reshape(shape) for end in ends]
    elif ends[0].size == 1:
        ends = [end.reshape(()) for end in ends]
    return ends[0], ends[1]


def _clipped(m: Match, low: Array | None, high: Array | None) -> Value | None:
    dtype = m[x].dtype
    if dtype is None or m[quantize].get_int("block_size"):
        return m.decline("the range is one for each block of numbers; keep-clips=false drops it")
    made = [None if end is None else m.constant(end.astype(dtype.numpy)) for end in (low, high)]
    if all(end is None or end.ndim == 0 for end in (low, high)):
        return m.add("Clip", (m[x], *made) if made[1] is not None else (m[x], made[0]))
    found = m[x]
    for op, end in zip(("Max", "Min"), made, strict=True):
        found = found if end is None else m.add(op, (found, end))
    return found


def _same(one: Value | None, other: Value | None) -> bool:
    """Whether two parameters are the same; an omitted zero point is 0."""
    if one is other:
        return True
    values = [None if value is None else value.constant for value in (one, other)]
    if any(value is not None and constant is None for value, constant in zip((one, other), values, strict=True)):
        return False
    a, b = (np.zeros(()) if tensor is None else tensor.array().astype(np.float64) for tensor in values)
    return a.size == b.size and bool(np.array_equal(a.reshape(-1), b.reshape(-1)))


@rule(Op("DequantizeLinear"), contract=Contract.APPROXIMATE, needs="a runtime that multiplies as numpy does")
def real_constant(m: Match) -> Value | None:
    """Dequantize(constant) -> constant"""
    node = m.root
    known = arrays(m, node.operands)
    if known is None:
        return m.decline("the codes or their scale are computed")
    block = node.get_int("block_size")
    array = dequantized(known[0], known[1], known[2] if len(known) > 2 else None, node.get_int("axis"), block)
    if array is None or node.result.dtype is None:
        return m.decline("scales and zero points are not as the operator has them")
    codes = node.operands[0]
    return m.constant(array.astype(node.result.dtype.numpy), "" if codes is None else codes.name)


dynamic = Op("DynamicQuantizeLinear", (x,), shared=True)


@rule(Op("DequantizeLinear"), contract=Contract.APPROXIMATE, needs=_NEEDS)
def dynamic_pair(m: Match) -> Value | None:
    """Dequantize(DynamicQuantize(x)) -> x"""
    makers = {None if operand is None else operand.producer for operand in m.root.operands}
    (maker,) = makers if len(makers) == 1 else (None,)
    if maker is None or maker.op != "DynamicQuantizeLinear" or tuple(m.root.operands) != maker.results:
        return m.decline("not all of its operands come from one DynamicQuantizeLinear")
    return maker.operands[0]


def _reads_moved_codes(node: Node) -> bool:
    maker = None if node.operands[0] is None else node.operands[0].producer
    return maker is not None and maker.op in _MOVES and maker.graph is node.graph


@rule(Root(("DequantizeLinear",), reach=2, where=_reads_moved_codes), contract=Contract.APPROXIMATE, needs=_NEEDS)
def dequantize_before(m: Match) -> Value | None:
    """Dequantize(Reshape(q)) -> Reshape(Dequantize(q)), and so for other operators that only move numbers"""
    moved, scale = m.root.operands[0], m.root.operands[1]
    node = None if moved is None else moved.producer
    if moved is None or node is None or node.operands[0] is None or (node.op == "Resize" and nearest_obstacle(node)):
        return m.decline("it makes other codes than those that it reads")
    if scale is None or scale.constant is None or scale.constant.size != 1:
        return m.decline("there is a scale for each channel, which may be moved elsewhere")
    others = any(user.op != "DequantizeLinear" for result in node.results for user in result.users)
    if others or (node.op != "Split" and len(node.results) > 1):
        return m.decline("its codes are read as they are, too")
    further = list(node.operands[1:])
    if node.op == "Pad" and node.get_str("mode") == "constant":
        filled = real(m, node.operand(2) or m.constant(np.zeros((), np.uint8)), scale, m.root.operand(2))
        if filled is None or filled.constant is None:
            return m.decline("it pads with a code that is computed")
        further[1:2] = [filled]
    early = m.add("DequantizeLinear", (node.operands[0], *m.root.operands[1:]), m.root.attributes)
    late = m.add_node(Node(node.op, (early, *further), node.attributes, len(node.results)))
    m.cover(node)
    return late.results[moved.index]


integers = Op(("MatMulInteger", "ConvInteger"))
wide = Op("Cast", (integers,))
factor = Var("factor")


@rule(Op("Mul", (wide, factor), commutes=True), contract=Contract.APPROXIMATE, needs=_NEEDS)
def dynamic_product(m: Match) -> Value | None:
    """Cast(MatMulInteger(DynamicQuantize(x), w)) x_scale w_scale -> MatMul(x, Dequantize(w)), ConvInteger -> Conv"""
    node = m[integers]
    codes = node.operands[0]
    maker = None if codes is None else codes.producer
    if maker is None or maker.op != "DynamicQuantizeLinear" or node.operand(2) is not maker.results[2]:
        return m.decline("its first operand does not come from a DynamicQuantizeLinear")
    w, source = node.operands[1], maker.operands[0]
    scale = _other_factor(m[factor], maker.results[1])
    weight = None if w is None or scale is None else _weight(m, node, w, scale)
    if weight is None or source is None:
        return m.decline("it is not scaled by both scales, or the weights are computed or not scaled by channel")
    return m.add(node.op.removesuffix("Integer"), (source, weight), node.attributes)


def _weight(m: Match, node: Node, codes: Value, scale: Value) -> Value | None:
    """The real weights of a product of integers: constant, or those that are quantized as the model runs."""
    zero_point, maker = node.operand(3), codes.producer
    if maker is not None and maker.op == "DynamicQuantizeLinear":
        return maker.operands[0] if maker.results[1:] == (scale, zero_point) else None
    known = arrays(m, (codes, scale) if zero_point is None else (codes, scale, zero_point))
    if known is None:
        return None
    axis = 0 if node.op == "ConvInteger" else -1
    channels = known[0].shape[axis]
    if known[1].size > 1 and not _is_along(known[1], channels, node.op == "ConvInteger"):
        return None
    array = dequantized(known[0], known[1].reshape(-1), known[2].reshape(-1) if len(known) > 2 else None, axis)
    return None if array is None else m.constant(array, codes.name)


def _other_factor(product: Value, dynamic_scale: Value) -> Value | None:
    """The one with which the scale of the activations is multiplied."""
    node = product.producer
    if node is None or node.op != "Mul" or dynamic_scale not in node.operands:
        return None
    return next((operand for operand in node.operands if operand is not dynamic_scale), None)


def _is_along(parameter: Array, channels: int, is_image: bool) -> bool:
    """Whether it meets the channels of a result: the last axis of a product, the second of an image."""
    behind = math.prod(parameter.shape[1 if parameter.ndim and parameter.shape[0] == channels else 2 :])
    return parameter.size == channels and (behind == 1 if is_image else parameter.shape[-1] == channels)


@dataclass(frozen=True)
class RemoveQuantization(RulePass):
    """Turn operators on integers with scales back into operators on real numbers.

    Pairs of QuantizeLinear and DequantizeLinear go, weights become real numbers, and QLinearConv, MatMulInteger and
    ONNX Runtime's own quantized operators become Conv, MatMul and so on.

    keep_clips: codes end somewhere, and so did what they stood for. A Clip says where, but where what makes a number
    keeps it within; a Relu that was only in the zero point is kept so. Without it results may be larger than before.
    """

    name: ClassVar[str] = "remove-quantization"
    lossy: ClassVar[bool] = True
    keep_clips: bool = True

    def rules(self) -> Sequence[Rule]:
        pair = Rule(
            "quantized-pair",
            dequantize,
            Contract.APPROXIMATE,
            partial(_pair, self.keep_clips),
            _pair.__doc__ or "",
            _NEEDS,
        )
        return (real_constant, dynamic_pair, pair, dequantize_before, dynamic_product, *RULES)
