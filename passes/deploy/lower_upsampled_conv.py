"""A convolution of an upsampled image, worked out on the image as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import Node, Value
from planish.ir.dim import Dim, floor_div
from planish.ir.types import Array
from planish.passes.deploy.interleave import interleaved
from planish.passes.manager import RulePass
from planish.passes.pattern import Const, Maybe, Op
from planish.passes.rewrite import Contract, Match, Rule, rule

_NEEDS = "finite values"
_SPATIAL = 2
_WORTHWHILE = 160
"""Multiplications for each element of the result that must be saved, for what putting it in its place costs."""
_COPIES = frozenset(
    (
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("pytorch_half_pixel", "round_prefer_floor"),
        ("pytorch_half_pixel", "round_prefer_ceil"),
    )
)
"""Ways to find the nearest pixel that, for whole factors, repeat every pixel as often as the factor says."""

w, b = Const("w"), Const("b")


class Upsampled(NamedTuple):
    """An image whose pixels are each repeated `factors` times, down and across; (1, 1) where none is."""

    source: Value
    factors: tuple[int, int]


class Window(NamedTuple):
    """Along one axis, what a kernel of `kernel` pixels reads of an image before it is upsampled by `factor`.

    Behind `begin` and `end` pixels of padding, windows of `size` pixels give `factor` results each; of these the first
    `skip` and the last `drop` lie outside.
    """

    size: int
    begin: int
    end: int
    skip: int
    drop: int

    @staticmethod
    def of(kernel: int, factor: int, begin: int, end: int) -> Window:
        """Result u reads the pixels (u + t) // factor, 0 <= t < kernel, -begin <= u <= factor * extent + end - kernel.

        Where factor divides kernel - 1, all `factor` results of a window read the whole of it.
        """
        size = (kernel - 1) // factor + 1
        first, last = -begin // factor, (end - kernel) // factor
        return Window(size, -first, last + size, -begin - first * factor, (last + 1) * factor - 1 - (end - kernel))


def _is_plain(node: Node) -> bool:
    """Whether the convolution steps pixel by pixel over images, ungrouped, and states its padding."""
    weight = node.operands[1]
    tensor = None if weight is None else weight.constant
    if tensor is None or len(tensor.shape) != _SPATIAL + 2 or not tensor.dtype.is_float or node.get_int("group") != 1:
        return False
    if node.get_str("auto_pad") not in ("NOTSET", "VALID"):
        return False
    return {*(node.get_ints("strides") or (1,)), *(node.get_ints("dilations") or (1,))} == {1}


concat = Op("Concat", where=lambda node: node.get_int("axis") in (1, 1 - _SPATIAL - 2))
resize = Op("Resize")


@rule(Op("Conv", (resize, w, Maybe(b)), where=_is_plain), contract=Contract.REASSOCIATES, needs=_NEEDS)
def upsampled_image(m: Match) -> Value | None:
    """Conv(Resize(x, k), w, b), nearest -> ConvTranspose(Conv(x, w', b'), u), w' smaller, u of ones and zeros"""
    return _lowered(m, [m[resize].result])


@rule(Op("Conv", (concat, w, Maybe(b)), where=_is_plain), contract=Contract.REASSOCIATES, needs=_NEEDS)
def upsampled_channels(m: Match) -> Value | None:
    """Conv(Concat(Resize(x, k), y), w, b) -> Conv(y, w1, b) + ConvTranspose(Conv(x, w2'), u)"""
    parts = [operand for operand in m[concat].operands if operand is not None]
    return _lowered(m, parts)


def _lowered(m: Match, parts: Sequence[Value]) -> Value | None:
    """The convolution of some channels' images, those of them that are upsampled before they are."""
    weight = m.array(m[w])
    kernel, images = weight.shape[2:], [_upsampled(part) for part in parts]
    channels = [_extent(part, 1) for part in parts]
    if not all(channels) or sum(channels) != weight.shape[1]:
        return m.decline("how many channels each part has is not known")
    factor = _best_factor(images, channels, kernel)
    if factor == 1:
        return m.decline("no part is upsampled, nearest, by a whole factor that divides the kernel's extent less one")
    low = [_divides(image, factor) for image in images]
    saved = sum(c for c, is_low in zip(channels, low, strict=True) if is_low) * _saving(kernel, factor)
    if saved < _WORTHWHILE:
        return m.decline(f"{saved:g} multiplications are saved for each element, and moving it costs {_WORTHWHILE}")
    for part, is_low in zip(parts, low, strict=True):
        if is_low and part.producer is not None:
            m.cover(part.producer)
    columns = np.split(weight, np.cumsum(channels)[:-1], axis=1)
    rest = [part for part, is_low in zip(parts, low, strict=True) if not is_low]
    small = [_less_upsampled(m, image, factor) for image, is_low in zip(images, low, strict=True) if is_low]
    kept = [column for column, is_low in zip(columns, low, strict=True) if not is_low]
    phased = np.concatenate([column for column, is_low in zip(columns, low, strict=True) if is_low], axis=1)
    placed = _placed(m, _joined(m, small), phased, factor, None if rest else m.get(b))
    if not rest:
        return placed
    operands = (_joined(m, rest), m.constant(np.concatenate(kept, axis=1), m[w].name), m.get(b))
    return m.add("Add", (m.add("Conv", operands, m.root.attributes), placed))


