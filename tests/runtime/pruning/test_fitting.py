"""The fit: exact where it can be, still where samples do not tell, and judged on others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.runtime.pruning.fitting import RIDGES, Change, Moments

Doubles = NDArray[np.float64]


def rows(seed: int, count: int = 40, k: int = 5, groups: int = 1) -> Doubles:
    return np.random.default_rng(seed).standard_normal((groups, count, k))


def moments(x: Doubles, lacking: Doubles) -> Moments:
    found = Moments()
    for begin in range(0, x.shape[1], 7):
        found.add(x[:, begin : begin + 7], lacking[:, begin : begin + 7], lacking[:, begin : begin + 7] + 1)
    return found


@pytest.mark.parametrize("groups", [1, 3])
def test_what_is_linear_is_found(groups: int) -> None:
    x, w = rows(0, groups=groups), rows(1, 5, 2, groups)
    found = moments(x, x @ w + 3).fit(RIDGES[0], with_bias=True)
    assert found is not None
    np.testing.assert_allclose(found.weight, w, atol=1e-6)
    np.testing.assert_allclose(found.bias, 3, atol=1e-6)


def test_without_a_bias_there_is_none() -> None:
    x = rows(0)
    found = moments(x, x @ rows(1, 5, 2) + 3).fit(RIDGES[0], with_bias=False)
    assert found is not None
    assert not found.bias.any()


def test_the_error_is_that_of_the_rows() -> None:
    x, lacking = rows(0), rows(1, k=2)
    change = Change(rows(2, 5, 2), rows(3, 1, 2)[:, 0])
    left = lacking - x @ change.weight - change.bias[:, None]
    wanted = lacking + 1
    power = np.square(wanted - wanted.mean(axis=1, keepdims=True)).sum()
    assert moments(x, lacking).error(change) == pytest.approx(np.square(left).sum() / power)
    assert moments(x, lacking).error() == pytest.approx(np.square(lacking).sum() / power)


@pytest.mark.parametrize("ridge", RIDGES)
def test_what_samples_do_not_tell_stays(ridge: float) -> None:
    """Constant, zero and doubled inputs: nothing explodes, and an input that is always 0 keeps its weight."""
    x = rows(0)
    x[..., 0], x[..., 1], x[..., 2] = 0, 4, x[..., 3]
    found = moments(x, x @ rows(1, 5, 2)).fit(ridge, with_bias=True)
    assert found is not None
    assert not found.weight[0, 0].any()
    assert np.abs(found.weight).max() < 10
    np.testing.assert_allclose(found.weight[0, 2], found.weight[0, 3], atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_rows_than_weights(count: int) -> None:
    found = moments(rows(0, count), rows(1, count, 2)).fit(RIDGES[1], with_bias=True)
    assert found is not None
    assert np.isfinite(found.weight).all()


def test_all_inputs_zero() -> None:
    found = moments(np.zeros((2, 9, 5)), rows(1, 9, 2, 2)).fit(RIDGES[0], with_bias=True)
    assert found is not None
    assert not found.weight.any()


def test_rows_that_are_not_finite_are_left_out() -> None:
    x, w = rows(0), rows(1, 5, 2)
    lacking = x @ w
    clean = moments(x[:, 2:], lacking[:, 2:])
    x[0, 0, 1], lacking[0, 1, 0] = np.inf, np.nan
    found = moments(x, lacking)
    assert found.count == clean.count == 38
    assert found.error() == pytest.approx(clean.error())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_scale(scale: float) -> None:
    x, w = rows(0) * scale, rows(1, 5, 2)
    found = moments(x, x @ w).fit(RIDGES[0], with_bias=True)
    assert found is not None
    np.testing.assert_allclose(found.weight, w, atol=1e-6)


def test_nothing_seen() -> None:
    assert Moments().fit(1.0, with_bias=True) is None
    assert Moments().error() == 0
