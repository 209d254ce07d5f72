"""A pruned model that was tried, and what came of the whole search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from planish.runtime.latency import LatencyReport
from planish.runtime.reconstruct import LayerReport


@dataclass(frozen=True)
class GroupLoss:
    """What went of a group of channels that vanish together, or of the heads of a layer."""

    name: str
    units: int
    """Before."""
    gone: int
    is_heads: bool = False


@dataclass(frozen=True)
class PruneCandidate:
    name: str
    ratio: float
    """The part of the units that is gone, of each group or, where these lost different parts, of all."""
    parameters: int
    macs: int | None
    """Of a run on the first sample; None where extents that data decide leave it open."""
    bytes: int
    value: float
    """Of the metric on samples that no weight was fitted to."""
    drop: float
    layers: tuple[LayerReport, ...] = ()
    """What the reconstruction made of each product."""
    groups: tuple[GroupLoss, ...] = ()
    """Those that lost units."""
    latency: LatencyReport | None = None
    """Of the model as it came against this one."""


@dataclass(frozen=True)
class PruneResult:
    source: Path
    target: Path
    pruned: bool
    """Whether the result is pruned; else it is the optimized float model, and `reason` says why."""
    reason: str
    metric: str
    """What the budget is on."""
    judged: int
    """Samples that the metric is of."""
    max_drop: float
    candidates: tuple[PruneCandidate, ...]
    """The model as it came, the optimized one, and what was tried; where one was chosen, it is the last."""

    @property
    def chosen(self) -> PruneCandidate:
        return self.candidates[-1] if self.pruned else self.candidates[1]
