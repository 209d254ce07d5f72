"""The pass manager: runs passes in order, verifies what they touched, times and counts, and lets others look on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from planish.ir import Graph, GraphError, Node, emit
from planish.ir.collection import paused_collection
from planish.ir.infer import replace_extents
from planish.ir.text import text
from planish.ir.verify import verify, verify_nodes
from planish.passes.errors import PassError
from planish.passes.kernels import Kernels, cpu
from planish.passes.rewrite import Rule, rewrite
from planish.passes.run import Fp, Rewrite, Run


@dataclass(frozen=True)
class Pass(ABC):
    """A change to graphs. Its fields are its options; it keeps no state, prints nothing and runs no model."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        """Change the graph, recording every rewrite in `run` and stopping when it is exhausted.

        start: the nodes that changed since this pass last ran on this graph; None means all.
        """

    @property
    def options(self) -> Mapping[str, object]:
        """The options that differ from their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


@dataclass(frozen=True)
class RulePass(Pass):
    """A pass that is a set of rules."""

    def rules(self) -> Sequence[Rule]:
        """The rules, those that should fire first in front."""
        raise NotImplementedError

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        rewrite(graph, self.rules(), run, start)


@dataclass(frozen=True)
class Fixpoint:
    """Passes that run in turn until a round changes nothing, at most `rounds` times."""

    stages: tuple[Stage, ...]
    rounds: int = 8


Stage = Pass | Fixpoint


@dataclass
class PassRecord:
    """What a pass did at one place of a pipeline, over all rounds of a fixpoint that holds it.

    Nodes are counted in nested graphs too, Constant nodes left out; `nodes_before` is the count at the first turn,
    `nodes_after` the same less what this pass alone took away. Seconds of wall time, verification included.
    """

    name: str
    rewrites: list[Rewrite] = field(default_factory=list[Rewrite])
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0
    opset: int | None = None
    """The opset that the model was raised to because a node that the pass made needs it."""


class Instrument:
    """Looks on while passes run. Every method may be left as it is."""

    def before(self, name: str, graph: Graph) -> bool:
        """Called before each pass; False vetoes it."""
        return True

    def after(self, name: str, graph: Graph, rewrites: Sequence[Rewrite]) -> None:
        """Called after each pass that ran, with the rewrites that it made."""

    def failed(self, name: str, graph: Graph, error: PassError) -> None:
        """Called when a pass raised or left an invalid graph."""


class VerifyEach(Instrument):
    """Verify the whole graph, types too, after every pass."""

    def after(self, name: str, graph: Graph, rewrites: Sequence[Rewrite]) -> None:
        verify(graph)


@dataclass
class DumpEach(Instrument):
    """Write the graph as text to `folder` after every pass that changed it: 001-fold-constants.txt, ..."""

    folder: Path
    _count: int = 0

    def after(self, name: str, graph: Graph, rewrites: Sequence[Rewrite]) -> None:
        self._count += 1
        if rewrites:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{self._count:03}-{name}.txt").write_text(text(graph))


@dataclass
class Reproducer(Instrument):
    """When a pass fails, leave in `folder` the model as it was before (before.onnx) and what failed (failure.txt)."""

    folder: Path
    _before: bytes = b""

    def before(self, name: str, graph: Graph) -> bool:
        self._before = emit(graph).SerializeToString()
        return True

    def failed(self, name: str, graph: Graph, error: PassError) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "before.onnx").write_bytes(self._before)
        (self.folder / "failure.txt").write_text(
            f"{error}\n\nTo see it again: planish optimize before.onnx -o after.onnx --pipeline {name}\n"
        )


