"""Scales are the least squares solution, or stay."""

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.fitted_scales import fitted_scales
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import layer

COLUMN = Scheme(DType.INT4, symmetric=True, axis=1)
BLOCKS = Scheme(DType.UINT4, symmetric=False, axis=0, block=5)


def ranged(weight: Doubles, scheme: Scheme) -> Parameters:
    return parameters(scheme, *min_max(weight, scheme))


def test_a_column_has_the_scale_that_projects_it() -> None:
    case = layer(16, 5)
    chosen = ranged(case.weight, COLUMN)
    codes = quantize(case.weight, chosen)
    found = fitted_scales(case.weight, case.gram, codes, chosen, damping=0)
    for n in range(5):
        outputs = case.inputs @ codes[:, n].astype(np.float64)
        scale = outputs @ (case.inputs @ case.weight[:, n]) / (outputs @ outputs)
        assert found.scale[n] == pytest.approx(scale, rel=1e-4)


def test_blocks_have_the_scales_of_least_squares() -> None:
    case = layer(12, 3)
    chosen = ranged(case.weight, BLOCKS)
    codes = quantize(case.weight, chosen)
    found = fitted_scales(case.weight, case.gram, codes, chosen, damping=0)
    value = codes.astype(np.float64) - chosen.grid(case.weight.shape)[1]
    for n in range(3):
        parts = [case.inputs[:, rows] @ value[rows, n] for rows in (slice(0, 5), slice(5, 10), slice(10, 12))]
        expected = np.linalg.lstsq(np.stack(parts, 1), case.inputs @ case.weight[:, n])[0]
        np.testing.assert_allclose(found.scale[:, n], expected, rtol=1e-2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scheme", [COLUMN, BLOCKS], ids=["column", "blocks"])
def test_no_column_gets_worse(scheme: Scheme, seed: int) -> None:
    case = layer(24, 10, seed=seed)
    chosen = ranged(case.weight, scheme)
    codes = quantize(case.weight, chosen)
    found = fitted_scales(case.weight, case.gram, codes, chosen, damping=0)
    before, after = (output_errors(case.weight, dequantize(codes, p), case.gram) for p in (chosen, found))
    assert (after <= before * (1 + 1e-9)).all()
    assert after.sum() < 0.95 * before.sum()
    assert (found.scale > 0).all()
    assert found.scale.dtype == np.float32
    assert found.zero_point is chosen.zero_point


def test_what_nothing_is_known_of_stays() -> None:
    weight = layer(10, 4).weight
    weight[5:] = 0
    chosen = ranged(weight, BLOCKS)
    codes = quantize(weight, chosen)
    assert fitted_scales(weight, np.eye(10), codes, chosen).scale[1].tolist() == chosen.scale[1].tolist()
    assert fitted_scales(weight, np.zeros((10, 10)), codes, chosen).scale.shape == chosen.scale.shape


def test_a_scale_that_would_be_negative_stays() -> None:
    weight = layer(10, 4).weight
    chosen = ranged(weight, COLUMN)
    turned = quantize(-weight, chosen)
    assert fitted_scales(weight, np.eye(10), turned, chosen).scale.tolist() == chosen.scale.tolist()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
@pytest.mark.parametrize("scheme", [COLUMN, BLOCKS], ids=["column", "blocks"])
def test_empty_and_single_weights(scheme: Scheme, shape: tuple[int, int]) -> None:
    weight = np.full(shape, 0.7)
    chosen = ranged(weight, scheme)
    found = fitted_scales(weight, np.eye(shape[0]), quantize(weight, chosen), chosen)
    np.testing.assert_allclose(found.scale, chosen.scale, rtol=1e-6)


def test_scales_that_do_not_belong_to_columns_are_refused() -> None:
    weight = layer(10, 4).weight
    for scheme in (
        Scheme(DType.INT4, symmetric=True),
        Scheme(DType.INT4, symmetric=True, axis=0),
        Scheme(DType.INT4, symmetric=True, axis=1, block=2),
        Scheme(DType.INT4, symmetric=True, axis=1, power_of_two=True),
    ):
        chosen = ranged(weight, scheme)
        with pytest.raises(ValueError, match="scales are fitted to columns"):
            fitted_scales(weight, np.eye(10), quantize(weight, chosen), chosen)
