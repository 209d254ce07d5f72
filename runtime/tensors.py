"""Between numpy arrays and ONNX Runtime's tensors, for element types that numpy itself lacks too.

ONNX Runtime's Python API takes and gives only numpy's own types. bfloat16, the 8-bit floats and the 2- and 4-bit types
travel as raw bytes through an OrtValue in CPU memory; elements under a byte are packed, the first in the lowest bits.
"""

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from planish.runtime.errors import SessionError
from planish.runtime.providers import Array, OrtValue, require


@dataclass(frozen=True)
class Raw:
    """An element type that travels as bytes."""

    code: int
    """TensorProto.DataType."""
    bits: int


# ONNX Runtime's word for the element -> numpy's type.
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
    "string": np.dtype(np.object_),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8e8m0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "float4e2m1": np.dtype(ml_dtypes.float4_e2m1fn),
    "uint4": np.dtype(ml_dtypes.uint4),
    "int4": np.dtype(ml_dtypes.int4),
    "uint2": np.dtype(ml_dtypes.uint2),
    "int2": np.dtype(ml_dtypes.int2),
}
RAW: Mapping[str, Raw] = {
    "bfloat16": Raw(16, 16),
    "float8e4m3fn": Raw(17, 8),
    "float8e4m3fnuz": Raw(18, 8),
    "float8e5m2": Raw(19, 8),
    "float8e5m2fnuz": Raw(20, 8),
    "uint4": Raw(21, 4),
    "int4": Raw(22, 4),
    "float4e2m1": Raw(23, 4),
    "float8e8m0": Raw(24, 8),
    "uint2": Raw(25, 2),
    "int2": Raw(26, 2),
}


def to_ort_value(array: Array, element: str) -> OrtValue:
    """A copy in CPU memory.

    Raises:
        SessionError: ONNX Runtime's Python API cannot make such a tensor (strings).
    """
    values = require().OrtValue
    raw = RAW.get(element)
    if raw is None:
        if element == "string":
            raise SessionError("ONNX Runtime's Python API cannot bind a tensor of strings")
        return values.ortvalue_from_numpy(np.ascontiguousarray(array))
    data = pack(array, raw.bits)
    value = values.ortvalue_from_shape_and_type(array.shape, raw.code)
    _check_size(value, len(data), element)
    ctypes.memmove(value.data_ptr(), data, len(data))
    return value


def from_ort_value(value: OrtValue, element: str) -> Array:
    """A copy of a tensor in CPU memory."""
    raw = RAW.get(element)
    if raw is None:
        return value.numpy()
    shape = tuple(value.shape())
    size = math.ceil(math.prod(shape) * raw.bits / 8)
    _check_size(value, size, element)
    return unpack(ctypes.string_at(value.data_ptr(), size) if size else b"", shape, DTYPES[element], raw.bits)


def pack(array: Array, bits: int) -> bytes:
    data = np.frombuffer(array.tobytes(), np.uint8)
    if bits >= 8:
        return data.tobytes()
    per_byte = 8 // bits
    padded = np.zeros(math.ceil(data.size / per_byte) * per_byte, np.uint8)
    padded[: data.size] = data & (2**bits - 1)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    return np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8).tobytes()


def unpack(data: bytes, shape: tuple[int, ...], dtype: np.dtype[np.generic], bits: int) -> Array:
    """The inverse of `pack`; numpy keeps elements under a byte in the lowest bits of a byte each."""
    packed = np.frombuffer(data, np.uint8)
    if bits >= 8:
        return packed.view(dtype).reshape(shape).copy()
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    fields = ((packed[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[: math.prod(shape)].astype(np.uint8)
    return fields.view(dtype).reshape(shape)


def _check_size(value: OrtValue, size: int, element: str) -> None:
    if value.tensor_size_in_bytes() != size:
        version = require().__version__
        raise SessionError(f"ONNX Runtime {version} lays out {element} tensors in a way that planish does not know")
