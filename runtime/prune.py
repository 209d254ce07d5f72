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
from planish.runtime.pruning.search import Search
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
    pruning: PruneChannels | None = None,
    max_drop: float = 0.01,
    reconstructing: bool = True,
    uniform: bool = False,
    target: Target | None = None,
    limit: int | None = None,
    seconds: float = 10.0,
    progress: Progress = silent,
) -> PruneResult:
    """Write the model with the most channels gone whose accuracy drops by no more than `max_drop`.

    Where none holds that, or the result is surely slower, the optimized float model is written, and the result says
    why. Weights are fitted to two thirds of the samples (`reconstruct`), and the budget is on the others.

    Args:
        samples: a task, whose main metric on its calibration split the budget is on; or a folder of .npz files, or
            feeds, for which it is on the cosine between the model's outputs and the pruned one's.
        ratio: the part of the channels of each group that goes. macs: the part of the multiply-accumulates that may
            stay, where each group loses what hurts the outputs the least. Neither: the most that holds the budget, to
            a part of 1/32, by bisection.
        pruning: what units matter by, which stay, and how many go together; its ratio is not looked at. By default
            they go in the order of the least loss ("obs").
        uniform: the same part of every group.
        limit: so many samples; None for all.
        seconds: for measuring a pair of models.

    Raises:
        CalibrationError: there are no samples, or they do not fit the model.
        PipelineError: ratio or macs is no part of one, or both are given.
        GraphError, PassError, SessionError, TaskError: as `optimize`, `reconstruct` and `evaluate`.
    """
    if ratio is not None and macs is not None:
        raise PipelineError("prune takes a ratio or a part of the multiply-accumulates, not both")
    for name, part in (("ratio", ratio), ("macs", macs)):
        if part is not None and not 0 < part < 1:
            raise PipelineError(f"prune takes {name} between 0 and 1, not {part}")
    how = pruning or PruneChannels(importance="obs")
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    if not isinstance(samples, Task | str | os.PathLike | Sequence):
        samples = tuple(samples)  # they are gone through more than once
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        search = Search(
            Path(source), Path(target_path), samples, how, where, Path(folder), max_drop,
            reconstructing, uniform, limit, progress,
        )  # fmt: skip
        return search.run(ratio, macs, seconds)
