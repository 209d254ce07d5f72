"""Natural images: whether a model says of a photograph what efficientnet-lite0 says in single precision.

The labels are that model's outputs, so a damaged model loses what the damage costs, whatever the pictures show.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from planish.models.tasks.photographs import NAMES, view
from planish.models.zoo import ZooError, fetch
from planish.models.zoo.images import imagenet
from planish.runtime.errors import TaskError
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

_SEED = 20_261_130
_TEST = (*("admiral", "astronaut", "chelsea", "china", "clock", "coffee", "galaxies", "grass", "gravel", "retina"),)
_VIEWS = 24
"""Of each photograph."""
_REFERENCE = "efficientnet-lite0"
_RESOLUTION = 2.0**-24
"""Of single precision: noise is never taken for less than this share of the signal, so that no ratio is infinite."""
_MOST = -20 * math.log10(_RESOLUTION)

Logits = tuple[float, ...]


class NaturalImages(Task[Logits, Logits]):
    """A sample's group is the photograph, and no photograph is in both splits."""

    name = "natural-images"
    model = f"zoo:{_REFERENCE}"
    metrics = (
        Metric("top-1 agreement"),
        Metric("SNR of the logits", "dB", range=(-math.inf, _MOST)),
    )

    def samples(self, split: Split) -> Sequence[Sample[Logits]]:
        names = [name for name in NAMES if (name in _TEST) == (split == "test")]
        return Samples(_VIEWS * len(names), lambda index: _sample(names[index // _VIEWS], index % _VIEWS))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> Logits:
        return tuple(run(feeds).tensor("logits", (1, 1000))[0].tolist())

    def grade(self, predictions: Sequence[Logits], labels: Sequence[Logits]) -> Floats:
        """By image: whether the greatest logits are of one class, the energy of the signal, and that of the noise."""
        found, wanted = np.asarray(predictions), np.asarray(labels)
        agree = found.argmax(axis=1) == wanted.argmax(axis=1)
        return np.stack([agree, (wanted**2).sum(axis=1), ((found - wanted) ** 2).sum(axis=1)], axis=1)

    def score(self, grades: Floats) -> Sequence[float]:
        agree, signal, noise = grades.sum(axis=0)
        return [float(agree / len(grades)), -10 * math.log10(max(noise / signal, _RESOLUTION**2))]

    def reference(self) -> Path:
        try:
            return fetch(_REFERENCE)
        except ZooError as error:
            raise TaskError(f"task {self.name!r} is measured against zoo:{_REFERENCE}: {error}") from error


def _sample(name: str, place: int) -> Sample[Logits]:
    random = np.random.default_rng((_SEED, place, *name.encode()))
    return Sample({"image": imagenet(view(random, name))}, group=name)
