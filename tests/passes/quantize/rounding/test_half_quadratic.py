"""Zero points of HQQ lessen the sum of small powers of errors, which outliers hardly count in."""

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.half_quadratic import half_quadratic, half_quadratic_zeros
from planish.passes.quantize.scheme import Doubles, Floats, Scheme, dequantize, parameters, quantize
from tests.hostile import hostile
from tests.passes.quantize.layers import layer

BLOCKS = Scheme(DType.UINT4, symmetric=False, axis=0, block=32)
SCHEMES = (BLOCKS, Scheme(DType.UINT2, symmetric=False, axis=1), Scheme(DType.INT4, symmetric=False))


def distance(error: Doubles, power: float = 0.7) -> float:
    return float(np.sum(np.abs(error) ** power))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_zero_points_as_codes_are_no_worse(scheme: Scheme) -> None:
    weight: Floats = hostile(DType.FLOAT, (64, 9), "ordinary").astype(np.float32)
    before = parameters(scheme, *min_max(weight, scheme))
    after = half_quadratic(weight, before)
    errors = [
        scheme.reduce(np.add, np.abs(weight - dequantize(quantize(weight, p), p)) ** 0.7) for p in (before, after)
    ]
    assert (errors[1] <= errors[0] * (1 + 1e-6)).all()
    assert after.scale is before.scale
    assert DType.of(after.zero_point) is scheme.dtype


def test_real_zero_points_are_better() -> None:
    weight = layer(128, 32).weight + 0.01
    before = parameters(BLOCKS, *min_max(weight, BLOCKS))
    scale, zero_point = before.grid(weight.shape)
    zeros = BLOCKS.spread(half_quadratic_zeros(weight, before), weight.shape)

    def error(zero: Doubles) -> Doubles:
        return (np.clip(np.rint(weight / scale + zero), 0, 15) - zero) * scale - weight

    assert distance(error(zeros)) < 0.99 * distance(error(zero_point))


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_the_size_of_a_weight_changes_nothing(size: float) -> None:
    weight = layer(64, 8).weight
    plain, sized = (parameters(BLOCKS, *min_max(w, BLOCKS)) for w in (weight, weight * size))
    expected = half_quadratic_zeros(weight, plain)
    np.testing.assert_allclose(half_quadratic_zeros(weight * size, sized), expected, atol=0.05)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_empty_and_single_weights(shape: tuple[int, int]) -> None:
    weight = np.full(shape, 0.7)
    chosen = parameters(BLOCKS, *min_max(weight, BLOCKS))
    assert half_quadratic(weight, chosen).zero_point.shape == chosen.zero_point.shape


def test_what_has_no_zero_point_to_learn_is_refused() -> None:
    symmetric = Scheme(DType.UINT4, symmetric=True)
    with pytest.raises(ValueError, match="no zero points to learn"):
        half_quadratic(np.ones((2, 2)), parameters(symmetric, 0.0, 1.0))
    with pytest.raises(ValueError, match="NaN or infinities"):
        half_quadratic(np.full((2, 2), np.nan), parameters(Scheme(DType.UINT4, symmetric=False), 0.0, 1.0))
