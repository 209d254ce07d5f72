from collections.abc import Sequence
from os import PathLike

from keras import layers as layers
from keras import losses as losses
from keras import saving as saving
from keras import utils as utils

__version__: str

class KerasTensor:
    name: str
    dtype: str
    shape: Sequence[int | None]

class Model:
    name: str
    built: bool
    inputs: Sequence[KerasTensor] | None
    def __init__(self, inputs: object, outputs: object) -> None: ...
    def __call__(self, inputs: object, training: bool) -> object: ...
    def compile(self, optimizer: str, loss: object) -> None: ...
    def fit(self, x: object, y: object, *, batch_size: int, epochs: int, verbose: int) -> object: ...
    def export(self, path: str | PathLike[str], *, verbose: bool) -> None: ...
    def save(self, path: str | PathLike[str]) -> None: ...

class Sequential(Model):
    def __init__(self, parts: Sequence[object]) -> None: ...

def Input(shape: Sequence[int | None], *, dtype: str = "float32", name: str) -> KerasTensor: ...
