"""How much of a model's outputs is left in another one that computes nearly the same, on the same inputs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from planish.runtime.difference import is_float
from planish.runtime.model_run import session_run
from planish.runtime.providers import Target
from planish.runtime.samples import Feeds, Parts
from planish.runtime.session import Result, Session

Doubles = NDArray[np.float64]
T = TypeVar("T")
_TINY = 1e-30


@dataclass(frozen=True)
class Fidelity:
    """Means over samples; of all outputs of floating point together."""

    noise: float
    """Of |y - y'|^2 / |y|^2."""
    cosine: float
    agreement: float
    """The part of rows, along the last axis of the first output, whose largest element is the same."""

    @property
    def snr(self) -> float:
        """Signal to noise, in dB."""
        return -10 * math.log10(max(self.noise, _TINY))


@dataclass(frozen=True)
class References:
    """Inputs, and what the model that is the measure makes of them."""

    feeds: tuple[Feeds, ...]
    outputs: tuple[tuple[Doubles, ...], ...]

    def alike(self, least: int) -> list[Feeds]:
        """The inputs of the most frequent shapes, repeated until there are so many."""
        groups: dict[object, list[Feeds]] = {}
        for feeds in self.feeds:
            key = tuple(
                [(name, np.shape(feed) if isinstance(feed, np.ndarray) else ()) for name, feed in feeds.items()]
            )
            groups.setdefault(key, []).append(feeds)
        most = max(groups.values(), key=len)
        return [most[index % len(most)] for index in range(max(least, len(most)))]

    def fidelity(self, model: str | os.PathLike[str], target: Target) -> Fidelity:
        """Of a model's outputs. Raises SessionError where ONNX Runtime cannot open or run it."""
        return self.fidelity_of(Session(model, target).run)

    def fidelity_of(self, run: Callable[[Feeds], Sequence[Result]]) -> Fidelity:
        """Of what a function makes of the inputs."""
        noises: list[float] = []
        cosines: list[float] = []
        same: list[float] = []
        for feeds, wanted in zip(self.feeds, self.outputs, strict=True):
            found = floats_of(run(feeds))
            a, b = _row(wanted), _row(found)
            power = float(a @ a)
            noises.append(float((a - b) @ (a - b)) / max(power, _TINY))
            cosines.append(float(a @ b) / max(math.sqrt(power * float(b @ b)), _TINY) if power else float(not b.any()))
            same.append(_agreement(wanted[0], found[0]) if wanted else 1.0)
        return Fidelity(float(np.mean(noises)), float(np.mean(cosines)), float(np.mean(same)))


def record(model: str | os.PathLike[str], parts: Parts[object], target: Target, most: int) -> References:
    """Run the model on samples, and keep what went in and what came out of at most so many runs, evenly spread."""
    runs: list[tuple[Feeds, tuple[Doubles, ...]]] = []
    run = session_run(Session(model, target), lambda feeds, results: runs.append((dict(feeds), floats_of(results))))
    for item in _spread([item for part in parts.parts for item in part], most):
        parts.runner.run(item, run)
    kept = _spread(runs, most)  # a sample may run a model more than once
    return References(tuple([feeds for feeds, _ in kept]), tuple([outputs for _, outputs in kept]))


def _spread(items: Sequence[T], most: int) -> list[T]:
    """So many at most, evenly spread."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def floats_of(results: Sequence[Result]) -> tuple[Doubles, ...]:
    """The tensors of floating point among outputs."""
    arrays = [result for result in results if isinstance(result, np.ndarray) and is_float(result)]
    return tuple([array.astype(np.float64) for array in arrays])


def _row(arrays: Sequence[Doubles]) -> Doubles:
    return np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.zeros(0)


def _agreement(wanted: Doubles, found: Doubles) -> float:
    if wanted.shape != found.shape or wanted.ndim < 1 or not wanted.size:
        return float(wanted.shape == found.shape)
    return float((wanted.argmax(-1) == found.argmax(-1)).astype(np.float64).mean())
