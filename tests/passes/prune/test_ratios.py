"""How much goes of each group: files, globs, and one clear error for what is no part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planish.passes.errors import CalibrationError
from planish.passes.prune.ratios import Ratios, load_ratios


def test_names_before_globs_and_globs_in_order() -> None:
    ratios = Ratios.from_mapping({"block.*": 0.5, "*": 3, "block.1": 0, "odd[1]": 0.25})
    assert [ratios.of(key) for key in ("block.1", "block.2", "head", "odd[1]")] == [0, 0.5, 3, 0.25]


def test_what_nothing_names_stays() -> None:
    assert Ratios.from_mapping({"a": 0.5}).of("b") == 0
    assert Ratios(()).of("b") == 0


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"a": 0.5, "b*": 16, "c": 1}))
    ratios = load_ratios(tmp_path / "r.json")
    assert ratios.parts == (("a", 0.5), ("b*", 16.0), ("c", 1.0))
    assert str(ratios) == str(tmp_path / "r.json")


@pytest.mark.parametrize("part", [-0.1, 1.5, float("nan"), float("inf"), -3])
def test_what_is_no_part(part: float) -> None:
    with pytest.raises(CalibrationError, match="'a' takes a part below 1 or a number of units"):
        Ratios.from_mapping({"a": part})


@pytest.mark.parametrize("text", ["[]", "", '{"a": "half"}', '{"a": true}', '{"a": null}', '{"a": NaN}', '{"a": -1}'])
def test_files_that_hold_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"r\.json"):
        load_ratios(tmp_path / "r.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.json: cannot be read"):
        load_ratios(tmp_path / "none.json")
