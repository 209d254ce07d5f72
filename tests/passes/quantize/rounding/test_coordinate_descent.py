"""Descent never climbs, ends where no single code can do better, and is near the best of all roundings."""

import itertools

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.coordinate_descent import coordinate_descent
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import layer
from tests.passes.quantize.rounding.test_second_order import SCHEMES


def ranged(weight: Doubles, scheme: Scheme) -> Parameters:
    return parameters(scheme, *min_max(weight, scheme))


@pytest.mark.parametrize("lazy", [1, 7, 64])
@pytest.mark.parametrize("start", ["nearest", "second order"])
@pytest.mark.parametrize("name", SCHEMES)
def test_no_column_gets_worse(name: str, start: str, lazy: int) -> None:
    case = layer(24, 10)
    chosen = ranged(case.weight, SCHEMES[name])
    codes = quantize(case.weight, chosen) if start == "nearest" else second_order(case.weight, case.gram, chosen)
    before = output_errors(case.weight, dequantize(codes, chosen), case.gram)
    found = coordinate_descent(case.weight, case.gram, codes, chosen, damping=0, lazy=lazy)
    after = output_errors(case.weight, dequantize(found, chosen), case.gram)
    assert (after <= before * (1 + 1e-9)).all()
    assert start != "nearest" or after.sum() < 0.8 * before.sum()
    assert DType.of(found) is chosen.scheme.dtype


def test_it_ends_where_no_single_code_can_do_better() -> None:
    case = layer(12, 4)
    chosen = ranged(case.weight, Scheme(DType.UINT2, symmetric=False, axis=0, block=4))
    found = coordinate_descent(case.weight, case.gram, quantize(case.weight, chosen), chosen, damping=0, sweeps=100)
    least = output_errors(case.weight, dequantize(found, chosen), case.gram)
    for row, code in itertools.product(range(12), range(4)):
        other = found.copy()
        other[row] = np.full(4, code).astype(found.dtype)
        assert (output_errors(case.weight, dequantize(other, chosen), case.gram) >= least * (1 - 1e-9)).all()


def test_from_second_order_it_is_near_the_best_of_all_roundings() -> None:
    """All 4^6 roundings of a column are tried. Sums of squared errors over 20 layers."""
    scheme = Scheme(DType.UINT2, symmetric=False, axis=1)
    codes = np.array(list(itertools.product(range(4), repeat=6)), np.uint8).T.astype(DType.UINT2.numpy)
    errors = np.zeros(3)
    for seed in range(20):
        case = layer(6, 1, seed=seed)
        chosen = ranged(case.weight, scheme)
        every = parameters(scheme, *(np.repeat(end, codes.shape[1]) for end in min_max(case.weight, scheme)))
        best = output_errors(np.repeat(case.weight, codes.shape[1], 1), dequantize(codes, every), case.gram).min()
        start = second_order(case.weight, case.gram, chosen)
        found = coordinate_descent(case.weight, case.gram, start, chosen, damping=0)
        nearest = case.error(dequantize(quantize(case.weight, chosen), chosen).astype(np.float64))
        errors += best, case.error(dequantize(found, chosen).astype(np.float64)), nearest
    assert errors[0] <= errors[1] * (1 + 1e-9)
    assert errors[1] - errors[0] < 0.25 * (errors[2] - errors[0])


def test_again_it_changes_nothing() -> None:
    case = layer(24, 10)
    chosen = ranged(case.weight, SCHEMES["blocks"])
    once = coordinate_descent(case.weight, case.gram, quantize(case.weight, chosen), chosen, sweeps=200)
    assert coordinate_descent(case.weight, case.gram, once, chosen).tolist() == once.tolist()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
def test_empty_and_single_weights(shape: tuple[int, int]) -> None:
    weight = np.full(shape, 0.7)
    chosen = ranged(weight, SCHEMES["blocks"])
    codes = quantize(weight, chosen)
    assert coordinate_descent(weight, np.zeros((shape[0],) * 2), codes, chosen).tolist() == codes.tolist()
