"""A task made of files: a folder of .npz samples with labels, and a metric chosen by name."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from planish.runtime.errors import TaskError
from planish.runtime.providers import Array
from planish.runtime.session import Feed
from planish.runtime.task import Floats, Metric, Run, Sample, Samples, Split, Task

LABEL, GROUP = "label", "group"
"""Keys of a sample's file that are no inputs."""

_BEST = 5


@dataclass(frozen=True)
class Measure:
    metric: Metric
    reduce: Callable[[Array], Array]
    """What to keep of an output."""
    grade: Callable[[Array, Array], float]
    """Of what was kept, against a label: the sample's own, or what was kept of the reference model's output."""


class FolderTask(Task[Array, Array]):
    """Each .npz file of a folder is a sample: an array for each input, by name, and `label`; perhaps `group`, a number
    or a string that the samples of one source share. The file names give the order.

    Files in the folder itself, or in `test` below it, are the test split; those in `calibration` below it the other.
    """

    model = ""

    def __init__(
        self, folder: str | os.PathLike[str], measure: str = "accuracy", *, output: str = "", like: Path | None = None
    ) -> None:
        """measure: a key of MEASURES, of the named output or the first. like: the file of a model whose outputs are the
        labels, so that the samples need none.

        Raises:
            TaskError: there is no such folder or measure.
        """
        if measure not in MEASURES:
            raise TaskError(f"there is no metric {measure!r} for a folder: choose one of {', '.join(MEASURES)}")
        self.name = os.fspath(folder)
        self.metrics = (MEASURES[measure].metric,)
        self._folder = Path(folder).absolute()
        self._measure, self._output, self._like = measure, output, like
        if not self._folder.is_dir():
            raise TaskError(f"{folder} is no folder of samples")

    def samples(self, split: Split) -> Sequence[Sample[Array]]:
        files = sorted((self._folder / split).glob("*.npz"))
        if split == "test" and not files:
            files = sorted(self._folder.glob("*.npz"))
        if not files:
            where = f"{self._folder / split}" if split == "calibration" else f"{self._folder} or {self._folder / split}"
            raise TaskError(f"there are no samples for {split}: no .npz file is in {where}")
        return Samples(len(files), lambda index: read_sample(files[index]))

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> Array:
        outputs = run(feeds)
        return MEASURES[self._measure].reduce(outputs.tensor(self._output or next(iter(outputs.results))))

    def grade(self, predictions: Sequence[Array], labels: Sequence[Array]) -> list[float]:
        return [self._grade(index, *pair) for index, pair in enumerate(zip(predictions, labels, strict=True))]

    def _grade(self, index: int, prediction: Array, label: Array) -> float:
        try:
            return MEASURES[self._measure].grade(prediction, label)
        except ValueError as error:
            raise TaskError(f"{self._measure} cannot be told for sample {index} of {self._folder}: {error}") from error

    def reference(self) -> Path | None:
        return self._like


def read_sample(file: Path) -> Sample[Array]:
    try:
        with file.open("rb") as stream, NpzFile(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TaskError(f"{file} is no .npz file of plain arrays: {error}") from error
    label, group = arrays.pop(LABEL, None), arrays.pop(GROUP, None)
    if label is not None and label.dtype.kind not in "biuf":
        raise TaskError(f"{LABEL!r} in {file} must hold numbers, not {label.dtype}")
    if group is not None and group.ndim:
        raise TaskError(f"{GROUP!r} in {file} must be one number or string, not an array of shape {group.shape}")
    return Sample(arrays, label, None if group is None else group.item())


def _equal_share(prediction: Array, label: Array) -> float:
    """The share of places, often the only one, where the best class is the label."""
    return _share(prediction.reshape(-1) == _places(label, prediction.shape).reshape(-1))


def _among_best(prediction: Array, label: Array) -> float:
    if label.shape == prediction.shape:  # a reference model's: its best is the label
        label = label[..., 0]
    places = _places(label, prediction.shape[:-1])
    return _share((prediction == places.reshape(*prediction.shape[:-1], 1)).any(-1))


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.astype(np.float64).mean())


def _places(label: Array, shape: tuple[int, ...]) -> Array:
    if label.size != np.prod(shape, dtype=int):
        raise ValueError(f"the label has the shape {label.shape}, and the model decides on {shape}")
    return label


def _cosine(prediction: Array, label: Array) -> float:
    a, b = _alike(prediction, label)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else float(not a.any() and not b.any())


def _absolute_error(prediction: Array, label: Array) -> float:
    a, b = _alike(prediction, label)
    return float(np.abs(a - b).mean())


def _alike(prediction: Array, label: Array) -> tuple[Floats, Floats]:
    if prediction.size != label.size:
        raise ValueError(f"the label has the shape {label.shape}, and the output {prediction.shape}")
    return prediction.reshape(-1).astype(np.float64), label.reshape(-1).astype(np.float64)


def _whole(output: Array) -> Array:
    return output


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(Metric("accuracy"), lambda output: output.argmax(-1), _equal_share),
    "top-5": Measure(
        Metric("top-5 accuracy"),
        lambda output: np.argsort(-output.astype(np.float64), -1, kind="stable")[..., :_BEST],
        _among_best,
    ),
    "cosine": Measure(Metric("cosine", range=(-1.0, 1.0)), _whole, _cosine),
    "mean-absolute-error": Measure(
        Metric("mean absolute error", higher_is_better=False, range=(0.0, float("inf"))), _whole, _absolute_error
    ),
}
"""Classes are along the output's last axis."""
