"""Gram matrices of few rows, of which less is believed."""

from __future__ import annotations

import numpy as np

from planish.passes.quantize.rounding.bias_correction import centred
from planish.passes.quantize.scheme import Doubles


def shrunk(gram: Doubles, means: Doubles, count: int) -> Doubles:
    """A Gram matrix [K, K] of so many rows whose correlations are trusted as far as the rows tell them.

    The covariance goes part of the way to its own diagonal, for which rounding to nearest is best:

        C' = (1 - s) C + s diag(C)  with  s = K / (K + count)

    What K inputs have in common in fewer than K rows is mostly chance, and weights that are rounded for it are worse on
    all other rows. Ledoit & Wolf 2004 (A well-conditioned estimator for large-dimensional covariance matrices) shrink
    likewise, and the part goes as K over count there, too. The means are left: they are told by few rows.
    """
    part = len(gram) / max(len(gram) + count, 1)
    covariance = centred(gram, means, count)
    return gram - part * (covariance - np.diag(np.diagonal(covariance)))