def _upsampled(value: Value) -> Upsampled:
    """The image behind a nearest Resize by whole factors that nothing else reads, else the value itself."""
    node = value.producer
    whole = Upsampled(value, (1, 1))
    if node is None or node.op != "Resize" or not value.has_one_use or node.get_str("mode") != "nearest":
        return whole
    ways = (node.get_str("coordinate_transformation_mode"), node.get_str("nearest_mode"))
    source, scales = node.operands[0], node.operand(2)
    if ways not in _COPIES or node.get_str("keep_aspect_ratio_policy") != "stretch" or source is None:
        return whole
    if source.shape is None or value.shape is None or len(source.shape) != _SPATIAL + 2:
        return whole
    if scales is not None and scales.shape != (0,) and not _are_whole(scales):
        return whole
    factors = [_ratio(after, before) for after, before in zip(value.shape, source.shape, strict=True)]
    if factors[:2] != [1, 1] or not all(factors):
        return whole
    return Upsampled(source, (factors[2], factors[3]))


def _are_whole(scales: Value) -> bool:
    return scales.constant is not None and bool(np.all(np.mod(scales.constant.array(), 1) == 0))


def _ratio(after: Dim, before: Dim) -> int:
    """How many times as long an axis is, where that is a whole number for sure; else 0."""
    if before == 0:
        return 0
    found = floor_div(after, before)
    return found if isinstance(found, int) and found * before == after else 0


def _extent(value: Value, axis: int) -> int:
    """An extent that is known, else 0."""
    found = None if value.shape is None else value.shape[axis]
    return found if isinstance(found, int) else 0


def _divides(image: Upsampled, factor: int) -> bool:
    return all(of % factor == 0 for of in image.factors)


def _saving(kernel: Sequence[int], factor: int) -> int:
    """Multiplications for each channel and element of the result."""
    height, width = kernel
    return height * width - ((height - 1) // factor + 1) * ((width - 1) // factor + 1)


def _best_factor(images: Sequence[Upsampled], channels: Sequence[int], kernel: Sequence[int]) -> int:
    """By which to upsample later, so that the most is saved; 1 for none."""

    def saved(factor: int) -> int:
        count = sum(c for image, c in zip(images, channels, strict=True) if _divides(image, factor))
        return count * _saving(kernel, factor)

    wide = max(kernel) - 1
    fit = [factor for factor in range(2, wide + 1) if all((extent - 1) % factor == 0 for extent in kernel)]
    return max(fit, key=saved) if any(map(saved, fit)) else 1


def _less_upsampled(m: Match, image: Upsampled, factor: int) -> Value:
    height, width = (of // factor for of in image.factors)
    if height == width == 1:
        return image.source
    scales = m.constant(np.array([1, 1, height, width], np.float32))
    ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return m.add("Resize", (image.source, None, scales), ways)


def _joined(m: Match, parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else m.add("Concat", parts, {"axis": 1})


def _placed(m: Match, source: Value, weight: Array, factor: int, bias: Value | None) -> Value:
    """The convolution of `source`, upsampled: all results of a window as channels, then put in their places."""
    pads = m.root.get_ints("pads") or (0,) * 2 * _SPATIAL
    rows, columns = (
        Window.of(weight.shape[2 + axis], factor, pads[axis], pads[_SPATIAL + axis]) for axis in range(_SPATIAL)
    )
    operands = [source, m.constant(_phases(weight, factor, (rows.size, columns.size)), m[w].name)]
    if bias is not None:
        operands.append(m.constant(np.repeat(m.array(bias), factor * factor), bias.name))
    attributes = {
        "kernel_shape": (rows.size, columns.size),
        "pads": (rows.begin, columns.begin, rows.end, columns.end),
    }
    crop = (rows.skip, columns.skip, rows.drop, columns.drop)
    return interleaved(m, m.add("Conv", operands, attributes), len(weight), factor, crop)


def _phases(weight: Array, factor: int, window: tuple[int, int]) -> Array:
    """w[M, C, h, w] -> w'[M factor factor, C, h', w']: kernel pixels that fall on one pixel of the window added up."""
    results, channels, height, width = weight.shape
    wide = np.zeros((results, factor, factor, channels, *window), np.float64)
    exact = weight.astype(np.float64)
    for row, column, down, across in np.ndindex(factor, factor, height, width):
        at = ((row + down) // factor, (column + across) // factor)
        wide[(slice(None), row, column, slice(None), *at)] += exact[:, :, down, across]
    return wide.reshape(results * factor * factor, channels, *window).astype(weight.dtype)


@dataclass(frozen=True)
class LowerUpsampledConv(RulePass):
    """Convolve images before they are upsampled, instead of after, and interleave the results.

    For nearest upsampling by whole factors, as decoders and feature pyramids have it, of all channels or of some: a
    kernel of 3 x 3 behind a factor of 2 becomes four of 2 x 2, 4/9 of the multiplications. More nodes, and faster.
    (Shi et al. 2016, Is the deconvolution layer the same as a convolutional layer?)
    """

    name: ClassVar[str] = "lower-upsampled-conv"

    def rules(self) -> Sequence[Rule]:
        return (upsampled_image, upsampled_channels)
