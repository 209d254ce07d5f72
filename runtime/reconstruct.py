"""Weights of a pruned model fitted again, layer by layer, to what the original gives: no training, no labels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from planish import ir
from planish.ir import Graph
from planish.ir.ops.channels.atoms import Ids
from planish.runtime.files import Model, at_path
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.pruning.distributions import Affine, fitted
from planish.runtime.pruning.fitting import RIDGES, Change
from planish.runtime.pruning.product import Product
from planish.runtime.pruning.side_by_side import Seen
from planish.runtime.pruning.turns import Pair, Samples, Turns
from planish.runtime.task import Task

_SAME = 1e-9
"""Of the power of a result: less is rounding."""

Verdict = Literal["kept", "rejected", "same", "left"]


@dataclass(frozen=True)
class LayerReport:
    """One product. Errors are squares of what its result lacks of the original's, over that result's variance."""

    name: str
    """Of its result in the pruned model."""
    before: float | None = None
    after: float | None = None
    """With `before` on samples that were held out of the fit; None where none was made."""
    verdict: Verdict = "left"
    """kept: its weights are new ones. rejected: they would not do better on other samples. same: it lacks nothing.
    left: it cannot be fitted, and `reason` says why."""
    reason: str = ""

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class ReconstructResult:
    graph: Graph = field(repr=False)
    layers: tuple[LayerReport, ...]
    """In the order in which they were fitted; those that were left come last."""
    kept: Mapping[str, Ids] = field(repr=False)
    """Of each product by the name of its result, the outputs of the original's that it makes."""

    def as_dict(self) -> dict[str, object]:
        return {"layers": [layer.as_dict() for layer in self.layers]}


def reconstruct(
    original: Model,
    pruned: Model,
    samples: Samples,
    *,
    output: str | os.PathLike[str] | None = None,
    target: Target | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> ReconstructResult:
    """Fit the weights and biases of a pruned model so that its products give what the original's gave.

    Each Conv, Gemm and MatMul in turn, in the order of the graph, for what those before it give by then; a product that
    is added to a skip makes up for what that lost, too. The least squares are those of He, Zhang and Sun 2017 (arXiv
    1707.06168), with the ridge that does best on every third sample, which is held out; where none lowers the error
    there, the weights stay. Both models run in steps, each layer twice at most; what later steps need of every sample
    is kept, 256 MiB of it in memory and the rest in a temporary folder. Sums are float64.

    Args:
        pruned: what `prune-channels` made of the original; neither is changed.
        output: a file to write the result to.
        limit: so many samples, evenly spread over a task or a folder; the first ones of an iterable.

    Raises:
        CalibrationError: there are no samples, or they or the two models do not fit each other.
        GraphError, SessionError, TaskError: as `calibrate`.
    """
    where = replace(target or Target(), threads=(target or Target()).threads or 1)
    given = samples if isinstance(samples, Task | str | os.PathLike) else tuple(samples)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="planish-")))
        paths = folder / "original.onnx", folder / "pruned.onnx"
        for model, path in zip((original, pruned), paths, strict=True):
            ir.save(ir.load(at_path(stack, model, "graph.onnx")), path)
        reports: list[LayerReport] = []

        def fit(_: Graph, pair: Pair, seen: Seen) -> None:
            report, change = _fitted(pair, seen)
            reports.append(report)
            if change is not None:
                pair.product.apply(change)

        taken = Turns(*paths, given, where, limit).run("reconstructing", fit, progress)
        if output is not None:
            ir.save(taken.graph, output)
        reports += [LayerReport(name, reason=reason) for name, reason in taken.left.items()]
        kept = {pair.layer.wanted: pair.layer.kept for pair in taken.pairs}
        graph = ir.load(ir.emit(taken.graph))  # which holds on to no file of the folder
        return ReconstructResult(graph, tuple(reports), kept)


def _fitted(pair: Pair, seen: Seen) -> tuple[LayerReport, Change | None]:
    """The best change on the samples that were held out."""
    name = pair.product.node.result.name
    if not seen.fitted.count or not seen.held_out.count:
        return LayerReport(name, reason="it takes two samples with finite numbers: one to fit, one to judge"), None
    before = seen.held_out.error()
    if max(before, seen.fitted.error()) <= _SAME:
        return LayerReport(name, before, before, "same"), None
    changes = [seen.fitted.fit(ridge, with_bias=pair.product.bias is not None) for ridge in RIDGES]
    held = [made for change in changes if change is not None and (made := pair.product.rounded(change)) is not None]
    errors = [seen.held_out.error(change) for change in held]
    after = min(errors, default=before)
    if not after < before:
        return LayerReport(name, before, after, "rejected"), None
    change = held[errors.index(after)]
    if pair.layer.feeds_softmax:
        change = _likelier(pair.product, seen, change)
        after = seen.held_out.error(change)
    return LayerReport(name, before, after, "kept"), change


def _likelier(product: Product, seen: Seen, change: Change) -> Change:
    """The change, gone on with for what the softmax gives, unless its logits would do worse than those of old."""
    old = product.affine
    if old is None:
        return change
    start = Affine(old.weight + change.weight[0], old.bias + change.bias[0])
    new = fitted(seen.likely, seen.judging, start)
    made = product.rounded(Change((new.weight - old.weight)[None], (new.bias - old.bias)[None]))
    return change if made is None or seen.held_out.error(made) >= seen.held_out.error() else made
