"""Factors of a matrix: the best at the output, and no worse than those of the matrix alone."""

from __future__ import annotations

import numpy as np
import pytest

from planish.passes.quantize.scheme import Doubles, Floats
from planish.passes.sparsify.low_rank import relative_error, spectrum
from tests.passes.quantize.quantized import normal
from tests.passes.sparsify.inputs import correlated, loss

SHAPES = [(24, 40), (40, 24), (16, 16), (1, 8), (8, 1)]


def truncated(w: Floats, rank: int, x: Doubles | None = None) -> Doubles:
    found = spectrum(w, None if x is None else x.T @ x).factors(rank)
    return found.left.astype(np.float64) @ found.right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_the_whitened_one_is_no_worse(shape: tuple[int, int], rows: int) -> None:
    """At every rank, by what the inputs of the matrix say; with fewer inputs than rows it is singular."""
    w, x = normal(*shape), correlated(rows, shape[0], 1)
    noise = 1e-5 * float(np.linalg.norm(x @ w))
    for rank in range(1, min(shape) + 1):
        assert loss(w, truncated(w, rank, x), x) <= loss(w, truncated(w, rank), x) + noise
    assert loss(w, truncated(w, min(shape), x), x) <= noise


def test_it_is_better_on_other_inputs_too() -> None:
    w, x, unseen = normal(64, 48), correlated(2000, 64, 1), correlated(500, 64, 2)
    for rank in (4, 8, 12):
        assert loss(w, truncated(w, rank, x), unseen) < 0.5 * loss(w, truncated(w, rank), unseen)


def test_it_is_the_best_there_is() -> None:
    """The error is that of the singular values of X W which are left out (Eckart and Young)."""
    w, x = normal(24, 16), correlated(300, 24, 1)
    values = np.linalg.svd(x @ w, compute_uv=False)
    for rank in (1, 3, 8, 15):
        assert loss(w, truncated(w, rank, x), x) == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_of_the_rank_is_the_matrix(shape: tuple[int, int]) -> None:
    w = normal(*shape)
    for x in (None, np.zeros((3, shape[0])), correlated(2, shape[0], 1), correlated(100, shape[0], 1)):
        np.testing.assert_allclose(truncated(w, min(shape), x), w, atol=1e-5)


@pytest.mark.parametrize("error", [0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("whitened", [False, True])
def test_the_least_rank_within_an_error(error: float, whitened: bool) -> None:
    w, x = normal(24, 16), correlated(300, 24, 1)
    gram = x.T @ x if whitened else None
    found = spectrum(w, gram)
    rank = found.rank_for(error)
    assert relative_error(w, truncated(w, rank, x if whitened else None), gram) <= error + 1e-4
    if rank > 1:
        assert relative_error(w, truncated(w, rank - 1, x if whitened else None), gram) > error


def test_zeros_have_rank_one() -> None:
    assert spectrum(np.zeros((8, 6), np.float32)).rank_for(0.1) == 1
    assert spectrum(normal(8, 6), np.zeros((8, 8))).rank_for(0.1) == 1


@pytest.mark.parametrize(("size", "holds"), [(1.0, True), (3e38, False), (1e-45, False), (1e-30, True)])
def test_what_single_precision_holds(size: float, holds: bool) -> None:
    w = (np.sign(normal(16, 16)) * size).astype(np.float32)
    found = spectrum(w)
    assert found.holds(found.factors(8)) == holds
