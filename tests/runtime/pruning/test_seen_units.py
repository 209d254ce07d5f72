"""What observers gather of the elements of units."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import Value
from planish.ir.types import Array
from planish.passes.prune.dependency import Member
from planish.runtime.pruning.seen_units import UnitObserver

RNG = np.random.default_rng(0)


def observer(*arrays: Array, axis: int = 1, units: tuple[int, ...] = (0, 1, 2)) -> UnitObserver:
    found = UnitObserver(Member(Value("x"), axis, np.array(units)), max(units) + 1)
    for array in arrays:
        found.observe(array)
    return found


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_units_of_several_indices(dtype: type[np.floating]) -> None:
    """Index 2 belongs to none."""
    arrays = [RNG.standard_normal((2, 5, 3)).astype(dtype) for _ in range(3)]
    found = observer(*arrays, units=(0, 1, -1, 0, 1))
    every = np.concatenate(arrays).astype(np.float64)
    for unit, places in enumerate(((0, 3), (1, 4))):
        rows = every[:, places]
        assert found.variance[unit] == pytest.approx(rows.var())
        assert found.mean_magnitude[unit] == pytest.approx(np.abs(rows).mean())
        assert found.part_of_nonzeros[unit] == 1
    assert np.stack(found.means).shape == (3, 2)


def test_zeros_of_both_signs_and_subnormals() -> None:
    array = np.array([[0.0, -0.0, 5e-324], [1.0, 0.0, 0.0]])
    assert observer(array).part_of_nonzeros.tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out(bad: float) -> None:
    array = RNG.standard_normal((20, 3))
    broken = array.copy()
    broken[3, 0] = broken[:, 2] = bad
    found = observer(broken)
    assert found.variance[0] == pytest.approx(np.delete(array[:, 0], 3).var())
    assert np.isinf([found.variance[2], found.mean_magnitude[2], found.part_of_nonzeros[2]]).all()
    assert np.isnan(found.means[0][2])


def test_nothing_and_other_shapes() -> None:
    found = observer(np.zeros((0, 3)), np.zeros((2, 4)), np.zeros(3))
    assert np.isinf(found.variance).all()
    assert not found.count.any()


def test_huge_numbers_overflow_without_a_warning() -> None:
    found = observer(np.full((2, 3), 1e200))
    assert not np.isnan(found.variance).any()
