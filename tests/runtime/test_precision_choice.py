"""Which parts are half together."""

from __future__ import annotations

import numpy as np

from planish.runtime.precision_choice import Costs, choose


def costs(constants: list[float], tensors: list[float], sizes: list[float], floor: float = 0.0) -> Costs:
    by_run = [np.array(numbers)[:, None] for numbers in (constants, tensors)]
    return Costs(np.array(sizes), np.ones(len(sizes), np.bool_), by_run[0], by_run[1], np.array([floor]))


def test_all_where_the_budget_holds_all() -> None:
    found = choose(costs([1, 2], [1, 1], [10, 10]), np.array([5.0]))
    assert found.stored.all()
    assert found.half.all()


def test_what_costs_most_for_its_bytes_goes_back_and_no_more() -> None:
    found = choose(costs([9, 9, 1], [0, 0, 0], [10, 1000, 10]), np.array([10.5]))
    assert found.stored.tolist() == [False, True, True]


def test_weights_stay_stored_where_computing_alone_is_too_much() -> None:
    found = choose(costs([1, 1], [0, 9], [10, 10]), np.array([5.0]))
    assert found.stored.all()
    assert found.half.tolist() == [True, False]


def test_what_computes_in_single_does_not_store_either_where_both_are_too_much() -> None:
    found = choose(costs([9.0], [9.0], [10.0]), np.array([1.0]))
    assert not found.stored.any()
    assert not found.half.any()


def test_overflow_is_never_within_a_budget() -> None:
    found = choose(costs([0, 0], [np.inf, 0], [0, 0]), np.array([1.0]))
    assert found.half.tolist() == [False, True]
    assert not choose(costs([np.nan], [np.nan], [4.0]), np.array([1e9])).half.any()


def test_every_run_has_a_budget_of_its_own() -> None:
    found = choose(
        Costs(
            np.array([8.0, 8.0]),
            np.ones(2, np.bool_),
            np.array([[4.0, 0.0], [0.0, 1.0]]),
            np.zeros((2, 2)),
            np.zeros(2),
        ),
        np.array([1.0, 2.0]),
    )
    assert found.stored.tolist() == [False, True]


def test_what_may_not_compute_only_stores() -> None:
    given = costs([1, 1], [0, 0], [10, 10])._replace(computes=np.array([False, True]))
    found = choose(given, np.array([5.0]))
    assert found.stored.all()
    assert found.half.tolist() == [False, True]


def test_a_floor_above_the_budget_and_nothing_at_all_end() -> None:
    assert not choose(costs([1.0], [1.0], [4.0], floor=2.0), np.array([1.0])).half.any()
    assert not len(choose(costs([], [], []), np.array([1.0])).half)
