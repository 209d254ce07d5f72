"""Measuring the operators whose times passes that prune ask for, to keep to a part of the time of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planish import passes
from planish.passes import PassError, PipelineError
from planish.passes.manager import Stage
from planish.passes.prune.operator_call import Call
from planish.passes.prune.operator_table import MissingTimesError, OperatorTable
from planish.passes.prune.prune_blocks import PruneBlocks
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.compile import optimize
from planish.runtime.operator_times import OperatorTimes
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target


@dataclass(frozen=True)
class OperatorProfile:
    measured: int
    """Operators that were not known before."""
    known: int
    """In the file, now."""
    file: Path | None
    """What `times` takes."""

    def as_dict(self) -> dict[str, object]:
        return {
            "file": None if self.file is None else str(self.file), "measured": self.measured, "known": self.known,
        }  # fmt: skip

    def __str__(self) -> str:
        kept = f"kept in {self.file}: times={self.file}" if self.file else "kept nowhere: there is no cache"
        return f"{self.measured} operators measured, {self.known} known\n{kept}"


def profile_operators(
    models: Sequence[Path],
    pipeline: str,
    target: Target | None = None,
    cache: Path | None = None,
    *,
    progress: Progress = silent,
) -> OperatorProfile:
    """Measure what a pipeline asks for on models, at all counts of channels that its passes may leave there.

    cache: the folder where times are kept. Raises PipelineError for a pipeline in which no pass has `latency`, and what
    `optimize` raises for one that fails for another reason; what was measured by then is kept.
    """
    where = target or Target(threads=1)
    times, measured = OperatorTimes(where, cache), 0
    for model in models:
        while missing := _missing(model, pipeline, times, where):
            for place, call in enumerate(missing):
                progress(f"measuring {call.key}", place / len(missing))
                times.seconds(call)
            measured += len(missing)
    progress("done", 1.0)
    return OperatorProfile(measured, len(times.kept.seconds), times.kept.path)


def _missing(model: Path, pipeline: str, times: OperatorTimes, target: Target) -> tuple[Call, ...]:
    """What a pipeline lacks when it first does; nothing where it runs to its end."""
    table = OperatorTable({key: seconds[0] for key, seconds in times.kept.seconds.items()}, str(times.kept.path or ""))
    stages = [_given(stage, table) for stage in passes.parse(pipeline)]
    if not any(isinstance(stage, PruneChannels | PruneBlocks) and stage.times is table for stage in stages):
        raise PipelineError(
            f"pipeline {pipeline!r}: no pass keeps to a part of the time: prune-channels{{latency=0.6}} does"
        )
    try:
        optimize(model, pipeline=stages, target=target)
    except PassError as error:
        if not isinstance(error.__cause__, MissingTimesError):
            raise
        return error.__cause__.calls
    return ()


def _given(stage: Stage, table: OperatorTable) -> Stage:
    if isinstance(stage, PruneChannels | PruneBlocks) and stage.latency is not None:
        return replace(stage, times=table)
    return stage
