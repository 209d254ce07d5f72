"""Arithmetic on dims agrees with Python's on every binding of the symbols."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planish.ir.dim import (
    Dim,
    Expr,
    Shape,
    ceil_div,
    floor_div,
    fresh_symbol,
    is_capped,
    is_nonnegative,
    is_positive,
    minimum,
    product,
    symbol,
)

# Exporters name dims by formulas; a name is a name all the same.
NAMES = ("a", "b", "n", "a + b", "2*a", "floor((a)/(2))")


def divide(a: int, b: int) -> int:
    return a // b


@dataclass(frozen=True)
class Term:
    """A dim, and the formula that made it, for Python to work out."""

    dim: Dim
    formula: Formula


@dataclass(frozen=True)
class Formula:
    """An operation on two formulas, or a number, or the name of a symbol."""

    leaf: int | str = 0
    apply: Callable[[int, int], int] | None = None
    operands: tuple[Formula, ...] = ()

    def value(self, binding: Mapping[str, int]) -> int:
        if self.apply is not None:
            return self.apply(*[operand.value(binding) for operand in self.operands])
        return binding[self.leaf] if isinstance(self.leaf, str) else self.leaf


def leaf(content: int | str) -> Term:
    return Term(symbol(content) if isinstance(content, str) else content, Formula(content))


def combined(apply: Callable[[int, int], int], a: Term, b: Term) -> Term:
    if apply is divide and b.dim == 0:
        return a
    return Term(DIMS[apply](a.dim, b.dim), Formula(0, apply, (a.formula, b.formula)))


def grown(inner: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.builds(combined, st.sampled_from(tuple(DIMS)), inner, inner)


DIMS: Mapping[Callable[[int, int], int], Callable[[Dim, Dim], Dim]] = {
    operator.add: lambda a, b: a + b,
    operator.sub: lambda a, b: a - b,
    operator.mul: lambda a, b: a * b,
    divide: floor_div,
    min: minimum,
}
leaves = st.one_of(st.integers(-12, 12), st.sampled_from(NAMES)).map(leaf)
terms: st.SearchStrategy[Term] = st.recursive(leaves, grown, max_leaves=8)
bindings = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


def value(term: Term, binding: Mapping[str, int]) -> int:
    """What Python gives; the example is dropped where it divides by 0."""
    try:
        return term.formula.value(binding)
    except ZeroDivisionError:
        assume(False)
        raise


def bound(dim: Dim, binding: Mapping[str, int]) -> Dim:
    return dim if isinstance(dim, int) else dim.substitute(binding)


@given(terms, bindings)
def test_arithmetic_is_pythons(term: Term, binding: Mapping[str, int]) -> None:
    expected = value(term, binding)
    assert bound(term.dim, binding) == expected


@given(terms, bindings, st.sets(st.sampled_from(NAMES)))
def test_symbols_may_be_bound_one_after_another(term: Term, binding: Mapping[str, int], first: set[str]) -> None:
    expected = value(term, binding)
    try:
        half = bound(term.dim, {name: extent for name, extent in binding.items() if name in first})
    except ZeroDivisionError:
        assume(False)
        raise
    if isinstance(half, Expr):
        assert half.symbols() <= set(NAMES) - first
    assert bound(half, binding) == expected


@given(terms, terms, bindings)
def test_equal_dims_are_equal_on_every_binding(a: Term, b: Term, binding: Mapping[str, int]) -> None:
    if a.dim == b.dim:
        assert hash(a.dim) == hash(b.dim)
        assert value(a, binding) == value(b, binding)


@given(terms, terms, terms, bindings)
def test_what_cancels_is_equal(a: Term, b: Term, c: Term, binding: Mapping[str, int]) -> None:
    whole, divisor = value(a, binding), value(b, binding)
    assert (a.dim + b.dim) - b.dim == a.dim
    assert a.dim * (b.dim + c.dim) == a.dim * b.dim + c.dim * a.dim
    assert a.dim - a.dim == 0
    if divisor:
        assert bound(floor_div(a.dim * b.dim, b.dim), binding) == whole


@given(terms, bindings)
def test_signs_are_sure(term: Term, binding: Mapping[str, int]) -> None:
    if is_nonnegative(term.dim):
        assert value(term, binding) >= 0
    if is_positive(term.dim):
        assert value(term, binding) >= 1


@given(terms, terms, bindings)
def test_ceil_div_rounds_up(a: Term, b: Term, binding: Mapping[str, int]) -> None:
    whole, divisor = value(a, binding), value(b, binding)
    assume(divisor != 0)
    assert bound(ceil_div(a.dim, b.dim), binding) == -(-whole // divisor)


@pytest.mark.parametrize("divisor", [-8, -4, -3, -2, -1, 1, 2, 3, 4, 6, 8])
def test_division_of_a_multiple_rounds_down(divisor: int) -> None:
    n = symbol("n")
    for factor in range(-6, 7):
        for rest in range(-6, 7):
            quotient = floor_div(factor * n + rest, divisor)
            found = [bound(quotient, {"n": extent}) for extent in range(6)]
            assert found == [(factor * extent + rest) // divisor for extent in range(6)], (factor, rest)


def test_what_is_equal_is_recognised() -> None:
    n, h, w = symbol("n"), symbol("h"), symbol("w")
    same: list[tuple[Dim, Dim]] = [
        (floor_div(n * h * w, h), n * w),
        (floor_div(6 * n + 4, 2), 3 * n + 2),
        (floor_div(n * n + 2 * n * h + h * h, n + h), n + h),
        (floor_div(h + 2 - 3, 2) + 1, floor_div(h + 1, 2)),
        (floor_div(floor_div(h, 2) * 2 * w, w), floor_div(h, 2) * 2),
        (product((n, 3, h)), 3 * h * n),
        (ceil_div(4 * n, 4), n),
        (floor_div(4 * n + 3, 8), floor_div(n, 2)),
    ]
    for a, b in same:
        assert a == b
        assert hash(a) == hash(b)


def test_what_may_differ_is_not_equal() -> None:
    n = symbol("n")
    assert floor_div(n, 2) * 2 != n
    assert floor_div(2 * n + 1, 2) * 2 != 2 * n + 1
    assert fresh_symbol("?1") != fresh_symbol("?2")
    assert floor_div(symbol("a + b"), 2) != floor_div(symbol("a") + symbol("b"), 2)


def test_division_by_nothing_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        floor_div(symbol("n"), 0)


def test_a_fresh_symbol_is_told_from_what_is_made_of_it() -> None:
    fresh = fresh_symbol("?1")
    shape: Shape = (fresh, fresh + 1, fresh * 2, symbol("n"))
    assert [isinstance(dim, Expr) and dim.is_fresh for dim in shape] == [True, False, False, False]


def test_an_expression_is_written_in_one_order() -> None:
    a, b = symbol("a"), symbol("b")
    assert str(b + 2 * a + 1) == str(1 + a + b + a) == "1 + 2*a + b"
    assert str(floor_div(a * b + 3, 2)) == "1 + floor((1 + a*b)/(2))"


def test_a_share_of_nothing_stays_open() -> None:
    share = floor_div(symbol("N") * 6, symbol("M") * 2)
    assert isinstance(share, Expr)
    assert share.substitute({"N": 2, "M": 3}) == 2
    assert share.substitute({"N": 2, "M": 0}) == share


def test_the_lesser_of_two_dims() -> None:
    n, m = symbol("n"), symbol("m")
    assert minimum(3, 5) == 3
    assert minimum(n, n + 2) == n
    assert minimum(n + m, n) == n
    assert minimum(n, 512) == minimum(512, n)
    assert str(minimum(n, 512)) == "min(512, n)"
    assert minimum(n, 512) != minimum(n, 511)


def test_what_broadcasts_to_a_dim_if_to_any() -> None:
    n, m = symbol("n"), symbol("m")
    assert is_capped(minimum(512, n), n)
    assert is_capped(minimum(1, n), n)
    assert not is_capped(minimum(512, n), 512)
    assert not is_capped(minimum(m, n), n)  # of no elements where m is 0, though n is 1
    assert not is_capped(minimum(512, n) + 1, n)
    assert not is_capped(n, n)


@given(st.integers(1, 9), bindings)
def test_what_is_capped_broadcasts_to_the_cap_or_not_at_all(most: int, binding: Mapping[str, int]) -> None:
    least, extent = min(most, binding["n"]), binding["n"]
    assert bound(minimum(most, symbol("n")), binding) == least
    assert is_capped(minimum(most, symbol("n")), symbol("n"))
    if 1 in (least, extent) or least == extent:
        assert np.broadcast_shapes((least,), (extent,)) == (extent,)
