"""Rounding one input at a time, the rest of the weights making up for each error: GPTQ."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.rounding.layer import check, damped
from planish.passes.quantize.scheme import Doubles, Parameters

_ATTEMPTS = 8


def second_order(
    weight: Array,
    gram: Doubles,
    parameters: Parameters,
    *,
    act_order: bool = True,
    damping: float = 0.01,
    lazy: int = 128,
) -> Array:
    """Codes [K, N] of a weight [K, N], chosen to keep X W rather than W.

    Row k of W is rounded to nearest; its error e, over the later rows j > k, is then made up for:

        W[j] -= U[k, j] / U[k, k] * e        with (G + damping)^-1 = U^T U, U upper triangular

    Frantar et al. 2023 (GPTQ, arXiv 2210.17323, algorithm 1), after LeCun et al. 1990 and Hassibi & Stork 1993. It is
    Babai's nearest plane of a lattice. act_order: the inputs of the largest sum of squares first, while there are still
    rows to make up for them. lazy: rows whose updates of all later ones are gathered into one matrix product. The
    parameters are fixed beforehand (the reference implementation's "static groups"), so that any order will do.
    """
    check(weight, gram)
    scheme = parameters.scheme
    order = np.argsort(-np.diagonal(gram), kind="stable") if act_order else np.arange(len(gram))
    scale, zero_point = (grid[order] for grid in parameters.grid(weight.shape))
    upper = upper_factor_of_inverse(gram[np.ix_(order, order)], damping)
    rest = weight[order].astype(np.float64)
    codes = np.empty_like(rest)
    for start in range(0, len(rest), lazy):
        end = min(start + lazy, len(rest))
        errors = np.empty((end - start, rest.shape[1]))
        for k in range(start, end):
            codes[k] = scheme.nearest(rest[k] / scale[k], zero_point[k])
            errors[k - start] = (rest[k] - (codes[k] - zero_point[k]) * scale[k]) / upper[k, k]
            rest[k:end] -= np.outer(upper[k, k:end], errors[k - start])
        rest[end:] -= upper[start:end, end:].T @ errors
    found = np.empty_like(codes)
    found[order] = codes
    return scheme.as_codes(found)


def upper_factor_of_inverse(gram: Doubles, damping: float) -> Doubles:
    """U upper triangular with U^T U = (G + damping)^-1: the inverse of R where R R^T = G + damping, R upper too.

    R is the Cholesky factor with rows and columns turned around. Where rounding leaves no positive pivot, damping
    grows tenfold.
    """
    for attempt in range(_ATTEMPTS):
        matrix = damped(gram, max(damping, 1e-10) * 10**attempt if attempt else damping)
        try:
            return np.asarray(np.linalg.inv(np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]), np.float64)
        except np.linalg.LinAlgError:
            continue
    raise ValueError("a Gram matrix is not positive semidefinite: it is no sum of squares of inputs")
