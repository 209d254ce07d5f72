"""Counts of what codes cost, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from planish.ir import DType
from planish.runtime import error_tally
from planish.runtime.error_tally import CodeTally, Tally, decibels, weight_error, weight_snr


def test_codes_by_hand() -> None:
    """Scale 0.5, zero point 10: codes reach from -5 to 122.5."""
    tally = CodeTally(DType.UINT8)
    real = np.array([-5.3, -5.0, 0.0, -0.0, 0.2, 0.24, 122.7, 123.0, 1.0], np.float32)
    codes = np.array([0, 0, 10, 10, 10, 11, 255, 255, 12], np.uint8)
    tally.see(real, codes, 0.5, 10)
    found = tally.error("t")
    assert (found.name, found.codes, found.elements, found.used, found.infinite) == ("t", "uint8", 9, 5, 0)
    assert (found.lowest, found.highest) == (2 / 9, 2 / 9)
    assert found.beyond == 2 / 9
    assert found.vanished == 1 / 7
    gone = np.array([0.3, 0, 0, 0, 0.2, 0.26, 0.2, 0.5, 0])
    assert found.snr == pytest.approx(10 * np.log10((real.astype(float) ** 2).sum() / (gone**2).sum()), abs=1e-4)
    alone = np.array([0.3, 0, 0, 0, 0.2, 0.24, 0.2, 0.5, 0])
    assert found.alone == pytest.approx(10 * np.log10((real.astype(float) ** 2).sum() / (alone**2).sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "used"),
    [(DType.INT8, -128, 127, 4), (DType.UINT16, 0, 65535, 3), (DType.INT16, -32768, 32767, 4)],
)
def test_ends_of_other_types(dtype: DType, low: int, high: int, used: int) -> None:
    tally = CodeTally(dtype)
    tally.see(np.array([-1e9, 1e9, 0, 1]), np.array([low, high, 0, 1], dtype.numpy), 1.0, 0)
    found = tally.error("t")
    assert (found.highest, found.used, found.beyond) == (0.25, used, 0.5)
    assert found.lowest == (0.25 if low else 0.5)


def test_what_is_not_finite_counts_apart() -> None:
    tally = CodeTally(DType.UINT8)
    tally.see(np.array([np.nan, np.inf, -np.inf, 2.0]), np.array([0, 255, 0, 2], np.uint8), 1.0, 0)
    found = tally.error("t")
    assert (found.infinite, found.snr, found.alone, found.beyond, found.vanished) == (3, None, None, 0.0, 0.0)
    real = Tally()
    real.add(np.array([1.0, np.nan]), np.array([np.inf, 1.0]))
    assert (real.error("t").infinite, real.error("t").snr) == (2, None)


def test_nothing_at_all() -> None:
    found = CodeTally(DType.UINT8).error("t")
    assert (found.elements, found.lowest, found.beyond, found.vanished, found.snr) == (0, None, None, None, None)
    tally = CodeTally(DType.INT8)
    tally.see(np.zeros((0, 3)), np.zeros((0, 3), np.int8), 1.0, 0)
    assert tally.error("t").as_dict()["used"] == 0


def test_stretches_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(0, 40, (7, 33)).astype(np.float32)
    codes = np.clip(np.rint(real / 0.5) + 100, 0, 255).astype(np.uint8)
    whole, parts = CodeTally(DType.UINT8), CodeTally(DType.UINT8)
    whole.see(real, codes, 0.5, 100)
    monkeypatch.setattr(error_tally, "_PART", 10)
    for row, of_row in zip(real, codes, strict=True):
        parts.see(row, of_row, 0.5, 100)
    a, b = whole.error("t"), parts.error("t")
    assert (a.lowest, a.highest, a.beyond, a.vanished, a.used) == (b.lowest, b.highest, b.beyond, b.vanished, b.used)
    assert a.snr == pytest.approx(b.snr)
    assert a.alone == pytest.approx(a.snr)


@pytest.mark.parametrize(("signal", "noise"), [(0, 1), (1, 0), (np.inf, 1), (1, np.inf), (np.nan, 1), (1, np.nan)])
def test_no_decibels(signal: float, noise: float) -> None:
    assert decibels(signal, noise) is None


def test_decibels_of_what_no_quotient_holds() -> None:
    assert decibels(1e300, 1e-300) == pytest.approx(6000)


def test_weights() -> None:
    codes = np.array([[-128, -127, 0], [0, 1, 127]], np.int8)
    found = weight_error("w", DType.INT8, codes, 2, 12.0)
    assert (found.used, found.levels, found.elements, found.channels, sum(found.histogram)) == (5, 256, 6, 2, 6)
    assert (found.histogram[0], found.histogram[8], found.histogram[-1]) == (2, 3, 1)
    four = weight_error("w", DType.UINT4, np.array([0, 15, 15], np.uint8), 1, None)
    assert (four.histogram[0], four.histogram[15], four.levels, len(four.histogram)) == (1, 2, 16, 16)


def test_a_matrix_that_is_stored_the_other_way_round() -> None:
    w = np.random.default_rng(0).standard_normal((4, 4))
    assert weight_snr(w, w) is None
    assert weight_snr(w, w.T * 1.1) == pytest.approx(20)
    assert weight_snr(w, np.ones((3, 4))) is None
    assert weight_snr(np.ones((2, 3, 4)), np.full((2, 3, 4), 1.1)) == pytest.approx(20)
