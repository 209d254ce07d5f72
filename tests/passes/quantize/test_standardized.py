"""(W - mean) / deviation in codes, and W back."""

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.scheme import Scheme, dequantize, parameters, quantize
from planish.passes.quantize.standardized import standardized

WEIGHT = np.random.default_rng(0).normal(3, [0.1, 1, 10], (200, 3))
SHARED = ((None, 0), (1, 0), (0, 32))


@pytest.mark.parametrize(("axis", "block"), SHARED)
def test_weights_come_back_to_half_a_step(axis: int | None, block: int) -> None:
    scheme = Scheme(DType.INT8, symmetric=True, axis=axis, block=block)
    found = standardized(WEIGHT, scheme)
    assert found.means.shape == found.parameters.scale.shape == scheme.shape(WEIGHT.shape)
    assert (np.abs(found.real() - WEIGHT) <= 0.501 * scheme.spread(found.parameters.scale, WEIGHT.shape)).all()


def test_a_mean_costs_a_symmetric_scheme_nothing() -> None:
    scheme = Scheme(DType.INT4, symmetric=True, axis=1)
    plain = parameters(scheme, *min_max(WEIGHT, scheme))
    before = np.abs(dequantize(quantize(WEIGHT, plain), plain) - WEIGHT).mean(axis=0)
    after = np.abs(standardized(WEIGHT, scheme).real() - WEIGHT).mean(axis=0)
    assert (after < [0.3, 0.9, 1.1] * before).all()
    shifted, unshifted = (standardized(WEIGHT + shift, scheme).codes.astype(int) for shift in (0, 1024))
    assert np.abs(shifted - unshifted).max() <= 1


def test_one_scale_serves_all_that_are_distributed_alike() -> None:
    scheme = Scheme(DType.INT8, symmetric=True, axis=1)
    found = standardized(WEIGHT, scheme, deviations=4)
    np.testing.assert_allclose(found.parameters.scale, 4 / 127 * WEIGHT.std(axis=0), rtol=1e-5)
    assert (np.abs(found.codes.astype(int)).max(axis=0) > 60).all()


@pytest.mark.parametrize("value", [0.0, -2.5, 1e-44, 3.4e38])
@pytest.mark.parametrize("deviations", [None, 3.0])
def test_one_value_is_its_mean(value: float, deviations: float | None) -> None:
    weight = np.full((4, 3), value, np.float32)
    assert (
        standardized(weight, Scheme(DType.UINT4, symmetric=False), deviations=deviations).real().tolist()
        == weight.tolist()
    )


def test_empty_weights() -> None:
    assert standardized(np.ones((0, 3)), Scheme(DType.INT4, symmetric=True, axis=1)).real().shape == (0, 3)


def test_what_cannot_be_standardized_is_refused() -> None:
    scheme = Scheme(DType.INT4, symmetric=True)
    with pytest.raises(ValueError, match="NaN or infinities"):
        standardized(np.array([np.nan, 1]), scheme)
    with pytest.raises(ValueError, match="above 0, not 0"):
        standardized(WEIGHT, scheme, deviations=0)
