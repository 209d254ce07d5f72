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
    estimates,
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


def mean(grades: NDArray[np.float64]) -> list[float]:
    return [float(grades.mean())]


def ratio(grades: NDArray[np.float64]) -> list[float]:
    return [float(grades[:, 0].sum() / grades[:, 1].sum())]


@pytest.mark.parametrize(("probability", "count"), [(0.9, 60), (0.5, 20)])
def test_the_interval_of_a_share_covers_the_truth(probability: float, count: int) -> None:
    trials, covered = 80, 0
    for seed in range(trials):
        right = (np.random.default_rng(seed).random(count) < probability).astype(np.float64)
        (found,) = estimates(mean, right, [None] * count, [(0.0, 1.0)])
        covered += found.low <= probability <= found.high
    # 0.95 is aimed at, and the standard error of 80 trials is 2.4 %.
    assert covered / trials >= 0.88
    assert covered < trials


def test_the_interval_of_grouped_samples_covers_the_truth() -> None:
    trials, groups, each = 60, 25, 8
    names = [str(index // each) for index in range(groups * each)]
    covered = {"grouped": 0, "alone": 0}
    for seed in range(trials):
        random = np.random.default_rng(seed)
        edits = np.repeat(random.exponential(1.0, groups), each) * random.uniform(0.5, 1.5, groups * each)
        grades = np.stack([edits, np.full(groups * each, 10.0)], axis=1)
        for how, labels in (("grouped", names), ("alone", [None] * len(names))):
            (found,) = estimates(ratio, grades, labels, [(0.0, math.inf)])
            covered[how] += found.low <= 0.1 <= found.high
    assert covered["grouped"] / trials >= 0.85  # of a skewed distribution, in 25 draws
    assert covered["alone"] / trials < 0.7, "what comes of one source is no new evidence"


def test_groups_of_any_size_are_drawn_whole() -> None:
    def sums(grades: NDArray[np.float64]) -> list[float]:
        seen.append(tuple(sorted(grades.tolist())))
        return [float(grades.sum())]

    seen: list[tuple[float, ...]] = []
    estimates(sums, np.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ["a", "b", "a", "c", None, None], [(0.0, math.inf)])
    assert seen.pop(0) == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    assert all(drawn.count(1.0) == drawn.count(3.0) for drawn in seen)
    assert len({len(drawn) for drawn in seen}) > 1
    assert np.mean([len(drawn) for drawn in seen]) == pytest.approx(6, rel=0.05)


def test_an_estimate_is_the_same_every_time_and_stays_in_its_range() -> None:
    grades = np.asarray([1.0] * 29 + [0.0])
    once, again = (estimates(mean, grades, [None] * 30, [(0.0, 1.0)]) for _ in range(2))
    assert once == again
    assert once[0].high == 1.0
    assert 0.8 < once[0].low < once[0].value


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.025 ** (1 / 50), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 50))])
def test_what_never_happened_in_so_many_trials_may_happen_yet(value: float, low: float, high: float) -> None:
    (found,) = estimates(mean, np.full(50, value), [None] * 50, [(0.0, 1.0)])
    assert (found.value, found.low, found.high) == (value, pytest.approx(low), pytest.approx(high))


def test_a_score_that_some_samples_cannot_tell_is_told_by_the_others() -> None:
    def where_known(grades: NDArray[np.float64]) -> list[float]:
        return [float(grades.mean()) if grades.min() < 0.5 else math.nan, math.nan]

    grades = np.asarray([0.0, 1.0, 1.0, 1.0, 1.0])
    known, unknown = estimates(where_known, grades, [None] * 5, [(0.0, 1.0), (0.0, 1.0)])
    assert 0.0 <= known.low < known.value == 0.8 <= known.high <= 1.0
    assert math.isnan(unknown.value)
    assert (unknown.low, unknown.high) == (0.0, 1.0)


def test_an_infinite_score_and_too_few_groups_bound_nothing() -> None:
    def infinite(grades: NDArray[np.float64]) -> list[float]:
        return [math.inf]

    (found,) = estimates(infinite, np.zeros(9), [None] * 9, [(-math.inf, math.inf)])
    assert (found.value, found.low, found.high) == (math.inf, -math.inf, math.inf)
    (few,) = estimates(mean, np.ones(40), [index % 3 for index in range(40)], [(0.0, 1.0)])
    assert (few.low, few.high) == (0.0, 1.0)
