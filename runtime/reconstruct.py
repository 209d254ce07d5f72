"""Weights of a pruned model fitted again, layer by layer, to what the original gives: no training, no labels."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from planish import ir
from planish.ir import Graph
from planish.ir.ops.channels.atoms import Ids
from planish.passes.prune.slicing import SUFFIX
from planish.runtime.files import Model, at_path
from planish.runtime.model_run import Face
from planish.runtime.progress import Progress, silent
from planish.runtime.providers import Target
from planish.runtime.pruning.fitting import RIDGES, Change
from planish.runtime.pruning.kept_outputs import kept_outputs
from planish.runtime.pruning.product import Product, products
from planish.runtime.pruning.side_by_side import Layer, Seen, Watched, look
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.task import Task

Samples = Task[object, object] | str | os.PathLike[str] | Iterable[Feeds]
"""What calibrate takes: a task, a folder of .npz files, or feeds."""
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
    there, the weights stay. Sums are float64; of the tensors, those of one sample are held at a time.

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
        path = folder / "original.onnx"
        ir.save(ir.load(at_path(stack, original, "graph.onnx")), path)
        turns = _Turns(folder, path, given, where, limit)
        found = turns.run(ir.load(at_path(stack, pruned, "graph.onnx")), progress)
        if output is not None:
            ir.save(found.graph, output)
        return replace(found, graph=ir.load(ir.emit(found.graph)))  # which holds on to no file of the folder


class _Pair(NamedTuple):
    product: Product
    layer: Layer


@dataclass(frozen=True)
class _Turns:
    folder: Path
    original: Path
    samples: Samples
    target: Target
    limit: int | None

    def run(self, graph: Graph, progress: Progress) -> ReconstructResult:
        path = self._saved(graph, "pruned")
        graph = ir.load(path)
        pairs, left = self._pairs(graph)
        kept = {pair.layer.wanted: pair.layer.kept for pair in pairs}
        levels = sorted({pair.product.level for pair in pairs})
        reports: list[LayerReport] = []
        for place, level in enumerate(levels):
            progress("reconstructing", place / len(levels))
            graph = ir.load(path)
            chosen = [pair for pair in self._pairs(graph, kept)[0] if pair.product.level == level]
            news = [self._fitted(pair, seen) for pair, seen in zip(chosen, self._look(path, chosen), strict=True)]
            reports += [report for report, _ in news]
            for pair, (_, change) in zip(chosen, news, strict=True):
                if change is not None:
                    pair.product.apply(change)
            if any(change is not None for _, change in news):
                before, path = path, self._saved(graph, f"partly-{level}")
                before.unlink()
        return ReconstructResult(ir.load(path), (*reports, *left), kept)

    def _saved(self, graph: Graph, name: str) -> Path:
        ir.save(graph, self.folder / f"{name}.onnx")
        return self.folder / f"{name}.onnx"

    def _pairs(self, graph: Graph, kept: Mapping[str, Ids] | None = None) -> tuple[list[_Pair], list[LayerReport]]:
        """Products and what they correspond to. kept: known from a first time, when the weights still told it."""
        source = ir.load(self.original)
        results = {value.name for node in source.nodes for value in node.results}
        nodes = {node.results[0].name: node for node in source.nodes if node.results}
        found, reasons = products(graph)
        pairs: list[_Pair] = []
        for product in found:
            name, wanted = _name(product.node.result.name, nodes), _name(product.wanted.name, results)
            outputs = None if kept is None else kept.get(product.wanted.name)
            if kept is None and name in nodes and wanted in results:
                outputs = kept_outputs(nodes[name], product.node)
            if outputs is None:
                reasons = {**reasons, product.node.result.name: "its counterpart in the original is not to be found"}
                continue
            layer = Layer(
                product.x.name, product.wanted.name, wanted, outputs, product.rows, product.groups, product.channel
            )
            pairs.append(_Pair(product, layer))
        return pairs, [LayerReport(name, reason=reason) for name, reason in reasons.items()]

    def _look(self, pruned: Path, chosen: Sequence[_Pair]) -> list[Seen]:
        layers = [pair.layer for pair in chosen]
        names = list(dict.fromkeys(layer.original for layer in layers))
        ours = list(dict.fromkeys(name for layer in layers for name in (layer.x, layer.wanted)))
        wanted = Watched(
            ir.load(self.original), names, self.folder / "wanted.onnx", self.target,
            outputs=isinstance(self.samples, Task),
        )  # fmt: skip
        given = Watched(ir.load(pruned), ours, self.folder / "given.onnx", self.target, outputs=False)
        face = Face.of(self.original, self.target)
        return look(wanted, given, layers, parts_of(self.samples, self.limit), face)

    def _fitted(self, pair: _Pair, seen: Seen) -> tuple[LayerReport, Change | None]:
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
        return LayerReport(name, before, after, "kept"), held[errors.index(after)]


def _name(name: str, known: Container[str]) -> str:
    """The name in the original of a value that shrank once or more."""
    while name not in known and name.endswith(SUFFIX):
        name = name.removesuffix(SUFFIX)
    return name
