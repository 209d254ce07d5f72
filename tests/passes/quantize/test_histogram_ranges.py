"""Ranges of values that were counted, held against the values themselves."""

from collections.abc import Callable

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.histogram_ranges import entropy, least_squares, min_max, percentile
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize

UINT8 = Scheme(DType.UINT8, symmetric=False)
INT8 = Scheme(DType.INT8, symmetric=True)
UINT4 = Scheme(DType.UINT4, symmetric=False)
INT4 = Scheme(DType.INT4, symmetric=True)
METHODS: dict[str, Callable[[Doubles, Doubles], tuple[float, float]]] = {
    "min_max": min_max,
    "percentile": percentile,
    "least_squares": lambda counts, edges: least_squares(counts, edges, UINT8),
    "entropy": lambda counts, edges: entropy(counts, edges, UINT8),
}
rng = np.random.default_rng(0)
NORMAL = rng.normal(0, 1, 100_000)
VALUES: dict[str, Doubles] = {
    "normal": NORMAL,
    "shifted": NORMAL + 1.5,
    "Relu": np.maximum(NORMAL, 0),
    "negative": -np.abs(NORMAL),
    "outliers": np.append(NORMAL, [60.0, -40.0]),
    "long tails": rng.standard_t(2, 100_000),
    "one side": rng.exponential(1, 100_000),
}


def counted(values: Doubles, bins: int = 2048) -> tuple[Doubles, Doubles]:
    counts, edges = np.histogram(values, bins)
    return counts.astype(np.float64), edges.astype(np.float64)


def error(values: Doubles, scheme: Scheme, ends: tuple[float, float]) -> float:
    chosen = parameters(scheme, *ends)
    return float(np.mean((values - dequantize(quantize(values, chosen), chosen)) ** 2))


@pytest.mark.parametrize("name", VALUES)
def test_min_max_and_percentile_are_those_of_the_values(name: str) -> None:
    values = VALUES[name]
    counts, edges = counted(values)
    bin_width = float(edges[1] - edges[0])
    assert min_max(counts, edges) == (min(values.min(), 0), max(values.max(), 0))
    assert percentile(counts, edges, 100) == min_max(counts, edges)
    both = values.min() < 0 < values.max()
    low, high = np.percentile(values, (0.5, 99.5) if both else (0, 99) if values.min() >= 0 else (1, 100))
    assert percentile(counts, edges, 99) == pytest.approx((min(low, 0), max(high, 0)), abs=bin_width)


@pytest.mark.parametrize("scheme", [UINT8, INT8, UINT4, INT4], ids=lambda scheme: scheme.dtype.name)
@pytest.mark.parametrize("name", VALUES)
def test_no_other_cut_has_a_smaller_squared_error(name: str, scheme: Scheme) -> None:
    values = VALUES[name]
    low, high = min_max(*counted(values))
    found = error(values, scheme, least_squares(*counted(values, 8192), scheme))
    reach = max(-low, high)
    others = [error(values, scheme, (max(low, -reach * t), min(high, reach * t))) for t in np.linspace(1, 0.02, 50)]
    assert found <= min(others) * 1.05


def test_entropy_cuts_outliers_and_keeps_what_is_even() -> None:
    low, high = entropy(*counted(VALUES["outliers"], 16384), INT8)
    assert 3 < high < 12
    assert -12 < low < -3
    even = rng.uniform(-1, 1, 100_000)
    assert entropy(*counted(even), INT8) == pytest.approx((-1, 1), abs=0.05)


def test_zeros_do_not_move_entropy() -> None:
    positive = np.abs(VALUES["long tails"])
    counts, edges = counted(positive)
    many = counts.copy()
    many[0] += 1e9
    assert entropy(many, edges, UINT8) == entropy(counts, edges, UINT8)
    assert entropy(counts, edges, UINT8)[1] < positive.max()


@pytest.mark.parametrize("scheme", [UINT8, INT8, UINT4], ids=lambda scheme: scheme.dtype.name)
def test_both_signs_are_treated_alike(scheme: Scheme) -> None:
    counts, edges = counted(VALUES["one side"])
    counts[0] = 0
    _, high = entropy(counts, edges, scheme)
    low, _ = entropy(counts[::-1].copy(), -edges[::-1].copy(), scheme)
    assert -low == pytest.approx(high, rel=0.05)


def test_a_histogram_with_too_few_bins_is_not_cut_by_entropy() -> None:
    counts, edges = counted(VALUES["outliers"], 64)
    assert entropy(counts, edges, UINT8) == min_max(counts, edges)
    assert entropy(*counted(VALUES["outliers"]), Scheme(DType.INT16, symmetric=True)) == min_max(
        *counted(VALUES["outliers"])
    )


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_histograms_have_ranges(method: str) -> None:
    ranged = METHODS[method]
    assert ranged(np.zeros(4), np.arange(5.0)) == (0, 0)
    assert ranged(np.array([5.0]), np.array([0.0, 1e-40])) == pytest.approx((0, 1e-40))
    assert ranged(np.array([0.0, 7.0, 0.0]), np.array([2.0, 3.0, 4.0, 5.0])) == pytest.approx((0, 4), abs=1.01)
    assert ranged(np.array([0.0, 7.0]), np.array([-3.0, -2.0, 0.0])) == pytest.approx((-2, 0), abs=2)
    low, high = ranged(np.array([1.0, 0, 1]), np.array([-3.4e38, -1.0, 1.0, 3.4e38]))
    assert low <= 0 <= high


@pytest.mark.parametrize("method", METHODS)
def test_broken_histograms_are_refused(method: str) -> None:
    ranged = METHODS[method]
    with pytest.raises(ValueError, match="n counts and n"):
        ranged(np.ones(4), np.arange(4.0))
    with pytest.raises(ValueError, match="0 or more"):
        ranged(np.array([1.0, -1.0]), np.arange(3.0))
    with pytest.raises(ValueError, match="0 or more"):
        ranged(np.array([1.0, np.nan]), np.arange(3.0))
    with pytest.raises(ValueError, match="increase"):
        ranged(np.ones(2), np.array([0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="increase"):
        ranged(np.ones(2), np.array([0.0, 1.0, np.inf]))
