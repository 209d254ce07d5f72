"""Of every data file that ships, source and licence stand beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from planish.models.tasks.photographs import NAMES

TASKS = Path(__file__).parents[3] / "models" / "tasks"
ROW = re.compile(r"^\| (?P<file>[\w.]+\.\w+) \| (?P<source>[^|]{10,}) \| (?P<licence>[^|]+) \|", re.MULTILINE)
LICENCES = (
    *("Apache-2.0", "CC0 1.0", "CC BY 1.0", "CC BY 2.0", "CC BY 3.0", "CC BY 4.0", "public domain"),
    "PSF License Version 2",
)
SOURCES = ("by E. Alpaydin", "https://www.flickr.com/photos/", "https://commons.wikimedia.org/wiki/File:")
"""Where the author of what is CC BY is named, or the page that names them is linked."""


@pytest.mark.parametrize("folder", [TASKS, TASKS / "photographs"], ids=lambda folder: folder.name)
def test_every_data_file_has_its_source_and_its_licence_beside_it(folder: Path) -> None:
    rows = {row["file"]: row for row in ROW.finditer((folder / "LICENCES.md").read_text(encoding="utf-8"))}
    held = {file.name for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".md")}
    assert set(rows) == held
    for file, row in rows.items():
        assert any(licence in row["licence"] for licence in LICENCES), file
        if "CC BY" in row["licence"]:
            assert "https://creativecommons.org/licenses/by/" in row["licence"], file
            assert any(source in row["source"] for source in SOURCES), file
            assert re.search(r"\bby \[?\w", row["source"]), file


def test_the_photographs_are_those_of_the_task() -> None:
    assert {file.stem for file in (TASKS / "photographs").glob("*.jpg")} == set(NAMES)
