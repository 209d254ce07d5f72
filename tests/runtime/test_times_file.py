"""What was measured is read again by the same machine, target and runtime; what cannot be read is as if not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish.runtime.providers import Target
from planish.runtime.times_file import TimesFile

TARGET = Target(threads=1)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    TimesFile("a", 2, TARGET, tmp_path).keep("8x8", (1.0, 2.0))
    again = TimesFile("a", 2, TARGET, tmp_path)
    assert again.seconds == {"8x8": (1.0, 2.0)}
    again.keep("9x9", (3.0, 4.0))
    assert TimesFile("a", 2, TARGET, tmp_path).seconds == {"8x8": (1.0, 2.0), "9x9": (3.0, 4.0)}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"seconds": 3}', "not json", '{"seconds": {"a": 1, "b": [1], "c": [0, 1], "d": [1, null]}}'],
)
def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path, content: str) -> None:
    path = TimesFile("a", 2, TARGET, tmp_path).path
    assert path is not None
    path.write_text(content)
    times = TimesFile("a", 2, TARGET, tmp_path)
    assert times.seconds == {}
    times.keep("x", (1.0, 1.0))
    assert json.loads(path.read_text())["seconds"] == {"x": [1.0, 1.0]}


def test_names_and_threads_have_files_of_their_own(tmp_path: Path) -> None:
    paths = [
        TimesFile("a", 1, TARGET, tmp_path).path,
        TimesFile("b", 1, TARGET, tmp_path).path,
        TimesFile("a", 1, Target(threads=2), tmp_path).path,
    ]
    assert len(set(paths)) == 3


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    times = TimesFile("a", 1, TARGET, tmp_path / "file")
    times.keep("x", (1.0,))
    assert times.seconds == {"x": (1.0,)}
    assert times.path is None


def test_without_a_folder_nothing_is_kept() -> None:
    times = TimesFile("a", 1, TARGET, None)
    times.keep("x", (1.0,))
    assert (times.seconds, times.path) == ({"x": (1.0,)}, None)
