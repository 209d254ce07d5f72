"""What a model is made of, as far as that can be told without running it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from planish import ir
from planish.ir import Dim, Expr, Graph, Value
from planish.ir.ops.cost import constants, macs
from planish.ir.tensor import Tensor
from planish.runtime.bindings import Binding, Symbols
from planish.runtime.compile import size_on_disk

_FRESH = re.compile(r"\?\d+")


@dataclass(frozen=True)
class Port:
    """An input or an output of a model."""

    name: str
    type: str
    """As text: float[batch, 3, ?, ?]; `?` where nothing is known."""
    overridable: bool = False
    """Whether it is an initializer that a caller may replace."""

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "type": self.type, "overridable": self.overridable}


@dataclass(frozen=True)
class Weights:
    """Constants of one element type, each counted once; initializers, and values of Constant nodes."""

    dtype: str
    tensors: int
    elements: int
    bytes: int

    def as_dict(self) -> dict[str, object]:
        return {"dtype": self.dtype, "tensors": self.tensors, "elements": self.elements, "bytes": self.bytes}


@dataclass(frozen=True)
class Inspection:
    path: Path
    bytes: int
    """Of the file and its external data."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: Mapping[str, int]
    """Nodes by operator, nested graphs and functions' bodies included, the most frequent first."""
    weights: tuple[Weights, ...]
    macs: Mapping[str, int | str]
    """Multiply-accumulates of one run by operator: a number, or an expression over the dynamic dims as text."""
    total_macs: int | str
    unknown_macs: int
    """Nodes whose multiply-accumulates depend on shapes that the model does not tell."""
    dynamic_dims: tuple[str, ...]
    """Names, as the inputs have them."""
    opsets: Mapping[str, int]
    """Imported versions by domain; the standard one is ai.onnx."""
    functions: tuple[str, ...]
    nested_graphs: int
    depth: int
    """Of nested graphs within each other; 0 without any."""
    external_files: tuple[str, ...]

    @property
    def nodes(self) -> int:
        return sum(self.operators.values())

    @property
    def parameters(self) -> int:
        return sum(weights.elements for weights in self.weights)

    def as_dict(self) -> dict[str, object]:
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "inputs": [port.as_dict() for port in self.inputs],
            "outputs": [port.as_dict() for port in self.outputs],
            "nodes": self.nodes,
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "weights": [weights.as_dict() for weights in self.weights],
            "macs": self.total_macs,
            "macs_by_operator": dict(self.macs),
            "nodes_of_unknown_macs": self.unknown_macs,
            "dynamic_dims": list(self.dynamic_dims),
            "opsets": dict(self.opsets),
            "functions": list(self.functions),
            "nested_graphs": self.nested_graphs,
            "nested_depth": self.depth,
            "external_files": list(self.external_files),
        }


def inspect(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> Inspection:
    """Read the model in a file; weights outside of it are not read.

    shapes: of inputs, for multiply-accumulates as numbers. Raises GraphError when the model is not valid, or a shape
    is not one of an input's.
    """
    source = Path(path)
    graph = ir.load(source)
    functions = tuple(_functions(graph))
    if functions:
        graph = ir.load(source, functions="inline")
    extents = Symbols(graph).of(Binding(shapes or {}))
    names = dict(_dynamic(graph))
    counts = Counter(node.op for node in graph.walk() if node.op != "Constant")
    found, unknown = _count_macs(graph, extents, names)
    total: Dim = 0
    for count in found.values():
        total = total + count
    return Inspection(
        path=source,
        bytes=size_on_disk(source, graph.data_files),
        inputs=tuple(Port(value.name, _type(value), value in graph.defaults) for value in graph.inputs),
        outputs=tuple(Port(name, _type(value)) for name, value in zip(graph.output_names, graph.outputs, strict=True)),
        operators=dict(counts.most_common()),
        weights=_weights(graph),
        macs={op: _plain(count, names) for op, count in found.items()},
        total_macs=_plain(total, names),
        unknown_macs=unknown,
        dynamic_dims=tuple(names.values()),
        opsets={domain or "ai.onnx": version for domain, version in graph.opset_imports.items()},
        functions=functions,
        nested_graphs=sum(len(node.graphs) for node in graph.walk()),
        depth=_depth(graph),
        external_files=tuple(file.name for file in graph.data_files),
    )


def _count_macs(graph: Graph, extents: Mapping[str, int], names: Mapping[str, str]) -> tuple[dict[str, Dim], int]:
    """By operator, and the number of nodes where an extent decides that is neither a number nor one of an input's."""
    found: dict[str, Dim] = {}
    unknown = 0
    for node in graph.walk():
        count = macs(node)
        if isinstance(count, Expr):
            count = count.substitute(extents)
        if count is None or (isinstance(count, Expr) and not count.symbols() <= names.keys()):
            unknown += 1
        elif count != 0:
            found[node.op] = found.get(node.op, 0) + count
    return found, unknown


class _Function(Protocol):
    @property
    def domain(self) -> str: ...
    @property
    def name(self) -> str: ...


class _Model(Protocol):
    """What is read of the protobuf, which does not enter this package."""

    @property
    def functions(self) -> Sequence[_Function]: ...


def _functions(graph: Graph) -> Iterator[str]:
    for function in cast("_Model", graph.model).functions:
        yield f"{function.domain}::{function.name}" if function.domain else function.name


def _type(value: Value) -> str:
    return "?" if value.type is None else str(value.type)


def _weights(graph: Graph) -> tuple[Weights, ...]:
    found: dict[int, Tensor] = {}
    for tensor in (value.constant or graph.defaults.get(value) for value in constants(graph)):
        if tensor is not None:
            found[id(tensor)] = tensor
    by_type: dict[str, list[Tensor]] = {}
    for tensor in found.values():
        by_type.setdefault(tensor.dtype.name.lower(), []).append(tensor)
    kinds = [
        Weights(dtype, len(group), sum(tensor.size for tensor in group), sum(tensor.nbytes for tensor in group))
        for dtype, group in by_type.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: -kind.bytes))


def _dynamic(graph: Graph) -> Iterator[tuple[str, str]]:
    """The symbols of the inputs, and what to call them: one without a name by its place, x[2]."""
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, Expr):
                yield str(dim), f"{value.name}[{axis}]" if dim.is_fresh else str(dim)


def _depth(graph: Graph) -> int:
    return max((1 + _depth(nested) for node in graph.nodes for nested in node.graphs), default=0)


def _plain(dim: Dim, names: Mapping[str, str]) -> int | str:
    if isinstance(dim, int):
        return dim
    return _FRESH.sub(lambda found: names.get(found[0], found[0]), str(dim))
