"""What each criterion says of weights of which it is plain."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir.graph import constant
from planish.ir.types import Array
from planish.passes.prune.dependency import Group, Member
from planish.passes.prune.importance import CRITERIA, Importance, Normalization, score
from planish.passes.prune.importance.weights import Scores
from tests.passes.prune.test_dependency import found
from tests.passes.prune.topologies import Net


def group(*weights: Array) -> Group:
    """Units are the rows of each weight."""
    members = tuple([Member(constant(weight), 0, np.arange(len(weight))) for weight in weights])
    return Group("g", len(weights[0]), members, np.zeros(len(weights[0]), np.int64))


def floats(*rows: tuple[float, ...]) -> Scores:
    return np.array(rows, np.float64)


def test_norms() -> None:
    weights = floats((3, -4), (0, 0), (1, 1))
    l1, l2 = (score(group(weights), kind, normalization="none") for kind in ("l1", "l2"))
    assert np.allclose(l1 / l1[0], [1, 0, 2 / 7])
    assert np.allclose(l2 / l2[0], [1, 0, np.sqrt(2) / 5])


def test_weights_of_different_size_count_alike() -> None:
    """A layer with weights a thousand times larger does not decide alone."""
    small, large = floats((1,), (3,)), floats((3000, 3000), (1000, 1000))
    found = score(group(small, large), "l2")
    assert np.allclose(found[0], found[1])


@pytest.mark.parametrize("normalization", ["mean", "max", "sum"])
def test_normalizations_make_groups_comparable(normalization: Normalization) -> None:
    rows = floats((1,), (3,))
    one, other = (score(group(weights), "l1", normalization=normalization) for weights in (rows, rows * 1e4))
    assert np.allclose(one, other)
    assert np.allclose(one[1], 3 * one[0])


def test_the_filter_in_the_midst_matters_least() -> None:
    weights = floats((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    assert np.argmin(score(group(weights), "geometric-median")) == 0
    assert np.argmin(score(group(weights + 100), "geometric-median")) == 0


def test_random_is_the_same_for_the_same_seed() -> None:
    weights = floats(*[(1,)] * 8)
    assert np.array_equal(score(group(weights), "random", seed=1), score(group(weights), "random", seed=1))
    assert not np.array_equal(score(group(weights), "random", seed=1), score(group(weights), "random", seed=2))


def test_the_scale_of_a_normalization() -> None:
    n = Net(("N", 3, 4, 4))
    scale = np.linspace(-2, 1, 8).astype(np.float32)
    x = n.conv(n.x, (3, 8))
    x = n.op("BatchNormalization", x, n.b.constant(scale), n.weight(8), n.weight(8), n.positive(8))
    (one,) = found(n.head(x, 8)).groups
    assert np.array_equal(np.argsort(score(one, "bn-scale")), np.argsort(np.abs(scale)))


def test_no_opinion() -> None:
    """Without a normalization there is no scale; of NaN nothing can be said."""
    assert np.isinf(score(group(floats((1,), (2,))), "bn-scale")).all()
    assert np.isinf(score(group(floats((1,), (np.nan,))), "l2")).all()


@pytest.mark.parametrize("importance", CRITERIA)
def test_zeros_and_huge_weights(importance: Importance) -> None:
    """Sums of squares are taken in double precision."""
    for scale in (0.0, 1e-38, 3e38):
        one = group(np.array([[1, 1], [0.5, 0.25]]) * scale)
        with np.errstate(all="raise"):
            found = score(one, importance)
        assert importance == "bn-scale" or np.isfinite(found).all()
