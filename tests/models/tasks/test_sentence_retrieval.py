"""Sentence retrieval: how queries are ranked, what the texts are, and that a lowered model finds them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from planish.models.tasks import load
from planish.models.tasks.choose_paragraphs import paragraphs
from planish.models.tasks.sentence_retrieval import SentenceRetrieval, Vectors
from planish.models.zoo import ZooError
from planish.runtime.errors import TaskError
from planish.runtime.task import Split

SPLITS: tuple[Split, ...] = ("calibration", "test")
EAST, NORTH, WEST = (2.0, 0.0), (0.0, 3.0), (-1.0, 0.0)


def grades(predictions: Sequence[Vectors], labels: Sequence[Vectors]) -> list[list[float]]:
    return np.asarray(SentenceRetrieval().grade(predictions, labels)).tolist()


def texts(name: str) -> list[str]:
    return [str(sample.feeds[name]) for split in SPLITS for sample in SentenceRetrieval().samples(split)]


def test_a_query_ranks_the_paragraphs_of_all_samples() -> None:
    made = [Vectors(EAST, EAST, 7), Vectors((1.0, 1.1), NORTH, 3), Vectors((0.9, 1.0), WEST, 5)]
    assert grades(made, made) == [[1, 1, pytest.approx(1)], [1, 1, pytest.approx(1)], [0, 1 / 3, pytest.approx(1)]]


def test_a_paragraph_that_is_as_near_comes_first() -> None:
    """A model that gives everything one vector finds nothing."""
    made = [Vectors(EAST, EAST, place) for place in range(4)]
    assert [row[:2] for row in grades(made, made)] == [[0, 1 / 4]] * 4


def test_the_answer_is_the_labels_place_and_the_cosine_is_to_its_vectors() -> None:
    made = [Vectors(EAST, EAST, 0), Vectors(NORTH, NORTH, 1)]
    labels = [Vectors(WEST, EAST, 0), Vectors(EAST, NORTH, 1)]
    assert grades(made, labels) == [[1, 1, pytest.approx(0)], [1, 1, pytest.approx(0.5)]]
    assert [row[:2] for row in grades(made, labels[::-1])] == [[0, 0.5], [0, 0.5]]


def test_vectors_of_nothing_are_near_to_nothing() -> None:
    made = [Vectors((0.0, 0.0), (0.0, 0.0), 0), Vectors(EAST, EAST, 1)]
    assert grades(made, made) == [[0, 1 / 2, 0], [1, 1, pytest.approx(1)]]


def test_what_is_nan_finds_nothing_and_is_found_by_nothing() -> None:
    nan = (math.nan, 0.0)
    whole = [Vectors(EAST, EAST, 0), Vectors(NORTH, NORTH, 1), Vectors(WEST, WEST, 2)]
    made = [Vectors(nan, EAST, 0), Vectors(NORTH, nan, 1), whole[2]]
    assert [row[:2] for row in grades(made, whole)] == [[0, 1 / 3], [0, 1 / 3], [0, 1 / 2]]


def test_a_query_is_one_sentence_that_no_paragraph_holds() -> None:
    queries, held = texts("query"), texts("paragraph")
    assert len(queries) == len(set(queries)) == len(set(held)) > 200
    whole = "\n".join(held)
    assert not [query for query in queries if query in whole]
    assert all(re.fullmatch(r"[A-Z].*[.!?]\)?", query) for query in queries)
    assert min(len(text.split()) for text in queries) >= 8
    assert min(len(text.split()) for text in held) >= 10


TOPIC = """Heading
*******

   A paragraph of four sentences that says at some length what the matter is with all of the things. It goes on
   (and on) with a sentence that is the longest of them all, so it becomes the query here. One more is short. Then
   there is the end of it.

* A list
  is no paragraph.

Short. Too short.
"""


def test_paragraphs_are_chosen_once() -> None:
    (found,) = paragraphs({"one": TOPIC, "other": TOPIC})
    assert found["topic"] == "one"
    assert found["query"].startswith("It goes on (and on)")
    assert found["paragraph"].endswith("all of the things. One more is short. Then there is the end of it.")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tasks.sentence_retrieval", "zoo.text"):
        monkeypatch.delitem(sys.modules, f"planish.models.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TaskError, match=r"task 'sentence-retrieval' .*tokenizers.*pip install 'planish\[tasks\]'"):
        load("sentence-retrieval")


def test_a_reference_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> None:
        raise ZooError("no network")

    monkeypatch.setattr("planish.models.tasks.sentence_retrieval.fetch", fail)
    with pytest.raises(TaskError, match="'sentence-retrieval' is measured against zoo:all-MiniLM-L6-v2: no network"):
        SentenceRetrieval().reference()
