"""Weights rounded in turn: each for the inputs that it meets once those before it are rounded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from glob import escape
from pathlib import Path

from planish import ir, passes
from planish.ir import Graph, Node
from planish.passes.kernels import kernels_for
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import gram_key
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.passes.quantize.selection import is_named
from planish.runtime.calibrate import calibrate
from planish.runtime.compile import ModelPath
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.samples import Feeds
from planish.runtime.task import Task

Samples = Task[object, object] | str | os.PathLike[str] | Iterable[Feeds]
"""What calibrate takes: a task, a folder of .npz files, or feeds."""


def round_in_turn(
    model: ModelPath,
    samples: Samples,
    stage: QuantizeWeights,
    *,
    together: int = 3,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Graph:
    """The model with its weights stored as `stage` says, rounded by Gram matrices of the partly quantized model.

    So each layer makes up for what those before it did, as Frantar et al. 2023 (GPTQ, arXiv 2210.17323) round a
    transformer block by block; and biases keep the means of the float model's outputs, as Nagel et al. 2019 (arXiv
    1906.04721, section 4.2) correct them.

    together: so many products, in the order of the graph, are rounded by one calibration.

    Raises:
        CalibrationError, GraphError, PassError, SessionError, TaskError: as `calibrate` and `passes.run`.
    """
    where = target or Target(threads=1)
    feeds = samples if isinstance(samples, Task | str | os.PathLike) else tuple(samples)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        path = folder / "whole.onnx"
        ir.save(ir.load(model), path)
        todo = [node for node in ir.load(path).nodes if gram_key(node) is not None and is_named(node, stage.only)]
        weights = list(dict.fromkeys(_weight(node) for node in todo if not is_named(node, stage.exclude)))
        exact = calibrate(path, feeds, tensors=(), grams=("*",), target=where, limit=limit)
        for start in range(0, len(weights), together):
            progress("rounding in turn", start / len(weights))
            chosen = weights[start : start + together]
            graph = ir.load(path)
            nodes = [node for node in graph.nodes if gram_key(node) is not None and _weight(node) in chosen]
            seen = exact
            if start:
                names = tuple(escape(node.result.name) for node in nodes)
                seen = calibrate(path, feeds, tensors=(), grams=names, target=where, limit=limit)
            only = "|".join(map(escape, chosen))
            turn = replace(stage, only=only, embeddings=False, rounding="gram", ranges=_aiming(seen, exact, nodes))
            passes.run(graph, (turn,), kernels=kernels_for(where.provider, where.domains))
            before, path = path, folder / f"partly-{start}.onnx"
            ir.save(graph, path)
            before.unlink()
        result = ir.load(path)
        passes.run(result, (replace(stage, only=f"{stage.only}", rounding="nearest", ranges=None),))
        return ir.load(ir.emit(result))


def _weight(node: Node) -> str:
    operand = node.operand(1)
    return "" if operand is None else operand.name


def _aiming(seen: Calibration, exact: Calibration, nodes: Iterable[Node]) -> Calibration:
    """The Gram matrices of what the nodes read, with the means that the float model has there."""
    keys = {key for node in nodes if (key := gram_key(node)) is not None and key in seen.grams}
    grams = {key: replace(seen.grams[key], wanted=exact.grams[key].mean) for key in keys if key in exact.grams}
    return replace(seen, grams=grams, path="")
