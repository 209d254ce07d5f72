"""What arithmetic and comparison operators make of dims; None where the result depends on what symbols stand for."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir.dim import Dim, floor_div, is_nonnegative, is_positive


def quotient(a: Dim, b: Dim) -> Dim | None:
    """Integer Div truncates; that is the floor where neither side is negative."""
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else a // b if (a < 0) == (b < 0) else -(-a // b)
    return floor_div(a, b) if b != 0 and is_nonnegative(a) and is_nonnegative(b) else None


def remainder(a: Dim, b: Dim) -> Dim | None:
    """Mod of integers has the divisor's sign."""
    if isinstance(b, int) and b != 0:
        return a - floor_div(a, b) * b
    return None


def equal(a: Dim, b: Dim) -> int | None:
    difference = a - b
    if isinstance(difference, int):
        return int(difference == 0)
    return 0 if is_positive(difference) or is_positive(-difference) else None


def less(a: Dim, b: Dim) -> int | None:
    difference = b - a
    return 1 if is_positive(difference) else 0 if is_nonnegative(-difference) else None


def less_or_equal(a: Dim, b: Dim) -> int | None:
    found = less(b, a)
    return None if found is None else 1 - found


def greater(a: Dim, b: Dim) -> int | None:
    return less(b, a)


def greater_or_equal(a: Dim, b: Dim) -> int | None:
    return less_or_equal(b, a)


def largest(a: Dim, b: Dim) -> Dim | None:
    return a if is_nonnegative(a - b) else b if is_nonnegative(b - a) else None


def smallest(a: Dim, b: Dim) -> Dim | None:
    return b if is_nonnegative(a - b) else a if is_nonnegative(b - a) else None


def negative(a: Dim) -> Dim:
    return -a


def magnitude(a: Dim) -> Dim | None:
    return a if is_nonnegative(a) else -a if is_nonnegative(-a) else None


def select(condition: Dim, x: Dim, y: Dim) -> Dim | None:
    return (x if condition else y) if isinstance(condition, int) else None


def total(parts: Sequence[Dim]) -> Dim:
    found: Dim = 0
    for part in parts:
        found = found + part
    return found


def both(a: Dim, b: Dim) -> int | None:
    return int(a != 0 and b != 0) if isinstance(a, int) and isinstance(b, int) else None


def either(a: Dim, b: Dim) -> int | None:
    return int(a != 0 or b != 0) if isinstance(a, int) and isinstance(b, int) else None


def not_both_alike(a: Dim, b: Dim) -> int | None:
    return int((a != 0) != (b != 0)) if isinstance(a, int) and isinstance(b, int) else None


def negation(a: Dim) -> int | None:
    return int(a == 0) if isinstance(a, int) else None
