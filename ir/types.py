"""What a value can hold: element types, tensors, sequences, optionals; all frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from planish.ir.dim import Dim, Expr, Shape

Array = NDArray[np.generic]


class DType(IntEnum):
    """Element types, numbered as in onnx.proto."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def bits(self) -> int:
        """Bits that one element takes in a file; 0 for strings, whose length varies."""
        return _BITS[self]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self in _INTEGERS

    @staticmethod
    def of(array: Array) -> DType:
        """The element type of a numpy array; raises TypeError for one that ONNX lacks."""
        found = _OF_NUMPY.get(array.dtype)
        if found is None:
            if array.dtype.kind in "OUT":
                return DType.STRING
            raise TypeError(f"ONNX has no element type for numpy's {array.dtype}")
        return found


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.FLOAT: np.dtype(np.float32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT8: np.dtype(np.int8),
    DType.UINT16: np.dtype(np.uint16),
    DType.INT16: np.dtype(np.int16),
    DType.INT32: np.dtype(np.int32),
    DType.INT64: np.dtype(np.int64),
    DType.STRING: np.dtype(np.object_),
    DType.BOOL: np.dtype(np.bool_),
    DType.FLOAT16: np.dtype(np.float16),
    DType.DOUBLE: np.dtype(np.float64),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT64: np.dtype(np.uint64),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DType.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.UINT4: np.dtype(ml_dtypes.uint4),
    DType.INT4: np.dtype(ml_dtypes.int4),
    DType.FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DType.FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DType.UINT2: np.dtype(ml_dtypes.uint2),
    DType.INT2: np.dtype(ml_dtypes.int2),
    DType.FLOAT6E2M3: np.dtype(ml_dtypes.float6_e2m3fn),
    DType.FLOAT6E3M2: np.dtype(ml_dtypes.float6_e3m2fn),
}
_OF_NUMPY: dict[np.dtype[np.generic], DType] = {dtype: code for code, dtype in _NUMPY.items()}
_PACKED = {DType.UINT4: 4, DType.INT4: 4, DType.FLOAT4E2M1: 4, DType.UINT2: 2, DType.INT2: 2}
_SPECIAL = _PACKED | {DType.FLOAT6E2M3: 6, DType.FLOAT6E3M2: 6, DType.STRING: 0}
_BITS = {code: _SPECIAL.get(code, dtype.itemsize * 8) for code, dtype in _NUMPY.items()} | {DType.UNDEFINED: 0}
_FLOATS = frozenset(code for code in DType if "FLOAT" in code.name or code is DType.DOUBLE)
_INTEGERS = frozenset(code for code in DType if "INT" in code.name)


class TensorType(NamedTuple):
    """A tensor: element type, and one dim per axis; `shape` is None when the rank is unknown."""

    dtype: DType
    shape: Shape | None = None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        return self.shape is not None and all(isinstance(dim, int) for dim in self.shape)

    def __str__(self) -> str:
        name = self.dtype.name.lower()
        if self.shape is None:
            return f"{name}[...]"
        return f"{name}[{', '.join(_dim_text(dim) for dim in self.shape)}]"


@dataclass(frozen=True, slots=True)
class SequenceType:
    element: Type | None

    def __str__(self) -> str:
        return f"seq({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    element: Type | None

    def __str__(self) -> str:
        return f"optional({self.element or '?'})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A map, sparse tensor or vendor's own type: carried through unread, as its serialized TypeProto."""

    encoded: bytes

    def __str__(self) -> str:
        return "opaque"


Type = TensorType | SequenceType | OptionalType | OpaqueType


def refine(known: Type | None, news: Type | None) -> Type | None:
    """What two true statements about one value say together; the more precise dim wins, contradictions keep `known`."""
    if news is None or known is news:
        return known
    if known is None:
        return news
    if not isinstance(known, TensorType) or not isinstance(news, TensorType):
        return known
    if news.shape is None or known.dtype != news.dtype or known.shape == news.shape:
        return known
    if known.shape is None:
        return news
    if len(known.shape) != len(news.shape):
        return known
    return TensorType(known.dtype, tuple(map(_refine_dim, known.shape, news.shape)))


def common(a: Type | None, b: Type | None) -> Type | None:
    """What holds of a value that is of the one type or of the other; a dim on which they differ becomes -1."""
    if a == b:
        return a
    if not isinstance(a, TensorType) or not isinstance(b, TensorType) or a.dtype != b.dtype:
        return None
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return TensorType(a.dtype)
    return TensorType(a.dtype, tuple([x if x == y else -1 for x, y in zip(a.shape, b.shape, strict=True)]))


def _refine_dim(known: Dim, news: Dim) -> Dim:
    if isinstance(known, int) or known == news:
        return known
    return news if isinstance(news, int) or news.age < known.age else known


def _dim_text(dim: Dim) -> str:
    return "?" if isinstance(dim, Expr) and dim.is_fresh else str(dim)
