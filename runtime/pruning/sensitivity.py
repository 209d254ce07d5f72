"""How much the outputs of a model suffer when one group alone loses units, its readers fitted anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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


@dataclass(frozen=True)
class Sensitivity:
    """form: the file of the model. pruning: with scores. references: what its outputs are on samples."""

    form: Path
    pruning: PruneChannels
    grams: Mapping[str, Gram]
    references: References
    target: Target
    folder: Path

    def noise(self, key: str, group: Group, gone: Flags) -> float:
        """|y - y'|^2 / |y|^2 over all outputs, without those units."""
        graph = ir.load(self.form)
        ratios = Ratios(((key, float(gone.sum())),))
        passes.run(graph, (replace(self.pruning, ratios=ratios, round_to=1, keep="", merge_bias=False),))
        refit(graph, group, gone, self.grams)
        path = self.folder / "one-group.onnx"
        ir.save(graph, path)
        return self.references.fidelity(path, self.target).noise


def refit(graph: Graph, group: Group, gone: Flags, grams: Mapping[str, Gram]) -> None:
    """Change the weights of what reads a group, in a graph without its units, to make up for them."""
    made = {_plain(product.node.result.name): product for product in products(graph)[0]}
    for reading in readings(group):
        gram, product = grams.get(reading.key), made.get(_plain(reading.node.result.name))
        if gram is None or product is None:
            continue
        change = _change(reading, gram, gone, has_bias=product.bias is not None)
        found = product.rounded(change) if change is not None and _fits(product, change) else None
        if found is not None:
            product.apply(found)


def _change(reading: Reading, gram: Gram, gone: Flags, *, has_bias: bool) -> Change | None:
    news: list[Doubles] = []
    biases: list[Doubles] = []
    for place, (weight, units) in enumerate(zip(weights(reading.node), reading.units, strict=True)):
        stays = ~((units >= 0) & gone[units])
        h, mean = aim_of(gram, place, has_bias=has_bias), gram.mean[place]
        level = float(np.trace(h)) / len(h)
        if not np.isfinite(level) or level <= 0:
            return None
        h = h / level + DAMPING * np.eye(len(h))
        wanted = np.asarray(h[np.ix_(stays, ~stays)] @ weight[~stays], np.float64)
        extra = np.asarray(np.linalg.solve(h[np.ix_(stays, stays)], wanted), np.float64)
        news.append(extra)
        biases.append(mean[~stays] @ weight[~stays] - mean[stays] @ extra)
    if len({new.shape for new in news}) != 1:
        return None
    return Change(np.stack(news), np.stack(biases))


def _fits(product: Product, change: Change) -> bool:
    tensor = product.weight.constant
    return tensor is not None and tensor.size == change.weight.size


def _plain(name: str) -> str:
    while name.endswith(SUFFIX):
        name = name.removesuffix(SUFFIX)
    return name
