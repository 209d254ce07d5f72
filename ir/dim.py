"""Dims: the extent of an axis, an int or an exact expression over symbols.

An expression is a polynomial with integer coefficients over atoms; an atom is a symbol, a floor division that does not
cancel, a number of windows, or the lesser of two dims that cannot be told apart. Two expressions that compare equal are
equal for every binding of the symbols; two that differ may still be equal for some binding, so `!=` proves nothing.
Symbols stand for non-negative integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import gcd


class Symbol:
    """An extent that is the same wherever it stands in one run of the model."""

    __slots__ = ("fresh", "key")

    def __init__(self, name: str, fresh: bool = False) -> None:
        self.key = name
        self.fresh = fresh

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Symbol) and other.key == self.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.key


class FloorDiv:
    """numerator // denominator where the division does not cancel exactly."""

    __slots__ = ("denominator", "key", "numerator")

    def __init__(self, numerator: Dim, denominator: Dim) -> None:
        self.numerator = numerator
        self.denominator = denominator
        self.key = f"floor(({numerator})/({denominator}))"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FloorDiv) or other.key != self.key:
            return False
        return self is other or (other.numerator == self.numerator and other.denominator == self.denominator)

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.key


class Windows(FloorDiv):
    """How many windows of a pooling fit: numerator / denominator rounded towards zero, plus 1; the first may be < 0."""

    __slots__ = ()

    def __init__(self, numerator: Dim, denominator: Dim) -> None:
        super().__init__(numerator, denominator)
        self.key = f"windows(({numerator})/({denominator}))"


class Minimum:
    """The lesser of two dims where it is not known which one that is."""

    __slots__ = ("dims", "key")

    def __init__(self, one: Dim, other: Dim) -> None:
        self.dims = (one, other) if str(one) < str(other) else (other, one)
        self.key = f"min({self.dims[0]}, {self.dims[1]})"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Minimum) and other.key == self.key and other.dims == self.dims)

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.key


Atom = Symbol | FloorDiv | Minimum
Monomial = tuple[Atom, ...]


