"""Tensor -> TensorProto."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import onnx
from onnx import TensorProto

from planish.ir.load_tensor import ExternalTensor, ProtoTensor, SparseTensor
from planish.ir.tensor import Tensor
from planish.ir.types import DType

TensorWriter = Callable[[Tensor, TensorProto, int | None], None]
"""Fills a proto (its name apart) with an initializer; the number is its place in the main graph, None for others."""


def inline_size(tensor: Tensor) -> int:
    """About the bytes that a tensor takes inside the model."""
    if isinstance(tensor, SparseTensor):
        return tensor.values.nbytes + tensor.indices.nbytes
    if isinstance(tensor, ProtoTensor) and tensor.apart is None:
        return tensor.proto.ByteSize()
    return tensor.nbytes


def write_inline(tensor: Tensor, proto: TensorProto, _index: int | None = None) -> None:
    """Fill `proto` (its name apart) with the tensor, weights inside."""
    describe(tensor, proto)
    if isinstance(tensor, ProtoTensor) and tensor.apart is None:
        return
    if tensor.dtype is DType.STRING:
        text = cast("list[str | bytes]", tensor.array().reshape(-1).tolist())
        proto.string_data.extend([part.encode() if isinstance(part, str) else part for part in text])
    else:
        proto.raw_data = tensor.raw()


def describe(tensor: Tensor, proto: TensorProto) -> None:
    """Fill `proto` with what the model says of the tensor, the elements only where the tensor's own proto has them."""
    if isinstance(tensor, (ProtoTensor, ExternalTensor)):
        proto.CopyFrom(tensor.proto)
    else:
        proto.data_type = int(tensor.dtype)
        proto.dims.extend(tensor.shape)
    if isinstance(tensor, ExternalTensor):
        proto.ClearField("external_data")
        proto.ClearField("data_location")


def write_sparse(tensor: SparseTensor, proto: onnx.SparseTensorProto) -> None:
    proto.CopyFrom(tensor.proto)
    write_inline(tensor.values, proto.values)
    write_inline(tensor.indices, proto.indices)
