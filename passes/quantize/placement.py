"""Where a target wants codes: which types, and which operators have a kernel that works on them.

Measured with ONNX Runtime 1.31; docs/quantization.md tells how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from planish.ir import DType
from planish.passes.quantize.scheme import Scheme


@dataclass(frozen=True)
class Placement:
    """The policy of a target.

    activations, weights: types of codes. residuals_quantized: whether a sum takes codes of both addends, as ONNX
    Runtime's CPU kernels do; TensorRT wants the convolution's own result in float there. operators: those that work on
    codes, besides convolutions and matrix products.
    """

    name: str
    activations: DType
    weights: DType
    symmetric: bool
    residuals_quantized: bool

    @property
    def activation_scheme(self) -> Scheme:
        return Scheme(self.activations, symmetric=self.symmetric, narrow=self.symmetric)


PLACEMENTS: Mapping[str, Placement] = MappingProxyType(
    {
        "cpu-x86": Placement("cpu-x86", DType.UINT8, DType.INT8, symmetric=False, residuals_quantized=True),
        "cpu-arm": Placement("cpu-arm", DType.INT8, DType.INT8, symmetric=False, residuals_quantized=True),
        "tensorrt": Placement("tensorrt", DType.INT8, DType.INT8, symmetric=True, residuals_quantized=False),
    }
)
"""x86: only unsigned activations times signed weights reach VNNI and AMX. Arm has signed dot products."""
