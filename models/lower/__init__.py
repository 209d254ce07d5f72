"""Lowering: a framework's model -> an ONNX file that was seen to compute the same.

result = lower(module, "model.onnx", example={"x": array}, dynamic={"x": {0: "batch"}})
"""

from planish.models.lower.errors import LowerError
from planish.models.lower.lowering import LowerResult, lower
from planish.models.lower.named import named_model

__all__ = ["LowerError", "LowerResult", "lower", "named_model"]
