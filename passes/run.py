"""One run of a pipeline: what may fire, how often, and what did."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Literal, NamedTuple

from planish.ir import Graph, Node
from planish.ir.dim import Dim
from planish.passes.kernels import Kernels, cpu

Fp = Literal["strict", "default", "fast"]
FP_MODES: dict[Fp, frozenset[str]] = {
    "strict": frozenset(("EXACT",)),
    "default": frozenset(("EXACT", "REASSOCIATES")),
    "fast": frozenset(("EXACT", "REASSOCIATES", "APPROXIMATE")),
}


class Rewrite(NamedTuple):
    """One rewrite: its number in the run, who made it, the loaded nodes that it came from, the value that resulted."""

    number: int
    pass_name: str
    rule: str
    sources: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return f"#{self.number} {self.pass_name}/{self.rule}: {', '.join(self.sources)} -> {self.result or 'nothing'}"


@dataclass
class Run:
    """The state of one run; passes have none of their own."""

    fp: Fp = "default"
    limit: int | None = None
    kernels: Kernels = field(default_factory=cpu)
    newest_opset: int | None = None
    pass_name: str = ""
    rewrites: list[Rewrite] = field(default_factory=list[Rewrite])
    log: list[Node] = field(default_factory=list[Node])
    """Every node that a rewrite made or changed the operands of, in order."""
    equal: dict[str, Dim] = field(default_factory=dict[str, Dim])
    """Made-up names of extents that rewrites showed to be other extents, not replaced yet."""

    _places: dict[str, list[tuple[int, Node]]] = field(default_factory=dict[str, list[tuple[int, Node]]], repr=False)
    _placed: tuple[Graph, int] | None = field(default=None, repr=False)

    def operators_of(self, graph: Graph) -> Collection[str]:
        """The operators of a graph and of those nested in it."""
        if self._placed != (graph, graph.root.version):
            self._places = {}
            for place, node in enumerate(graph.walk()):
                self._places.setdefault(node.op, []).append((place, node))
            self._placed = (graph, graph.root.version)
        return self._places

    def nodes_of(self, graph: Graph, ops: Iterable[str]) -> list[Node]:
        """The nodes with one of these operators, in order, those of nested graphs behind their owner."""
        present = self.operators_of(graph)
        lists = [self._places[op] for op in ops if op in present]
        found = lists[0] if len(lists) == 1 else sorted(chain.from_iterable(lists), key=itemgetter(0))
        return [node for _, node in found]

    @property
    def exhausted(self) -> bool:
        """Whether the limit on rewrites is reached."""
        return self.limit is not None and len(self.rewrites) >= self.limit

    def allows(self, contract: str) -> bool:
        return contract in FP_MODES[self.fp]

    def record(self, rule: str, sources: tuple[str, ...], result: str) -> None:
        """Count a rewrite of the pass that is running."""
        self.rewrites.append(Rewrite(len(self.rewrites) + 1, self.pass_name, rule, sources, result))
