"""Channels put in their places as the pixels of blocks, in the way that runtimes do fastest.

For small blocks that is a transposed convolution whose kernel has a single one: ONNX Runtime's DepthToSpace moves
element by element, and takes two to five times as long.
"""

from __future__ import annotations

import numpy as np

from planish.ir import Value
from planish.ir.types import Array
from planish.passes.rewrite import Match

Crop = tuple[int, int, int, int]
"""Pixels left out at the top, on the left, at the bottom and on the right."""

LARGEST = 3
"""Pixels along the blocks for which that holds; larger ones have too many products with zero."""


def interleaved(m: Match, source: Value, results: int, factor: int, crop: Crop = (0, 0, 0, 0)) -> Value:
    """[N, results factor factor, H, W] -> [N, results, H factor, W factor] less the crop, which leaves some pixel.

    Channels are in the order CRD: result, row, column. Values must be finite: each is added to products with zero.
    """
    if factor > LARGEST:
        return _cropped(m, m.add("DepthToSpace", (source,), {"blocksize": factor, "mode": "CRD"}), crop)
    kernel = np.tile(_kernel(factor), (results, 1, 1, 1)).astype(source.dtype.numpy if source.dtype else np.float32)
    attributes = {"kernel_shape": (factor, factor), "strides": (factor, factor), "group": results}
    return m.add("ConvTranspose", (source, m.constant(kernel)), attributes | ({"pads": crop} if any(crop) else {}))


def interleaves(kernel: Array) -> bool:
    """Whether a transposed convolution's kernel only puts channels in their places."""
    factor = kernel.shape[-1]
    if kernel.ndim != 4 or kernel.shape[1:] != (1, factor, factor) or len(kernel) % (factor * factor):
        return False
    return np.array_equal(kernel, np.tile(_kernel(factor), (len(kernel) // (factor * factor), 1, 1, 1)))


def _kernel(factor: int) -> Array:
    """[factor factor, 1, factor, factor]: channel c has a one at pixel c."""
    return np.eye(factor * factor).reshape(factor * factor, 1, factor, factor)


def _cropped(m: Match, value: Value, crop: Crop) -> Value:
    if not any(crop):
        return value
    top, left, bottom, right = crop
    ends = np.array([-bottom or np.iinfo(np.int64).max, -right or np.iinfo(np.int64).max])
    axes = m.constant(np.array([2, 3]))
    return m.add("Slice", (value, m.constant(np.array([top, left])), m.constant(ends), axes))
