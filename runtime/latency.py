"""What a benchmark found. Ratios are A's time over B's: above 1, B is faster.

Times are those of one run on one machine: only what lies in the same report compares.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from planish.runtime.arm import Memory
from planish.runtime.providers import Target
from planish.runtime.statistics import Interval, Verdict


@dataclass(frozen=True)
class ArmReport:
    """One model's own figures, in seconds."""

    model: str
    median: float
    """Of a run, end to end: numpy arrays in and out."""
    percentiles: Mapping[str, float | None]
    """Of the same runs; None where there are too few to tell."""
    runs: int
    bound_median: float | None
    """Of a run with inputs and outputs bound in the provider's memory; None where `unbound` says why."""
    unbound: str | None
    creation: float
    """Of the session in a fresh process."""
    first_run: float
    memory: Memory
    placement: Mapping[str, int]
    """Nodes by ONNX Runtime's provider name."""
    warm: bool
    """Whether the block medians had settled before the first round."""

    def as_dict(self) -> dict[str, object]:
        return {
            "model": self.model,
            "median_ms": 1e3 * self.median,
            "percentiles_ms": {
                name: "n too small" if value is None else 1e3 * value for name, value in self.percentiles.items()
            },
            "runs": self.runs,
            "bound_median_ms": None if self.bound_median is None else 1e3 * self.bound_median,
            "unbound": self.unbound,
            "creation_ms": 1e3 * self.creation,
            "first_run_ms": 1e3 * self.first_run,
            "baseline_rss_bytes": self.memory.baseline,
            "peak_rss_bytes": self.memory.peak,
            "pss_bytes": self.memory.proportional,
            "placement": dict(self.placement),
            "warm": self.warm,
        }


@dataclass(frozen=True)
class BoundReport:
    """The comparison of runs whose inputs and outputs lie in the provider's memory beforehand."""

    ratio: float
    low: float
    high: float
    verdict: Verdict
    rounds: int

    def as_dict(self) -> dict[str, object]:
        return {
            **Interval(self.ratio, self.low, self.high).as_dict(),
            "verdict": self.verdict,
            "rounds": self.rounds,
        }


@dataclass(frozen=True)
class LatencyReport:
    ratio: float
    """End to end."""
    low: float
    high: float
    """With `low` the 95 % interval; 0 and infinity when the budget did not hold enough rounds."""
    verdict: Verdict
    """On B."""
    noise: Interval
    """A's time over A's in another process, measured in the same rounds."""
    bound: BoundReport | None
    rounds: int
    arms: tuple[ArmReport, ArmReport]
    target: Target
    cores: tuple[int, ...]
    """That every arm may run on; empty where the system does not tell."""
    seconds: float
    note: str
    """What limits the result, or nothing."""

    def as_dict(self) -> dict[str, object]:
        return {
            **Interval(self.ratio, self.low, self.high).as_dict(),
            "verdict": self.verdict,
            "noise": self.noise.as_dict(),
            "bound": None if self.bound is None else self.bound.as_dict(),
            "rounds": self.rounds,
            "a": self.arms[0].as_dict(),
            "b": self.arms[1].as_dict(),
            "target": self.target.as_dict(),
            "cores": list(self.cores),
            "seconds": self.seconds,
            "note": self.note,
        }


@dataclass(frozen=True)
class CreationReport:
    """Session creation, each in a process of its own; the files are in the page cache."""

    ratio: float
    low: float
    high: float
    verdict: Verdict
    a_seconds: tuple[float, ...]
    b_seconds: tuple[float, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            **Interval(self.ratio, self.low, self.high).as_dict(),
            "verdict": self.verdict,
            "a_ms": [1e3 * seconds for seconds in self.a_seconds],
            "b_ms": [1e3 * seconds for seconds in self.b_seconds],
        }
