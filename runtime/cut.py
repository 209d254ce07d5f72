"""Cutting a graph into stages: files that run one after the other and compute together what the graph does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from planish import ir
from planish.ir import Expr, Graph, Node, TensorType, Value
from planish.ir.ops.cost import extent
from planish.runtime.shards import ModelFile

STAGE_BYTES = 4 << 20
"""Of the tensors that a stage gives out."""
_MOST_STAGES = 64

Sizes = Callable[[Value], int]
"""The bytes of a tensor."""


@dataclass(frozen=True)
class Plan:
    """The stages of a model as workers are told of them."""

    stages: tuple[ModelFile, ...]
    last: tuple[tuple[str, ...], ...]
    """After each stage, the tensors that nothing reads any more."""
    outputs: tuple[str, ...]
    """Of the model, in order."""


@dataclass
class _Stage:
    nodes: list[Node] = field(default_factory=list[Node])
    given: dict[Value, None] = field(default_factory=dict[Value, None])
    """What it gives out."""
    read: dict[Value, None] = field(default_factory=dict[Value, None])
    """What it reads of earlier ones and of the inputs."""


def cut(graph: Graph, seen: Collection[str], sizes: Sizes, folder: Path) -> Plan:
    """Write the stages to a folder; the graph is used up.

    A stage ends where what it gives out, of `seen` and of what the graph gives back, has come to STAGE_BYTES, or to a
    64th of all, and where all that goes on to later stages is tensors of known element types.
    """
    outputs = graph.output_names
    stages = _stages(graph, seen, sizes)
    _say_what_is_given(graph, stages, seen)
    stages = [stage for stage in stages if stage.given]  # the others hold dead nodes alone
    last = _last_reads(stages, outputs)
    graph.set_results((), ())
    files: list[ModelFile] = []
    for number in reversed(range(len(stages))):
        part = _part(graph, stages[number])
        path = folder / f"stage-{number:02}.onnx"
        written = ir.save(part, path, external_data="always" if graph.data_files else "auto")
        files.append(ModelFile.of(path, [file for file in written if file != path]))
    return Plan(tuple(reversed(files)), last, outputs)


def size_of(feeds: Mapping[str, tuple[int, ...]], graph: Graph) -> Sizes:
    """The sizes of tensors for inputs of those shapes. Extents that depend on data count together as the largest of
    the inputs' extents."""
    binding: dict[str, int] = {}
    for value in graph.inputs:
        shape = feeds.get(value.name, ())
        for dim, number in zip(value.shape or (), shape, strict=False):
            if isinstance(dim, Expr) and dim.symbols() == frozenset((str(dim),)):
                binding[str(dim)] = number
    largest = max((number for shape in feeds.values() for number in shape), default=1)

    def size(value: Value) -> int:
        extents = [extent(dim, binding, -1) for dim in value.shape or ()]
        elements = math.prod(number for number in extents if number >= 0) * (largest if -1 in extents else 1)
        return elements * (value.dtype.bits // 8 if value.dtype is not None else 4)

    return size


def _stages(graph: Graph, seen: Collection[str], sizes: Sizes) -> list[_Stage]:
    nodes = graph.nodes
    wanted = {value for node in nodes for value in node.results if value.name in seen} | set(graph.outputs)
    weights = [sum(sizes(value) for value in node.results if value in wanted) for node in nodes]
    budget = max(STAGE_BYTES, sum(weights) // _MOST_STAGES)
    ends = {value: place for place, node in enumerate(nodes) for value in outer_reads(node, graph)}
    times = Counter(value.name for node in nodes for value in node.results)
    live: dict[Value, None] = {}
    stages, held = [_Stage()], 0
    for place, (node, weight) in enumerate(zip(nodes, weights, strict=True)):
        stages[-1].nodes.append(node)
        live.update(dict.fromkeys(node.results))
        held += weight
        if held < budget or place == len(nodes) - 1:
            continue
        live = {value: None for value in live if ends.get(value, -1) > place}
        if all(may_cross(value) and times[value.name] == 1 for value in live):
            stages.append(_Stage())
            held = 0
    return stages


def may_cross(value: Value) -> bool:
    """Whether a file can give out or take a value by its name."""
    return bool(value.name) and isinstance(value.type, TensorType)


def _say_what_is_given(graph: Graph, stages: Sequence[_Stage], seen: Collection[str]) -> None:
    home = {value: stage for stage in stages for node in stage.nodes for value in node.results}
    for stage in stages:
        for node in stage.nodes:
            for value in outer_reads(node, graph):
                if home.get(value) is not stage and value.constant is None:
                    stage.read[value] = None
                    if value in home:
                        home[value].given[value] = None
            for value in node.results:
                if value.name in seen and value.constant is None:
                    stage.given[value] = None
    for value in graph.outputs:
        home.get(value, stages[-1]).given[value] = None
        if value not in home and value.constant is None:
            stages[-1].read[value] = None


def _last_reads(stages: Sequence[_Stage], kept: Collection[str]) -> tuple[tuple[str, ...], ...]:
    found: dict[str, int] = {}
    for number, stage in enumerate(stages):
        found.update({value.name: number for value in (*stage.given, *stage.read)})
    return tuple(
        tuple(name for name, last in found.items() if last == number and name not in kept)
        for number in range(len(stages))
    )


def _part(graph: Graph, stage: _Stage) -> Graph:
    """A graph of the stage's nodes, taken out of `graph`, of which no later node is left."""
    part = Graph(graph.name, graph.opset_imports)
    part.model, part.path, part.spool = graph.model, graph.path, graph.spool
    results = {value: value for node in stage.nodes for value in node.results}
    inner: dict[Value, Value] = {}
    for value in stage.read:
        default = graph.defaults.get(value)
        inner[value] = part.add_input(value.name, value.type, default)
        if default is not None:
            part.initializers[inner[value]] = None
    for node in stage.nodes:
        for reader, index, value in _uses(node):
            if value in inner:
                graph.set_operand(reader, index, inner[value])
            elif value.constant is not None and value.producer is not None and value not in results:
                inner[value] = ir.constant(value.constant, value.name)
                graph.set_operand(reader, index, inner[value])
        part.insert(node)
    part.set_results([inner.get(value, value) for value in stage.given], [value.name for value in stage.given])
    return part


def outer_reads(node: Node, graph: Graph) -> Iterator[Value]:
    """What a node of the graph, and what is nested in it, reads of that graph itself."""
    return (value for _, _, value in _uses(node) if value.graph is graph)


def _uses(node: Node) -> Iterator[tuple[Node, int, Value]]:
    for index, operand in enumerate(node.operands):
        if operand is not None:
            yield node, index, operand
    for nested in node.graphs:
        for inner in (*nested.nodes, nested.returns):
            yield from _uses(inner)
