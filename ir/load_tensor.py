"""TensorProto -> Tensor: weights inside the model stay in its bytes, external ones stay in their files."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import numpy_helper

from planish.ir.errors import GraphError
from planish.ir.tensor import ArrayTensor, FileTensor, Tensor, unpack
from planish.ir.types import Array, DType

_LARGEST = 2**63 - 1
_BYTE = 8
_KEPT = 1 << 16
_DTYPES = {int(dtype): dtype for dtype in DType if dtype is not DType.UNDEFINED}
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
    """Elements inside the loaded model, decoded when asked for; `apart` is raw data that `proto` was read without."""

    __slots__ = ("_array", "apart", "proto")

    def __init__(self, proto: onnx.TensorProto, shape: tuple[int, ...], apart: memoryview | None = None) -> None:
        super().__init__(_DTYPES[proto.data_type], shape)
        self.proto = proto
        self.apart = apart
        self._array: Array | None = None

    def array(self) -> Array:
        if self._array is not None:
            return self._array
        raw = self.proto.raw_data if self.apart is None else self.apart
        if not raw:
            array = numpy_helper.to_array(self.proto)
        elif self.dtype.bits < _BYTE:
            array = unpack(raw, self.dtype, self.shape)
        else:
            array = np.frombuffer(raw, self.dtype.numpy.newbyteorder("<")).reshape(self.shape)
        if self.nbytes <= _KEPT:
            self._array = array
        return array

    def raw_chunks(self) -> Iterator[bytes | memoryview]:
        if self.apart is not None:
            yield self.apart
        elif self.proto.HasField("raw_data"):
            yield self.proto.raw_data
        else:
            yield from super().raw_chunks()

    def raw(self) -> bytes:
        return self.proto.raw_data or super().raw()

    def ints(self) -> tuple[int, ...]:
        raw = self.proto.raw_data
        if self.dtype is DType.INT64 and raw:
            return struct.unpack(f"<{self.size}q", raw)
        return super().ints()


class ExternalTensor(FileTensor):
    """Elements in a file beside the model."""

    __slots__ = ("proto",)

    def __init__(self, proto: onnx.TensorProto, shape: tuple[int, ...], file: Path, offset: int) -> None:
        super().__init__(DType(proto.data_type), shape, file, offset)
        self.proto = proto


class SparseTensor(Tensor):
    """A sparse constant: kept as it is, dense when a pass asks for its elements."""

    __slots__ = ("indices", "proto", "values")

    def __init__(self, proto: onnx.SparseTensorProto, values: Tensor, indices: Tensor) -> None:
        super().__init__(values.dtype, tuple(proto.dims))
        self.proto = proto
        self.values = values
        self.indices = indices

    @property
    def in_memory(self) -> bool:
        return False

    def array(self) -> Array:
        indices = self.indices.array().astype(np.int64)
        dense = np.zeros(self.shape, self.dtype.numpy)
        try:
            if indices.ndim == 1:
                dense.reshape(-1)[indices] = self.values.array()
            else:
                dense[tuple(indices.T)] = self.values.array()
        except IndexError:
            raise GraphError(
                f"sparse tensor {self.proto.values.name!r} has an index outside of {list(self.shape)}"
            ) from None
        return dense


def sparse_tensor(array: Array) -> SparseTensor:
    """The elements other than zero, by their places in the flattened tensor."""
    places = np.flatnonzero(array).astype(np.int64)
    proto = onnx.SparseTensorProto(dims=array.shape)
    return SparseTensor(proto, ArrayTensor(array.reshape(-1)[places]), ArrayTensor(places))


class Where(NamedTuple):
    """A tensor of a model, as errors name it."""

    origin: str
    name: str

    def __str__(self) -> str:
        return f"{self.origin}: tensor {self.name!r}"


@dataclass(frozen=True)
class Folder:
    """Where the external data of a model may lie: its own folder and what is below it, links resolved."""

    path: Path | None
    origin: str
    _sizes: dict[Path, int] = field(default_factory=dict[Path, int])

    @staticmethod
    def of(path: Path) -> Folder:
        """The folder of the model at `path`."""
        return Folder(path.absolute().parent, str(path))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that tensors have named so far."""
        return tuple(self._sizes)

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
        if not _exists(file):
            raise GraphError(f"{where} is missing; put the file at {file}")
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise GraphError(f"{where} leads out of the model's folder through a link; copy the file beside the model")
        if not file.is_file():
            raise GraphError(f"{where} is not a file")
        if file not in self._sizes:
            self._sizes[file] = file.stat().st_size
        return file, self._sizes[file]