class Expr:
    """A polynomial: {monomial: coefficient}, never a plain integer and never empty (those are ints)."""

    __slots__ = ("_age", "_hash", "_terms")

    def __init__(self, terms: dict[Monomial, int]) -> None:
        self._terms = terms
        self._hash = 0
        self._age = -1

    @property
    def terms(self) -> Mapping[Monomial, int]:
        return self._terms

    @property
    def is_fresh(self) -> bool:
        """Whether this is one symbol that the tool made up because nothing is known of the extent."""
        if len(self._terms) != 1:
            return False
        ((monomial, coefficient),) = self._terms.items()
        if coefficient != 1 or len(monomial) != 1:
            return False
        atom = monomial[0]
        return isinstance(atom, Symbol) and atom.fresh

    @property
    def age(self) -> int:
        """The number of the latest symbol in it that the tool made up; 0 when the model names all of them.

        Of two expressions for one extent that with the lower number is kept, so that what is known converges.
        """
        if self._age < 0:
            self._age = max([int(name[1:]) for name in _symbols(self) if name.startswith("?")], default=0)
        return self._age

    def symbols(self) -> frozenset[str]:
        return frozenset(_symbols(self))

    def substitute(self, binding: Mapping[str, Dim]) -> Dim:
        """The value with the symbols of `binding` replaced; symbols that it lacks stay."""
        total: Dim = 0
        for monomial, coefficient in self._terms.items():
            product: Dim = coefficient
            for atom in monomial:
                product = product * _bind(atom, binding)
            total = total + product
        return total

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Expr) and self._terms == other._terms)

    def __hash__(self) -> int:
        if not self._hash:
            self._hash = hash(frozenset(self._terms.items())) or 1
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        terms = dict(self._terms)
        for monomial, coefficient in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _simplest(terms)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return _simplest({monomial: -coefficient for monomial, coefficient in self._terms.items()})

    def __sub__(self, other: Dim) -> Dim:
        return self + -other

    def __rsub__(self, other: Dim) -> Dim:
        return -self + other

    def __mul__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        terms: dict[Monomial, int] = {}
        for left, a in self._terms.items():
            for right, b in _terms(other).items():
                monomial = tuple(sorted(left + right, key=_key)) if left and right else left or right
                terms[monomial] = terms.get(monomial, 0) + a * b
        return _simplest(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floor_div(self, other)

    def __rfloordiv__(self, other: int) -> Dim:
        return floor_div(other, self)

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, coefficient in sorted(self._terms.items(), key=lambda term: [_key(a) for a in term[0]]):
            factors = [str(atom) for atom in monomial]
            if coefficient != 1 or not factors:
                factors.insert(0, str(coefficient))
            parts.append("*".join(factors))
        return " + ".join(parts)

    __repr__ = __str__


Dim = int | Expr
Shape = tuple[Dim, ...]


def symbol(name: str) -> Expr:
    """The extent that the model calls `name`."""
    return Expr({(Symbol(name),): 1})


def fresh_symbol(name: str) -> Expr:
    """An extent of which nothing is known; `name` must be unique within the model."""
    return Expr({(Symbol(name, fresh=True),): 1})


def floor_div(numerator: Dim, denominator: Dim) -> Dim:
    """Exact floor division; raises ZeroDivisionError when the denominator is the int 0."""
    if isinstance(numerator, int) and isinstance(denominator, int):
        return numerator // denominator
    if denominator == 1 or numerator == 0:
        return numerator
    if numerator == denominator:
        return 1
    if isinstance(denominator, int):
        return _divide_by_int(numerator, denominator)
    quotient = _divide_exactly(numerator, denominator)
    if quotient is not None:
        return quotient
    return Expr({(FloorDiv(numerator, denominator),): 1})


def windows(room: Dim, stride: int) -> Dim:
    """How often a window may be moved by `stride` within `room`, and once more; as ONNX Runtime rounds where it is
    larger than what it slides over.
    """
    if isinstance(room, int) and room < 0:
        return -(-room // stride) + 1
    if stride == 1 or is_nonnegative(room):
        return floor_div(room, stride) + 1
    return Expr({(Windows(room, stride),): 1})


def ceil_div(numerator: Dim, denominator: Dim) -> Dim:
    if isinstance(denominator, int) and denominator > 0:
        return floor_div(numerator + (denominator - 1), denominator)
    return -floor_div(-numerator, denominator)


def minimum(one: Dim, other: Dim) -> Dim:
    """The lesser of two dims."""
    if is_nonnegative(other - one):
        return one
    return other if is_nonnegative(one - other) else Expr({(Minimum(one, other),): 1})


def is_capped(dim: Dim, other: Dim) -> bool:
    """Whether `dim` is the lesser of `other` and an extent of 1 or more, so that it broadcasts to `other` if at all."""
    if isinstance(dim, int) or len(dim.terms) != 1:
        return False
    ((monomial, coefficient),) = dim.terms.items()
    atom = monomial[0] if coefficient == len(monomial) == 1 else None
    return isinstance(atom, Minimum) and other in atom.dims and all(d == other or is_positive(d) for d in atom.dims)


def product(dims: Iterable[Dim]) -> Dim:
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def is_nonnegative(dim: Dim) -> bool:
    """Whether the value is surely >= 0: symbols are, and so are sums of them with positive coefficients."""
    if isinstance(dim, int):
        return dim >= 0
    return all(c > 0 and all(_is_nonnegative_atom(a) for a in monomial) for monomial, c in dim.terms.items())


def is_positive(dim: Dim) -> bool:
    """Whether the value is surely >= 1."""
    if isinstance(dim, int):
        return dim > 0
    return is_nonnegative(dim) and dim.terms.get((), 0) > 0


def vanishes_with(dim: Dim, other: Dim) -> bool:
    """Whether `dim` is surely 0 where `other` is: equal, or a multiple of a product of which `other` is one."""
    if dim in (0, other):
        return True
    if isinstance(dim, int) or isinstance(other, int) or len(other.terms) != 1:
        return False
    (factors,) = other.terms
    return all(set(factors) <= set(monomial) for monomial in dim.terms)


def _is_nonnegative_atom(atom: Atom) -> bool:
    if isinstance(atom, Symbol | Windows):
        return True
    parts = atom.dims if isinstance(atom, Minimum) else (atom.numerator, atom.denominator)
    return all(map(is_nonnegative, parts))


def _terms(dim: Dim) -> Mapping[Monomial, int]:
    return {(): dim} if isinstance(dim, int) else dim.terms


def _key(atom: Atom) -> str:
    return atom.key


def _simplest(terms: dict[Monomial, int]) -> Dim:
    terms = {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return Expr(terms)


def _divide_by_int(numerator: Dim, divisor: int) -> Dim:
    """(d*q + r) // d = q + r // d for every integer q, and (g*x + c) // (g*d) = (x + c//g) // d for g, d > 0."""
    if divisor == 0:
        raise ZeroDivisionError("a dim is divided by 0")
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in _terms(numerator).items():
        whole[monomial], rest[monomial] = divmod(coefficient, divisor)
    common = gcd(divisor, *[coefficient for monomial, coefficient in rest.items() if monomial])
    if divisor > 0 and common > 1:
        divisor //= common
        rest = {monomial: coefficient // common for monomial, coefficient in rest.items()}
    quotient = _simplest(whole)
    remainder = _simplest(rest)
    if isinstance(remainder, int):
        return quotient + remainder // divisor
    return quotient + Expr({(FloorDiv(remainder, divisor),): 1})


def _divide_exactly(numerator: Dim, denominator: Expr) -> Dim | None:
    """Polynomial long division by the leading monomial; None unless it leaves no remainder."""
    lead, lead_coefficient = max(denominator.terms.items(), key=_rank)
    rest: Dim = numerator
    quotient: Dim = 0
    for _ in range(len(_terms(numerator)) * 2 + 1):
        if rest == 0:
            return quotient
        monomial, coefficient = max(_terms(rest).items(), key=_rank)
        factors = _cancel(monomial, lead)
        if factors is None or coefficient % lead_coefficient:
            return None
        step = _simplest({factors: coefficient // lead_coefficient})
        quotient = quotient + step
        rest = rest - step * denominator
    return None


def _rank(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return len(term[0]), [_key(atom) for atom in term[0]]


def _cancel(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def _bind(atom: Atom, binding: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Symbol):
        return binding[atom.key] if atom.key in binding else Expr({(atom,): 1})
    if isinstance(atom, Minimum):
        return minimum(*[_substitute(dim, binding) for dim in atom.dims])
    denominator = _substitute(atom.denominator, binding)
    if isinstance(atom, Windows) and isinstance(denominator, int):
        return windows(_substitute(atom.numerator, binding), denominator)
    if denominator == 0:  # a share of an empty tensor, which no operator works out
        return Expr({(atom,): 1})
    return floor_div(_substitute(atom.numerator, binding), denominator)


def _substitute(dim: Dim, binding: Mapping[str, Dim]) -> Dim:
    return dim if isinstance(dim, int) else dim.substitute(binding)


def _symbols(dim: Dim) -> Iterable[str]:
    if isinstance(dim, int):
        return
    for monomial in dim.terms:
        for atom in monomial:
            if isinstance(atom, Symbol):
                yield atom.key
            else:
                for part in atom.dims if isinstance(atom, Minimum) else (atom.numerator, atom.denominator):
                    yield from _symbols(part)
