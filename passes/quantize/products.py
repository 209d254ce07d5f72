"""Convolutions and matrix products as they are written for codes: weights signed, a scale for each channel."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import Node, Value
from planish.passes.quantize.codes import Codes, floats, least_scales
from planish.passes.quantize.scheme import Doubles

_IMAGE = 4
_MATRIX = 2
_STEPS = 127


def weight_obstacle(node: Node) -> str:
    """Why the second operand, and the third if there is one, are no weight and bias that codes can hold."""
    weight, bias = node.operand(1), node.operand(2)
    if weight is None or not _is_constant(weight) or (bias is not None and not _is_constant(bias)):
        return "its weight or bias is no constant"
    if weight.constant is None or not weight.constant.size:
        return "its weight is empty"
    if not _is_finite(weight) or (bias is not None and not _is_finite(bias)):
        return "its weight or bias holds NaN or infinities"
    return ""


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.constant is not None


def _is_finite(value: Value) -> bool:
    return bool(np.isfinite(floats(value)).all())


def _operands(node: Node) -> tuple[Value, Value]:
    x, w = node.operands[:2]
    if x is None or w is None:
        raise ValueError(f"a {node.op} without operands")
    return x, w


def conv(codes: Codes, node: Node) -> Node:
    x, w = _operands(node)
    bias, step = node.operand(2), codes.parameters(x).scale
    shift = None if bias is None else floats(bias)
    weight, scales, shift = codes.product(floats(w), 0, w.name, shift, step)
    operands: list[Value | None] = [codes.activation(x), weight]
    if bias is not None and shift is not None:
        operands.append(codes.bias(shift, step, scales, bias.name))
    return codes.add("Conv", operands, node.attributes)


def gemm_obstacle(node: Node) -> str:
    if node.get_int("transA"):
        return "integer kernels take no transposed activation"
    bias, w = node.operand(2), node.operands[1]
    if bias is not None and w is not None and w.shape is not None:
        columns = w.shape[0 if node.get_int("transB") else 1]
        if not _is_row(bias, columns):
            return "its bias is not one number a column"
    return weight_obstacle(node)


def _is_row(bias: Value, columns: object) -> bool:
    """Whether a bias is the same in every row of a product."""
    shape = bias.shape
    if shape is None or bias.constant is None:
        return False
    return bias.constant.size == 1 or (bias.constant.size == columns and shape[-1] == columns)


def gemm(codes: Codes, node: Node) -> Node:
    """alpha x W + beta c, with alpha in the weight and beta in the bias. The weight is stored as [K, N]."""
    x, w = _operands(node)
    weight = node.get_float("alpha") * (floats(w).T if node.get_int("transB") else floats(w))
    bias = node.operand(2)
    shift = None if bias is None else node.get_float("beta") * floats(bias)
    return _gemm(codes, codes.activation(x), x, (weight, w.name), (shift, "" if bias is None else bias.name))


def _gemm(
    codes: Codes, rows: Value, x: Value, named_weight: tuple[Doubles, str], named_bias: tuple[Doubles | None, str]
) -> Node:
    """A Gemm of rows that the codes of x stand for."""
    (array, name), (shift, bias_name) = named_weight, named_bias
    step = codes.parameters(x).scale
    shift = None if shift is None else np.broadcast_to(shift.reshape(-1), (array.shape[1],))
    weight, scales, shift = codes.product(array, 1, name, shift, step)
    operands = [rows, weight]
    if shift is not None:
        operands.append(codes.bias(shift, step, scales, bias_name))
    return codes.add("Gemm", operands)


def matmul_obstacle(node: Node) -> str:
    x, w = node.operands[0], node.operands[1]
    if w is None or w.rank != _MATRIX:
        return "its right side is no constant matrix"
    if x is None or x.rank is None or x.rank < _MATRIX:
        return "its left side is no matrix"
    return weight_obstacle(node)


def matmul(codes: Codes, node: Node) -> Node:
    x, w = _operands(node)
    weight, _, _ = codes.product(floats(w), 1, w.name, None, codes.parameters(x).scale)
    return codes.add("MatMul", (codes.activation(x), weight))


def product_of_matrices(codes: Codes, node: Node) -> Node:
    x, w = _operands(node)
    return _gemm(codes, codes.activation(x), x, (floats(w), w.name), (None, ""))


def biased_product_obstacle(node: Node) -> str:
    """Why an Add is no bias of a MatMul that nothing else reads."""
    product, bias = _product_and_bias(node)
    if product is None or bias is None:
        return "it adds no constant to a product that it alone reads"
    columns = product.operands[1]
    if columns is None or columns.shape is None or node.result.shape != product.result.shape:
        return "what it adds makes the product larger"
    if not _is_row(bias, columns.shape[-1]) or not _is_finite(bias):
        return "what it adds is not one finite number a column"
    return matmul_obstacle(product)


def _product_and_bias(node: Node) -> tuple[Node | None, Value | None]:
    product = bias = None
    for operand in node.operands:
        if operand is not None and operand.constant is not None:
            bias = operand
        elif operand is not None and operand.producer is not None and operand.has_one_use:
            product = operand.producer if operand.producer.graph is node.graph else None
    return product, bias


def biased_product(codes: Codes, node: Node) -> Node:
    """x W + b as a Gemm of the rows of x, whose bias costs nothing and is not rounded to the steps of the result.

    A MatMul has no bias among the integer kernels, and a sum behind it would be rounded twice. Measured with ONNX
    Runtime 1.31 on x86, one thread: 0.75 to 0.95 of the time of QLinearMatMul and QLinearAdd.
    """
    product, bias = _product_and_bias(node)
    if product is None or bias is None:
        raise ValueError("an Add without product and bias")
    x, w = _operands(product)
    weight, shift = (floats(w), w.name), (floats(bias), bias.name)
    if x.rank == _MATRIX:
        return _gemm(codes, codes.activation(x), x, weight, shift)
    width, columns = weight[0].shape
    made = _gemm(codes, codes.rows(x, width), x, weight, shift).result
    made.name = raw_name(node.result.name)
    return codes.unflattened(codes.coded(made, codes.target), x, columns)


def overflow(node: Node, step: float) -> str:
    """Why no weight's scale lets the bias of a product, or of what is written as one, fit int32 codes, or nothing.

    step: of the activation; of an Add, of what its product reads.
    """
    bias = _bias_of(node)
    if bias is None or not bias.size:
        return ""
    with np.errstate(over="ignore"):
        least = float(np.max(np.asarray(least_scales(bias, np.asarray(step, np.float32)))))
    fits = least * _STEPS <= float(np.finfo(np.float32).max)
    return "" if fits else "its bias is so large beside its activation that the scale of its weight overflows"


def _bias_of(node: Node) -> Doubles | None:
    if node.op == "BatchNormalization":
        return scale_and_shift(node)[1]
    if node.op == "Add":
        bias = _product_and_bias(node)[1]
        return None if bias is None else floats(bias)
    bias = node.operand(2) if node.op in ("Conv", "Gemm") else None
    factor = node.get_float("beta") if node.op == "Gemm" else 1.0
    return None if bias is None else factor * floats(bias)


def raw_name(name: str) -> str:
    """What a kernel gives is called where a tensor of that name has other axes."""
    return f"{name}_raw" if name else ""


# Scale and shift of channels: a convolution of each with one number


def norm_obstacle(node: Node) -> str:
    if any(not _is_constant(operand) for operand in node.operands[1:]) or node.get_int("training_mode"):
        return "its scale and shift are no constants"
    x = node.operands[0]
    if x is None or x.rank != _IMAGE:
        return "it is no image, so that no convolution says the same"
    finite = all(np.isfinite(array).all() for array in scale_and_shift(node))
    return "" if finite else "its scale or shift is not finite"


def scale_and_shift(node: Node) -> tuple[Doubles, Doubles]:
    scale, shift, mean, variance = [floats(value) for value in node.operands[1:] if value is not None]
    with np.errstate(all="ignore"):
        scale = scale / np.sqrt(variance + node.get_float("epsilon"))
        return scale, shift - mean * scale


def norm(codes: Codes, node: Node) -> Node:
    x, constant = _operands(node)
    scale, shift = scale_and_shift(node)
    step = codes.parameters(x).scale
    weight, scales = codes.weight(scale.reshape(-1, 1, 1, 1), 0, constant.name, least_scales(shift, step))
    bias = codes.bias(shift, step, scales, f"{node.result.name}_shift")
    return codes.add("Conv", (codes.activation(x), weight, bias), {"group": scales.size, "kernel_shape": (1, 1)})


# A mean over windows: a convolution of each channel with the same number everywhere


def mean_obstacle(node: Node) -> str:
    x = node.operands[0]
    if x is None or x.rank != _IMAGE or x.shape is None or not isinstance(x.shape[1], int) or not x.shape[1]:
        return "it is no image of a known number of channels"
    padded = any(node.get_ints("pads") or ()) or node.get_str("auto_pad") not in ("NOTSET", "VALID")
    if (padded and not node.get_int("count_include_pad")) or node.get_int("ceil_mode"):
        return "it divides by fewer at the edges, which no convolution does"
    return ""


_OF_WINDOWS = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")


def mean(codes: Codes, node: Node) -> Node:
    """An AveragePool as a convolution, which ONNX Runtime works out 3 to 10 times as fast as its QLinearAveragePool."""
    x, kernel = node.operands[0], node.get_ints("kernel_shape")
    channels = None if x is None or x.shape is None else x.shape[1]
    if x is None or kernel is None or not isinstance(channels, int):
        raise ValueError("an AveragePool of unknown extents")
    weight, _ = codes.weight(np.full((channels, 1, *kernel), 1 / math.prod(kernel)), 0, "")
    attributes = {name: value for name, value in node.attributes.items() if name in _OF_WINDOWS}
    return codes.add("Conv", (codes.activation(x), weight), {**attributes, "group": channels})
