"""Times of convolutions on codes: measured once, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from planish.runtime import conv_times
from planish.runtime.conv_times import ConvShape, ConvTimes
from planish.runtime.providers import Target

SHAPE = ConvShape(8, 8, (3, 3), (1, 1), (5, 6))
TARGET = Target(threads=1)


def test_a_shape_is_measured_once_and_kept(tmp_path: Path) -> None:
    first = ConvTimes(TARGET, tmp_path)
    answer = first.prefers_shift(SHAPE)
    plain, shifted = first.kept.seconds[SHAPE.key]
    assert plain > 0
    assert shifted > 0
    assert answer is (shifted < 0.95 * plain)
    assert ConvTimes(TARGET, tmp_path).known(SHAPE) == (plain, shifted)


def test_what_is_kept_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = ConvTimes(TARGET, tmp_path)
    times.kept.seconds.update({SHAPE.key: (1.0, 0.5), ConvShape(1, 1, (1, 1), (1, 1), (2, 2)).key: (1.0, 0.96)})

    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(conv_times, "_model", fails)
    assert times.prefers_shift(SHAPE)
    assert not times.prefers_shift(ConvShape(1, 1, (1, 1), (1, 1), (2, 2)))


def test_without_a_folder_nothing_is_kept() -> None:
    times = ConvTimes(TARGET, None)
    times.prefers_shift(SHAPE)
    assert times.known(SHAPE) is not None
    assert times.kept.path is None
