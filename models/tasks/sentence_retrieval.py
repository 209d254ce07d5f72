"""Sentence retrieval: which paragraph a sentence was taken out of, by the vectors that a model makes of both.

paragraphs.json holds what choose_paragraphs.py chose of the reference of Python 3.11.7 (Python Software Foundation, PSF
License Version 2, which stands in the file).
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict, cast

import numpy as np

from planish.models.zoo import ZooError, fetch, fetch_asset
from planish.runtime.errors import TaskError
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

try:
    from planish.models.zoo.text import Sentences
except ImportError as error:
    raise ImportError(f"sentences are split by tokenizers ({error}): pip install 'planish[tasks]'") from error

_REFERENCE = "all-MiniLM-L6-v2"
_WIDTH = 384
_CALIBRATION_STEP = 5
"""Every fifth topic is for calibration."""


class Paragraph(TypedDict):
    topic: str
    query: str
    paragraph: str
    """What is left when the query is taken out."""


class Vectors(NamedTuple):
    query: tuple[float, ...]
    paragraph: tuple[float, ...]
    place: int
    """Of the paragraph among all: the one that the query belongs to."""


class SentenceRetrieval(Task[Vectors, Vectors]):
    """A sample is a paragraph and a sentence out of it; a query is answered from the paragraphs of all samples.

    The labels are the vectors of all-MiniLM-L6-v2 in single precision, with the same place. A sample's group is its
    topic, and no topic is in both splits.
    """

    name = "sentence-retrieval"
    model = f"zoo:{_REFERENCE}"
    metrics = (
        Metric("recall@1"),
        Metric("mean reciprocal rank"),
        Metric("cosine to fp32", range=(-1.0, 1.0)),
    )

    def samples(self, split: Split) -> Sequence[Sample[Vectors]]:
        places = _places(split)
        return Samples(len(places), lambda index: _sample(places[index]))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> Vectors:
        query, paragraph = (_vector(run, str(feeds[name])) for name in ("query", "paragraph"))
        return Vectors(query, paragraph, int(np.asarray(feeds["place"])))

    def grade(self, predictions: Sequence[Vectors], labels: Sequence[Vectors]) -> Floats:
        """By query: whether its paragraph is the nearest, 1 / its rank, and the cosine of both vectors to the label's.

        A paragraph that is as near as the right one ranks before it, and so does one of which nothing is known, as NaN.
        """
        queries = _unit([prediction.query for prediction in predictions])
        paragraphs = _unit([prediction.paragraph for prediction in predictions])
        row = {prediction.place: row for row, prediction in enumerate(predictions)}
        nearness = queries @ paragraphs.T
        right = nearness[np.arange(len(labels)), [row[label.place] for label in labels]]
        ranks = (~(nearness < right[:, None])).sum(axis=1)
        cosines = (queries * _unit([label.query for label in labels])).sum(axis=1)
        cosines += (paragraphs * _unit([label.paragraph for label in labels])).sum(axis=1)
        return np.stack([ranks == 1, 1 / ranks, cosines / 2], axis=1)

    def reference(self) -> Path:
        try:
            return fetch(_REFERENCE)
        except ZooError as error:
            raise TaskError(f"task {self.name!r} is measured against zoo:{_REFERENCE}: {error}") from error


def _vector(run: Run, text: str) -> tuple[float, ...]:
    return tuple(run(_sentences()([text])).tensor("embedding", (1, _WIDTH))[0].tolist())


def _unit(vectors: Sequence[Sequence[float]]) -> Floats:
    found = np.asarray(vectors, np.float64)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float64).tiny)


@cache
def _sentences() -> Sentences:
    try:
        return Sentences(fetch_asset(_REFERENCE, "tokenizer.json"))
    except ZooError as error:
        raise TaskError(f"sentences are split as zoo:{_REFERENCE} takes them: {error}") from error


@cache
def _paragraphs() -> list[Paragraph]:
    text = Path(__file__).with_name("paragraphs.json").read_text(encoding="utf-8")
    return cast("dict[str, list[Paragraph]]", json.loads(text))["paragraphs"]


@cache
def _places(split: Split) -> list[int]:
    topics = sorted({paragraph["topic"] for paragraph in _paragraphs()})
    kept = set(topics[::_CALIBRATION_STEP])
    return [
        place
        for place, paragraph in enumerate(_paragraphs())
        if (paragraph["topic"] in kept) == (split == "calibration")
    ]


def _sample(place: int) -> Sample[Vectors]:
    held = _paragraphs()[place]
    feeds = {"query": np.asarray(held["query"]), "paragraph": np.asarray(held["paragraph"]), "place": np.asarray(place)}
    return Sample(feeds, group=held["topic"])
