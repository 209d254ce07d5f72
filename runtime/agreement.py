"""What a comparison of two models found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from planish.runtime.bindings import Binding
from planish.runtime.difference import Difference
from planish.runtime.latency import LatencyReport
from planish.runtime.providers import Target

Verdict = Literal["equal", "differs"]
RunVerdict = Literal["equal", "differs", "failed", "refused"]


@dataclass(frozen=True)
class RunReport:
    """One set of inputs under one binding.

    `refused`: A itself fails on them, so B may do as it likes; `failed`: B alone does.
    """

    binding: Binding
    inputs: str
    verdict: RunVerdict
    reason: str = ""

    def as_dict(self) -> dict[str, object]:
        return {
            "binding": self.binding.as_dict(),
            "inputs": self.inputs,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class OutputReport:
    """An output over all runs, or a tensor in it where it is a sequence or a map."""

    name: str
    runs: int
    identical: int
    """Runs in which every bit was the same."""
    worst: Difference
    """Of the run that came nearest to what is allowed, or went farthest beyond."""
    where: str
    """That run."""
    allowed: float
    """The largest absolute difference that rounding explains in that run; 0 where every bit must be the same."""
    bound: float
    """What follows from element type and reduction lengths: `allowed` is this, or a multiple of `noise` if more."""
    noise: float | None
    """How far A moves in that run by its own rounding; None where every bit must be the same."""
    verdict: Verdict

    def as_dict(self) -> dict[str, object]:
        worst = self.worst
        return {
            "name": self.name,
            "verdict": self.verdict,
            "runs": self.runs,
            "identical_runs": self.identical,
            "max_abs": worst.max_abs,
            "allowed": self.allowed,
            "relative_l2": worst.relative_l2 if math.isfinite(worst.relative_l2) else None,
            "snr_db": worst.snr_db if math.isfinite(worst.snr_db) else None,
            "cosine": worst.cosine,
            "elements": worst.elements,
            "differing_elements": worst.count,
            "differing_nonfinite": worst.nonfinite,
            "mismatch": worst.mismatch,
            "where": self.where,
            "bound": self.bound,
            "noise": self.noise,
        }


@dataclass(frozen=True)
class CompareReport:
    """`reason` is the first difference in words, or nothing."""

    a: str
    b: str
    verdict: Verdict
    reason: str
    exact: bool
    """Whether bits were compared, or floats within what rounding explains."""
    target: Target
    bindings: tuple[Binding, ...]
    outputs: tuple[OutputReport, ...]
    runs: tuple[RunReport, ...]
    notes: tuple[str, ...]
    """What limits the proof."""
    latency: LatencyReport | None
    seconds: float

    @property
    def equal(self) -> bool:
        return self.verdict == "equal"

    def as_dict(self) -> dict[str, object]:
        return {
            "a": self.a,
            "b": self.b,
            "verdict": self.verdict,
            "reason": self.reason,
            "exact": self.exact,
            "target": self.target.as_dict(),
            "bindings": [binding.as_dict() for binding in self.bindings],
            "outputs": [output.as_dict() for output in self.outputs],
            "runs": [run.as_dict() for run in self.runs],
            "notes": list(self.notes),
            "latency": None if self.latency is None else self.latency.as_dict(),
            "seconds": self.seconds,
        }
