"""Tensors of constants: an array in memory, or a stretch of a file that is read only when a pass asks for it."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from planish.ir.errors import GraphError
from planish.ir.types import Array, DType

_CHUNK = 4 << 20
ELEMENTS = 64
_EXACT_IN_DOUBLE = 2**53
_SAMPLED = 16
_MATRIX, _STRIP = 2, 32
SPOOL_BYTES = 1 << 20
_COUNTING = (DType.INT64, DType.INT32, DType.BOOL)


class Tensor:
    """A constant: element type, static shape, and elements on demand. Never changed once made."""

    __slots__ = ("_ints", "_sample", "_uniform", "dtype", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._ints: tuple[int, ...] | None = None
        self._sample: bytes | None = None
        self._uniform: float | Literal["no"] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def nbytes(self) -> int:
        """Bytes in a file, packed types (2, 4 and 6 bits) rounded up to whole ones; 0 for strings, which vary."""
        return (self.size * self.dtype.bits + 7) // 8

    @property
    def in_memory(self) -> bool:
        """Whether reading the elements costs no file access."""
        return True

    @property
    def identity(self) -> object:
        """Equal for two tensors that are known to hold the same bytes without reading them."""
        return id(self)

    def array(self) -> Array:
        """The elements, shape `shape`; not to be written to."""
        raise NotImplementedError

    def fresh_array(self) -> Array:
        """The elements in an array of the caller's own."""
        return self.array().copy()

    def raw_chunks(self) -> Iterator[bytes | memoryview]:
        """The elements as ONNX lays them out in raw_data (little endian, packed), a few MiB at a time."""
        array = self.array()
        if _is_transposed(array) and array.nbytes > _CHUNK and not self.dtype.bits % 8:
            rows = max(1, _CHUNK * len(array) // array.nbytes)
            yield from (raw_bytes(array[start : start + rows]) for start in range(0, len(array), rows))
            return
        data = raw_bytes(array)
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]

    def sample(self) -> bytes:
        """A few elements, from one end to the other: tensors that differ here need not be compared."""
        if self._sample is None:
            array, size = self.array(), self.size
            if size <= _SAMPLED:
                self._sample = array.tobytes()
            else:
                places = [place * (size - 1) // (_SAMPLED - 1) for place in range(_SAMPLED)]
                self._sample = array.flat[places].tobytes()
        return self._sample

    def holds_same(self, other: Tensor) -> bool:
        """Whether another tensor of the same type and shape has the same bytes."""
        if self.size <= _SAMPLED:
            return self.sample() == other.sample()
        mine, theirs = (np.ascontiguousarray(tensor.array()).reshape(-1) for tensor in (self, other))
        return bool(np.array_equal(mine.view(np.uint8), theirs.view(np.uint8)))

    def uniform(self) -> float | None:
        """The number that every element equals, with the sign of a zero; None when they differ or there are none."""
        if self._uniform is None:
            self._uniform = _uniform(self.array())
        return None if self._uniform == "no" else self._uniform

    def elements(self) -> tuple[int, ...] | None:
        """What a shape, an axis or a flag holds: a vector or single number of at most ELEMENTS, read already."""
        if len(self.shape) > 1 or not self.in_memory or self.dtype not in _COUNTING or self.size > ELEMENTS:
            return None
        return self.ints()

    def raw(self) -> bytes:
        """All of `raw_chunks` at once."""
        return b"".join(self.raw_chunks())

    def ints(self) -> tuple[int, ...]:
        """The elements of an integer or bool tensor, flattened."""
        if self._ints is None:
            self._ints = tuple(int(element) for element in self.array().ravel().tolist())
        return self._ints


class ArrayTensor(Tensor):
    """Elements held in memory."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        super().__init__(DType.of(array), array.shape)
        self._array = array

    def array(self) -> Array:
        return self._array


class FileTensor(Tensor):
    """Elements in a file, at `offset`, as ONNX external data lays them out; read anew at each `array()`."""

    __slots__ = ("file", "length", "offset")

    def __init__(self, dtype: DType, shape: tuple[int, ...], file: Path | Spool, offset: int) -> None:
        super().__init__(dtype, shape)
        self.file = file
        self.offset = offset
        self.length = self.nbytes

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def identity(self) -> object:
        return (self.file, self.offset, self.length)

    def array(self) -> Array:
        if self.dtype.bits % 8:
            return unpack(b"".join(self.raw_chunks()), self.dtype, self.shape)
        array = np.empty(self.shape, self.dtype.numpy.newbyteorder("<"))
        view = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        start = 0
        for chunk in self.raw_chunks():
            view[start : start + len(chunk)] = chunk
            start += len(chunk)
        return array

    def fresh_array(self) -> Array:
        return self.array()

    def raw_chunks(self) -> Iterator[bytes]:
        handle = os.dup(self.file.fileno()) if isinstance(self.file, Spool) else _open(self.file)
        try:
            done = 0
            while done < self.length:
                chunk = os.pread(handle, min(_CHUNK, self.length - done), self.offset + done)
                if not chunk:
                    raise GraphError(f"{self.file}: ended while a weight was read from it; was it changed meanwhile?")
                done += len(chunk)
                yield chunk
        finally:
            os.close(handle)


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDONLY)
    except OSError as error:
        raise GraphError(f"{file}: a weight cannot be read from it: {error.strerror or error}") from None


class Spool:
    """An unnamed temporary file that takes large results of passes, so that memory holds one of them at a time.

    It is made when the first result comes and goes with the last tensor that refers to it.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._end = 0

    def put(self, array: Array) -> Tensor:
        data = memoryview(raw_bytes(array))
        offset = self._end
        try:
            while self._end < offset + len(data):
                self._end += os.pwrite(self.fileno(), data[self._end - offset :][:_CHUNK], self._end)
        except OSError as error:
            folder = tempfile.gettempdir()
            raise GraphError(f"{folder}: a large result cannot be kept there: {error.strerror or error}") from None
        return FileTensor(DType.of(array), array.shape, self, offset)

    def fileno(self) -> int:
        if self._descriptor is None:
            with tempfile.TemporaryFile(prefix="planish-") as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        return self._descriptor


def _uniform(array: Array) -> float | Literal["no"]:
    """Doubles hold every number of at most 53 bits; larger integers count as different."""
    if not array.size or array.dtype.kind in "OUScmM":
        return "no"
    first = float(array.reshape(-1)[0])
    if not abs(first) < _EXACT_IN_DOUBLE or not np.all(array == array.reshape(-1)[0]):
        return "no"
    if first == 0 and array.dtype.kind not in "biu":
        negative = np.signbit(array.astype(np.float64))
        if negative.any() and not negative.all():
            return "no"
    return first


def raw_bytes(array: Array) -> bytes | memoryview:
    """The elements as raw_data: little endian, row major, packed where a type takes less than a byte."""
    dtype = DType.of(array)
    if dtype is DType.STRING:
        raise TypeError("strings have no raw form")
    if dtype.bits % 8:
        return pack(array, dtype)
    array = _in_rows(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.reshape(-1).view(np.uint8).data if array.size else b""


def _in_rows(array: Array) -> Array:
    """The elements row by row; of a transposed matrix in strips that stay in the cache, three times as fast."""
    if not _is_transposed(array):
        return np.ascontiguousarray(array)
    result = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], _STRIP):
        result[:, start : start + _STRIP] = array[:, start : start + _STRIP]
    return result


