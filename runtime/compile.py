"""Optimizing a file: load, run the passes, save."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from planish import ir, passes
from planish.ir import Graph
from planish.ir.collection import paused_collection
from planish.ir.emit_file import ExternalData, check_target
from planish.passes import Fixpoint, Instrument, PassRecord, Rewrite
from planish.passes.kernels import kernels_for
from planish.passes.manager import Stage, node_count
from planish.passes.run import Fp
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target

ModelPath = str | os.PathLike[str]
_LOADED, _RUN = 0.2, 0.8  # of the progress; measured times differ too much between models to say more


@dataclass(frozen=True)
class OptimizeResult:
    """What became of a model. Nodes are counted in nested graphs too, Constant nodes left out."""

    graph: Graph
    source: Path
    target: Path | None
    records: tuple[PassRecord, ...]
    """One a pass, in the order of the pipeline."""
    nodes_before: int
    nodes_after: int
    bytes_before: int
    """Of the file and its external data."""
    bytes_after: int | None
    """None when nothing was written."""
    load_seconds: float
    run_seconds: float
    save_seconds: float

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """Every rewrite in the order in which they fired: `limit=N` keeps the first N."""
        return tuple(sorted((r for record in self.records for r in record.rewrites), key=lambda r: r.number))

    def as_dict(self) -> dict[str, object]:
        return {
            "source": str(self.source),
            "notes": list(self.graph.notes),
            "target": None if self.target is None else str(self.target),
            "passes": [
                {
                    "name": record.name,
                    "rewrites": len(record.rewrites),
                    "nodes_before": record.nodes_before,
                    "nodes_after": record.nodes_after,
                    "seconds": record.seconds,
                    "notes": list(record.notes),
                }
                for record in self.records
            ],
            "rewrites": [
                {
                    "number": rewrite.number,
                    "pass": rewrite.pass_name,
                    "rule": rewrite.rule,
                    "sources": list(rewrite.sources),
                    "result": rewrite.result,
                }
                for rewrite in self.rewrites
            ],
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "load_seconds": self.load_seconds,
            "run_seconds": self.run_seconds,
            "save_seconds": self.save_seconds,
        }


@paused_collection()
def optimize(
    source: ModelPath,
    target_path: ModelPath | None = None,
    *,
    pipeline: str | Sequence[Stage] = "deploy",
    target: Target | None = None,
    opset: int | None = None,
    fp: Fp = "default",
    limit: int | None = None,
    external_data: ExternalData = "auto",
    functions: Literal["keep", "inline"] = "inline",
    strict: bool = False,
    instruments: Sequence[Instrument] = (),
    progress: Progress = silent,
) -> OptimizeResult:
    """Run a pipeline on the model in `source` and write the result to `target_path`, or nowhere.

    Args:
        target: where the result is to run: no pass adds a node for which its provider has no kernel, or whose domain
            it does not allow. By default the CPU provider, and standard operators alone.
        opset: of the standard operators in the result, which no pass then raises; None keeps the model's own, or the
            lowest that a pass needs.
        fp: which rewrites may fire: `strict` those that keep every bit, `default` also those that reassociate float
            arithmetic, `fast` also approximate ones.
        limit: stop after so many rewrites, to find the one that does harm.
        external_data: whether weights go to a file beside the model; `auto` where they do not fit or came that way.
        functions: `inline` lets passes see inside the model's local functions and dissolves them.
        strict: refuse a model with a fault that could be repaired; what was repaired is in the result's notes.
        instruments: look on while the passes run.

    Raises:
        GraphError: the model is not valid, `target_path` cannot be written, or `opset` cannot express the result.
        PipelineError: the pipeline cannot be read.
        PassError: a pass failed; names the pass, the rule and the node. Nothing is written then.
    """
    stages = passes.parse(pipeline) if isinstance(pipeline, str) else tuple(pipeline)
    begin = time.perf_counter()
    progress(f"loading {source}", 0.0)
    graph = ir.load(source, functions=functions, strict=strict)
    if target_path is not None:
        check_target(graph, target_path)
    bytes_before = size_on_disk(Path(source), graph.data_files)
    nodes_before = node_count(graph)
    loaded = time.perf_counter()
    watch = _Watch(progress, _leaves(stages))
    where = target or Target()
    records = passes.run(
        graph,
        stages,
        fp=fp,
        limit=limit,
        kernels=kernels_for(where.provider, where.domains),
        newest_opset=opset,
        instruments=(watch, *instruments),
    )
    ran = time.perf_counter()
    written: tuple[Path, ...] = ()
    if target_path is not None:
        progress(f"writing {target_path}", _RUN)
        written = ir.save(graph, target_path, opset=opset, external_data=external_data)
    saved = time.perf_counter()
    progress("done", 1.0)
    return OptimizeResult(
        graph=graph,
        source=Path(source),
        target=None if target_path is None else Path(target_path),
        records=records,
        nodes_before=nodes_before,
        nodes_after=node_count(graph),
        bytes_before=bytes_before,
        bytes_after=sum(file.stat().st_size for file in written) if written else None,
        load_seconds=loaded - begin,
        run_seconds=ran - loaded,
        save_seconds=saved - ran,
    )


def size_on_disk(model: Path, data_files: Sequence[Path]) -> int:
    """Bytes of a model's file and of its external data."""
    return sum(file.stat().st_size for file in (model, *data_files))


def _leaves(stages: Sequence[Stage]) -> int:
    return sum(_leaves(stage.stages) if isinstance(stage, Fixpoint) else 1 for stage in stages)


@dataclass
class _Watch(Instrument):
    """Tells progress which pass is running. How often a fixpoint repeats is not known, so its later rounds stand."""

    progress: Progress
    total: int
    _turn: int = field(default=0, init=False)

    def before(self, name: str, graph: Graph) -> bool:
        self._turn += 1
        part = min(1.0, (self._turn - 1) / max(self.total, 1))
        self.progress(name, _LOADED + (_RUN - _LOADED) * part)
        return True