def load_tensor(proto: onnx.TensorProto, folder: Folder, apart: memoryview | None = None) -> Tensor:
    """A tensor as the model stores it; raises GraphError when its shape, type and data do not agree.

    apart: its raw data, where the proto was read without them.
    """
    shape = tuple(proto.dims)
    where = Where(folder.origin, proto.name)
    dtype = _DTYPES.get(proto.data_type)
    if dtype is None:
        raise GraphError(f"{where} has the element type {proto.data_type}, which onnx {onnx.__version__} does not know")
    count = count_of(shape)
    if count is None:
        raise GraphError(f"{where} has the shape {list(shape)}, which is negative or overflows 64 bits")
    needed = (count * dtype.bits + 7) // 8
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return _external(proto, shape, needed, folder)
    if apart is not None or proto.HasField("raw_data"):
        if dtype is DType.STRING:
            raise GraphError(f"{where} holds strings as raw bytes, which ONNX does not allow")
        held = len(proto.raw_data if apart is None else apart)
        if held != needed:
            raise GraphError(f"{where} of shape {list(shape)} needs {needed} bytes and holds {held}")
    else:
        name, per_element = _TYPED_FIELDS.get(dtype, ("int32_data", 1))
        held = len(getattr(proto, name))
        wanted = count * per_element if dtype.bits >= _BYTE or dtype is DType.STRING else needed
        if held != wanted:
            raise GraphError(f"{where} of shape {list(shape)} needs {wanted} elements of {name} and holds {held}")
    return ProtoTensor(proto, shape, apart)


def load_sparse(proto: onnx.SparseTensorProto, folder: Folder) -> Tensor:
    where = f"{folder.origin}: sparse tensor {proto.values.name!r}"
    if count_of(tuple(proto.dims)) is None:
        raise GraphError(f"{where} has the shape {list(proto.dims)}, which is negative or overflows 64 bits")
    values, indices = load_tensor(proto.values, folder), load_tensor(proto.indices, folder)
    count = values.shape[0] if len(values.shape) == 1 else -1
    if indices.dtype is not DType.INT64 or indices.shape not in ((count,), (count, len(proto.dims))):
        raise GraphError(f"{where} has values of the shape {list(values.shape)} and indices of {list(indices.shape)}")
    return SparseTensor(proto, values, indices)


def is_external(attribute: object) -> bool:
    """Whether an attribute is a tensor that a file beside the model holds, wholly or in part."""
    if isinstance(attribute, SparseTensor):
        return is_external(attribute.values) or is_external(attribute.indices)
    return isinstance(attribute, ExternalTensor)


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of functions and training graphs whose data is in files."""
    for part in (*model.functions, *model.training_info):
        for tensor in _tensors(part):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if descriptor.is_repeated else (value,):
                yield from _tensors(part)


def count_of(shape: tuple[int, ...]) -> int | None:
    """The number of elements; None when an extent is negative or the count does not fit 64 bits."""
    count = 1
    for extent in shape:
        if extent < 0:
            return None
        count *= extent
    return count if count <= _LARGEST and all(extent <= _LARGEST for extent in shape) else None


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL in it
        return False


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
