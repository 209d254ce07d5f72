"""One run of a pipeline: what may fire, how often, and what did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
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
    target: Kernels | None = None
    """What the result will run on; None for ONNX Runtime's CPU provider."""
    newest_opset: int | None = None
    pass_name: str = ""
    lossy: bool = False
    """Whether the pass that is running was asked for by name to give up accuracy."""
    rewrites: list[Rewrite] = field(default_factory=list[Rewrite])
    notes: list[str] = field(default_factory=list[str])
    """What the pass that is running has to say, besides its rewrites."""
    log: list[Node] = field(default_factory=list[Node])
    """Every node that a rewrite made or changed the operands of, in order."""
    equal: dict[str, Dim] = field(default_factory=dict[str, Dim])
    """Made-up names of extents that rewrites showed to be other extents, not replaced yet."""

    _nodes: list[Node] = field(default_factory=list[Node], repr=False)
    _places: dict[str, list[int]] = field(default_factory=dict[str, list[int]], repr=False)
    _placed: tuple[Graph, int] | None = field(default=None, repr=False)

    def operators_of(self, graph: Graph) -> Set[str]:
        """The operators of a graph and of those nested in it."""
        if self._placed != (graph, graph.root.version):
            self._nodes = list(graph.walk())
            self._places = {}
            for place, node in enumerate(self._nodes):
                if node.op in self._places:
                    self._places[node.op].append(place)
                else:
                    self._places[node.op] = [place]
            self._placed = (graph, graph.root.version)
        return self._places.keys()

    def nodes_of(self, graph: Graph, ops: Iterable[str] | None) -> Sequence[Node]:
        """The nodes with one of these operators, in order, those of nested graphs behind their owner; None for all."""
        present = self.operators_of(graph)
        if ops is None:
            return self._nodes
        lists = [self._places[op] for op in ops if op in present]
        places = lists[0] if len(lists) == 1 else sorted(chain.from_iterable(lists))
        return [self._nodes[place] for place in places]

    @property
    def kernels(self) -> Kernels:
        """Those of the target; the list of ONNX Runtime's CPU provider is read when a rewrite first asks for it."""
        return self.target or cpu()

    @property
    def size(self) -> int:
        """About how many nodes there are: as many as when they were looked through last."""
        return len(self._nodes)

    def count(self, graph: Graph) -> int:
        """Nodes of a graph and of those nested in it, Constant nodes left out."""
        self.operators_of(graph)
        return len(self._nodes) - len(self._places.get("Constant", ()))

    @property
    def exhausted(self) -> bool:
        """Whether the limit on rewrites is reached."""
        return self.limit is not None and len(self.rewrites) >= self.limit

    def allows(self, contract: str) -> bool:
        """Whether rewrites of a contract may fire: in a lossy pass all may, except under strict."""
        return contract in FP_MODES[self.fp] or (self.lossy and self.fp != "strict")

    def note(self, text: str) -> None:
        """Say what the pass that is running leaves as it was, and why, or what its result costs."""
        self.notes.append(text)

    def record(self, rule: str, sources: tuple[str, ...], result: str) -> None:
        """Count a rewrite of the pass that is running."""
        self.rewrites.append(Rewrite(len(self.rewrites) + 1, self.pass_name, rule, sources, result))
