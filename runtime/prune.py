"""Pruning a model within a budget of accuracy: channels go, what is left is fitted to make up for them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from planish.passes.errors import PipelineError
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.compile import ModelPath
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.pruning.candidate import PruneCandidate, PruneResult
from planish.runtime.pruning.search import Goal, Search
from planish.runtime.reconstruct import Samples
from planish.runtime.task import Task

__all__ = ["PruneCandidate", "PruneResult", "prune"]


def prune(
    source: ModelPath,
    target_path: ModelPath,
    samples: Samples,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    latency: float | None = None,
    params: float | None = None,
    pruning: PruneChannels | None = None,
    max_drop: float = 0.01,
    reconstructing: bool = True,
    uniform: bool = False,
    steps: int = 1,
    target: Target | None = None,
    limit: int | None = None,
    seconds: float = 10.0,
    cache: Path | None = None,
    progress: Progress = silent,
) -> PruneResult:
    """Write the model with the most channels gone whose accuracy drops by no more than `max_drop`.

    Where none holds that, or the result is surely slower, the optimized float model is written, and the result says
    why. Weights are fitted to two thirds of the samples (`reconstruct`), and the budget is on the others.

    Args:
        samples: a task, whose main metric on its calibration split the budget is on; or a folder of .npz files, or
            feeds, for which it is on the cosine between the model's outputs and the pruned one's.
        ratio: the part of the channels of each group that goes. macs: the part of the multiply-accumulates that may
            stay, where each group of channels, and of whole heads, loses what hurts the outputs the least. params: of
            the parameters, but for biases that are new. latency: of the optimized model's time, on the target; what
            operators take by themselves tells what goes, and the whole is measured. None of them: the most that holds
            the budget, to a part of 1/32, by bisection.
        pruning: what units matter by, which stay, and how many go together; its ratio and budgets are not looked at. By
            default they go in the order of the least loss ("obs").
        uniform: the same part of every group of channels. steps: to a part of the multiply-accumulates in so many
            steps; after each the weights are fitted, and the units measured anew.
        limit: so many samples; None for all.
        seconds: for measuring a pair of models.
        cache: a folder where times of operators are kept for the next model.

    Raises:
        CalibrationError: there are no samples, or they do not fit the model.
        PipelineError: ratio, macs, latency or params is no part of one, or two of them are given.
        GraphError, PassError, SessionError, TaskError: as `optimize`, `reconstruct` and `evaluate`.
    """
    given = {"ratio": ratio, "macs": macs, "latency": latency, "params": params}
    parts = {name: part for name, part in given.items() if part is not None}
    if len(parts) > 1:
        raise PipelineError(f"prune takes {' or '.join(parts)}, not both")
    for name, part in parts.items():
        if not 0 < part < 1:
            raise PipelineError(f"prune takes {name} between 0 and 1, not {part}")
    if steps < 1:
        raise PipelineError(f"prune takes 1 step or more, not {steps}")
    how = pruning or PruneChannels(importance="obs")
    how = replace(how, ratio=None, ratios=None, macs=None, params=None, latency=None, times=None)
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    if not isinstance(samples, Task | str | os.PathLike | Sequence):
        samples = tuple(samples)  # they are gone through more than once
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        search = Search(
            Path(source), Path(target_path), samples, how, where, Path(folder), max_drop,
            reconstructing, uniform, steps, limit, Goal(ratio, macs, latency, params), seconds, cache, progress,
        )  # fmt: skip
        return search.run()
