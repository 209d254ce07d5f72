from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Protocol

from torch import Tensor
from torch.nn import Module

class _Node(Protocol):
    name: str
    meta: Mapping[str, object]

class _Graph(Protocol):
    nodes: Sequence[_Node]

class _Signature(Protocol):
    user_inputs: Sequence[str]

class ExportedProgram:
    example_inputs: tuple[tuple[object, ...], Mapping[str, object]] | None
    graph: _Graph
    graph_signature: _Signature
    def module(self) -> Module: ...

class Dim:
    def __init__(self, name: str) -> None: ...

def export(
    module: Module,
    args: tuple[Tensor, ...],
    kwargs: Mapping[str, Tensor] | None = None,
    *,
    dynamic_shapes: object = None,
) -> ExportedProgram: ...
def load(path: str | PathLike[str]) -> ExportedProgram: ...
def save(program: ExportedProgram, path: str | PathLike[str]) -> None: ...
