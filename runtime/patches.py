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
Places = tuple[slice, ...]
"""Of rows: of those of a matrix, or of windows along each spatial axis."""

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

    def of(self, x: Array, places: Places | None = None) -> Iterator[Floats]:
        """[groups, rows, k], a few rows at a time; how many depends on the shape of x and on the places alone.

        places: of the rows to take; by default all of a matrix, and at most 2048 of an image.
        """
        if self.window is None:
            matrix = self._matrix(x) if places is None else self._matrix(x)[places[0]]
            step = max(_ROW_NUMBERS // max(matrix.shape[1], 1), 1)
            for start in range(0, matrix.shape[0], step):
                yield matrix[None, start : start + step].astype(np.float64)
            return
        chosen = self.places(x, _MOST_WINDOWS) if places is None else places
        for image in x:
            yield from _image_patches(image, self.window, chosen)

    def places(self, x: Array, most: int, turn: int = 0) -> Places:
        """So many rows at most, evenly spread: of a matrix, or of the windows along the spatial axes of every image.

        Every n-th along each axis, n odd, so that no phase of what was upsampled by 2 is left out. turn: where they
        begin; over many turns all rows are taken.
        """
        counts = (self._matrix(x).shape[0],) if self.window is None else _counts(x.shape[2:], self.window)
        skip = 1
        while math.prod(-(-count // skip) for count in counts) > most and skip < max(counts):
            skip += 2
        begins: list[int] = []
        for count in counts:
            turn, begin = divmod(turn, max(min(count, skip), 1))
            begins.append(begin)
        return tuple(slice(begin, count, skip) for begin, count in zip(begins, counts, strict=True))

    def _matrix(self, x: Array) -> Array:
        if x.ndim < len(("rows", "columns")):
            return x.reshape(1, -1)
        return x.T if self.transposed else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


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


def _image_patches(image: Array, window: Window, places: Places) -> Iterator[Floats]:
    """The windows at those places of one image [channels, *extents], a few rows of the first of them at a time."""
    begins, ends = _pads(image.shape[1:], window)
    padded = np.pad(image, ((0, 0), *zip(begins, ends, strict=True)))
    starts = [place.start * stride for place, stride in zip(places, window.strides, strict=True)]
    counts = [len(range(place.start, place.stop, place.step)) for place in places]
    if not math.prod(counts):
        return
    steps = padded.strides
    moves = [step * stride * place.step for step, stride, place in zip(steps[1:], window.strides, places, strict=True)]
    within = [step * dilation for step, dilation in zip(steps[1:], window.dilations, strict=True)]
    depth = image.shape[0] // window.group
    patches = as_strided(
        padded[(slice(None), *(slice(start, None) for start in starts))],
        (window.group, *counts, depth, *window.kernel),
        (steps[0] * depth, *moves, steps[0], *within),
        writeable=False,
    )
    terms = depth * math.prod(window.kernel)
    step = max(_ROW_NUMBERS // (window.group * terms * math.prod(counts[1:])), 1)
    for start in range(0, counts[0], step):
        part = patches[:, start : start + step].astype(np.float64)
        yield part.reshape(window.group, -1, terms)


def _counts(extents: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """Of the windows along each spatial axis."""
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    padded = [extent + begin + end for extent, begin, end in zip(extents, *_pads(extents, window), strict=True)]
    return tuple(
        (extent - span) // stride + 1 if extent >= span else 0
        for extent, span, stride in zip(padded, spans, window.strides, strict=True)
    )


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