class PassManager:
    """Runs stages on graphs."""

    def __init__(
        self,
        stages: Iterable[Stage],
        *,
        fp: Fp = "default",
        limit: int | None = None,
        kernels: Kernels | None = None,
        newest_opset: int | None = None,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        """kernels: those of the target that the result is for; by default of ONNX Runtime's CPU provider.

        newest_opset: no rewrite raises the model's opset beyond it.
        """
        self.stages = tuple(stages)
        self.fp: Fp = fp
        self.limit = limit
        self.kernels = kernels or cpu()
        self.newest_opset = newest_opset
        self.instruments = tuple(instruments)

    def run(self, graph: Graph) -> tuple[PassRecord, ...]:
        """Run all stages; one record a pass and place in the pipeline, in order.

        Raises PassError naming the pass, the rule and the node; the graph is then not to be used.
        """
        with paused_collection():
            return _Turns(self).run(graph)


class _Turns:
    """One run of a manager's stages over a graph."""

    def __init__(self, manager: PassManager) -> None:
        self.instruments = manager.instruments
        self.stages = manager.stages
        self.state = Run(manager.fp, manager.limit, manager.kernels, manager.newest_opset)
        self.records: dict[tuple[int, ...], PassRecord] = {}
        self.seen: dict[Pass, int] = {}
        """How much of the log each pass has looked at, wherever in the pipeline it stands."""
        self.left: dict[Pass, int] = {}
        """The version of the graph as each pass last left it: a second run on that would change nothing."""
        self.nodes = 0

    def run(self, graph: Graph) -> tuple[PassRecord, ...]:
        self.verify(graph, "before the first pass")
        self.nodes = node_count(graph)
        for index, stage in enumerate(self.stages):
            self.stage(stage, graph, (index,))
        self.verify(graph, "after the last pass")
        return tuple(self.records.values())

    def stage(self, stage: Stage, graph: Graph, place: tuple[int, ...]) -> int:
        """Run a stage; the number of rewrites."""
        if isinstance(stage, Pass):
            return self.turn(stage, graph, place)
        total = 0
        for _ in range(stage.rounds):
            count = sum([self.stage(part, graph, (*place, index)) for index, part in enumerate(stage.stages)])
            total += count
            if not count or self.state.exhausted:
                break
        return total

    def turn(self, stage: Pass, graph: Graph, place: tuple[int, ...]) -> int:
        """One turn of a pass, over what changed since its last turn."""
        state = self.state
        record = self.records.setdefault(place, PassRecord(stage.name, nodes_before=self.nodes, nodes_after=self.nodes))
        start = _still_there(state.log[self.seen[stage] :]) if stage in self.seen else None
        if state.exhausted or (start is not None and not start) or self.left.get(stage) == graph.version:
            return 0
        wanted = [instrument.before(stage.name, graph) for instrument in self.instruments]
        if not all(wanted):
            return 0
        began, done, opset = time.perf_counter(), len(state.rewrites), graph.opset_imports.get("")
        self.guarded(stage, graph, start)
        record.seconds += time.perf_counter() - began
        if graph.opset_imports.get("") != opset:  # newer forms give every pass a new chance
            record.opset = graph.opset_imports[""]
            self.seen.clear()
            self.left.clear()
        made = state.rewrites[done:]
        self.seen[stage] = len(state.log)
        self.left[stage] = graph.version
        if made:
            nodes = node_count(graph)
            record.rewrites.extend(made)
            record.nodes_after += nodes - self.nodes
            self.nodes = nodes
        return len(made)

    def guarded(self, stage: Pass, graph: Graph, start: Sequence[Node] | None) -> None:
        """Run a pass, verify what it touched and show it to the instruments; every failure becomes a PassError."""
        state = self.state
        done, logged = len(state.rewrites), len(state.log)
        state.pass_name = stage.name
        try:
            stage.run(graph, state, start)
            if state.equal:
                state.log.extend(replace_extents(graph, state.equal))
                state.equal.clear()
                self.left.clear()
            verify_nodes(_still_there(state.log[logged:]))
            for instrument in self.instruments:
                instrument.after(stage.name, graph, state.rewrites[done:])
        except PassError as error:
            self.failed(stage.name, graph, error)
            raise
        except Exception as error:
            failure = PassError(stage.name, "", error.node if isinstance(error, GraphError) else None, error)
            self.failed(stage.name, graph, failure)
            raise failure from error

    def failed(self, name: str, graph: Graph, error: PassError) -> None:
        for instrument in self.instruments:
            instrument.failed(name, graph, error)

    def verify(self, graph: Graph, when: str) -> None:
        if graph.verified == graph.version:
            return
        try:
            verify(graph)
        except GraphError as error:
            raise PassError(f"verification {when}", "", error.node, error) from error


def node_count(graph: Graph) -> int:
    """Nodes of a graph and of those nested in it, Constant nodes left out."""
    return sum(node.op != "Constant" for node in graph.walk())


def _still_there(nodes: Iterable[Node]) -> list[Node]:
    return list(dict.fromkeys(node for node in nodes if node.graph is not None))
