"""Two thin weights for one, in the layouts of MatMul, Gemm and Conv, and the attributes of the nodes that read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from planish.ir import Node
from planish.ir.graph import Attribute
from planish.ir.types import Array
from planish.passes.quantize.gram import Window
from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.low_rank import Factors, Spectrum, relative_error, spectrum

_IMAGE = 4
Attributes = Mapping[str, Attribute]


@dataclass(frozen=True, eq=False)
class Split:
    left: Array
    right: Array
    first: Attributes
    second: Attributes


@dataclass(frozen=True, eq=False)
class Splitting:
    """Of one weight, for each node that reads it."""

    left: Array
    right: Array
    matrix: Doubles
    """What both stand for, [K, N]."""
    attributes: Callable[[Node], tuple[Attributes, Attributes] | str]
    """Of both nodes; else why a node stays."""

    def split_of(self, node: Node) -> Split | str:
        found = self.attributes(node)
        return found if isinstance(found, str) else Split(self.left, self.right, *found)


def matrix_split(weight: Floats, gram: Doubles | None, rank: float, error: float) -> Splitting | str:
    """Of MatMul and Gemm: weight [K, N]. rank is a part of the largest one; where it is 0, error says how far."""
    found = _factors(weight, gram, rank, error)
    return found if isinstance(found, str) else Splitting(*found, found.matrix(), _of_matrices)


def channel_split(
    shape: tuple[int, ...], weight: Floats, gram: Doubles | None, rank: float, error: float
) -> Splitting | str:
    """Of Conv, [N, C, *kernel]: the same window to `rank` channels, then 1 x 1. weight is [C * kernel, N]."""
    found = _factors(weight, gram, rank, error)
    if isinstance(found, str):
        return found
    left = np.ascontiguousarray(found.left.T).reshape(-1, *shape[1:])
    right = np.ascontiguousarray(found.right.T).reshape(shape[0], -1, *(1 for _ in shape[2:]))
    return Splitting(left, right, found.matrix(), lambda node: (node.attributes, {}))


def spatial_split(
    shape: tuple[int, ...], weight: Floats, gram: Doubles | None, rank: float, error: float
) -> Splitting | str:
    """Of Conv, [N, C, kh, kw]: kh x 1 to `rank` channels, then 1 x kw. weight is [C * kh * kw, N].

    The inputs count by the Gram matrices of the window's columns, summed. That is not quite what the outputs lose, so
    that the factors of the weights alone are taken where they lose less.
    """
    if len(shape) != _IMAGE:
        return "it has no window of two axes"
    columns, channels, tall, wide = shape
    matrix = np.ascontiguousarray(weight.reshape(channels * tall, wide, columns).transpose(0, 2, 1)).reshape(
        channels * tall, columns * wide
    )
    both = [spectrum(matrix)]
    if gram is not None:
        parts = gram.reshape(channels * tall, wide, channels * tall, wide)
        both.append(spectrum(matrix, np.einsum("ajbj->ab", parts)))

    def best(rank: int) -> tuple[float, Spectrum]:
        found = [(relative_error(weight, _window(each.factors(rank), wide), gram), each) for each in both]
        return min(found, key=lambda pair: pair[0])

    most = min(matrix.shape)
    chosen = max(1, round(rank * most)) if rank else min(each.rank_for(error) for each in both)
    while not rank and chosen < most and best(chosen)[0] > error:
        chosen += 1 + chosen // 16
    found = best(min(chosen, most))[1]
    factors = found.factors(min(chosen, most))
    if not found.holds(factors):
        return "single precision does not hold its factors"
    left = np.ascontiguousarray(factors.left.T).reshape(-1, channels, tall, 1)
    right = np.ascontiguousarray(factors.right.reshape(-1, columns, wide).transpose(1, 0, 2))[:, :, None]
    return Splitting(left, right, _window(factors, wide), lambda node: _of_spatial(node, len(left)))


def _factors(weight: Floats, gram: Doubles | None, rank: float, error: float) -> Factors | str:
    rows, columns = weight.shape
    most = (rows * columns - 1) // (rows + columns)
    wanted = max(1, round(rank * min(rows, columns)))
    if rank and wanted > most:
        return _no_saving(wanted)
    found = spectrum(weight, gram)
    wanted = wanted if rank else found.rank_for(error)
    if wanted > most:
        return _no_saving(wanted)
    factors = found.factors(wanted)
    return factors if found.holds(factors) else "single precision does not hold its factors"


def _no_saving(rank: int) -> str:
    return f"two factors of rank {rank} would not save multiply-accumulates"


def _of_matrices(node: Node) -> tuple[Attributes, Attributes]:
    if node.op == "MatMul":
        return {}, {}
    scales = {"alpha": node.get_float("alpha"), "beta": node.get_float("beta")}
    return {"transA": node.get_int("transA")}, scales


def _window(factors: Factors, wide: int) -> Doubles:
    """What spatial factors stand for, [C * kh * kw, N]."""
    product = factors.matrix()
    columns = product.shape[1] // wide
    return np.ascontiguousarray(product.reshape(len(product), columns, wide).transpose(0, 2, 1)).reshape(-1, columns)


def _of_spatial(node: Node, rank: int) -> tuple[Attributes, Attributes] | str:
    window, weight = Window.of(node), node.operand(1)
    if window is None or weight is None or weight.constant is None:
        return ""
    if set(window.dilations) != {1}:
        return "a dilated convolution has no spatial factors"
    columns, channels, tall, wide = weight.constant.shape
    stretch = _stretch(node, window)
    if stretch is None:
        return "the width of what it takes is not known"
    if rank * (channels * tall * stretch + columns * wide) >= columns * channels * tall * wide:
        return _no_saving(rank)
    strides = (window.strides[0], 1), (1, window.strides[1])
    if window.auto_pad != "NOTSET":
        first, second = ({"auto_pad": window.auto_pad, "strides": each} for each in strides)
        return first, second
    top, left, bottom, right = window.pads
    return {"pads": (top, 0, bottom, 0), "strides": strides[0]}, {"pads": (0, left, 0, right), "strides": strides[1]}


def _stretch(node: Node, window: Window) -> float | None:
    """Columns that the first of two spatial factors makes for each that the second makes; at most, where the width is
    not known.
    """
    x, y = node.operands[0], node.result
    before = x.shape[-1] if x is not None and x.shape else None
    after = y.shape[-1] if y.shape else None
    if isinstance(before, int) and isinstance(after, int):
        return math.inf if after == 0 else before / after
    padded = window.auto_pad != "NOTSET" or window.pads[1] + window.pads[3] >= window.kernel[1] - 1
    return float(window.strides[1]) if padded else None
