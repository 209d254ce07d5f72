"""A task: labelled samples for a model, what to read from its outputs, and metrics of how well it does on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planish.runtime.errors import TaskError
from planish.runtime.providers import Array
from planish.runtime.session import Argument, Feed, Result

P = TypeVar("P")
"""A prediction: whatever small thing, one that pickles, a task makes of a model's outputs for one sample."""
L = TypeVar("L")

Split = Literal["calibration", "test"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str = ""
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest value that it can take; infinities where nothing bounds it."""


@dataclass(frozen=True)
class Sample(Generic[L]):
    feeds: Mapping[str, Feed]
    label: L | None = None
    """None where the labels are a reference model's predictions."""
    group: Hashable = None
    """What samples share that come of one source (a speaker, a page): the interval is over groups. None: nothing."""


@dataclass(frozen=True)
class Outputs:
    """One run's outputs by name."""

    results: Mapping[str, Result]
    model: str

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Array:
        """The output `name`; None in `shape` stands for any extent.

        Raises:
            TaskError: the model has no such output, or it is no tensor of that shape.
        """
        if name not in self.results:
            raise TaskError(f"{self.model} has no output {name!r}: its outputs are {', '.join(self.results)}")
        found = self.results[name]
        if not isinstance(found, np.ndarray):
            raise TaskError(f"output {name!r} of {self.model} is a {type(found).__name__}, not a tensor")
        if shape is not None and not _fits(found.shape, shape):
            wanted = ", ".join("any" if dim is None else str(dim) for dim in shape)
            raise TaskError(f"output {name!r} of {self.model} has the shape {found.shape}, not ({wanted})")
        return found


class Run(Protocol):
    """Runs the model, and says beforehand what it takes and tells of itself."""

    @property
    def inputs(self) -> Sequence[Argument]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """The model's own metadata_props: class names, a dictionary of characters."""
        ...

    def __call__(self, feeds: Mapping[str, Feed], /) -> Outputs: ...


class Task(ABC, Generic[P, L]):
    """Small, and it pickles: it travels to the processes and machines that evaluate, and makes its samples there."""

    name: str
    model: str
    """What it is for, as the command line names models: a file, or zoo:NAME."""
    metrics: tuple[Metric, ...]
    """The main one first."""

    @abstractmethod
    def samples(self, split: Split) -> Sequence[Sample[L]]:
        """The same samples in the same order on every call and machine, made when they are asked for (see Samples).

        No sample of one split is one of the other.
        """

    @abstractmethod
    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> P:
        """What the model says of one sample, reduced to something small: `run(feeds).tensor("logits").argmax()`.

        A model that carries state from one run to the next is run as often as it takes.
        """

    @abstractmethod
    def grade(self, predictions: Sequence[P], labels: Sequence[L]) -> ArrayLike:
        """Numbers of any shape for each sample, from which `score` can tell the metrics of any choice of samples.

        Called once, with all samples in their order: [right], or [edits, characters] where a metric is a ratio of sums.
        """

    def score(self, grades: Floats) -> Sequence[float]:
        """The metrics of some samples, in the order of `metrics`; NaN where these samples cannot tell.

        grades: [samples, ...] as `grade` gave them, some left out and others repeated. By default their means.
        """
        return [float(mean) for mean in np.atleast_1d(grades.mean(axis=0))]

    def reference(self) -> Path | None:
        """The file of a model whose predictions are the labels; None where the samples have labels of their own."""
        return None


@dataclass(frozen=True)
class Samples(Sequence[Sample[L]]):
    """Samples that are made when they are asked for."""

    length: int
    make: Callable[[int], Sample[L]]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample[L]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample[L]]: ...
    def __getitem__(self, index: int | slice) -> Sample[L] | Sequence[Sample[L]]:
        places = range(self.length)[index]
        return self.make(places) if isinstance(places, int) else [self.make(place) for place in places]


def _fits(found: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(
        dim is None or dim == extent for extent, dim in zip(found, wanted, strict=True)
    )
