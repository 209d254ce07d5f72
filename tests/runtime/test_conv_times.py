"""Times of kernels: measured once, kept, and measured again where what was kept cannot be read."""

from __future__ import annotations

import json
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
    plain, shifted = first.times[SHAPE.key]
    assert plain > 0
    assert shifted > 0
    assert answer is (shifted < 0.95 * plain)
    again = ConvTimes(TARGET, tmp_path)
    assert again.times == first.times
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_kept_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = ConvTimes(TARGET, tmp_path)
    times.times.update({SHAPE.key: (1.0, 0.5), ConvShape(1, 1, (1, 1), (1, 1), (2, 2)).key: (1.0, 0.96)})

    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(conv_times, "_model", fails)
    assert times.prefers_shift(SHAPE)
    assert not times.prefers_shift(ConvShape(1, 1, (1, 1), (1, 1), (2, 2)))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"seconds": 3}', "not json", '{"seconds": {"a": 1, "b": [1], "c": [0, 1], "d": [1, null]}}'],
)
def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path, content: str) -> None:
    file = ConvTimes(TARGET, tmp_path).file
    assert file is not None
    file.write_text(content)
    times = ConvTimes(TARGET, tmp_path)
    assert times.times == {}
    times.prefers_shift(SHAPE)
    assert SHAPE.key in json.loads(file.read_text())["seconds"]


def test_threads_have_times_of_their_own(tmp_path: Path) -> None:
    assert ConvTimes(TARGET, tmp_path).file != ConvTimes(Target(threads=2), tmp_path).file


def test_without_a_folder_nothing_is_kept() -> None:
    times = ConvTimes(TARGET, None)
    times.prefers_shift(SHAPE)
    assert SHAPE.key in times.times
