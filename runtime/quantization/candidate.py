"""A model that was tried, and what came of the whole search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planish.runtime.coverage import Coverage
from planish.runtime.fidelity import Fidelity
from planish.runtime.latency import LatencyReport


@dataclass(frozen=True)
class Candidate:
    """A model that was tried."""

    name: str
    bytes: int
    fidelity: Fidelity
    integer: int = 0
    """Nodes that work on codes."""
    drop: float | None = None
    """Of the metric, or of the cosine where there are no labels; None where it was not asked."""
    latency: LatencyReport | None = None
    """Of the model as it came against this one."""


@dataclass(frozen=True)
class QuantizeResult:
    source: Path
    target: Path
    quantized: bool
    """Whether the result is quantized; else it is the optimized float model, and `reason` says why."""
    reason: str
    metric: str
    """What the budget is on."""
    base: float
    """Of the float model."""
    max_drop: float
    candidates: tuple[Candidate, ...]
    """The model as it came, the optimized one, and what was tried of the quantized ones; the last is what was chosen,
    or came nearest to it."""
    excluded: tuple[str, ...]
    """Nodes that stay float for the sake of accuracy."""
    coverage: Coverage | None
    """Which nodes were to be integer, and which are, as ONNX Runtime made them; None where nothing was quantized."""

    @property
    def chosen(self) -> Candidate:
        return self.candidates[-1] if self.quantized else self.candidates[1]
