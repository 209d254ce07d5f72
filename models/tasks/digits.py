"""Handwritten digits: which of ten stands in a picture of 8 x 8.

digits.npz holds the 1,797 pictures of 13 writers that are the test set of Optical Recognition of Handwritten Digits by
E. Alpaydin and C. Kaynak (UCI Machine Learning Repository, 1998, doi 10.24432/C50P49, CC BY 4.0), in their order, as
scikit-learn's load_digits gives them. scikit-learn and scipy, which could bring them, weigh a thousand times as much.

Splits are by place: neighbours seem to be of one writer, since a support vector machine errs three times as often on
such a split as on a random one.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planish.runtime.session import Feed
from planish.runtime.task import Metric, Run, Sample, Samples, Split, Task

_TRAINING = range(1000)
_SPLITS: Mapping[Split, range] = {"calibration": range(1000, 1197), "test": range(1197, 1797)}


class Digits(Task[int, int]):
    name = "digits"
    model = "zoo:digits-cnn"
    metrics = (Metric("accuracy"),)

    def samples(self, split: Split) -> Sequence[Sample[int]]:
        places = _SPLITS[split]
        return Samples(len(places), lambda index: _sample(places[index]))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> int:
        return int(run(feeds).tensor("logits", (1, 10)).argmax())

    def grade(self, predictions: Sequence[int], labels: Sequence[int]) -> list[bool]:
        return [prediction == label for prediction, label in zip(predictions, labels, strict=True)]


def training() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures [n, 1, 8, 8] and labels that belong to no split: the net was trained on them."""
    images, labels = _data()
    return images[_TRAINING], labels[_TRAINING]


def _sample(place: int) -> Sample[int]:
    images, labels = _data()
    return Sample({"image": images[place : place + 1]}, int(labels[place]))


@cache
def _data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Grey values from 0 to 1: shares of the 16 dots behind each."""
    with np.load(Path(__file__).with_name("digits.npz")) as stored:
        images, labels = stored["images"], stored["labels"]
    return (images[:, None] / 16).astype(np.float32), labels.astype(np.int64)
