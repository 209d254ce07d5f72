"""Whether two models mean the same: what the tests of passes stand on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planish.runtime.session import Result

Array: TypeAlias = NDArray[np.generic]


def differences(found: Result, expected: Result, rtol: float = 0.0, atol: float = 0.0) -> Iterator[str]:
    """In words, each place where a result is not the expected one.

    Tolerances of 0 ask for the same bits, but that every NaN is like any other.
    """
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        yield from _array_differences(found, expected, rtol, atol)
    elif isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            yield f"{len(found)} elements instead of {len(expected)}"
        for index, (part, other) in enumerate(zip(found, expected, strict=False)):
            yield from (f"[{index}] {difference}" for difference in differences(part, other, rtol, atol))
    elif type(found) is not type(expected) or found != expected:
        yield f"{found!r} instead of {expected!r}"


def _array_differences(found: Array, expected: Array, rtol: float, atol: float) -> Iterator[str]:
    if found.shape != expected.shape:
        yield f"shape {list(found.shape)} instead of {list(expected.shape)}"
    elif found.dtype != expected.dtype and {found.dtype.kind, expected.dtype.kind} - set("OUST"):
        yield f"{found.dtype} instead of {expected.dtype}"
    else:
        wrong = ~_alike(found, expected, rtol, atol)
        for place in np.argwhere(wrong)[:3]:
            at = tuple(place.tolist())
            yield f"at {list(at)} {found[at]!r} instead of {expected[at]!r}, {int(wrong.sum())} of {found.size} differ"


def _alike(found: Array, expected: Array, rtol: float, atol: float) -> NDArray[np.bool_]:
    if found.dtype.kind in "OUSTbiu":
        return np.asarray(found == expected, np.bool_)
    bits = np.dtype(f"u{found.dtype.itemsize}") if found.dtype.kind != "c" else None
    same = found == expected if bits is None else found.view(bits) == expected.view(bits)
    same = np.asarray(same | ((found != found) & (expected != expected)), np.bool_)
    if not rtol and not atol:
        return same
    wide, aim = (side.astype(np.complex128 if bits is None else np.float64) for side in (found, expected))
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.isfinite(aim) & (np.abs(wide - aim) <= atol + rtol * np.abs(aim))
    return same | near | (wide == aim)


def same_bits(found: Sequence[Result], expected: Sequence[Result]) -> bool:
    return not any(differences(list(found), list(expected)))
