"""Ranges of weights: of each group the ends, the percentiles, and the factor of the least error."""

from collections.abc import Callable

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import Range, least_output_error, least_squares, min_max, percentile
from planish.passes.quantize.scheme import Doubles, Floats, Scheme, dequantize, parameters, quantize
from tests.hostile import Kind, hostile
from tests.passes.quantize.layers import layer

SHARED = ((None, 0), (0, 0), (1, 0), (0, 2), (1, 3), (-1, 9))
KINDS: tuple[Kind, ...] = ("ordinary", "extreme")
INT4 = Scheme(DType.INT4, symmetric=True)
UINT4 = Scheme(DType.UINT4, symmetric=False)


def sharing(dtype: DType, shared: tuple[int | None, int], *, symmetric: bool = False) -> Scheme:
    return Scheme(dtype, symmetric, *shared)


def weight(shape: tuple[int, ...] = (5, 7), kind: Kind = "ordinary") -> Floats:
    return hostile(DType.FLOAT, shape, kind).astype(np.float32)


def rounded(values: Floats | Doubles, scheme: Scheme, ends: Range) -> Doubles:
    chosen = parameters(scheme, *ends)
    return dequantize(quantize(values, chosen), chosen).astype(np.float64)


def groups(scheme: Scheme, values: Floats | Doubles) -> dict[tuple[int, ...], Doubles]:
    """By place in the parameters: the elements that share them."""
    shape = scheme.shape(values.shape)
    numbers = np.broadcast_to(scheme.spread(np.arange(int(np.prod(shape))).reshape(shape), values.shape), values.shape)
    places = list(np.ndindex(*shape))
    return {place: values[numbers == number].astype(np.float64) for number, place in enumerate(places)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", SHARED)
def test_ends_and_percentiles_are_those_of_each_group(shared: tuple[int | None, int], kind: Kind) -> None:
    scheme, values = sharing(DType.INT8, shared), weight(kind=kind)
    ends, inner = min_max(values, scheme), percentile(values, scheme, 80)
    for place, group in groups(scheme, values).items():
        assert (ends.low[place], ends.high[place]) == (min(group.min(), 0), max(group.max(), 0))
        low, high = np.percentile(group, (10, 90))
        assert (inner.low[place], inner.high[place]) == (min(low, 0), max(high, 0))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shared", SHARED)
def test_every_group_has_the_factor_of_its_own_least_error(shared: tuple[int | None, int], symmetric: bool) -> None:
    scheme, values = sharing(DType.UINT4, shared, symmetric=symmetric), weight((6, 40))
    found = least_squares(values, scheme)
    alone = Scheme(DType.UINT4, symmetric)
    for place, group in groups(scheme, values).items():
        low, high = min(group.min(), 0), max(group.max(), 0)
        factors = np.linspace(1, 0.3, 36)
        losses = [np.sum((group - rounded(group, alone, Range(low * f, high * f))) ** 2) for f in factors]
        best = factors[int(np.argmin(losses))]
        assert (found.low[place], found.high[place]) == pytest.approx((low * best, high * best))


def test_one_outlier_is_given_up_for_many_others() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 5000), 12.0)
    whole, found = min_max(values, INT4), least_squares(values, INT4)
    assert found.high < 5
    assert np.sum((values - rounded(values, INT4, found)) ** 2) < 0.3 * np.sum(
        (values - rounded(values, INT4, whole)) ** 2
    )
    kept = least_squares(values, INT4, importance=np.append(np.zeros(5000), 1.0))
    assert kept.high == 12


@pytest.mark.parametrize("shared", [(None, 0), (1, 0), (0, 8), (0, 5)])
def test_output_errors_get_no_larger(shared: tuple[int | None, int]) -> None:
    case = layer(24, 10)
    scheme = sharing(DType.INT4, shared, symmetric=True)
    found = least_output_error(case.weight, scheme, case.gram)
    before = (case.inputs @ (case.weight - rounded(case.weight, scheme, min_max(case.weight, scheme)))) ** 2
    after = (case.inputs @ (case.weight - rounded(case.weight, scheme, found))) ** 2
    assert after.sum() < 0.9 * before.sum()
    if scheme.axis is not None:
        assert (after.sum(axis=0) <= before.sum(axis=0) * (1 + 1e-9)).all()


def test_a_column_has_the_factor_of_its_least_output_error() -> None:
    case = layer(16, 4)
    scheme = Scheme(DType.INT4, symmetric=True, axis=1)
    found = least_output_error(case.weight, scheme, case.gram)
    whole = min_max(case.weight, scheme)
    for n in range(4):
        column = case.weight[:, n]
        losses = [
            np.sum((case.inputs @ (column - rounded(column, INT4, Range(whole.low[n] * f, whole.high[n] * f)))) ** 2)
            for f in np.linspace(1, 0.3, 36)
        ]
        assert found.high[n] == pytest.approx(whole.high[n] * np.linspace(1, 0.3, 36)[int(np.argmin(losses))])


METHODS: dict[str, Callable[[Floats, Scheme], Range]] = {
    "min_max": min_max,
    "percentile": percentile,
    "least_squares": least_squares,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (1, 1), (3, 4)])
@pytest.mark.parametrize("shared", SHARED)
def test_zeros_and_empty_weights_have_the_range_of_zero(
    method: str, shape: tuple[int, int], shared: tuple[int | None, int]
) -> None:
    scheme = sharing(DType.UINT4, shared)
    low, high = METHODS[method](np.zeros(shape, np.float32), scheme)
    assert low.shape == high.shape == scheme.shape(shape)
    assert not low.any()
    assert not high.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [3.0, -3.0, 1e-44, 3.4e38])
def test_a_constant_stays_what_it_is(method: str, value: float) -> None:
    values = np.full((4, 6), value, np.float32)
    np.testing.assert_allclose(rounded(values, UINT4, METHODS[method](values, UINT4)), values, rtol=1e-6, atol=1e-38)


def test_what_cannot_be_ranged_is_refused() -> None:
    for method in METHODS.values():
        with pytest.raises(ValueError, match="NaN or infinities"):
            method(np.array([1, np.nan], np.float32), INT4)
    with pytest.raises(ValueError, match="above 0 and at most 100, not 101"):
        percentile(weight(), INT4, 101)
    with pytest.raises(ValueError, match=r"Gram matrix \[K, K\]"):
        least_output_error(weight(), INT4, np.eye(3))
    with pytest.raises(ValueError, match="belong to columns"):
        least_output_error(weight(), Scheme(DType.INT4, symmetric=True, axis=0), np.eye(5))
