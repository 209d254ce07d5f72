"""The pass manager: runs passes in order, verifies what they touched, times and counts, and lets others look on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, NamedTuple

from planish.ir import Graph, GraphError, Node, emit
from planish.ir.collection import paused_collection
from planish.ir.infer import replace_extents
from planish.ir.text import text
from planish.ir.verify import verify, verify_nodes
from planish.passes.errors import PassError
from planish.passes.kernels import Kernels
from planish.passes.rewrite import Rule, rewrite
from planish.passes.run import Fp, Rewrite, Run


@dataclass(frozen=True)
class Pass(ABC):
    """A change to graphs. Its fields are its options; it keeps no state, prints nothing and runs no model."""

    name: ClassVar[str]
    lossy: ClassVar[bool] = False
    """Whether it gives up accuracy for size or speed: precision, quantization, pruning.

    No named pipeline holds such a pass. It runs where it is asked for by name, so that its approximate rewrites fire
    with every --fp but strict.
    """

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


def _no_rewrites() -> list[Rewrite]:
    return []


@dataclass
class PassRecord:
    """What a pass did at one place of a pipeline, over all rounds of a fixpoint that holds it.

    Nodes are counted in nested graphs too, Constant nodes left out; `nodes_before` is the count at the first turn,
    `nodes_after` the same less what this pass alone took away. Seconds of wall time, verification included.
    """

    name: str
    rewrites: list[Rewrite] = field(default_factory=_no_rewrites)
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0
    opset: int | None = None
    """The opset that the model was raised to because a node that the pass made needs it."""
    notes: list[str] = field(default_factory=list[str])
    """What the pass left as it was though it was asked to change it, and what that costs, in words; each once."""


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
        self.kernels = kernels
        self.newest_opset = newest_opset
        self.instruments = tuple(instruments)

    def run(self, graph: Graph) -> tuple[PassRecord, ...]:
        """Run all stages; one record a pass and place in the pipeline, in order.

        Raises PassError naming the pass, the rule and the node; the graph is then not to be used.
        """
        with paused_collection():
            return _Turns(self).run(graph)


class _Memory:
    """What a pass knows of the graph, wherever in the pipeline it stands."""

    __slots__ = ("left", "seen")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.seen: int | None = None
        """How much of the log the pass has looked at; None before it has seen the graph."""
        self.left = -1
        """The version of the graph as the pass last left it: a second run on that would change nothing."""


class _Place(NamedTuple):
    """A pass where it stands in the pipeline."""

    stage: Pass
    memory: _Memory
    record: PassRecord


class _Round(NamedTuple):
    """A fixpoint where it stands in the pipeline."""

    parts: tuple[_Place | _Round, ...]
    rounds: int


class _Turns:
    """One run of a manager's stages over a graph."""

    def __init__(self, manager: PassManager) -> None:
        self.instruments = manager.instruments
        self.state = Run(manager.fp, manager.limit, manager.kernels, manager.newest_opset)
        self.memories: dict[tuple[type[Pass], Pass], _Memory] = {}
        self.records: list[PassRecord] = []
        self.nodes = 0
        self.places = tuple([self.place(stage) for stage in manager.stages])

    def place(self, stage: Stage) -> _Place | _Round:
        if isinstance(stage, Fixpoint):
            return _Round(tuple([self.place(part) for part in stage.stages]), stage.rounds)
        record = PassRecord(stage.name)
        self.records.append(record)
        key = (type(stage), stage)  # the hash of a pass without options is that of every other one
        memory = self.memories.get(key)
        if memory is None:
            memory = self.memories[key] = _Memory()
        return _Place(stage, memory, record)

    def run(self, graph: Graph) -> tuple[PassRecord, ...]:
        self.verify(graph, "before the first pass")
        self.nodes = self.state.count(graph)
        for place in self.places:
            self.stage(place, graph)
        self.verify(graph, "after the last pass")
        return tuple(self.records)

    def stage(self, place: _Place | _Round, graph: Graph) -> int:
        """Run a stage; the number of rewrites."""
        if isinstance(place, _Place):
            return self.turn(place, graph)
        total = 0
        for _ in range(place.rounds):
            count = sum([self.stage(part, graph) for part in place.parts])
            total += count
            if not count or self.state.exhausted:
                break
        return total

    def turn(self, place: _Place, graph: Graph) -> int:
        """One turn of a pass, over what changed since its last turn."""
        stage, memory, record = place
        state = self.state
        if not record.nodes_before:
            record.nodes_before = record.nodes_after = self.nodes
        if state.exhausted or memory.left == graph.version:
            return 0
        start = None if memory.seen is None else _still_there(state.log[memory.seen :])
        if start is not None and not start:
            return 0
        wanted = [instrument.before(stage.name, graph) for instrument in self.instruments]
        if not all(wanted):
            return 0
        began, done, opset = time.perf_counter(), len(state.rewrites), graph.opset_imports.get("")
        state.notes.clear()
        self.guarded(stage, graph, start)
        record.seconds += time.perf_counter() - began
        if graph.opset_imports.get("") != opset:  # newer forms give every pass a new chance
            record.opset = graph.opset_imports[""]
            self.forget()
        record.notes = list(dict.fromkeys((*record.notes, *state.notes)))
        made = state.rewrites[done:]
        memory.seen, memory.left = len(state.log), graph.version
        if made:
            nodes = state.count(graph)
            record.rewrites.extend(made)
            record.nodes_after += nodes - self.nodes
            self.nodes = nodes
        return len(made)

    def forget(self) -> None:
        for memory in self.memories.values():
            memory.forget()

    def guarded(self, stage: Pass, graph: Graph, start: Sequence[Node] | None) -> None:
        """Run a pass, verify what it touched and show it to the instruments; every failure becomes a PassError."""
        state = self.state
        done, logged = len(state.rewrites), len(state.log)
        state.pass_name, state.lossy = stage.name, stage.lossy
        try:
            stage.run(graph, state, start)
            if state.equal:
                state.log.extend(replace_extents(graph, state.equal))
                state.equal.clear()
                for memory in self.memories.values():
                    memory.left = -1
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
