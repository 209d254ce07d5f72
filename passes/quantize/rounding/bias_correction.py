"""The mean error of a rounded layer, put right in its bias."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.scheme import Doubles


def bias_correction(weight: Array, rounded: Array, means: Doubles) -> Doubles:
    """What to add to the bias, [N], so that the outputs keep their means: E[x]^T (W - Q).

    weight, rounded: [K, N]; means: of the layer's inputs, [K]. Nagel et al. 2019 (Data-Free Quantization, arXiv
    1906.04721, section 4.2). What is left of the squared error is that of the centred Gram matrix, see centred.
    """
    if weight.shape != rounded.shape or means.shape != weight.shape[:1]:
        raise ValueError(f"weights {weight.shape} and {rounded.shape} do not go with means of shape {means.shape}")
    return means @ (weight.astype(np.float64) - rounded.astype(np.float64))


def centred(gram: Doubles, means: Doubles, count: float) -> Doubles:
    """G - count m m^T: the Gram matrix of inputs less their means, by which to round a layer whose bias is corrected.

    count: rows of X that the Gram matrix is the sum of.
    """
    return gram - count * np.outer(means, means)
