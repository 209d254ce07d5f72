"""GPTQ against its definition: after each row, the others are the least squares solution."""

import numpy as np
import pytest

from planish.ir import DType
from planish.passes.quantize.ranges import min_max
from planish.passes.quantize.rounding.layer import damped
from planish.passes.quantize.rounding.second_order import second_order
from planish.passes.quantize.scheme import Doubles, Parameters, Scheme, dequantize, parameters, quantize
from tests.passes.quantize.layers import layer

SCHEMES = {
    "column": Scheme(DType.INT4, symmetric=True, axis=1),
    "blocks": Scheme(DType.UINT4, symmetric=False, axis=0, block=8),
    "odd blocks": Scheme(DType.UINT4, symmetric=False, axis=0, block=5),
    "tensor": Scheme(DType.INT8, symmetric=True),
    "shifts": Scheme(DType.INT4, symmetric=True, axis=1, power_of_two=True),
    "two bits": Scheme(DType.UINT2, symmetric=False, axis=0, block=4),
    "float": Scheme(DType.FLOAT8E4M3FN, symmetric=True, axis=1),
}


def ranged(weight: Doubles, scheme: Scheme) -> Parameters:
    return parameters(scheme, *min_max(weight, scheme))


def by_definition(weight: Doubles, gram: Doubles, chosen: Parameters, order: list[int]) -> Doubles:
    """Rows in order, each rounded to nearest once all rows behind it were solved for anew, from the start."""
    scale, zero_point = chosen.grid(weight.shape)
    rest, error = weight.copy(), np.zeros_like(weight)
    codes = np.zeros_like(weight)
    for place, k in enumerate(order):
        codes[k] = chosen.scheme.nearest(rest[k] / scale[k], zero_point[k])
        error[k] = (codes[k] - zero_point[k]) * scale[k] - weight[k]
        done, left = order[: place + 1], order[place + 1 :]
        rest[left] = weight[left] - np.linalg.solve(gram[np.ix_(left, left)], gram[np.ix_(left, done)] @ error[done])
    return codes


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_row_makes_up_for_those_before_it(name: str, act_order: bool) -> None:
    case = layer(24, 6)
    chosen = ranged(case.weight, SCHEMES[name])
    order = np.argsort(-np.diagonal(case.gram), kind="stable").tolist() if act_order else list(range(24))
    expected = by_definition(case.weight, damped(case.gram, 0.01), chosen, order)
    for lazy in (1, 5, 24, 128):
        codes = second_order(case.weight, case.gram, chosen, act_order=act_order, lazy=lazy)
        assert DType.of(codes) is chosen.scheme.dtype
        assert codes.astype(np.float64).tolist() == expected.tolist()


@pytest.mark.parametrize("name", SCHEMES)
def test_outputs_are_nearer_than_by_rounding_to_nearest(name: str) -> None:
    case = layer(64, 32)
    chosen = ranged(case.weight, SCHEMES[name])
    nearest = case.error(dequantize(quantize(case.weight, chosen), chosen).astype(np.float64))
    found = case.error(dequantize(second_order(case.weight, case.gram, chosen), chosen).astype(np.float64))
    assert found < 0.7 * nearest


@pytest.mark.parametrize(
    "gram", [np.eye(12), np.zeros((12, 12)), np.diag(np.arange(12.0))], ids=["eye", "zero", "ramp"]
)
def test_inputs_that_have_nothing_in_common_round_to_nearest(gram: Doubles) -> None:
    weight = layer(12, 5).weight
    chosen = ranged(weight, SCHEMES["blocks"])
    assert second_order(weight, gram, chosen).tolist() == quantize(weight, chosen).tolist()


def test_inputs_that_were_never_seen_round_to_nearest() -> None:
    case = layer(16, 5)
    inputs = case.inputs.copy()
    inputs[:, [3, 8]] = 0
    chosen = ranged(case.weight, SCHEMES["column"])
    codes = second_order(case.weight, inputs.T @ inputs, chosen)
    assert codes[[3, 8]].tolist() == quantize(case.weight, chosen)[[3, 8]].tolist()


@pytest.mark.parametrize("samples", [1, 3, 16])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_few_samples_of_any_size_will_do(samples: int, size: float, damping: float) -> None:
    case = layer(32, 8, samples=samples)
    chosen = ranged(case.weight, SCHEMES["column"])
    codes = second_order(case.weight, case.gram * size, chosen, damping=damping)
    nearest = case.error(dequantize(quantize(case.weight, chosen), chosen).astype(np.float64))
    assert case.error(dequantize(codes, chosen).astype(np.float64)) < nearest


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1)])
@pytest.mark.parametrize("name", SCHEMES)
def test_empty_and_single_weights(name: str, shape: tuple[int, int]) -> None:
    weight = np.full(shape, 0.7)
    chosen = ranged(weight, SCHEMES[name])
    assert second_order(weight, np.eye(shape[0]), chosen).tolist() == quantize(weight, chosen).tolist()


def test_what_is_no_layer_is_refused() -> None:
    chosen = ranged(np.ones((4, 2)), SCHEMES["column"])
    with pytest.raises(ValueError, match=r"not \(4, 2\) with \(3, 3\)"):
        second_order(np.ones((4, 2)), np.eye(3), chosen)
    with pytest.raises(ValueError, match="a weight to round holds NaN"):
        second_order(np.full((4, 2), np.nan), np.eye(4), chosen)
    with pytest.raises(ValueError, match="a Gram matrix holds NaN"):
        second_order(np.ones((4, 2)), np.full((4, 4), np.inf), chosen)
    with pytest.raises(ValueError, match="negative sum of squares"):
        second_order(np.ones((4, 2)), -np.eye(4), chosen)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        second_order(np.ones((4, 2)), np.eye(4) + 1e12 * (np.eye(4)[::-1] + 0), chosen)
