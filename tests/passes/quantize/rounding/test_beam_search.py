"""Beam search against second_order, which it is where it is one wide, and against all roundings there are."""

import itertools

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.beam_search import beam_search
from planish.passes.quantize.rounding.layer import damped, output_errors
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import layer

SCHEMES = {
    "column": Scheme(DType.INT4, symmetric=True, axis=1),
    "blocks": Scheme(DType.UINT4, symmetric=False, axis=0, block=8),
    "odd blocks": Scheme(DType.UINT4, symmetric=False, axis=0, block=5),
    "tensor": Scheme(DType.INT8, symmetric=True),
    "shifts": Scheme(DType.INT4, symmetric=True, axis=1, power_of_two=True),
    "two bits": Scheme(DType.UINT2, symmetric=False, axis=0, block=4),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_beam_of_one_is_second_order(name: str) -> None:
    case = layer(24, 6)
    chosen = parameters(SCHEMES[name], *min_max(case.weight, SCHEMES[name]))
    expected = second_order(case.weight, case.gram, chosen).tolist()
    for lazy in (1, 5, 24, 64):
        codes = beam_search(case.weight, case.gram, chosen, width=1, lazy=lazy)
        assert DType.of(codes) is chosen.scheme.dtype
        assert codes.tolist() == expected


@pytest.mark.parametrize("clipped", [1.0, 0.6])
def test_a_beam_as_wide_as_the_tree_finds_the_best(clipped: float) -> None:
    """Of two codes a row: those of one bit are all that there are but for clipping."""
    case = layer(6, 4)
    scheme = Scheme(DType.UINT2, symmetric=False, axis=1)
    low, high = min_max(case.weight, scheme)
    chosen = parameters(scheme, low * clipped, high * clipped)
    matrix = damped(case.gram, 0.01)
    codes = beam_search(case.weight, case.gram, chosen, width=4**6)
    found = output_errors(case.weight, dequantize(codes, chosen), matrix)
    every = np.array(list(itertools.product(range(4), repeat=6)), np.uint8)
    best = np.full(4, np.inf)
    for rounding in every:
        columns = np.repeat(rounding[:, None], 4, axis=1).astype(codes.dtype)
        best = np.minimum(best, output_errors(case.weight, dequantize(columns, chosen), matrix))
    first = output_errors(case.weight, dequantize(second_order(case.weight, case.gram, chosen), chosen), matrix)
    assert (found >= best * (1 - 1e-9)).all()
    assert (found <= first * (1 + 1e-9)).all()
    assert found.sum() < 0.5 * best.sum() + 0.5 * first.sum() or np.allclose(best, first)


def test_a_wider_beam_is_nearer() -> None:
    case = layer(96, 24)
    chosen = parameters(SCHEMES["blocks"], *min_max(case.weight, SCHEMES["blocks"]))
    matrix = damped(case.gram, 0.01)
    errors = [
        output_errors(case.weight, dequantize(beam_search(case.weight, case.gram, chosen, width=width), chosen), matrix)
        for width in (1, 4, 32)
    ]
    assert errors[0].sum() > errors[1].sum() > errors[2].sum()
    assert errors[2].sum() < 0.95 * errors[0].sum()


def test_the_block_in_which_sums_are_gathered_changes_nothing() -> None:
    case = layer(40, 8)
    chosen = parameters(SCHEMES["blocks"], *min_max(case.weight, SCHEMES["blocks"]))
    found = [beam_search(case.weight, case.gram, chosen, width=6, lazy=lazy).tolist() for lazy in (7, 40)]
    assert found[0] == found[1]


@pytest.mark.parametrize("gram", [np.eye(12), np.zeros((12, 12)), np.diag(np.arange(12.0))])
def test_inputs_that_have_nothing_in_common_round_to_nearest(gram: Doubles) -> None:
    weight = layer(12, 5).weight
    chosen = parameters(SCHEMES["column"], *min_max(weight, SCHEMES["column"]))
    assert beam_search(weight, gram, chosen).tolist() == quantize(weight, chosen).tolist()


def test_floats_and_empty_weights() -> None:
    scheme = Scheme(DType.FLOAT8E4M3FN, symmetric=True, axis=1)
    case = layer(12, 5)
    with pytest.raises(ValueError, match="integers"):
        beam_search(case.weight, case.gram, parameters(scheme, *min_max(case.weight, scheme)))
    none = np.zeros((12, 0))
    chosen = parameters(SCHEMES["column"], *min_max(none, SCHEMES["column"]))
    assert beam_search(none, case.gram, chosen).shape == (12, 0)
