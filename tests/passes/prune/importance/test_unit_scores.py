"""Scores as files: they come back as they were, and what is wrong with one is said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish.passes.errors import CalibrationError
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.unit_scores import UnitScores, group_keys, load_unit_scores, save_unit_scores

HEAD = '"format": "planish unit scores", "version": 1'


def test_there_and_back(tmp_path: Path) -> None:
    numbers = np.array([0.1, np.inf, 5e-324, -0.0, 1e308])
    scores = UnitScores({"ünit/1": {"obs": numbers, "zeros": np.zeros(1)}, "none": {}}, "m.onnx", 7)
    save_unit_scores(scores, tmp_path / "s.json")
    found = load_unit_scores(tmp_path / "s.json")
    assert np.array_equal(found.groups["ünit/1"]["obs"], numbers)
    assert found.groups["none"] == {}
    assert (found.model, found.samples, str(found)) == ("m.onnx", 7, str(tmp_path / "s.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_no_opinion_of_what_was_not_measured() -> None:
    scores = UnitScores({"a": {"obs": np.zeros(2)}})
    assert np.isinf(scores.of("a", "zeros", 2)).all()
    assert np.isinf(scores.of("b", "obs", 3)).all()
    assert np.array_equal(scores.of("a", "obs", 2), np.zeros(2))


def test_scores_of_another_model() -> None:
    with pytest.raises(CalibrationError, match=r"s\.json: group 'a' has 3 units in this model, and 2"):
        UnitScores({"a": {"obs": np.zeros(2)}}, path="s.json").of("a", "obs", 3)


def test_groups_of_one_name() -> None:
    groups = [Group(name, 1, (), np.zeros(1, np.int64)) for name in ("a", "b", "a", "a")]
    assert group_keys(groups) == ["a", "b", "a#2", "a#3"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": "planish calibration", "version": 1}', '{"format": "planish unit scores"}',
        f"{{{HEAD}}}", f'{{{HEAD}, "groups": []}}', f'{{{HEAD}, "groups": {{"a": 1}}}}',
        f'{{{HEAD}, "groups": {{"a": {{"obs": 1}}}}}}', f'{{{HEAD}, "groups": {{"a": {{"obs": ["1"]}}}}}}',
        f'{{{HEAD}, "groups": {{"a": {{"obs": [true]}}}}}}', f'{{{HEAD}, "groups": {{"a": {{"obs": [NaN]}}}}}}',
        f'{{{HEAD}, "groups": {{}}, "samples": "many"}}',
    ],
)  # fmt: skip
def test_what_is_no_file_of_scores(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"s\.json"):
        load_unit_scores(tmp_path / "s.json")


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_unit_scores(tmp_path / "none.json")
    with pytest.raises(CalibrationError, match="cannot be written"):
        save_unit_scores(UnitScores({}), tmp_path / "none" / "s.json")
