"""How two results differ, in numbers that hold for every type."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from planish.runtime.difference import difference, is_float, leaves
from planish.runtime.floats import eps, greatest, one_unit_up, smallest


def test_equal_tensors() -> None:
    x = np.array([1.5, -2, np.nan, np.inf, 0], np.float32)
    found = difference(x, x.copy())
    assert found.identical
    assert (found.count, found.max_abs, found.relative_l2, found.cosine) == (0, 0, 0, 1)
    assert found.snr_db == math.inf
    assert found.scale == 2


def test_figures_of_floats() -> None:
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    found = difference(a, b)
    assert (found.elements, found.count, found.max_abs, found.scale) == (2, 1, 0.5, 4)
    assert found.relative_l2 == pytest.approx(0.1)
    assert found.snr_db == pytest.approx(20)
    assert found.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


def test_bits_matter_payloads_do_not() -> None:
    assert difference(np.array([0.0]), np.array([-0.0])).count == 1
    quiet, loud = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    assert difference(np.array([quiet]), np.array([loud])).identical


def test_what_is_not_finite_is_counted_apart() -> None:
    a = np.array([1, np.nan, np.inf, -np.inf, 2], np.float32)
    b = np.array([1, 0, -np.inf, -np.inf, np.nan], np.float32)
    found = difference(a, b)
    assert (found.nonfinite, found.count, found.max_abs) == (3, 3, 0)


def test_large_and_tiny_numbers_neither_overflow_nor_vanish() -> None:
    assert difference(np.array([1e300, 1e300]), np.array([1e300, -1e300])).relative_l2 == pytest.approx(math.sqrt(2))
    assert difference(np.array([1e-300]), np.array([1.5e-300])).relative_l2 == pytest.approx(0.5)
    assert difference(np.array([0.0]), np.array([1.0])).relative_l2 == math.inf


def test_types_shapes_and_kinds() -> None:
    x = np.zeros((2, 3), np.float32)
    assert difference(x, x.astype(np.float64)).mismatch == "float32 against float64"
    assert difference(x, x.T.copy()).mismatch == "shape [2, 3] against [3, 2]"
    assert difference(x, None).mismatch == "a tensor of float32 against nothing"
    assert difference(None, None).identical
    assert not difference("a", "b").identical
    assert not difference(1, True).identical
    assert difference(1.0, 1.5).max_abs == 0.5


def test_integers_strings_bools_and_complex_numbers() -> None:
    found = difference(np.array([1, 2, 250], np.uint8), np.array([1, 3, 0], np.uint8))
    assert (found.count, found.max_abs) == (2, 250)
    assert difference(np.array(["a", "b"], object), np.array(["a", "c"], object)).count == 1
    assert difference(np.array([True]), np.array([False])).count == 1
    assert difference(np.array([1 + 2j], np.complex64), np.array([1 + 3j], np.complex64)).max_abs == 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_narrow_floats(dtype: type[np.generic]) -> None:
    a = np.array([1, 2], dtype)
    moved = one_unit_up(a)
    assert is_float(a)
    found = difference(a, moved)
    assert found.count == 2
    assert 0 < found.max_abs <= 1


def test_moving_by_one_unit() -> None:
    x = np.array([1, -1, 0, -0.0, np.inf, np.nan, np.finfo(np.float32).max], np.float32)
    moved = one_unit_up(x)
    assert moved[0] == np.nextafter(np.float32(1), np.float32(2))
    assert moved[1] == -moved[0]
    assert 0 < moved[2] == -moved[3]
    np.testing.assert_array_equal(moved[4:], x[4:])
    whole = np.array([1, 2])
    assert one_unit_up(whole) is whole


def test_parts_have_names() -> None:
    x = np.zeros(1)
    assert [name for name, _ in leaves([x, [x, x]], "y")] == [
        "y.length",
        "y[0]",
        "y[1].length",
        "y[1][0]",
        "y[1][1]",
    ]
    assert [name for name, _ in leaves([{"cat": 0.5}, {}], "y")] == [
        "y.length",
        "y[0].keys",
        "y[0]['cat']",
        "y[1].keys",
    ]
    assert list(leaves(x, "y")) == [("y", x)]


def test_facts_about_float_types() -> None:
    single, half = np.dtype(np.float32), np.dtype(np.float16)
    assert (eps(single), smallest(single), greatest(single)) == (2.0**-23, 2.0**-149, float(np.finfo(np.float32).max))
    assert (eps(half), smallest(half), greatest(half)) == (2.0**-10, 2.0**-24, 65504)
    assert greatest(np.dtype(ml_dtypes.float8_e4m3fn)) == 448
    assert greatest(np.dtype(ml_dtypes.float8_e5m2)) == 57344
    assert greatest(np.dtype(ml_dtypes.float4_e2m1fn)) == 6
