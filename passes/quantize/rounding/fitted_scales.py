"""Scales that fit codes best, by least squares at the output."""

from __future__ import annotations

import numpy as np

from planish.ir.types import Array
from planish.passes.quantize.rounding.layer import check, damped, output_errors
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize

_RIDGE = 1e-6


def fitted_scales(
    weight: Array, gram: Doubles, codes: Array, parameters: Parameters, *, damping: float = 1e-3
) -> Parameters:
    """The parameters with scales that minimise ||X W - X Q||^2, where the codes [K, N] stay as they are.

    With V = codes - zero point, column n of Q is the sum over its blocks b of s[b, n] V[b, n], which is linear in s:

        sum over b of (V[a]^T G V[b]) s[b] = V[a]^T G w        for every block a of the column

    Alternating it with coordinate_descent descends as Lloyd's method (1982) does. A column keeps its scales where the
    fit has one that is not positive or is no better. For schemes of one scale per column, or per block of axis 0;
    raises ValueError for others, and for scales that must be powers of two.
    """
    check(weight, gram)
    if parameters.scheme.power_of_two or not by_column(parameters.scheme):
        raise ValueError("scales are fitted to columns, axis 1, or to blocks of axis 0; powers of two are not")
    if not weight.size:
        return parameters
    matrix = damped(gram, damping)
    shape = parameters.scale.shape
    before = np.atleast_2d(parameters.scale.astype(np.float64))
    after = _solved(*_normal_equations(weight.astype(np.float64), matrix, codes, parameters), before)
    fits = (after >= np.finfo(np.float32).tiny) & (after <= np.finfo(np.float32).max)
    chosen = np.where(fits.all(axis=0), after, before).astype(np.float32)
    fitted = parameters._replace(scale=chosen.reshape(shape))
    old, new = (output_errors(weight, dequantize(codes, p), matrix) for p in (parameters, fitted))
    return parameters._replace(scale=np.where(new < old, chosen, before.astype(np.float32)).reshape(shape))


def by_column(scheme: Scheme) -> bool:
    """Whether each column of a weight [K, N] has parameters of its own: one pair, or one for each block of axis 0."""
    return scheme.axis is not None and scheme.axis % 2 == (0 if scheme.block else 1)


def _normal_equations(
    weight: Doubles, matrix: Doubles, codes: Array, parameters: Parameters
) -> tuple[Doubles, Doubles]:
    """By column: the matrix [N, blocks, blocks] and the right side [N, blocks]."""
    rows, columns = weight.shape
    scheme = parameters.scheme
    block = scheme.block or rows
    starts = list(range(0, rows, block))
    value = codes.astype(np.float64) - parameters.grid(weight.shape)[1]
    right = np.add.reduceat(value * (matrix @ weight), starts, axis=0).T
    left = np.empty((columns, len(starts), len(starts)))
    for a, start in enumerate(starts):
        part = slice(start, start + block)
        left[:, a] = np.add.reduceat(value * (matrix[:, part] @ value[part]), starts, axis=0).T
    return left, right


def _solved(left: Doubles, right: Doubles, before: Doubles) -> Doubles:
    """Scales [blocks, N]. What the equations do not say stays: of blocks whose codes are all zero points."""
    blocks = left.shape[1]
    ridge = _RIDGE * np.trace(left, axis1=1, axis2=2) / blocks
    ridge = np.where(ridge > 0, ridge, 1.0)
    left = left + ridge[:, None, None] * np.eye(blocks)
    solved = np.linalg.solve(left, (right + ridge[:, None] * before.T)[:, :, None])
    return np.asarray(solved[:, :, 0].T, np.float64)
