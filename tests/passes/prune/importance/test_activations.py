"""Criteria of what was seen, on numbers of which it is plain."""

from __future__ import annotations

import numpy as np
import pytest

from planish.passes.prune.importance.activations import dissimilarity, entropy, hessian_diagonal
from planish.passes.prune.importance.removal_order import Consumer

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("width", [1, 3])
def test_the_hessian_is_what_a_unit_adds(width: int) -> None:
    x, w, units = RNG.standard_normal((50, 4 * width)), RNG.standard_normal((4 * width, 3)), np.arange(4 * width) % 4
    found = hessian_diagonal([Consumer(x.T @ x, w, units)], 4)
    power = np.square(x @ w).sum()
    wanted = [np.square(x[:, units == unit] @ w[units == unit]).sum() / power for unit in range(4)]
    np.testing.assert_allclose(found, wanted)


def test_products_that_tell_nothing_add_nothing() -> None:
    good = Consumer(np.eye(2), np.ones((2, 1)), np.arange(2))
    for h, w in ((np.zeros((2, 2)), 1.0), (np.full((2, 2), np.nan), 1.0), (np.eye(2), 0.0)):
        bad = Consumer(h, np.full((2, 1), w), np.arange(2))
        np.testing.assert_allclose(hessian_diagonal([bad, good], 2), [0.5, 0.5])
    assert not hessian_diagonal([], 2).any()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_likeness_is_that_of_activations(width: int, scale: float) -> None:
    """Two units alike, two far away; rows that no unit owns do not count."""
    a, b, c = RNG.standard_normal((3, 40, width))
    parts = [a, a, 5 * b, 7 * c, RNG.standard_normal((40, 1))]
    units = np.array([*np.repeat(np.arange(4), width), -1])
    x = np.concatenate(parts, axis=1)
    found = dissimilarity(scale * (x.T @ x), units, 4)
    assert set(np.argsort(found)[:2]) == {0, 1}
    apart = np.array([[np.square(p - q).sum() for q in parts[:4]] for p in parts[:4]])
    sigma = np.median(apart[~np.eye(4, dtype=np.bool_)])
    np.testing.assert_allclose(found, 4 - np.exp(-apart / (2 * sigma)).sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.ones((3, 3))])
def test_units_that_are_all_alike(matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    assert not dissimilarity(matrix, np.arange(3), 3).any()
    assert not dissimilarity(matrix[:1, :1], np.zeros(1, np.int64), 1).any()


def test_entropy() -> None:
    spread = np.linspace(0, 1, 160)
    means = np.stack([spread, np.zeros(160), np.where(spread > 0.5, 1.0, 0.0), np.full(160, np.nan)], axis=1)
    np.testing.assert_allclose(entropy(means)[:3], [np.log(16), 0, np.log(2)], atol=1e-9)
    assert np.isinf(entropy(means)[3])


def test_entropy_of_few_and_broken_samples() -> None:
    assert entropy(np.array([[1.0, -np.inf, 1e308], [1.0, 2.0, -1e308]])).tolist()[:2] == [0, 0]
    assert entropy(np.array([[5.0]])).tolist() == [0]
    assert np.isinf(entropy(np.zeros((0, 2)))).all()
