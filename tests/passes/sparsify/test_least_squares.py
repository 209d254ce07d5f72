"""What zeros cost, and what makes up for them: against solving each column by itself."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.least_squares import made_up_for, norm_importance
from planish.passes.sparsify.pattern import Mask
from tests.passes.quantize.quantized import normal
from tests.passes.sparsify.inputs import correlated, loss

K, N = 24, 5
W = normal(K, N)
X = correlated(4096, K, 1)
G = X.T @ X
HALF = normal(K, N, seed=4) > 0


def damped(matrix: Doubles) -> Doubles:
    return matrix + 0.01 * np.diagonal(matrix).mean() * np.eye(len(matrix))


def solved(w: Floats, zero: Mask, matrix: Doubles) -> Doubles:
    found = np.zeros(w.shape)
    for column in range(w.shape[1]):
        stay = ~zero[:, column]
        right = matrix[stay] @ w[:, column].astype(np.float64)
        found[stay, column] = cast("Doubles", np.linalg.solve(matrix[np.ix_(stay, stay)], right))
    return found


def test_the_update_is_that_of_least_squares() -> None:
    np.testing.assert_allclose(made_up_for(W, HALF, G), solved(W, HALF, damped(G)), rtol=1e-3, atol=1e-4)


def test_importance_is_what_the_output_loses() -> None:
    """One weight at a time."""
    for k, n in ((0, 0), (7, 3), (23, 4)):
        zero = np.zeros((K, N), bool)
        zero[k, n] = True
        assert norm_importance(W, G)[k, n] == pytest.approx(loss(W, np.where(zero, 0, W), X) ** 2, rel=1e-5)


def test_it_may_begin_near() -> None:
    near = made_up_for(W, HALF, G, steps=12)
    again = made_up_for(W, HALF, G, near, steps=40)
    np.testing.assert_allclose(again, made_up_for(W, HALF, G), rtol=1e-3, atol=1e-4)
    assert loss(W, again, X) <= loss(W, near, X) * (1 + 1e-3)


@pytest.mark.parametrize(
    "x",
    [0 * X, X[:1], X[:5], 1e30 * X, 1e-30 * X, np.where(np.arange(K) < 3, X, 0), np.repeat(X[:, :1], K, axis=1)],
    ids=["zeros", "one row", "few rows", "huge", "tiny", "few inputs", "all alike"],
)
@pytest.mark.parametrize("zero", [HALF, np.ones((K, N), bool), np.zeros((K, N), bool)], ids=["half", "all", "none"])
def test_never_worse_than_zeros_alone(x: Doubles, zero: Mask) -> None:
    found = made_up_for(W, zero, x.T @ x)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert not found[zero].any()
    assert loss(W, found, x) <= loss(W, np.where(zero, 0, W), x) * (1 + 1e-9) + 1e-5 * np.linalg.norm(x)


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="goes with a Gram matrix"):
        made_up_for(W, HALF, np.eye(3))
