"""Filters by themselves against layers of one column, and against all roundings there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.coordinate_descent import coordinate_descent
from planish.passes.quantize.rounding.filters import filter_codes, filter_errors, least_filter_error
from planish.passes.quantize.rounding.layer import output_errors
from planish.passes.quantize.rounding.least_output_error import least_output_error
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize

UINT4 = Scheme(DType.UINT4, symmetric=False, axis=1)
INT4 = Scheme(DType.INT4, symmetric=True, axis=1)
INT8 = Scheme(DType.INT8, symmetric=True, axis=1, narrow=True)


def filters(rows: int = 9, count: int = 24, seed: int = 0) -> tuple[Doubles, Doubles]:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((count, 60, rows)) @ rng.standard_normal((count, rows, rows)) + 1
    return rng.standard_t(4, (rows, count)), np.einsum("cnk,cnj->ckj", inputs, inputs)


@pytest.mark.parametrize("scheme", [UINT4, INT4, INT8], ids=["uint4", "int4", "int8"])
def test_codes_are_those_of_a_layer_of_one_column(scheme: Scheme) -> None:
    weight, grams = filters()
    chosen = parameters(scheme, *min_max(weight, scheme))
    codes = filter_codes(weight, grams, chosen, damping=0.01)
    assert DType.of(codes) is scheme.dtype
    found = filter_errors(weight, dequantize(codes, chosen), grams)
    for c in range(weight.shape[1]):
        one = weight[:, c : c + 1]
        own = chosen._replace(scale=chosen.scale[c : c + 1], zero_point=chosen.zero_point[c : c + 1])
        start = second_order(one, grams[c], own, act_order=False, damping=0.01)
        expected = coordinate_descent(one, grams[c], start, own, damping=0.01)
        error = output_errors(one, dequantize(expected, own), grams[c])[0]
        assert found[c] <= 1.3 * error


def test_scales_are_chosen_better_than_of_a_matrix() -> None:
    weight, grams = filters(count=40)
    found = least_filter_error(weight, grams, UINT4)
    ours = filter_errors(weight, dequantize(*found), grams).sum()
    theirs = sum(
        output_errors(weight[:, c : c + 1], dequantize(*least_output_error(weight[:, c : c + 1], gram, UINT4)), gram)[0]
        for c, gram in enumerate(grams)
    )
    assert ours < theirs


def test_codes_of_few_weights_are_nearly_the_best_there_are() -> None:
    weight, grams = filters(rows=4, count=6)
    scheme = Scheme(DType.UINT2, symmetric=False, axis=1)
    chosen = parameters(scheme, *min_max(weight, scheme))
    found = filter_errors(weight, dequantize(filter_codes(weight, grams, chosen), chosen), grams)
    best = np.full(6, np.inf)
    for rounding in itertools.product(range(4), repeat=4):
        codes = np.repeat(np.array(rounding, np.uint8)[:, None], 6, axis=1).astype(scheme.dtype.numpy)
        best = np.minimum(best, filter_errors(weight, dequantize(codes, chosen), grams))
    assert (found >= best * (1 - 1e-9)).all()
    assert found.sum() < 1.5 * best.sum()


@pytest.mark.parametrize("kind", ["zero", "one input", "tiny", "huge", "equal"])
def test_never_worse_than_nearest_whatever_the_inputs(kind: str) -> None:
    weight, grams = filters()
    if kind == "zero":
        grams = np.zeros_like(grams)
    elif kind == "one input":
        grams = grams * (np.arange(9) == 3)[:, None] * (np.arange(9) == 3)
    elif kind == "equal":
        weight = np.zeros_like(weight)
    else:
        weight, grams = (weight * 1e-30, grams) if kind == "tiny" else (weight * 1e30, grams * 1e30)
    nearest = parameters(UINT4, *min_max(weight, UINT4))
    found = least_filter_error(weight, grams, UINT4)
    before = filter_errors(weight, dequantize(quantize(weight, nearest), nearest), grams)
    after = filter_errors(weight, dequantize(*found), grams)
    assert (after <= before).all()
    assert np.isfinite(found.parameters.scale).all()


def test_no_filters_and_what_does_not_fit() -> None:
    weight, grams = filters()
    empty = least_filter_error(weight[:, :0], grams[:0], UINT4)
    assert empty.codes.shape == (9, 0)
    with pytest.raises(ValueError, match="go with"):
        least_filter_error(weight, grams[:-1], UINT4)
    with pytest.raises(ValueError, match="one scale each"):
        least_filter_error(weight, grams, Scheme(DType.UINT4, symmetric=False, axis=0, block=4))
    weight[2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        filter_codes(weight, grams, parameters(UINT4, np.zeros(24), np.ones(24)))
