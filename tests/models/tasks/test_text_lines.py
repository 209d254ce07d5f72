"""Lines of text: how a recogniser's classes become a line, how lines are counted, and what pictures are like."""

from __future__ import annotations

import string
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish import ir
from planish.models.tasks import load
from planish.models.tasks.line_pictures import picture, texts
from planish.models.tasks.text_lines import TextLines, edits, greedy_text, to_input
from planish.models.zoo import fetch
from planish.runtime.errors import TaskError
from planish.runtime.evaluate import evaluate
from planish.runtime.session import Feed
from planish.runtime.task import Run, Split

CHARACTERS = ("", "a", "b", " ")
PRINTABLE = set(string.printable) - set(string.whitespace) | {" "}
"""What lines are made of."""


def labels(split: Split = "test") -> list[str]:
    return [str(sample.label) for sample in TextLines().samples(split)]


@pytest.mark.parametrize(
    ("best", "text"),
    [
        ([1, 2], "ab"),
        ([1, 1, 1, 2], "ab"),
        ([1, 0, 1], "aa"),
        ([0, 0, 1, 1, 0, 0, 1, 2, 2, 0, 2, 3, 3, 1, 0], "aabb a"),
        ([3, 0, 3, 3], "  "),
        ([0, 0], ""),
        ([], ""),
    ],
)
def test_repeats_are_taken_once_and_then_blanks_left_out(best: list[int], text: str) -> None:
    assert greedy_text(np.eye(4, dtype=np.float32)[np.asarray(best, np.int64)], CHARACTERS) == text


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("", "", 0),
        ("same", "same", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("saturday", "sunday", 3),
        ("two words", "twowords", 1),
        ("ab", "ba", 2),
    ],
)
def test_edits_are_the_fewest(one: str, other: str, count: int) -> None:
    assert edits(one, other) == edits(other, one) == count


def test_character_accuracy_is_over_all_lines_and_never_below_nothing() -> None:
    task = TextLines()
    grades = np.asarray(task.grade(["abcdefgh", "x", "same"], ["abcdefgh", "abc", "sane"]), np.float64)
    # 0 + 3 + 1 edits of 8 + 3 + 4 characters; one line of three is right.
    assert task.score(grades) == [pytest.approx(1 - 4 / 15), pytest.approx(1 / 3)]
    assert task.score(np.asarray(task.grade(["much too long"], ["a"]), np.float64)) == [0.0, 0.0]


def test_pictures_go_in_blue_first_scaled_and_with_zeros_behind() -> None:
    red = np.zeros((24, 50, 3), np.uint8)
    red[..., 0] = 255
    x = to_input(red)
    assert (x.shape, x.dtype) == ((1, 3, 48, 320), np.float32)
    assert (x[0, 2, :, :100] == 1).all()
    assert (x[0, :2, :, :100] == -1).all()
    assert not x[..., 100:].any()
    assert to_input(np.zeros((48, 321, 3), np.uint8)).shape == (1, 3, 48, 480)
    assert to_input(np.zeros((480, 3, 3), np.uint8)).shape == (1, 3, 48, 320)


@pytest.mark.slow
def test_lines_are_of_every_kind_of_character_and_none_is_in_both_splits() -> None:
    test, calibration = labels(), labels("calibration")
    assert (len(test), len(calibration)) == (400, 100)
    assert len({*test, *calibration}) == 500
    assert set("".join([*test, *calibration])) <= PRINTABLE
    assert set(string.ascii_letters + string.digits + " .,:;!?'\"&()[]/=+-%$#@_*<>{}~^") <= set("".join(test))
    assert all(line == line.strip() and 3 <= len(line) <= 60 for line in test)


def test_a_picture_holds_more_than_its_text_says() -> None:
    random = np.random.default_rng(1)
    (text,) = texts(random, 1)
    seen = [picture(random, text) for _ in range(40)]
    heights = [image.shape[0] for image in seen]
    assert max(heights) > 2 * min(heights)
    assert len({image[0, 0].tobytes() for image in seen}) == len(seen)
    noise = [np.abs(np.diff(image[0].astype(float), axis=0)).mean() for image in seen]
    assert max(noise) > 4 * min(noise)


def model(folder: Path, metadata: dict[str, str]) -> Path:
    """Whatever it is shown, its classes are those of ' aa '."""
    read = np.eye(4, dtype=np.float32)[None, [3, 1, 1, 0, 1, 3]]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["read", "nothing"], ["softmax_11.tmp_0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 48, "width"))],
        [helper.make_tensor_value_info("softmax_11.tmp_0", TensorProto.FLOAT, (1, 6, 4))],
        [numpy_helper.from_array(read, "read"), numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(made, metadata)
    path = folder / "reader.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_the_dictionary_is_the_models_own_and_spaces_at_the_ends_do_not_count(tmp_path: Path) -> None:
    reader = model(tmp_path, {"character": "a\nb"})
    found = evaluate(ir.load(reader), TextLines(), limit=20)
    assert set(found.predictions) == {"aa"}
    assert (found.samples, found.estimates[1].value) == (20, 0.0)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "its metadata must hold 'character', .* and holds nothing"),
        ({"names": "a"}, "and holds names; copy it from the model"),
        ({"character": "a"}, r"has the shape \(1, 6, 4\), not \(1, any, 3\)"),
    ],
)
def test_a_model_without_its_dictionary_does_not_fit(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(TaskError, match=f"task 'text-lines' does not fit .* at sample 0: .*{message}"):
        evaluate(model(tmp_path, metadata), TextLines(), limit=1)


@pytest.mark.parametrize("missing", ["PIL", "font_caladea", "font_lato"])
def test_without_the_extra_the_error_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("text_lines", "line_pictures"):
        monkeypatch.delitem(sys.modules, f"planish.models.tasks.{name}")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(TaskError, match=rf"task 'text-lines' .*{missing}.*pip install 'planish\[tasks\]'"):
        load("text-lines")


class Spelled(TextLines):
    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> str:
        return run.metadata["character"] + " "


@pytest.mark.network
@pytest.mark.slow
def test_the_recogniser_knows_every_character() -> None:
    known = evaluate(fetch("text-recognition"), Spelled(), limit=1).predictions[0]
    assert set(known) >= PRINTABLE
