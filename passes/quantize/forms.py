"""Operators as ONNX Runtime works them out on codes: what each reads as codes, and how it is written for that.

A node between DequantizeLinear and QuantizeLinear becomes one integer kernel when the session is created, if it is
written just so. `kernel` is the one that is to be expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.graph import constant
from planish.ir.ops.shape import constant_ints
from planish.passes.quantize.code_moves import extreme_obstacle, moved, pad, pad_obstacle
from planish.passes.quantize.codes import Codes
from planish.passes.quantize.placement import Placement
from planish.passes.quantize.products import (
    biased_product,
    biased_product_obstacle,
    conv,
    gemm,
    gemm_obstacle,
    matmul,
    matmul_obstacle,
    mean,
    mean_obstacle,
    norm,
    norm_obstacle,
    product_of_matrices,
    raw_name,
    weight_obstacle,
)

Write = Callable[[Codes, Node], Node]
_IMAGE = 4
_MATRIX = 2


def _nothing(node: Node) -> str:
    return ""


@dataclass(frozen=True)
class Form:
    """How an operator works on codes.

    kernel: what it becomes; by default the operator itself, which works on whatever type it is given.
    write: the node for codes; it reads real numbers that codes stand for.
    obstacle: why this node cannot, or nothing.
    activations: the operands that must be codes, by place; None for all.
    tied: codes come out as they went in, so operands and results share one scale.
    bounds: the range of the result, where the operator gives it (of a sigmoid, 0 to 1).
    anchor: worth quantizing for its own sake.
    real: the kernel that gives real numbers where nothing reads the result as codes.
    inner: a product that the node takes in, which then stands in no form of its own.
    """

    kernel: str
    write: Write
    obstacle: Callable[[Node], str] = _nothing
    activations: tuple[int, ...] | None = (0,)
    tied: bool = False
    bounds: tuple[float, float] | None = None
    anchor: bool = False
    real: str = ""
    inner: Node | None = None

    def nodes(self, node: Node) -> tuple[Node, ...]:
        """The node and what it takes in."""
        return (node,) if self.inner is None else (node, self.inner)

    def reads(self, node: Node) -> tuple[Value, ...]:
        """The activations that it needs as codes, constants left out."""
        node = self.inner or node
        places = range(len(node.operands)) if self.activations is None else self.activations
        found = (node.operand(place) for place in places)
        return tuple([value for value in found if value is not None and value.constant is None])


# Operators on one or two activations


def _same(codes: Codes, node: Node, places: tuple[int, ...] | None = None) -> Node:
    """The operator as it is, on the codes of the operands at some places, by default all."""
    operands = [
        operand if operand is None or (places is not None and place not in places) else codes.activation(operand)
        for place, operand in enumerate(node.operands)
    ]
    return codes.add(node.op, operands, node.attributes, len(node.results))


_same_first = partial(_same, places=(0,))


def _clip(codes: Codes, node: Node) -> Node:
    """Nothing is added, and what lies below 0 or beyond the clip has no code: ONNX Runtime has no integer Relu."""
    x = node.operands[0]
    if x is None:
        raise ValueError(f"a {node.op} without operand")
    return codes.add("Add", (codes.activation(x), codes.fixed(0.0)))


CLIPS = ("Relu", "Clip")


def starts_at_zero(node: Node) -> bool:
    """Whether a clip is one from 0."""
    if node.op == "Relu":
        return True
    return bound(node, 1) == 0 and (node.operand(2) is None or (bound(node, 2) or 0) > 0)


def bound(node: Node, place: int) -> float | None:
    """An operand that is one number; None where it is none, or not known."""
    value = node.operand(place)
    return None if value is None or value.constant is None else value.constant.uniform()


def _clip_obstacle(node: Node) -> str:
    return "" if starts_at_zero(node) else "it clips elsewhere than at 0"


def _hard_sigmoid(codes: Codes, node: Node) -> Node:
    """HardSigmoid(x) = clip(alpha x + beta, 0, 1): the codes of 0 to 1 clip, and alpha is a matter of the scale."""
    x = node.operands[0]
    if x is None:
        raise ValueError("a HardSigmoid without operand")
    shift = codes.fixed(node.get_float("beta"))
    return codes.add("Add", (codes.activation(x, node.get_float("alpha")), shift))


def _hard_sigmoid_obstacle(node: Node) -> str:
    alpha, beta = node.get_float("alpha"), node.get_float("beta")
    if not (_LEAST_SLOPE <= alpha <= 1 / _LEAST_SLOPE):
        return "its slope is not positive, or so steep or flat that the scale would not hold it"
    return "" if abs(beta) <= 1 / _LEAST_SLOPE else "its offset is not a number that codes can hold"


_LEAST_SLOPE = 2.0**-20


def _operands_obstacle(node: Node) -> str:
    for operand in node.operands:
        if operand is None:
            return "an operand is missing"
        if operand.constant is not None and not np.isfinite(operand.constant.array()).all():
            return "its constant holds NaN or infinities"
    return ""


def _global_mean_obstacle(node: Node) -> str:
    axes = None if node.operand(1) is None else constant_ints(node.operands[1])
    x = node.operands[0]
    if x is None or x.rank != _IMAGE or axes is None or {axis % _IMAGE for axis in axes} != {2, 3}:
        return "it is no mean over the two axes of an image"
    return ""


def _global_mean(codes: Codes, node: Node) -> Node:
    x = node.operands[0]
    if x is None:
        raise ValueError("a ReduceMean without operand")
    pooled = codes.add("GlobalAveragePool", (codes.activation(x),))
    if node.get_int("keepdims"):
        return pooled
    pooled.result.name = raw_name(node.result.name)
    return codes.add("Squeeze", (codes.coded(pooled.result, codes.target), constant(np.array([2, 3], np.int64))))


def nearest_obstacle(node: Node) -> str:
    """Why a Resize gives other numbers than those that it reads, or nothing."""
    if node.get_str("mode") != "nearest":
        return "it interpolates"
    extrapolates = node.get_str("coordinate_transformation_mode") == "tf_crop_and_resize"
    return "it fills in a real number" if extrapolates else ""


def _image(node: Node) -> str:
    x = node.operands[0]
    return "" if x is not None and x.rank == _IMAGE else "it is no image"


def _one_result(node: Node) -> str:
    return "its other results are read" if any(result.is_used for result in node.results[1:]) else ""


def _all_results(node: Node) -> str:
    return "" if all(result.is_used for result in node.results) else "a part of it is not read"


_PASSED = Form("", _same_first, _all_results, tied=True)
"""What moves codes about works on whatever type they have."""
_MOVES: Mapping[str, Form] = MappingProxyType(
    {
        "MaxPool": Form("", _same_first, _one_result, tied=True),
        "Resize": Form("", _same_first, nearest_obstacle, tied=True),
        **dict.fromkeys(
            (
                *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Split"),
                *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
            ),
            _PASSED,
        ),
    }
)
_PRODUCTS: Mapping[str, Form] = MappingProxyType(
    {
        "Conv": Form("QLinearConv", conv, weight_obstacle, anchor=True),
        "Gemm": Form("QGemm", gemm, gemm_obstacle, anchor=True, real="QGemm"),
        "MatMul": Form("QLinearMatMul", matmul, matmul_obstacle, anchor=True, real="MatMulIntegerToFloat"),
    }
)
_OF_MATRICES = Form("QGemm", product_of_matrices, matmul_obstacle, anchor=True, real="QGemm")
"""As a MatMul it would be fused with a sum behind it into a Gemm of real numbers."""
_ELEMENTWISE: Mapping[str, Form] = MappingProxyType(
    {
        "Add": Form("QLinearAdd", _same, _operands_obstacle, activations=None),
        "Mul": Form("QLinearMul", _same, _operands_obstacle, activations=None),
        "BatchNormalization": Form("QLinearConv", norm, norm_obstacle),
        "Sigmoid": Form("QLinearSigmoid", _same, bounds=(0.0, 1.0)),
        "LeakyRelu": Form("QLinearLeakyRelu", _same),
        **dict.fromkeys(CLIPS, Form("QLinearAdd", _clip, _clip_obstacle)),
        "HardSigmoid": Form("QLinearAdd", _hard_sigmoid, _hard_sigmoid_obstacle, bounds=(0.0, 1.0)),
        "Concat": Form("QLinearConcat", _same, _operands_obstacle, activations=None),
        "AveragePool": Form("QLinearConv", mean, mean_obstacle),
        "GlobalAveragePool": Form("QLinearGlobalAveragePool", _same, _image),
        "ReduceMean": Form("QLinearGlobalAveragePool", _global_mean, _global_mean_obstacle),
        "Pad": Form("Pad", pad, pad_obstacle, tied=True),
        **dict.fromkeys(("GatherND", "ReverseSequence", "SpaceToDepth"), Form("", moved, tied=True)),
        **dict.fromkeys(("ReduceMax", "ReduceMin"), Form("", _same_first, extreme_obstacle, tied=True)),
    }
)
_FUSED: Mapping[str, Form] = MappingProxyType(
    {
        **{name: replace(form, kernel=name, real=name) for name, form in _PRODUCTS.items()},
        "Concat": Form("Concat", _same, _operands_obstacle, activations=None),
        "AveragePool": Form("AveragePool", _same, _image),
        "GlobalAveragePool": Form("GlobalAveragePool", _same, _image),
    }
)
"""TensorRT fuses what stands around a product by itself, and moves Q and DQ through what is tied."""
_BIASED = Form("QGemm", biased_product, biased_product_obstacle, anchor=True, real="QGemm")


_WITH_GEMM = ("Elu", "HardSigmoid", "LeakyRelu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu")
_KEEP_FLOAT: Mapping[str, frozenset[str]] = MappingProxyType(
    {"QGemm": frozenset((*CLIPS, *_WITH_GEMM)), "MatMulIntegerToFloat": frozenset(CLIPS)}
)
"""By kernel, the readers that ONNX Runtime takes together with a product before it looks for the kernel."""


def gives_real(node: Node, form: Form) -> bool:
    """Whether the kernel gives real numbers to what reads the result, if that is no codes."""
    if not form.real or not node.result.has_one_use:
        return bool(form.real)
    reshaped = form.inner is not None and node.result.rank != _MATRIX
    return reshaped or node.result.users[0].op not in _KEEP_FLOAT.get(form.real, ())


def form_of(node: Node, placement: Placement) -> Form | None:
    """The form of a node of float32 numbers; None where there is none."""
    if any(result.dtype is not DType.FLOAT for result in node.results if result.is_used or result.index == 0):
        return None
    if placement.biased_products and node.op == "MatMul" and node.result.rank == _MATRIX:
        return _OF_MATRICES
    if placement.elementwise:
        return _PRODUCTS.get(node.op) or _ELEMENTWISE.get(node.op) or _MOVES.get(node.op)
    if node.op == "Add":
        return None if placement.residuals_quantized else _fused_sum(node)
    return _FUSED.get(node.op) or _MOVES.get(node.op)


def biased_form(node: Node, placement: Placement) -> Form | None:
    """The form of an Add together with the matrix product to which it adds a constant; None where it does not."""
    makers = (None if operand is None else operand.producer for operand in node.operands)
    product = next((maker for maker in makers if maker is not None and maker.op == "MatMul"), None)
    if not placement.biased_products or node.op != "Add" or product is None:
        return None
    return None if biased_product_obstacle(node) else replace(_BIASED, inner=product)


def _fused_sum(node: Node) -> Form | None:
    """The form of a sum that the runtime fuses with one of the convolutions that it adds: only the other is codes."""
    for place, operand in enumerate(node.operands):
        if operand is None or operand.producer is None or not operand.has_one_use:
            continue
        if operand.producer.op == "Conv":
            other = (1 - place,)
            return Form("Add", partial(_same, places=other), _operands_obstacle, activations=other, real="Add")
    return None
