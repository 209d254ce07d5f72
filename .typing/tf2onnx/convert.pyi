from collections.abc import Sequence

from onnx import ModelProto
from tensorflow import Function, TensorSpec

def from_function(
    function: Function, *, input_signature: Sequence[TensorSpec], opset: int
) -> tuple[ModelProto, object]: ...