def _is_transposed(array: Array) -> bool:
    """Whether it is a matrix, or some rows of one, that lies in memory column by column."""
    return array.ndim == _MATRIX and array.strides[0] < array.strides[1]


def pack(array: Array, dtype: DType) -> bytes:
    """Elements of 2, 4 or 6 bits, the first in the lowest bits."""
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8) & np.uint8((1 << dtype.bits) - 1)
    group, width = _GROUPS[dtype.bits]
    grouped = np.zeros((-(-len(codes) // group), group), np.uint8)
    grouped.reshape(-1)[: len(codes)] = codes
    packed = np.zeros((len(grouped), width), np.uint8)
    for place in range(group):
        byte, shift = divmod(place * dtype.bits, 8)
        packed[:, byte] |= grouped[:, place] << np.uint8(shift)
        if shift + dtype.bits > 8:
            packed[:, byte + 1] |= grouped[:, place] >> np.uint8(8 - shift)
    return packed.reshape(-1)[: (len(codes) * dtype.bits + 7) // 8].tobytes()


def unpack(data: bytes | memoryview, dtype: DType, shape: tuple[int, ...]) -> Array:
    """The inverse of `pack`."""
    group, width = _GROUPS[dtype.bits]
    packed = np.zeros((-(-len(data) // width), width), np.uint8)
    packed.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    grouped = np.empty((len(packed), group), np.uint8)
    for place in range(group):
        byte, shift = divmod(place * dtype.bits, 8)
        grouped[:, place] = packed[:, byte] >> np.uint8(shift)
        if shift + dtype.bits > 8:
            grouped[:, place] |= packed[:, byte + 1] << np.uint8(8 - shift)
    codes = grouped.reshape(-1)[: math.prod(shape)] & np.uint8((1 << dtype.bits) - 1)
    if dtype in (DType.INT4, DType.INT2):
        sign = np.uint8(1 << (dtype.bits - 1))
        return ((codes ^ sign).view(np.int8) - sign.view(np.int8)).astype(dtype.numpy).reshape(shape)
    if dtype in (DType.UINT4, DType.UINT2):
        return codes.astype(dtype.numpy).reshape(shape)
    return codes.view(dtype.numpy).reshape(shape)


_GROUPS = {2: (4, 1), 4: (2, 1), 6: (4, 3)}
"""By bits of an element: how many elements fill how many whole bytes."""
