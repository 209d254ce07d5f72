"""TensorProto -> Tensor: weights inside the model stay in its bytes, external ones stay in their files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from planish.ir.errors import GraphError
from planish.ir.tensor import FileTensor, Tensor
from planish.ir.types import Array, DType

_LARGEST = 2**63 - 1
_TYPED_FIELDS = {
    DType.FLOAT: ("float_data", 1),
    DType.COMPLEX64: ("float_data", 2),
    DType.DOUBLE: ("double_data", 1),
    DType.COMPLEX128: ("double_data", 2),
    DType.INT64: ("int64_data", 1),
    DType.UINT64: ("uint64_data", 1),
    DType.UINT32: ("uint64_data", 1),
    DType.STRING: ("string_data", 1),
}


class ProtoTensor(Tensor):
    """Elements inside the loaded model, decoded when asked for."""

    __slots__ = ("_array", "proto")

    def __init__(self, proto: onnx.TensorProto, shape: tuple[int, ...]) -> None:
        super().__init__(DType(proto.data_type), shape)
        self.proto = proto
        self._array: Array | None = None

    def array(self) -> Array:
        if self._array is None:
            array = numpy_helper.to_array(self.proto)
            if self.nbytes > 1 << 16:
                return array
            self._array = array
        return self._array

    def raw_chunks(self) -> Iterator[bytes]:
        if self.proto.HasField("raw_data"):
            yield self.proto.raw_data
        else:
            yield from super().raw_chunks()


class ExternalTensor(FileTensor):
    """Elements in a file beside the model."""

    __slots__ = ("proto",)

    def __init__(self, proto: onnx.TensorProto, shape: tuple[int, ...], file: Path, offset: int) -> None:
        super().__init__(DType(proto.data_type), shape, file, offset)
        self.proto = proto


class SparseTensor(Tensor):
    """A sparse constant: kept as it is, dense when a pass asks for its elements."""

    __slots__ = ("proto",)

    def __init__(self, proto: onnx.SparseTensorProto, values: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__(values.dtype, shape)
        self.proto = proto

    @property
    def in_memory(self) -> bool:
        return False

    def array(self) -> Array:
        values = numpy_helper.to_array(self.proto.values)
        indices = numpy_helper.to_array(self.proto.indices)
        dense = np.zeros(self.shape, self.dtype.numpy)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        return dense


@dataclass(frozen=True)
class Folder:
    """Where the external data of a model may lie: its own folder and what is below it, links resolved."""

    path: Path | None
    origin: str
    _sizes: dict[Path, int] = field(default_factory=dict[Path, int])

    def file(self, location: str, tensor: str) -> tuple[Path, int]:
        """The file that a tensor names, and its size in bytes; raises GraphError when it lies outside or is missing."""
        if self.path is None:
            raise GraphError(
                f"{self.origin}: tensor {tensor!r} has its data in {location!r}, and a model that is not loaded from a "
                "path has no folder to look in; load it by its path"
            )
        where = f"{self.origin}: external data {location!r} of tensor {tensor!r}"
        if not location or Path(location).is_absolute() or ".." in Path(location).parts or "\\" in location:
            raise GraphError(f"{where} does not stay in the model's folder; put the file beside the model")
        file = self.path / location
        if not file.exists():
            raise GraphError(f"{where} is missing; put the file at {file}")
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise GraphError(f"{where} leads out of the model's folder through a link; copy the file beside the model")
        if not file.is_file():
            raise GraphError(f"{where} is not a file")
        if file not in self._sizes:
            self._sizes[file] = file.stat().st_size
        return file, self._sizes[file]


def load_tensor(proto: onnx.TensorProto, folder: Folder) -> Tensor:
    """A tensor as the model stores it; raises GraphError when its shape, type and data do not agree."""
    shape = tuple(proto.dims)
    where = f"{folder.origin}: tensor {proto.name!r}"
    if proto.data_type not in DType.__members__.values() or not proto.data_type:
        raise GraphError(f"{where} has the element type {proto.data_type}, which onnx {onnx.__version__} does not know")
    dtype = DType(proto.data_type)
    count = count_of(shape)
    if count is None:
        raise GraphError(f"{where} has the shape {list(shape)}, which is negative or overflows 64 bits")
    needed = (count * dtype.bits + 7) // 8
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return _external(proto, shape, needed, folder)
    if proto.HasField("raw_data"):
        if dtype is DType.STRING:
            raise GraphError(f"{where} holds strings as raw bytes, which ONNX does not allow")
        if len(proto.raw_data) != needed:
            raise GraphError(f"{where} of shape {list(shape)} needs {needed} bytes and holds {len(proto.raw_data)}")
    else:
        name, per_element = _TYPED_FIELDS.get(dtype, ("int32_data", 1))
        held = len(getattr(proto, name))
        wanted = count * per_element if dtype.bits >= 8 or dtype is DType.STRING else needed  # noqa: PLR2004  a byte
        if held != wanted:
            raise GraphError(f"{where} of shape {list(shape)} needs {wanted} elements of {name} and holds {held}")
    return ProtoTensor(proto, shape)


def load_sparse(proto: onnx.SparseTensorProto, folder: Folder) -> Tensor:
    values = load_tensor(proto.values, folder)
    if count_of(tuple(proto.dims)) is None:
        raise GraphError(f"{folder.origin}: sparse tensor {proto.values.name!r} has the shape {list(proto.dims)}")
    return SparseTensor(proto, values, tuple(proto.dims))


def count_of(shape: tuple[int, ...]) -> int | None:
    """The number of elements; None when an extent is negative or the count does not fit 64 bits."""
    count = 1
    for extent in shape:
        if extent < 0:
            return None
        count *= extent
    return count if count <= _LARGEST and all(extent <= _LARGEST for extent in shape) else None


def _external(proto: onnx.TensorProto, shape: tuple[int, ...], needed: int, folder: Folder) -> Tensor:
    entries: Mapping[str, str] = {entry.key: entry.value for entry in proto.external_data}
    file, size = folder.file(entries.get("location", ""), proto.name)
    where = f"{folder.origin}: external data of tensor {proto.name!r} in {os.fspath(file)}"
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(needed)))
    except ValueError:
        raise GraphError(f"{where} has an offset or length that is not a number") from None
    if DType(proto.data_type) is DType.STRING:
        raise GraphError(f"{where} holds strings, which ONNX does not allow")
    if length != needed:
        raise GraphError(f"{where} has {length} bytes, and shape {list(shape)} needs {needed}")
    if offset < 0 or offset + length > size:
        raise GraphError(f"{where} takes bytes {offset} to {offset + length} of a file of {size}")
    return ExternalTensor(proto, shape, file, offset)
