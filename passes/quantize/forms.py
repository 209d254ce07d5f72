"""Operators as ONNX Runtime works them out on codes: what each reads as codes, and how it is written for that.

A node between DequantizeLinear and QuantizeLinear becomes one integer kernel when the session is created, if it is
written just so. `kernel` is the one that is to be expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops.shape import constant_ints
from planish.passes.quantize.codes import Codes, floats, least_scales

Write = Callable[[Codes, Node], Node]
_IMAGE = 4


def _nothing(node: Node) -> str:
    return ""


@dataclass(frozen=True)
class Form:
    """How an operator works on codes.

    kernel: what it becomes. write: the node for codes; it reads real numbers that codes stand for.
    obstacle: why this node cannot, or nothing. activations: the operands that must be codes, by place; None for all.
    tied: codes come out as they went in, so operands and results share one scale. exact: the result needs no range of
    its own beyond what the operator gives (of a sigmoid, 0 to 1). anchor: worth quantizing for its own sake.
    real: the kernel can also give real numbers, so that nothing need quantize its result.
    """

    kernel: str
    write: Write
    obstacle: Callable[[Node], str] = _nothing
    activations: tuple[int, ...] | None = (0,)
    tied: bool = False
    bounds: tuple[float, float] | None = None
    anchor: bool = False
    real: bool = False

    def reads(self, node: Node) -> tuple[Value, ...]:
        """The activations that it needs as codes, constants left out."""
        places = range(len(node.operands)) if self.activations is None else self.activations
        found = (node.operand(place) for place in places)
        return tuple([value for value in found if value is not None and value.constant is None])


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.constant is not None and value.constant.in_memory


def _constant_weights(node: Node) -> str:
    weight, bias = node.operand(1), node.operand(2)
    if weight is None or not _is_constant(weight) or (bias is not None and not _is_constant(bias)):
        return "its weight or bias is no constant"
    if weight.constant is None or not weight.constant.size:
        return "its weight is empty"
    if not np.isfinite(weight.constant.array()).all():
        return "its weight holds NaN or infinities"
    return ""


# Convolutions and matrix products


def _conv(codes: Codes, node: Node) -> Node:
    x, w, bias = node.operands[0], node.operands[1], node.operand(2)
    if x is None or w is None:
        raise ValueError("a Conv without operands")
    step = codes.parameters(x).scale
    weight, scales = codes.weights(w, floats(w), 0, least_scales(bias, step))
    operands: list[Value | None] = [codes.activation(x), weight]
    if bias is not None:
        operands.append(codes.bias(bias, scales.size, step * scales))
    return codes.add("Conv", operands, node.attributes)


def _gemm_obstacle(node: Node) -> str:
    if node.get_float("alpha") != 1 or node.get_float("beta") != 1 or node.get_int("transA"):
        return "integer kernels take neither alpha and beta nor a transposed activation"
    bias, w = node.operand(2), node.operands[1]
    if bias is not None and w is not None and bias.constant is not None and w.shape is not None:
        columns = w.shape[0 if node.get_int("transB") else 1]
        if bias.constant.size not in (1, columns) or (bias.constant.size == 1 and columns != 1):
            return "its bias is not one number a column"
    return _constant_weights(node)


def _gemm(codes: Codes, node: Node) -> Node:
    """The weight is stored as [K, N]."""
    x, w, bias = node.operands[0], node.operands[1], node.operand(2)
    if x is None or w is None:
        raise ValueError("a Gemm without operands")
    step = codes.parameters(x).scale
    array = floats(w).T if node.get_int("transB") else floats(w)
    weight, scales = codes.weights(w, array, 1, least_scales(bias, step))
    operands: list[Value | None] = [codes.activation(x), weight]
    if bias is not None:
        operands.append(codes.bias(bias, scales.size, step * scales))
    return codes.add("Gemm", operands)


def _matmul_obstacle(node: Node) -> str:
    x, w = node.operands[0], node.operands[1]
    if w is None or w.rank != 2:
        return "its right side is no constant matrix"
    if x is None or x.rank is None or x.rank < 2:
        return "its left side is no matrix"
    return _constant_weights(node)


def _matmul(codes: Codes, node: Node) -> Node:
    x, w = node.operands[0], node.operands[1]
    if x is None or w is None:
        raise ValueError("a MatMul without operands")
    weight, _ = codes.weight(w, 1)
    return codes.add("MatMul", (codes.activation(x), weight))


# Scale and shift of channels: a convolution of each with one number


def _batch_norm_obstacle(node: Node) -> str:
    if any(not _is_constant(operand) for operand in node.operands[1:]) or node.get_int("training_mode"):
        return "its scale and shift are no constants"
    x = node.operands[0]
    return "" if x is not None and x.rank == _IMAGE else "it is no image, so that no convolution says the same"


def _batch_norm(codes: Codes, node: Node) -> Node:
    x, *constants = node.operands
    if x is None or constants[0] is None:
        raise ValueError("a BatchNormalization without operands")
    scale, shift, mean, variance = [floats(value) for value in constants if value is not None]
    scale = scale / np.sqrt(variance + node.get_float("epsilon"))
    shift = shift - mean * scale
    step = codes.parameters(x).scale
    least = np.abs(shift) / (2.0**31 * float(step))
    weight, scales = codes.weights(constants[0], scale.reshape(-1, 1, 1, 1), 0, least)
    bias = codes.bias_codes(shift, scales.size, step * scales, f"{node.result.name}_shift")
    return codes.add("Conv", (codes.activation(x), weight, bias), {"group": scales.size, "kernel_shape": (1, 1)})


# Operators on one or two activations


def _same(codes: Codes, node: Node) -> Node:
    """The operator as it is, on codes."""
    operands = [None if operand is None else codes.activation(operand) for operand in node.operands]
    return codes.add(node.op, operands, node.attributes)


def _same_first(codes: Codes, node: Node) -> Node:
    """The operator as it is, its first operand codes."""
    first, *others = node.operands
    if first is None:
        raise ValueError(f"a {node.op} without operands")
    return codes.add(node.op, (codes.activation(first), *others), node.attributes, len(node.results))


def _hard_sigmoid(codes: Codes, node: Node) -> Node:
    """HardSigmoid(x) = clip(alpha x + beta, 0, 1): the codes of 0 to 1 clip, and alpha is a matter of the scale."""
    x = node.operands[0]
    if x is None:
        raise ValueError("a HardSigmoid without operand")
    shift = codes.fixed(node.get_float("beta"))
    return codes.add("Add", (codes.activation(x, node.get_float("alpha")), shift))


def _hard_sigmoid_obstacle(node: Node) -> str:
    return "" if node.get_float("alpha") > 0 else "its slope is not positive"


def _two_activations(node: Node) -> str:
    if any(operand is None or (operand.constant is not None and not _is_small(operand)) for operand in node.operands):
        return "an operand is no constant that can be read"
    return ""


def _is_small(value: Value) -> bool:
    return _is_constant(value) and value.constant is not None and bool(np.isfinite(value.constant.array()).all())


def _global_mean_obstacle(node: Node) -> str:
    axes = None if node.operand(1) is None else constant_ints(node.operands[1])
    x = node.operands[0]
    if x is None or x.rank != _IMAGE or axes is None or {axis % _IMAGE for axis in axes} != {2, 3}:
        return "it is no mean over the two axes of an image"
    return "" if node.get_int("keepdims") else "it drops its axes"


def _global_mean(codes: Codes, node: Node) -> Node:
    x = node.operands[0]
    if x is None:
        raise ValueError("a ReduceMean without operand")
    return codes.add("GlobalAveragePool", (codes.activation(x),))


def _nearest(node: Node) -> str:
    return "" if node.get_str("mode") == "nearest" else "it interpolates"


def _image(node: Node) -> str:
    x = node.operands[0]
    return "" if x is not None and x.rank == _IMAGE else "it is no image"


def _one_result(node: Node) -> str:
    return "its other results are read" if any(result.is_used for result in node.results[1:]) else ""


_PASSED = Form("", _same_first, tied=True)
"""What moves codes about works on whatever type they have."""

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "Conv": Form("QLinearConv", _conv, _constant_weights, anchor=True),
        "Gemm": Form("QGemm", _gemm, _gemm_obstacle, anchor=True, real=True),
        "MatMul": Form("QLinearMatMul", _matmul, _matmul_obstacle, anchor=True, real=True),
        "BatchNormalization": Form("QLinearConv", _batch_norm, _batch_norm_obstacle),
        "Add": Form("QLinearAdd", _same, _two_activations, activations=None),
        "Mul": Form("QLinearMul", _same, _two_activations, activations=None),
        "Sigmoid": Form("QLinearSigmoid", _same, bounds=(0.0, 1.0)),
        "LeakyRelu": Form("QLinearLeakyRelu", _same),
        "HardSigmoid": Form("QLinearAdd", _hard_sigmoid, _hard_sigmoid_obstacle, bounds=(0.0, 1.0)),
        "Concat": Form("QLinearConcat", _same, activations=None),
        "AveragePool": Form("QLinearAveragePool", _same, _image),
        "GlobalAveragePool": Form("QLinearGlobalAveragePool", _same, _image),
        "ReduceMean": Form("QLinearGlobalAveragePool", _global_mean, _global_mean_obstacle),
        "MaxPool": Form("MaxPool", _same, _one_result, tied=True),
        "Resize": Form("Resize", _same_first, _nearest, tied=True),
        "Reshape": _PASSED,
        "Flatten": _PASSED,
        "Squeeze": _PASSED,
        "Unsqueeze": _PASSED,
        "Transpose": _PASSED,
        "Slice": _PASSED,
        "Split": _PASSED,
    }
)
"""By operator, for ONNX Runtime's CPU provider."""


def form_of(node: Node) -> Form | None:
    """The form of a node of float32 numbers; None where there is none."""
    form = FORMS.get(node.op)
    if form is None or any(result.dtype is not DType.FLOAT for result in node.results):
        return None
    return form


def kernels() -> Sequence[str]:
    return sorted({form.kernel for form in FORMS.values() if form.kernel})
