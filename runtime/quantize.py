"""Quantizing a model within a budget of accuracy: what is integer is faster and proved, the rest stays float."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from planish.runtime.compile import ModelPath
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.quantization.candidate import Candidate, QuantizeResult
from planish.runtime.quantization.search import Search, placement_of
from planish.runtime.quantization.trials import Samples
from planish.runtime.task import Task

__all__ = ["Candidate", "QuantizeResult", "placement_of", "quantize"]


def quantize(
    source: ModelPath,
    target_path: ModelPath,
    samples: Samples,
    *,
    max_drop: float = 0.005,
    target: Target | None = None,
    only: str = "*",
    exclude: str = "",
    limit: int | None = None,
    seconds: float = 10.0,
    cache: Path | None = None,
    progress: Progress = silent,
) -> QuantizeResult:
    """Write the fastest model whose accuracy drops by no more than `max_drop`, the optimized float one if that is it.

    The whole is quantized first; then what costs most accuracy goes back to float, until the budget holds.

    Args:
        samples: a task, whose main metric on its calibration split the budget is on; or a folder of .npz files, or
            feeds, for which it is on the cosine between the float model's outputs and the quantized one's.
        only, exclude: patterns of nodes, joined by |, that may be quantized, and that may not.
        limit: so many samples; None for all.
        seconds: for measuring a pair of models.
        cache: a folder where times of kernels are kept for the next model.

    Raises:
        CalibrationError: there are no samples, or they do not fit the model.
        GraphError, PassError, SessionError, TaskError: as `optimize`, `calibrate` and `evaluate`.
    """
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    if not isinstance(samples, Task | str | os.PathLike | Sequence):
        samples = tuple(samples)  # they are gone through more than once
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        search = Search(Path(source), Path(target_path), samples, where, Path(folder), max_drop, limit, progress)
        return search.run(only, exclude, seconds, cache)
