"""How good a model is on samples that no weight was fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from planish.runtime.evaluate import evaluate
from planish.runtime.fidelity import References, record
from planish.runtime.providers import Target
from planish.runtime.pruning.held_out import HeldOut, held_out
from planish.runtime.reconstruct import Samples
from planish.runtime.samples import Parts, parts_of
from planish.runtime.task import Task

_RUNS = 24
"""On which the cosine of outputs is told."""


@dataclass(frozen=True)
class Worth:
    """A task's main metric or, without labels, the cosine between a model's outputs and those of the source."""

    source: Path
    samples: Samples
    limit: int | None
    target: Target

    @property
    def metric(self) -> str:
        return "cosine" if self._task is None else self._task.metrics[0].name

    @property
    def judged(self) -> int:
        """Samples that it is of."""
        return len(self.references.feeds) if self._task is None else len(self._task.places)

    @property
    def parts(self) -> Parts[object]:
        return held_out(parts_of(self.samples, self.limit))

    @cached_property
    def references(self) -> References:
        return record(self.source, self.parts, self.target, _RUNS)

    @cached_property
    def base(self) -> float:
        """Of the source."""
        return self.value(self.source)

    def value(self, model: Path) -> float:
        if self._task is None:
            return self.references.fidelity(model, self.target).cosine
        return evaluate(model, self._task, target=self.target, split="calibration").value

    def drop(self, value: float) -> float:
        """How far a value lies below the source's."""
        rises = self._task is None or self._task.metrics[0].higher_is_better
        return self.base - value if rises else value - self.base

    @cached_property
    def _task(self) -> HeldOut | None:
        return HeldOut(self.samples, parts_of(self.samples, self.limit)) if isinstance(self.samples, Task) else None
