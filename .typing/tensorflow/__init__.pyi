# What planish uses of TensorFlow, so that it is checked without TensorFlow.
from collections.abc import Callable, Mapping, Sequence

from numpy import dtype, generic
from numpy.typing import NDArray
from tensorflow import linalg as linalg
from tensorflow import math as math
from tensorflow import saved_model as saved_model

__version__: str

class DType:
    name: str

class TensorShape:
    rank: int | None
    def as_list(self) -> list[int | None]: ...

class Tensor:
    def numpy(self) -> NDArray[generic]: ...

class TensorSpec:
    shape: TensorShape
    dtype: DType
    def __init__(self, shape: Sequence[int | None], dtype: dtype[generic] | str, name: str | None = None) -> None: ...

class Function:
    structured_input_signature: tuple[Sequence[object], Mapping[str, TensorSpec]]
    def __call__(self, **named: Tensor) -> object: ...

def constant(value: object) -> Tensor: ...
def function(call: Callable[..., object], *, input_signature: Sequence[TensorSpec]) -> Function: ...
def identity(tensor: Tensor) -> Tensor: ...
