"""The products of a changed model, one after the other, each beside what the original gives there by then."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from planish import ir
from planish.ir import Graph
from planish.passes.prune.slicing import SUFFIX
from planish.runtime.model_run import Face
from planish.runtime.progress import Progress
from planish.runtime.providers import Target
from planish.runtime.pruning.kept_outputs import kept_outputs
from planish.runtime.pruning.kept_tensors import KeptTensors
from planish.runtime.pruning.product import Product, products
from planish.runtime.pruning.recorded import record
from planish.runtime.pruning.side_by_side import Layer, Seen, SideBySide, Stepped
from planish.runtime.pruning.steps import Steps
from planish.runtime.samples import Feeds, parts_of
from planish.runtime.session import Session
from planish.runtime.task import Task

Samples = Task[object, object] | str | os.PathLike[str] | Iterable[Feeds]
"""What calibrate takes: a task, a folder of .npz files, or feeds."""


class Pair(NamedTuple):
    product: Product
    layer: Layer


Work = Callable[[Graph, Pair, Seen], None]
"""What is done to a product when it is its turn; the graph, of which it is, is changed."""


@dataclass(frozen=True)
class Taken:
    graph: Graph = field(repr=False)
    pairs: Sequence[Pair]
    left: Mapping[str, str]
    """Why there was no turn for others, by the name of their result."""


@dataclass(frozen=True)
class Turns:
    """original, changed: files. Tensors have the same names in both, but for those that shrank."""

    original: Path
    changed: Path
    samples: Samples
    target: Target
    limit: int | None

    def run(
        self, title: str, work: Work, progress: Progress, wanted: Callable[[Product], bool] = lambda _: True
    ) -> Taken:
        graph = ir.load(self.changed)
        pairs, left = self._pairs(graph, wanted)
        levels = sorted({pair.product.level for pair in pairs})
        steps = {pair.layer.wanted: levels.index(pair.product.level) + 1 for pair in pairs}
        sides = self._sides(pairs, steps)
        for step in range(1, len(levels) + 1):
            progress(title, (step - 1) / len(levels))
            chosen = [pair for pair in pairs if steps[pair.layer.wanted] == step]
            for pair, seen in zip(chosen, sides.look(step, [pair.layer for pair in chosen]), strict=True):
                work(graph, pair, seen)
            sides.go_on(step, graph)
        return Taken(graph, pairs, left)

    def _pairs(self, graph: Graph, wanted: Callable[[Product], bool]) -> tuple[list[Pair], dict[str, str]]:
        """Products and what they correspond to."""
        source = ir.load(self.original)
        results = {value.name for node in source.nodes for value in node.results}
        nodes = {node.results[0].name: node for node in source.nodes if node.results}
        found, reasons = products(graph)
        left = dict(reasons)
        pairs: list[Pair] = []
        for product in filter(wanted, found):
            name, result = _name(product.node.result.name, nodes), _name(product.wanted.name, results)
            known = name in nodes and result in results
            outputs = kept_outputs(nodes[name], product.node) if known else None
            if outputs is None:
                left[product.node.result.name] = "its counterpart in the original is not to be found"
                continue
            layer = Layer(
                product.x.name, product.wanted.name, result, outputs, product.rows, product.groups, product.channel,
                product.feeds_softmax,
            )  # fmt: skip
            pairs.append(Pair(product, layer))
        return pairs, left

    def _sides(self, pairs: Sequence[Pair], steps: Mapping[str, int]) -> SideBySide:
        looks = {
            self.original: [(pair.layer.original, steps[pair.layer.wanted]) for pair in pairs],
            self.changed: list(steps.items()),
        }
        original, changed = (
            Stepped(path, Steps.of(ir.load(path), wanted), KeptTensors(path.with_suffix(".kept")), self.target)
            for path, wanted in looks.items()
        )

        def put(run: int, feeds: Feeds) -> None:
            original.take(run, feeds)
            changed.take(run, feeds)

        face = Face.of(self.original, self.target)
        session = Session(self.original, self.target) if isinstance(self.samples, Task) else None
        return SideBySide(original, changed, record(parts_of(self.samples, self.limit), face, session, put))


def _name(name: str, known: Container[str]) -> str:
    """The name in the original of a value that shrank once or more."""
    while name not in known and name.endswith(SUFFIX):
        name = name.removesuffix(SUFFIX)
    return name
