"""Weights rounded in turn: each for the inputs that it meets once those before it are rounded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

import numpy as np

from planish import ir, passes
from planish.ir import Graph
from planish.passes.kernels import Kernels, kernels_for
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import Gram, gram_key
from planish.passes.quantize.quantize_weights import QuantizeWeights
from planish.passes.quantize.rounding.shrinkage import shrunk
from planish.runtime.compile import ModelPath
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.pruning.fitting import RIDGES, Change, Moments
from planish.runtime.pruning.product import Product
from planish.runtime.pruning.side_by_side import Seen
from planish.runtime.pruning.turns import Pair, Samples, Turns
from planish.runtime.task import Task


def round_in_turn(
    model: ModelPath,
    samples: Samples,
    stage: QuantizeWeights,
    *,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Graph:
    """The model with its weights stored as `stage` says, rounded layer by layer beside the float model.

    Each product is first fitted, as `reconstruct` fits it, so that it gives what the float model gives there although
    what it takes is of rounded layers by now, and makes up for what a skip lost; then its weights are rounded by the
    Gram matrix of what it takes. Frantar et al. 2023 (GPTQ, arXiv 2210.17323) round layer by layer; that the weights to
    round are those which reproduce the float model's outputs from the rounded model's inputs is in Li et al. 2025
    (GPTAQ, arXiv 2504.02692). Products with a scale for each channel gain most; it takes some hundred samples.

    Raises:
        CalibrationError, GraphError, PassError, SessionError, TaskError: as `calibrate` and `passes.run`.
    """
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    given = samples if isinstance(samples, Task | str | os.PathLike) else tuple(samples)
    kernels = kernels_for(where.provider, where.domains)

    def wants(product: Product) -> bool:
        return stage.wants(product.node)

    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        paths = Path(folder) / "original.onnx", Path(folder) / "rounded.onnx"
        for path in paths:
            ir.save(ir.load(model), path)
        work = _Rounding(stage, kernels)
        taken = Turns(*paths, given, where, limit).run("rounding in turn", work, progress, wants)
        others = replace(stage, rounding="nearest", ranges=None)  # tables, and what had no turn
        passes.run(taken.graph, (others,), kernels=kernels)
        return ir.load(ir.emit(taken.graph))


@dataclass(frozen=True)
class _Rounding:
    stage: QuantizeWeights
    kernels: Kernels

    def __call__(self, graph: Graph, pair: Pair, seen: Seen) -> None:
        name = pair.product.node.result.name
        change = _fitted(pair.product, seen)
        if change is not None:
            pair.product.apply(change)
        gram = seen.fitted.merged(seen.held_out).gram
        node = next(node for node in graph.nodes if node.results and node.results[0].name == name)
        key = gram_key(node)
        if gram is None or key is None:
            return
        trusted = np.stack([shrunk(*each, gram.count) for each in zip(gram.matrix, gram.mean, strict=True)])
        ranges = Calibration({}, {key: Gram(trusted, gram.mean, gram.count)})
        turn = replace(self.stage, only=escape(name), exclude="", embeddings=False, rounding="gram", ranges=ranges)
        passes.run(graph, (turn,), kernels=self.kernels)


def _fitted(product: Product, seen: Seen) -> Change | None:
    """What does best on the samples that are held out, fitted to all of them; None where nothing does better."""
    has_bias = product.bias is not None
    both = seen.fitted.merged(seen.held_out)

    def fits(ridge: float) -> Callable[[Moments], Change | None]:
        return lambda moments: moments.fit(ridge, with_bias=has_bias)

    ways = [fits(ridge) for ridge in RIDGES] + ([Moments.shift] if has_bias else [])
    errors = [seen.held_out.error(way(seen.fitted)) for way in ways]
    least = min(errors)
    if not least < seen.held_out.error():
        return None
    change = ways[errors.index(least)](both)
    return None if change is None else product.rounded(change)
