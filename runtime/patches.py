"""Rows that products contract with their weights, and their Gram matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from planish.passes.quantize.gram import Gram, Window
from planish.runtime.providers import Array

Floats = NDArray[np.float64]

_ROW_NUMBERS = 1 << 18
"""Of the rows that are worked on at a time."""
_MOST_WINDOWS = 1 << 11
"""Of an image: those between say nearly the same as their neighbours."""


@dataclass(frozen=True)
class Rows:
    """How a product takes rows from its left operand."""

    transposed: bool = False
    """A Gemm's matrix holds them as columns."""
    window: Window | None = None

    def of(self, x: Array) -> Iterator[Floats]:
        """[groups, rows, k], a few rows at a time; how many depends on the shape of x alone."""
        if self.window is None:
            matrix = x.T if self.transposed else x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
            step = max(_ROW_NUMBERS // max(matrix.shape[1], 1), 1)
            for start in range(0, matrix.shape[0], step):
                yield matrix[None, start : start + step].astype(np.float64)
            return
        for image in x:
            yield from _image_patches(image, self.window)


class GramObserver:
    """X^T X and the column means of rows that stream by, in float64. Rows that are not finite are left out.

    Sums are taken in the order of what is observed and merged, by numpy's BLAS: another one gives other last bits.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._count = self._skipped = 0
        self._matrix: Floats | None = None
        self._sum: Floats | None = None

    def observe(self, x: Array) -> None:
        array = x if x.dtype.kind == "f" else x.astype(np.float32)
        for rows in self._rows.of(array):
            finite = np.isfinite(rows).all(axis=(0, 2))
            kept = rows if finite.all() else rows[:, finite]
            self._count += kept.shape[1]
            self._skipped += rows.shape[1] - kept.shape[1]
            self._add(np.matmul(kept.transpose(0, 2, 1), kept), kept.sum(axis=1))

    def merge(self, other: GramObserver) -> None:
        """Take in what another observer of the same rows saw after this one; the other is used up."""
        self._count += other._count
        self._skipped += other._skipped
        if other._matrix is not None and other._sum is not None:
            self._add(other._matrix, other._sum)

    def gram(self) -> Gram | None:
        """None where no row was seen."""
        if self._matrix is None or self._sum is None:
            return None
        return Gram(self._matrix, self._sum / max(self._count, 1), self._count, self._skipped)

    def _add(self, matrix: Floats, total: Floats) -> None:
        if self._matrix is None or self._sum is None:
            self._matrix, self._sum = matrix, total
        else:
            self._matrix += matrix
            self._sum += total


def _image_patches(image: Array, window: Window) -> Iterator[Floats]:
    """The windows on one image [channels, *extents], a few rows of the first spatial axis of the result at a time.

    Of a large image every n-th window along each axis, n odd, so that no phase of what was upsampled by 2 is left out.
    """
    begins, ends = _pads(image.shape[1:], window)
    padded = np.pad(image, ((0, 0), *zip(begins, ends, strict=True)))
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    counts = [
        (extent - span) // stride + 1 if extent >= span else 0
        for extent, span, stride in zip(padded.shape[1:], spans, window.strides, strict=True)
    ]
    if not math.prod(counts):
        return
    skip = 1
    while math.prod(-(-count // skip) for count in counts) > _MOST_WINDOWS:
        skip += 2
    counts = [-(-count // skip) for count in counts]
    steps = padded.strides
    moves = [step * stride * skip for step, stride in zip(steps[1:], window.strides, strict=True)]
    within = [step * dilation for step, dilation in zip(steps[1:], window.dilations, strict=True)]
    depth = image.shape[0] // window.group
    patches = as_strided(
        padded,
        (window.group, *counts, depth, *window.kernel),
        (steps[0] * depth, *moves, steps[0], *within),
        writeable=False,
    )
    terms = depth * math.prod(window.kernel)
    step = max(_ROW_NUMBERS // (window.group * terms * math.prod(counts[1:])), 1)
    for start in range(0, counts[0], step):
        part = patches[:, start : start + step].astype(np.float64)
        yield part.reshape(window.group, -1, terms)


def _pads(extents: tuple[int, ...], window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begins and ends; those of auto_pad SAME as ONNX has them: the odd one at the end for UPPER, else at the begin."""
    if window.auto_pad == "NOTSET":
        count = len(window.kernel)
        return window.pads[:count], window.pads[count:]
    totals = [
        max((-(-extent // stride) - 1) * stride + (k - 1) * d + 1 - extent, 0)
        for extent, stride, k, d in zip(extents, window.strides, window.kernel, window.dilations, strict=True)
    ]
    less = tuple(total // 2 for total in totals)
    more = tuple(total - half for total, half in zip(totals, less, strict=True))
    return (less, more) if window.auto_pad == "SAME_UPPER" else (more, less)
