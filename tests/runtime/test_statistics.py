"""Synthetic timings whose truth is known: does the interval cover it, and is the verdict the right one?"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.runtime.statistics import (
    MIN_ROUNDS,
    UNKNOWN,
    Interval,
    decide,
    interval,
    needed,
    percentiles,
    round_log_ratio,
    stable,
)

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
QUIET = Interval(1.0, 0.999, 1.001)


def gaussian(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    return random.normal(0, 0.02, rounds)


def heavy_tailed(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    return random.standard_t(3, rounds) * 0.02


def disturbed(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    """One round in ten is hit by another process, in either arm."""
    hits = (random.random(rounds) < 0.1) * random.choice([-1, 1], rounds) * random.exponential(0.3, rounds)
    return random.normal(0, 0.02, rounds) + hits


def correlated(random: np.random.Generator, rounds: int) -> NDArray[np.float64]:
    noise = random.normal(0, 0.02, rounds + 20)
    for index in range(1, noise.size):
        noise[index] += 0.2 * noise[index - 1]
    return noise[20:]


def test_a_round_pairs_its_blocks_by_position() -> None:
    assert round_log_ratio([2.0, 8.0], [1.0, 2.0]) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_a_steady_drift_cancels_over_a_mirrored_round() -> None:
    # A B B A on a machine whose logarithm of speed changes evenly.
    times = [math.exp(0.1 * position) for position in range(4)]
    assert round_log_ratio([times[0], times[3]], [times[1], times[2]]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rounds", [4, 5, 6, 8, 12, 20, 40])
@pytest.mark.parametrize(
    ("draw", "least"),
    [(gaussian, 0.90), (heavy_tailed, 0.90), (disturbed, 0.90), (correlated, 0.86)],
    ids=["gaussian", "heavy-tailed", "disturbed", "correlated"],
)
def test_the_interval_covers_the_truth(draw: Draw, least: float, rounds: int) -> None:
    truth, trials, covered = math.log(1.25), 300, 0
    for seed in range(trials):
        found = interval(list(truth + draw(np.random.default_rng(seed), rounds)))
        covered += found.low <= math.exp(truth) <= found.high
    # Two and a half standard errors (1.3 % each) stand between the level aimed at, 0.95, and 0.90 with some to spare.
    assert covered / trials >= least
    assert covered < trials, "an interval that always covers says nothing"


def test_the_interval_narrows_with_the_square_root_of_the_rounds() -> None:
    def width(rounds: int) -> float:
        series = [gaussian(np.random.default_rng(seed), rounds) for seed in range(100)]
        return float(np.median([interval(list(log_ratios)).half_width for log_ratios in series]))

    assert width(16) / width(64) == pytest.approx(2.0, rel=0.2)


def test_one_wild_round_moves_neither_the_ratio_nor_the_interval_far() -> None:
    calm = list(gaussian(np.random.default_rng(0), 20))
    wild = [*calm[:-1], math.log(10)]
    assert interval(wild).ratio == pytest.approx(interval(calm).ratio, rel=0.01)
    assert interval(wild).half_width < 3 * interval(calm).half_width


def test_the_interval_is_the_same_every_time() -> None:
    rounds = list(gaussian(np.random.default_rng(3), 10))
    assert interval(rounds) == interval(rounds)


def test_exchanging_the_arms_inverts_the_ratio() -> None:
    rounds = gaussian(np.random.default_rng(3), 11) + 0.3
    one, other = interval(list(rounds)), interval(list(-rounds))
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert math.log(one.low) == pytest.approx(-math.log(other.high), rel=0.02)  # each draws its own resamples


def test_too_few_rounds_bound_nothing() -> None:
    assert interval([]) is UNKNOWN
    found = interval([0.7] * (MIN_ROUNDS - 1))
    assert (found.low, found.high) == (0.0, math.inf)
    assert found.half_width == math.inf
    assert found.as_dict() == {"ratio": pytest.approx(math.exp(0.7)), "low": None, "high": None}
    assert decide([0.7] * (MIN_ROUNDS - 1), QUIET) == "undecided"
    assert UNKNOWN.as_dict() == {"ratio": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [
        (1.5, 0.02, "faster"),
        (1 / 1.5, 0.02, "slower"),
        (1.0, 0.005, "equivalent"),
        (1.01, 0.002, "equivalent"),  # a difference that can be told, and that is too small to matter
        (0.99, 0.002, "equivalent"),
        (1.0, 0.2, "undecided"),
        (1.02, 0.005, "undecided"),  # astride the margin, and not beyond it
    ],
)
def test_verdicts(ratio: float, spread: float, verdict: str) -> None:
    random = np.random.default_rng(7)
    assert decide(list(math.log(ratio) + random.normal(0, spread, 16)), Interval(1.0, 0.97, 1.03)) == verdict


@pytest.mark.parametrize(("low", "high"), [(0.98, 1.2), (0.8, 1.02), (0.0, math.inf)])
def test_a_difference_must_exceed_the_noise_floor_in_either_direction(low: float, high: float) -> None:
    noise = Interval(1.0, low, high)
    for ratio in (1.15, 1 / 1.15):
        rounds = list(math.log(ratio) + gaussian(np.random.default_rng(1), 20))
        assert decide(rounds, QUIET) != "undecided"
        assert decide(rounds, noise) == "undecided"


def share(verdict: str, ratio: float, trials: int = 200) -> float:
    series = [math.log(ratio) + np.random.default_rng(seed).normal(0, 0.02, 16) for seed in range(trials)]
    return sum(decide(list(rounds), QUIET) == verdict for rounds in series) / trials


def test_equivalence_is_seldom_claimed_at_the_margin_and_mostly_found_at_1() -> None:
    assert share("equivalent", 1.02) <= 0.10  # the two tests' level is 5 %; its standard error here 1.5 %
    assert share("equivalent", 1.0) >= 0.75


def test_a_difference_is_seldom_claimed_where_there_is_none() -> None:
    assert share("faster", 1.0) + share("slower", 1.0) <= 0.09


@pytest.mark.parametrize(("quantile", "count"), [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)])
def test_percentiles_need_a_sample(quantile: float, count: int) -> None:
    assert needed(quantile) == count
    name = f"p{100 * quantile:g}"
    assert percentiles(np.ones(count - 1))[name] is None
    assert percentiles(np.ones(count))[name] == 1.0


def test_percentiles_are_those_of_the_sample() -> None:
    found = percentiles(np.arange(1, 1001) / 1000)
    assert found["p50"] == pytest.approx(0.5, abs=0.002)
    assert found["p99"] == pytest.approx(0.99, abs=0.002)
    assert found["p99.9"] is None


def test_stable_looks_at_the_last_blocks_alone() -> None:
    assert not stable([1.0, 1.0])
    assert not stable([1.0, 1.0, 1.04])
    assert stable([9.0, 5.0, 1.0, 1.02, 1.01])
