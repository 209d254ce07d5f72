"""Few rows are believed less: what is rounded by them is no worse on rows that were not seen."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.fitting import fitted
from planish.passes.quantize.gram import Gram
from planish.passes.quantize.rounding.shrinkage import shrunk
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import layer

SCHEME = Scheme(DType.INT4, symmetric=True, axis=1, narrow=True)


def gram_of(inputs: Doubles) -> Gram:
    return Gram((inputs.T @ inputs)[None], inputs.mean(axis=0)[None], len(inputs))


def coded(weight: Doubles) -> Parameters:
    high = np.abs(weight).max(axis=0)
    return parameters(SCHEME, -high, high)


def errors(weight: Doubles, seen: Doubles, unseen: Doubles, *, has_bias: bool) -> tuple[float, float]:
    """On unseen rows, of rounding by the Gram matrix of others, and of rounding to nearest."""
    found = coded(weight)
    made = fitted(weight, found, gram_of(seen), has_bias=has_bias)
    assert made is not None
    nearest = quantize(weight.astype(np.float32), found)
    left = [weight - dequantize(codes, found).astype(np.float64) for codes in (made.codes, nearest)]
    shifts = [made.shift if has_bias else 0.0, seen.mean(axis=0) @ left[1] if has_bias else 0.0]
    a, b = (float(np.sum((unseen @ part - shift) ** 2)) for part, shift in zip(left, shifts, strict=True))
    return a, b


@pytest.mark.parametrize("rows", [4, 16, 40, 64])
def test_chance_is_not_rounded_for(rows: int) -> None:
    """Inputs that have nothing in common: nothing beats rounding to nearest on rows that were not seen."""
    random = np.random.default_rng(rows)
    weight = random.standard_normal((64, 48))
    seen, unseen = random.standard_normal((rows, 64)), random.standard_normal((1000, 64))
    found, nearest = errors(weight, seen, unseen, has_bias=False)
    assert found < 1.25 * nearest  # by these rows alone, it is 1.5 to 3.6


@pytest.mark.parametrize("has_bias", [False, True])
def test_what_many_rows_say_is_believed(has_bias: bool) -> None:
    made = layer(32, 24, samples=2000)
    seen, unseen = made.inputs[:1000], made.inputs[1000:]
    found, nearest = errors(made.weight, seen, unseen, has_bias=has_bias)
    assert found < 0.6 * nearest


def test_the_means_and_the_diagonal_stay() -> None:
    inputs = layer(16, 1, samples=5).inputs
    gram, means = inputs.T @ inputs, inputs.mean(axis=0)
    found = shrunk(gram, means, len(inputs))
    np.testing.assert_allclose(np.diagonal(found), np.diagonal(gram), rtol=1e-12)
    assert np.linalg.eigvalsh(found).min() >= -1e-9 * np.abs(found).max()
    left, before = found - 5 * np.outer(means, means), gram - 5 * np.outer(means, means)
    off = ~np.eye(16, dtype=bool)
    np.testing.assert_allclose(left[off] / before[off], 5 / 21, rtol=1e-6)


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (3, 0)])
def test_next_to_nothing(size: int, count: int) -> None:
    gram = np.eye(size) * count
    assert np.array_equal(shrunk(gram, np.zeros(size), count), gram)


def test_a_constant_input_does_not_spoil_it() -> None:
    inputs = np.ones((10, 4))
    found = shrunk(inputs.T @ inputs, np.ones(4), 10)
    np.testing.assert_allclose(found, 10.0)
