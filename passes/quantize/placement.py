"""Where a target wants codes: which types, and which operators have a kernel that works on them.

Measured with ONNX Runtime 1.31; docs/quantization.md tells how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from planish.ir import DType
from planish.passes.quantize.scheme import Scheme


@dataclass(frozen=True)
class Placement:
    """The policy of a target.

    activations, weights: types of codes. symmetric: whether zero points are 0, so that codes reach as far below 0 as
    above and imply no Relu. residuals_quantized: whether a sum takes codes of both addends, as ONNX Runtime's CPU
    kernels do; TensorRT fuses the sum with one of the convolutions that it adds, whose own result stays float.
    biased_products: whether a matrix product over more than two axes and its bias are written as a Gemm of rows.
    elementwise: whether there are kernels of codes for what works element by element. holds_floats: whether a product
    that stays float between codes is guarded against ONNX Runtime, which would round its weights; TensorRT knows no
    activations with a scale for each channel, which the guard is.
    """

    name: str
    activations: DType
    weights: DType
    symmetric: bool
    residuals_quantized: bool
    biased_products: bool
    elementwise: bool
    holds_floats: bool

    @property
    def activation_scheme(self) -> Scheme:
        return Scheme(self.activations, symmetric=self.symmetric, narrow=self.symmetric)


_CPU = Placement(
    "cpu-x86",
    DType.UINT8,
    DType.INT8,
    symmetric=False,
    residuals_quantized=True,
    biased_products=True,
    elementwise=True,
    holds_floats=True,
)
PLACEMENTS: Mapping[str, Placement] = MappingProxyType(
    {
        "cpu-x86": _CPU,
        "cpu-arm": replace(_CPU, name="cpu-arm", activations=DType.INT8),
        "tensorrt": Placement(
            "tensorrt",
            DType.INT8,
            DType.INT8,
            symmetric=True,
            residuals_quantized=False,
            biased_products=False,
            elementwise=False,
            holds_floats=False,
        ),
    }
)
"""x86: only unsigned activations times signed weights reach VNNI and AMX. Arm has signed dot products. There is none
for CUDA: ONNX Runtime has no kernels for codes there, so that a quantized model runs float between conversions."""
