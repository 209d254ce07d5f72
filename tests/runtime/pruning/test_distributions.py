"""The cross-entropy falls on rows that were not fitted to, and nothing breaks where there is little to fit to."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.runtime.pruning import distributions
from planish.runtime.pruning.distributions import Affine, Distributions, cross_entropy, fitted

Doubles = NDArray[np.float64]
K, CLASSES = 6, 20


def normal(*shape: int, seed: int) -> Doubles:
    return np.random.default_rng(seed).standard_normal(shape)


TRUE = Affine(2 * normal(K, CLASSES, seed=1), normal(CLASSES, seed=2))
START = Affine(np.zeros((K, CLASSES)), np.zeros(CLASSES))


def seen(seed: int, count: int = 300) -> Distributions:
    found = Distributions()
    for part in range(3):
        x = normal(count // 3, K, seed=10 * seed + part) + 1
        found.add(x, x @ TRUE.weight + TRUE.bias)
    return found


def extended(affine: Affine) -> Doubles:
    return np.concatenate([affine.weight, affine.bias[None]])


def test_the_cross_entropy_falls_towards_its_least() -> None:
    judging, others = seen(2), seen(3)
    found = fitted(seen(1), judging, START)
    least, first, last = (cross_entropy(others, extended(each)) for each in (TRUE, START, found))
    assert first == pytest.approx(np.log(CLASSES), rel=1e-6)
    assert last - least < 0.2 * (first - least)


def test_the_cross_entropy_is_that_of_the_rows() -> None:
    x, weights = normal(50, K, seed=4), extended(Affine(normal(K, CLASSES, seed=5), normal(CLASSES, seed=6)))
    wanted = 4 * normal(50, CLASSES, seed=7)
    found = Distributions()
    found.add(x, wanted)
    kept = np.argsort(wanted, axis=1)[:, -8:]
    parts = np.zeros_like(wanted)
    np.put_along_axis(parts, kept, np.exp(np.take_along_axis(wanted, kept, axis=1)), axis=1)
    parts /= parts.sum(axis=1, keepdims=True)
    logits = x @ weights[:-1] + weights[-1]
    expected = (parts * (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits)).sum(axis=1).mean()
    assert cross_entropy(found, weights) == pytest.approx(expected, rel=1e-5)


def test_the_start_stays_where_nothing_does_better_on_others() -> None:
    judging = Distributions()
    x = normal(100, K, seed=20)
    judging.add(x, np.zeros((100, CLASSES)) + 5 * (np.arange(CLASSES) < 8))
    start = Affine(np.zeros((K, CLASSES)), np.where(np.arange(CLASSES) < 8, 5.0, 0.0))
    found = fitted(seen(1), judging, start)
    assert found is start or cross_entropy(judging, extended(found)) <= cross_entropy(judging, extended(start))
    np.testing.assert_array_equal(found.weight, start.weight)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, 3e38, 1e200])
def test_inputs_of_any_size(value: float) -> None:
    few = Distributions()
    few.add(np.full((4, K), value), normal(4, CLASSES, seed=8))
    found = fitted(few, few, START)
    assert np.isfinite(found.weight).all()
    assert np.isfinite(found.bias).all()


def test_rows_that_are_not_finite_are_left_out() -> None:
    x, logits = normal(6, K, seed=1), normal(6, CLASSES, seed=2)
    x[0, 1], logits[2, 3] = np.nan, np.inf
    found = Distributions()
    found.add(x, logits)
    assert found.count == 4


def test_nothing_to_fit_to() -> None:
    assert fitted(Distributions(), seen(1), START) is START
    assert fitted(seen(1), Distributions(), START) is START


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributions, "_MOST_BYTES", 150 * (4 * K + 12 * 8))
    assert seen(1).count == 100


def test_fewer_classes_than_are_kept() -> None:
    found = Distributions()
    found.add(normal(9, K, seed=1), normal(9, 2, seed=2))
    start = Affine(np.zeros((K, 2)), np.zeros(2))
    assert cross_entropy(found, extended(fitted(found, found, start))) < cross_entropy(found, extended(start))
