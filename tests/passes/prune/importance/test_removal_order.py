"""The order of removal against what is lost in truth: a least squares fit of what is left, by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir.ops.channels.atoms import Ids
from planish.passes.prune.importance.removal_order import Consumer, Doubles, RemovalOrder, removal_order

RNG = np.random.default_rng(0)


def inputs(rows: int, columns: int) -> Doubles:
    """Columns that say partly the same."""
    return RNG.standard_normal((rows, columns)) @ RNG.standard_normal((columns, columns)) + 1


def lost(x: Doubles, w: Doubles, kept: Ids) -> float:
    """Squares of what is left of X W when the kept columns are fitted to it, over its power."""
    y = x @ w
    fitted = x[:, kept] @ np.linalg.lstsq(x[:, kept], y, rcond=None)[0] if len(kept) else np.zeros_like(y)
    return float(np.square(y - fitted).sum() / np.square(y).sum())


def order_of(*consumers: Consumer, blocks: Ids | None = None) -> RemovalOrder:
    size = max(int(consumer.units.max()) for consumer in consumers) + 1
    found = removal_order(consumers, np.zeros(size, np.int64) if blocks is None else blocks)
    assert found is not None
    assert sorted(found.order) == list(range(size))
    assert (np.diff(found.losses) >= 0).all()
    assert np.array_equal(np.sort(found.scores), found.losses[1:])
    return found


@pytest.mark.parametrize("width", [1, 3])
def test_losses_are_those_of_a_least_squares_fit(width: int) -> None:
    """Each next unit is the one whose removal leaves the least, tried one by one."""
    x, w = inputs(400, 8 * width), RNG.standard_normal((8 * width, 5))
    units = np.repeat(np.arange(8), width)
    found = order_of(Consumer(x.T @ x, w, units))
    for count in range(1, 8):
        before, unit = found.order[: count - 1], found.order[count - 1]
        tried = {u: lost(x, w, np.flatnonzero(~np.isin(units, [*before, u]))) for u in range(8) if u not in before}
        assert tried[unit] <= min(tried.values()) * 1.01
        assert found.losses[count] == pytest.approx(tried[unit], rel=0.02, abs=1e-4)


def test_what_others_can_stand_for_goes_first() -> None:
    """A large unit that is the sum of two others is free; the smallest norm is not what matters."""
    x = RNG.standard_normal((200, 4))
    x[:, 3] = 10 * (x[:, 0] + x[:, 1])
    w = RNG.standard_normal((4, 6))
    w[2] *= 0.3
    found = order_of(Consumer(x.T @ x, w, np.arange(4)))
    assert found.order[0] in (0, 1, 3)
    assert found.losses[1] < 1e-3


def test_dead_units_cost_nothing_and_go_first() -> None:
    x = RNG.standard_normal((100, 6))
    x[:, [1, 4]] = 0
    found = order_of(Consumer(x.T @ x, 1e3 * RNG.standard_normal((6, 3)), np.arange(6)))
    assert sorted(found.order[:2]) == [1, 4]
    assert found.losses[2] < 1e-3


def test_products_add_up() -> None:
    """Of two that read the same units, neither by its size."""
    x = RNG.standard_normal((200, 4))
    first, second = np.diag([1.0, 1, 1, 0]), 1e6 * np.diag([0.0, 1, 1, 1])
    found = order_of(Consumer(x.T @ x, first, np.arange(4)), Consumer(x.T @ x, second, np.arange(4)))
    assert set(found.order[:2]) == {0, 3}
    assert found.losses[-1] == pytest.approx(2, rel=0.01)


def test_as_many_of_each_block() -> None:
    x, blocks = inputs(100, 9), np.arange(9) % 3
    found = order_of(Consumer(x.T @ x, RNG.standard_normal((9, 2)), np.arange(9)), blocks=blocks)
    for begin in (0, 3, 6):
        assert sorted(blocks[found.order[begin : begin + 3]]) == [0, 1, 2]


def test_rows_of_no_unit_stay_and_make_up_for_others() -> None:
    x = RNG.standard_normal((100, 3))
    x[:, 2] = x[:, 0]
    found = order_of(Consumer(x.T @ x, np.ones((3, 2)), np.array([0, 1, -1])))
    assert found.order[0] == 0
    assert found.losses[1] < 1e-3
    assert found.losses[2] == pytest.approx(lost(x, np.ones((3, 2)), np.array([2])), rel=0.02)


def test_units_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match="as many rows"):
        removal_order([Consumer(np.eye(3), np.ones((3, 2)), np.array([0, 1, 1]))], np.zeros(2, np.int64))


def test_a_product_may_read_some_units_only() -> None:
    """As one group of a grouped convolution does."""
    parts = [Consumer(np.eye(2), np.full((2, 2), w), np.array(units)) for w, units in ((1.0, [0, 2]), (2.0, [1, 3]))]
    found = order_of(*parts, blocks=np.array([0, 1, 0, 1]))
    assert found.order.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.losses, [0, 0.5, 1, 1.5, 2], rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1e20, 1e100])
def test_scale_does_not_matter(scale: float) -> None:
    x, w = RNG.standard_normal((50, 5)), RNG.standard_normal((5, 3))
    plain, scaled = (order_of(Consumer(s * (x.T @ x), w, np.arange(5))) for s in (1.0, scale))
    assert np.array_equal(plain.order, scaled.order)
    np.testing.assert_allclose(plain.losses, scaled.losses, rtol=1e-6)


def test_all_units_alike() -> None:
    """Of equals the first goes; the last one carries everything."""
    x = np.repeat(RNG.standard_normal((50, 1)), 5, axis=1)
    found = order_of(Consumer(x.T @ x, np.ones((5, 2)), np.arange(5)))
    assert found.losses[4] < 1e-3
    assert found.losses[5] == pytest.approx(1, rel=1e-3)


def test_one_sample_and_one_unit() -> None:
    x = RNG.standard_normal((1, 4))
    found = order_of(Consumer(x.T @ x, RNG.standard_normal((4, 3)), np.arange(4)))
    assert found.losses[3] < 0.01
    assert order_of(Consumer(x[:, :1] ** 2, np.ones((1, 3)), np.zeros(1, np.int64))).order.tolist() == [0]


@pytest.mark.parametrize(
    ("h", "w"),
    [
        (np.zeros((3, 3)), np.ones((3, 2))),
        (np.eye(3), np.zeros((3, 2))),
        (np.full((3, 3), np.nan), np.ones((3, 2))),
        (np.eye(3), np.full((3, 2), np.inf)),
        (np.full((3, 3), 1e308), np.full((3, 2), 1e308)),
    ],
)
def test_products_that_tell_nothing_have_no_say(h: Doubles, w: Doubles) -> None:
    bad, blocks = Consumer(h, w, np.arange(3)), np.zeros(3, np.int64)
    assert removal_order([bad], blocks) is None
    assert removal_order([], blocks) is None
    good = Consumer(np.diag([1.0, 3, 2]), np.ones((3, 1)), np.arange(3))
    found = removal_order([bad, good], blocks)
    assert found is not None
    assert found.order.tolist() == [0, 2, 1]


def test_several_at_a_time_where_products_are_large() -> None:
    x = RNG.standard_normal((300, 2100))
    found = order_of(Consumer(x.T @ x, RNG.standard_normal((2100, 2)), np.repeat(np.arange(70), 30)))
    assert found.losses[-1] == pytest.approx(1, rel=0.01)
