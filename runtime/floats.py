"""Facts about float types, those that numpy itself lacks among them: ml_dtypes' have no np.finfo."""

from __future__ import annotations

from functools import cache

import numpy as np

from planish.runtime.providers import Array

Floating = np.dtype[np.generic]


def is_floating(dtype: Floating) -> bool:
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)


@cache
def eps(dtype: Floating) -> float:
    """The distance from 1 to the next number."""
    one, two = (np.asarray(number).astype(dtype) for number in (1, 2))
    return float(np.nextafter(one, two)) - 1


@cache
def smallest(dtype: Floating) -> float:
    """The smallest positive number; denormal where the type has such."""
    zero, one = (np.asarray(number).astype(dtype) for number in (0, 1))
    return float(np.nextafter(zero, one))


@cache
def greatest(dtype: Floating) -> float:
    """The largest finite number."""
    infinity = np.asarray(np.inf).astype(dtype)
    if np.isinf(infinity.astype(np.float64)):
        return float(np.nextafter(infinity, np.asarray(0).astype(dtype)))
    every = np.arange(256, dtype=np.uint8).view(dtype)  # types without an infinity take a byte
    return float(np.nanmax(every.astype(np.float64)))


def one_unit_up(x: Array) -> Array:
    """Every number but the greatest moved to the next one away from zero; other elements and types as they are."""
    if not is_floating(x.dtype):
        return x
    end = np.where(np.signbit(x), -greatest(x.dtype), greatest(x.dtype)).astype(x.dtype)
    return np.where(np.isfinite(x.astype(np.float64)), np.nextafter(x, end), x).astype(x.dtype)
