"""How two results of one run differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planish.runtime.floats import is_floating
from planish.runtime.providers import Array
from planish.runtime.session import Result

Leaf = Array | bool | int | float | str | None
_UINTS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Difference:
    """Of B from A, over one tensor. Figures of floats are over the elements that are finite in both.

    `max_abs`, `relative_l2` and `count` are 0 for equal tensors. `count` is of elements whose bits differ.
    """

    elements: int
    count: int
    max_abs: float = 0.0
    relative_l2: float = 0.0
    cosine: float = 1.0
    scale: float = 0.0
    """The largest finite magnitude in A."""
    nonfinite: int = 0
    """Elements of which one is NaN or infinite and the other is not the same."""
    mismatch: str = ""
    """Why the two cannot be compared element by element, or nothing."""

    @property
    def snr_db(self) -> float:
        """Signal over difference; infinite for equal tensors."""
        return math.inf if self.relative_l2 == 0 else -20 * math.log10(self.relative_l2)

    @property
    def identical(self) -> bool:
        """Whether every bit is the same; NaNs are the same whatever their payload."""
        return not self.mismatch and self.count == 0


def leaves(result: Result, name: str) -> Iterator[tuple[str, Leaf]]:
    """The tensors and scalars in a result, with names that say where they stand: out, out[2], out['key']."""
    if isinstance(result, list):
        yield f"{name}.length", len(result)
        for index, item in enumerate(result):
            yield from leaves(item, f"{name}[{index}]")
    elif isinstance(result, dict):
        yield f"{name}.keys", ", ".join(map(repr, result))
        for key, item in result.items():
            yield from leaves(item, f"{name}[{key!r}]")
    else:
        yield name, result


def is_float(leaf: Leaf) -> bool:
    return isinstance(leaf, float) or (isinstance(leaf, np.ndarray) and is_floating(leaf.dtype))


def difference(a: Leaf, b: Leaf) -> Difference:
    """Of `b` from `a`; they may be of different kinds, types and shapes."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        if isinstance(a, float) and isinstance(b, float):
            return _of_floats(np.asarray(a), np.asarray(b))
        same = type(a) is type(b) and not isinstance(a, np.ndarray) and a == b
        return Difference(1, 0 if same else 1, mismatch="" if same else f"{_kind(a)} against {_kind(b)}")
    if a.dtype != b.dtype:
        return Difference(a.size, a.size, mismatch=f"{a.dtype} against {b.dtype}")
    if a.shape != b.shape:
        return Difference(a.size, a.size, mismatch=f"shape {list(a.shape)} against {list(b.shape)}")
    if is_floating(a.dtype):
        return _of_floats(a, b)
    if a.dtype.kind == "c":
        return _of_floats(np.stack((a.real, a.imag)), np.stack((b.real, b.imag)))
    count = int(np.count_nonzero(a != b))
    if count == 0 or a.dtype.kind not in "iu":
        return Difference(a.size, count)
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return Difference(a.size, count, max_abs=float(gap.max()), scale=float(np.abs(a.astype(np.float64)).max()))


def _kind(leaf: Leaf) -> str:
    if leaf is None:
        return "nothing"
    return f"a tensor of {leaf.dtype}" if isinstance(leaf, np.ndarray) else repr(leaf)


def _of_floats(a: Array, b: Array) -> Difference:
    unequal = _bits(a) != _bits(b)
    unequal &= ~(_isnan(a) & _isnan(b))
    count = int(np.count_nonzero(unequal))
    x, y = a.astype(np.float64), b.astype(np.float64)
    both = np.isfinite(x) & np.isfinite(y)
    nonfinite = int(np.count_nonzero(~both & unequal))
    scale = float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))
    if count == 0:
        return Difference(a.size, 0, scale=scale)
    x, y = x[both], y[both]
    with np.errstate(over="ignore"):
        gap = y - x
    norm, other = _norm(x), _norm(y)
    missed = _norm(gap)
    return Difference(
        elements=a.size,
        count=count,
        max_abs=float(np.max(np.abs(gap), initial=0.0)),
        relative_l2=0.0 if missed == 0 else math.inf if norm == 0 else missed / norm,
        cosine=1.0 if norm == 0 or other == 0 else float(np.dot((x / norm).ravel(), (y / other).ravel())),
        scale=scale,
        nonfinite=nonfinite,
    )


def _norm(x: NDArray[np.float64]) -> float:
    """The Euclidean norm, without overflow on the way."""
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == 0 or math.isinf(largest):
        return largest
    return largest * float(np.linalg.norm((x / largest).ravel()))


def _bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(_UINTS[x.dtype.itemsize])


def _isnan(x: Array) -> NDArray[np.bool_]:
    return np.isnan(x.astype(np.float64))
