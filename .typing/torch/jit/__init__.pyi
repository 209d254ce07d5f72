from collections.abc import Callable, Sequence
from os import PathLike
from typing import Protocol

from torch import Tensor
from torch.nn import Module

class _Argument(Protocol):
    name: str
    def has_default_value(self) -> bool: ...

class _Schema(Protocol):
    arguments: Sequence[_Argument]

class _Method(Protocol):
    schema: _Schema
    def __call__(self, *arguments: Tensor) -> object: ...

class ScriptModule(Module):
    forward: _Method  # pyright: ignore[reportIncompatibleVariableOverride]

def load(path: str | PathLike[str], map_location: str) -> ScriptModule: ...
def save(module: ScriptModule, path: str | PathLike[str]) -> None: ...
def script(module: Module | Callable[..., object]) -> ScriptModule: ...
def trace(module: Module, example_inputs: tuple[Tensor, ...]) -> ScriptModule: ...
