"""Lines of text: which characters stand in a picture.

Pictures go into the model as PaddleOCR's recogniser is fed: blue first, scaled to its height, from -1 to 1, and zeros
on the right. There they are as wide as the widest of a batch; here widths are multiples of 160, so that there are few.
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from planish.models.tasks.line_pictures import Picture, picture, resized, texts
from planish.runtime.errors import TaskError
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

_SEED = 20_261_130
_SPLITS: Mapping[Split, range] = {"calibration": range(100), "test": range(100, 500)}
_HEIGHT = 48
_WIDTH_STEP = 160
_LEAST_WIDTH = 320
_DICTIONARY = "character"
"""The key of the model's metadata: one character a line."""


class TextLines(Task[str, str]):
    """For recognisers that are trained by CTC and carry their dictionary, as PaddleOCR's do."""

    name = "text-lines"
    model = "zoo:text-recognition"
    metrics = (Metric("character accuracy"), Metric("exact match"))

    def samples(self, split: Split) -> Sequence[Sample[str]]:
        places = _SPLITS[split]
        return Samples(len(places), lambda index: _sample(places[index]))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> str:
        """Of the first output, without spaces at the ends, which nothing tells from the margin."""
        characters, made = _characters(run), run(feeds)
        probabilities = made.tensor(next(iter(made.results), "probabilities"), (1, None, len(characters)))
        return greedy_text(probabilities[0], characters).strip()

    def grade(self, predictions: Sequence[str], labels: Sequence[str]) -> list[tuple[int, int, bool]]:
        pairs = zip(predictions, labels, strict=True)
        return [(edits(prediction, label), len(label), prediction == label) for prediction, label in pairs]

    def score(self, grades: Floats) -> Sequence[float]:
        """1 - edits / characters over all lines, 0 where there are more edits than characters; and the exact lines."""
        wrong, characters, exact = grades.sum(axis=0)
        return [max(0.0, 1 - float(wrong / characters)), float(exact / len(grades))]


def greedy_text(probabilities: NDArray[np.generic], characters: Sequence[str]) -> str:
    """Of [steps, classes], class 0 the blank: the best class of each step, repeats taken once, then blanks left out.

    A. Graves and others, Connectionist Temporal Classification, ICML 2006: best path decoding.
    """
    best: list[int] = probabilities.argmax(axis=-1).tolist()
    before = [0, *best]
    return "".join(characters[now] for now, last in zip(best, before, strict=False) if now not in (0, last))


def edits(one: str, other: str) -> int:
    """The fewest characters to put in, take out or replace that make one text the other (V. Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for place, left in enumerate(one, 1):
        above, row = row, [place]
        for column, right in enumerate(other):
            row.append(min(row[-1] + 1, above[column + 1] + 1, above[column] + (left != right)))
    return row[-1]


def to_input(seen: Picture) -> NDArray[np.float32]:
    """[1, 3, 48, width], as wide as the picture at that height demands."""
    height, width = seen.shape[:2]
    scaled = -(-_HEIGHT * width // height)
    padded = max(_LEAST_WIDTH, -(-scaled // _WIDTH_STEP) * _WIDTH_STEP)
    x = np.zeros((1, 3, _HEIGHT, padded), np.float32)
    x[0, :, :, :scaled] = resized(seen, scaled, _HEIGHT)[:, :, ::-1].transpose(2, 0, 1) / np.float32(127.5) - 1
    return x


def _characters(run: Run) -> tuple[str, ...]:
    """By class: the blank, the dictionary, the space."""
    if _DICTIONARY not in run.metadata:
        held = ", ".join(run.metadata) or "nothing"
        raise TaskError(
            f"the model does not say which characters its classes are: its metadata must hold {_DICTIONARY!r}, "
            f"a dictionary of one character a line, and holds {held}; copy it from the model that it was made of"
        )
    return _split(run.metadata[_DICTIONARY])


@cache
def _split(dictionary: str) -> tuple[str, ...]:
    return ("", *dictionary.splitlines(), " ")


def _sample(place: int) -> Sample[str]:
    text = _texts()[place]
    return Sample({"x": to_input(picture(np.random.default_rng((_SEED, place)), text))}, text)


@cache
def _texts() -> tuple[str, ...]:
    return texts(np.random.default_rng(_SEED), max(places.stop for places in _SPLITS.values()))
