from collections.abc import Mapping, Sequence

from onnx import ModelProto
from sklearn.base import BaseEstimator

__max_supported_opset__: int

def to_onnx(
    model: BaseEstimator,
    *,
    initial_types: Sequence[tuple[str, object]],
    options: Mapping[str, bool] | None = None,
    target_opset: Mapping[str, int],
) -> ModelProto: ...
