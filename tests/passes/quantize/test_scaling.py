"""Factors leave the product as it was, and make it easier to quantize."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.scaling import activation_aware, equalizing, smoothing
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import Layer, layer

INT8 = Scheme(DType.INT8, symmetric=True)
INT4 = Scheme(DType.INT4, symmetric=True, axis=0, block=16)

magnitudes = st.lists(st.floats(0, 3e38, allow_subnormal=True), min_size=1, max_size=6)


def rounded(weight: Doubles, scheme: Scheme) -> Doubles:
    chosen = parameters(scheme, *min_max(weight, scheme))
    return dequantize(quantize(weight, chosen), chosen).astype(np.float64)


def test_equalized_weights_have_the_same_ranges() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((9, 16)) * 2.0 ** rng.integers(-6, 6, 16)
    second = rng.standard_normal((16, 5))
    factors = equalizing(np.abs(first).max(axis=0), np.abs(second).max(axis=1))
    left, right = first / factors, second * factors[:, None]
    np.testing.assert_allclose(np.abs(left).max(axis=0), np.abs(right).max(axis=1))
    x = np.maximum(rng.standard_normal((50, 9)) @ first, 0)
    np.testing.assert_allclose(x / factors @ right, x @ second)
    before = np.sum((first - rounded(first, INT8)) ** 2 / np.abs(first).max(axis=0) ** 2)
    after = np.sum((left - rounded(left, INT8)) ** 2 / np.abs(left).max(axis=0) ** 2)
    assert after < 0.1 * before


def test_smoothing_shares_outliers_between_both_sides() -> None:
    x, w = np.array([100.0, 1.0, 4.0]), np.array([1.0, 1.0, 0.25])
    factors = smoothing(x, w)
    np.testing.assert_allclose(factors, [10, 1, 4])
    np.testing.assert_allclose(x / factors, w * factors)
    np.testing.assert_allclose(smoothing(x, w, exponent=1), x)
    np.testing.assert_allclose(smoothing(x, w, exponent=0), 1 / w)


@example([2.225073858507e-311], 0.0)
@given(magnitudes, st.floats(0, 1))
def test_factors_are_finite_and_unknown_channels_stay(values: list[float], exponent: float) -> None:
    first, second = np.array(values), np.array(values[::-1])
    for factors in (equalizing(first, second), smoothing(first, second, exponent=exponent)):
        assert np.isfinite(factors).all()
        assert (factors >= 2.0**-60).all()
        assert (factors <= 2.0**60).all()
        assert (factors[(first == 0) | (second == 0)] == 1).all()


def scaled_error(case: Layer, factors: Doubles) -> float:
    return case.error(rounded(case.weight * factors[:, None], INT4) / factors[:, None])


@pytest.mark.parametrize("seed", range(4))
def test_activation_aware_factors_keep_the_output_better(seed: int) -> None:
    case = layer(64, 24, seed=seed)
    factors = activation_aware(case.weight, case.gram, np.abs(case.inputs).mean(axis=0), INT4)
    assert scaled_error(case, factors) < 0.7 * scaled_error(case, np.ones(64))


def test_activation_aware_factors_are_one_where_nothing_helps() -> None:
    weight = layer(64, 24).weight
    assert activation_aware(weight, np.eye(64), np.ones(64), INT4).tolist() == [1] * 64
    assert activation_aware(weight, np.zeros((64, 64)), np.zeros(64), INT4).tolist() == [1] * 64
    assert activation_aware(np.ones((0, 3)), np.ones((0, 0)), np.ones(0), INT4).shape == (0,)


def test_what_is_no_magnitude_is_refused() -> None:
    with pytest.raises(ValueError, match="one for each channel of both sides"):
        equalizing(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="never NaN"):
        smoothing(np.array([1, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="between 0 and 1, not 2"):
        smoothing(np.ones(2), np.ones(2), exponent=2)
    with pytest.raises(ValueError, match="one magnitude for each row"):
        activation_aware(np.ones((4, 2)), np.eye(4), np.ones(3), INT4)
