from collections.abc import Sequence

from keras import saving as saving

__version__: str

class KerasTensor:
    name: str
    dtype: str
    shape: Sequence[int | None]

class Model:
    name: str
    built: bool
    inputs: Sequence[KerasTensor] | None
    def __call__(self, inputs: object, training: bool) -> object: ...
