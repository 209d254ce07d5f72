"""How much the outputs of a model suffer when one group alone loses units, its readers fitted anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import Graph
from planish.ir.ops.channels.atoms import Flags
from planish.passes.prune.dependency import Group
from planish.passes.prune.importance.consumers import Reading, readings, weights
from planish.passes.prune.importance.removal_order import DAMPING
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.prune.ratios import Ratios
from planish.passes.prune.slicing import SUFFIX
from planish.passes.quantize.gram import Gram, aim_of
from planish.runtime.fidelity import References
from planish.runtime.providers import Target
from planish.runtime.pruning.fitting import Change
from planish.runtime.pruning.product import Product, products

Doubles = NDArray[np.float64]
_RIDGES = (DAMPING, 1e-2, 0.1, 1.0, 10.0)
"""Parts of the mean of the diagonal of X^T X."""


@dataclass(frozen=True)
class Sensitivity:
    """form: the file of the model. pruning: with scores. grams: of samples that readers are fitted to. judging, and
    references, what the outputs are: of others, on which the fit chooses its ridge, too."""

    form: Path
    pruning: PruneChannels
    grams: Mapping[str, Gram]
    judging: Mapping[str, Gram]
    references: References
    target: Target
    folder: Path

    def noise(self, key: str, group: Group, gone: Flags) -> float:
        """|y - y'|^2 / |y|^2 over all outputs, without those units."""
        graph = ir.load(self.form)
        ratios = Ratios(((key, float(gone.sum())),))
        passes.run(graph, (replace(self.pruning, ratios=ratios, round_to=1, keep="", merge_bias=False),))
        refit(graph, group, gone, self.grams, self.judging)
        path = self.folder / "one-group.onnx"
        ir.save(graph, path)
        return self.references.fidelity(path, self.target).noise


def refit(graph: Graph, group: Group, gone: Flags, grams: Mapping[str, Gram], judging: Mapping[str, Gram]) -> None:
    """Change the weights of what reads a group, in a graph without its units, to make up for them."""
    made = {_plain(product.node.result.name): product for product in products(graph)[0]}
    for reading in readings(group):
        gram, product = grams.get(reading.key), made.get(_plain(reading.node.result.name))
        if gram is None or product is None:
            continue
        change = _best(_Reader(reading, gone, product.bias is not None), gram, judging.get(reading.key))
        found = product.rounded(change) if change is not None and _fits(product, change) else None
        if found is not None:
            product.apply(found)


class _Reader(NamedTuple):
    reading: Reading
    gone: Flags
    has_bias: bool

    def parts(self) -> Iterator[tuple[Doubles, Flags]]:
        """Of each group of the product its weight [k, outputs], and which rows of it stay."""
        for weight, units in zip(weights(self.reading.node), self.reading.units, strict=True):
            yield weight, ~((units >= 0) & self.gone[units])


def _best(reader: _Reader, gram: Gram, judging: Gram | None) -> Change | None:
    """With the ridge that leaves the product lacking least on other samples; where there are none, with the least."""
    found = [change for ridge in _RIDGES if (change := _change(reader, gram, ridge)) is not None]
    if judging is None or not judging.count:
        return next(iter(found), None)
    return min(found, key=lambda change: _lacking(reader, judging, change), default=None)


def _change(reader: _Reader, gram: Gram, ridge: float) -> Change | None:
    news: list[Doubles] = []
    biases: list[Doubles] = []
    for place, (weight, stays) in enumerate(reader.parts()):
        h, mean = aim_of(gram, place, has_bias=reader.has_bias), gram.mean[place]
        level = float(np.trace(h)) / len(h)
        if not np.isfinite(level) or level <= 0:
            return None
        h = h / level + ridge * np.eye(len(h))
        wanted = np.asarray(h[np.ix_(stays, ~stays)] @ weight[~stays], np.float64)
        extra = np.asarray(np.linalg.solve(h[np.ix_(stays, stays)], wanted), np.float64)
        news.append(extra)
        biases.append(mean[~stays] @ weight[~stays] - mean[stays] @ extra)
    if len({new.shape for new in news}) != 1:
        return None
    return Change(np.stack(news), np.stack(biases))


def _lacking(reader: _Reader, gram: Gram, change: Change) -> float:
    """Mean squares of what the outputs of the product lack."""
    total = 0.0
    for place, (weight, stays) in enumerate(reader.parts()):
        left = -weight
        left[stays] = change.weight[place]
        bias = change.bias[place] * reader.has_bias
        squares = np.einsum("ko,ko->", left, gram.matrix[place] @ left) / gram.count
        total += float(squares + 2 * bias @ (gram.mean[place] @ left) + bias @ bias)
    return total


def _fits(product: Product, change: Change) -> bool:
    tensor = product.weight.constant
    return tensor is not None and tensor.size == change.weight.size


def _plain(name: str) -> str:
    while name.endswith(SUFFIX):
        name = name.removesuffix(SUFFIX)
    return name
