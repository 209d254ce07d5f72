"""Lays down a random graph, one drawn choice after another, so that hypothesis can take choices away again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from planish.ir import Builder, DType, TensorType, Value
from planish.ir.dim import symbol
from planish.ir.graph import Attribute

T = TypeVar("T")
Array = NDArray[np.generic]
Test = Callable[[Value], bool]

FLOATS = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
REALS = (DType.FLOAT, DType.DOUBLE)
FLOAT = (DType.FLOAT,)
INTS = (DType.INT64, DType.INT32)
NUMBERS = (DType.FLOAT, DType.INT64, DType.DOUBLE, DType.INT32)
ALL = (*FLOATS, *INTS, DType.BOOL, DType.UINT8)

PLAIN_NUMBERS = (1.0, 0.0, 2.0, 0.5, -1.0, 3.0, 6.0, -0.5, 4.0, -3.0, 0.25, 1.5)
SPECIAL_NUMBERS = (*PLAIN_NUMBERS, -0.0, float("inf"), float("-inf"), float("nan"), 1e-30, 1e30, 1e-42, -1e4)
SHAPES: Sequence[Sequence[int | str]] = (
    *(("N", 4), (2, 3, 4), ("N", 4, 3, 5), (2, 4, 4, 4), (3, 4), (4,), (), ("N", "M", 4), (1, 4, 1, 4), (2, 1, 4)),
    *(("N",), (1,), ("M", "N"), (0, 4), ("N", 6, 2, 4), (2, 4, "N", "M")),
)
"""Of inputs."""
_RECENT = 4
_MOST_ELEMENTS = 2000


class SkipError(Exception):
    """A move does not fit what has been laid down so far."""


class Writer:
    """What moves draw from and write to.

    smooth: nothing may turn the rounding of a float into a jump, so that results can be compared with a tolerance.
    values: what the next nodes may read, the latest at the end.
    """

    def __init__(self, draw: st.DrawFn, builder: Builder, *, smooth: bool, outer: Writer | None = None) -> None:
        self.draw = draw
        self.b = builder
        self.smooth = smooth
        self.outer = outer
        self.values: list[Value] = [] if outer is None else list(outer.values)
        self.depth: int = 0 if outer is None else outer.depth + 1
        self._count = 0

    # Choices: what comes first is what shrinking goes to

    def choose(self, options: Sequence[T]) -> T:
        if not options:
            raise SkipError
        return self.draw(st.sampled_from(options))

    def often(self, percent: int) -> bool:
        """True so often; shrinks to False."""
        return self.draw(st.integers(0, 99)) >= 100 - percent

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def order(self, rank: int) -> tuple[int, ...]:
        """A permutation; shrinks to the one that changes nothing."""
        return tuple(self.draw(st.permutations(range(rank))))

    def name(self, kind: str) -> str:
        """One that no other name of the model is."""
        if self.outer is not None:
            return self.outer.name(kind)
        self._count += 1
        return f"{kind}{self._count}"

    # Values

    def pick(self, dtypes: Sequence[DType] = ALL, *, least: int = 0, most: int = 5, test: Test | None = None) -> Value:
        """A value of one of these types and `least` to `most` axes; mostly one of the latest, so that chains grow."""
        fits = [
            value
            for value in self.values
            if value.dtype in dtypes
            and value.rank is not None
            and least <= value.rank <= most
            and (test is None or test(value))
        ]
        if not fits:
            return self._new_input(dtypes[0], least, most, test)
        span = len(fits) - 1
        return fits[-1 - self.number(0, span if self.often(25) else min(_RECENT, span))]

    def _new_input(self, dtype: DType, least: int, most: int, test: Test | None) -> Value:
        """An input of the kind that a move asks for and that is not there."""
        if self.outer is not None:
            raise SkipError
        fits = [
            shape
            for shape in SHAPES
            if least <= len(shape) <= most and (test is None or test(Value(type=_type(dtype, shape))))
        ]
        return self.keep(self.b.input(self.name("x"), dtype, self.choose(fits)))

    def raw(self, dtypes: Sequence[DType], **axes: int) -> Value:
        """As `pick`; in a smooth graph one that no arithmetic on floats has touched."""
        return self.pick(dtypes, test=lambda v: not self.smooth or _is_raw(v), **axes)

    def keep(self, value: Value) -> Value:
        """Let later moves read it; where its rank is not known, its elements in a row, as outputs must have a rank."""
        if value.dtype is not None and value.rank is None:
            value = self.b.node("Reshape", (value, self.ints(-1)))
        if value.dtype is not None and _elements(value) <= _MOST_ELEMENTS:
            self.values.append(value)
        return value

    def like(self, value: Value, other: Value) -> Value:
        """A value that is of another's type, where inference cannot tell, said to be so by a Reshape."""
        dims = [dim if isinstance(dim, int) else -1 for dim in other.shape or ()]
        if dims.count(-1) > 1 or 0 in dims:
            return value
        return self.b.node("Reshape", (value, self.ints(*dims)))

    def node(
        self, op: str, *operands: Value | None, attributes: Mapping[str, Attribute | Array] | None = None
    ) -> Value:
        """A node with one result; now and then other nodes may read that too."""
        result = self.b.node(op, operands, attributes)
        if self.often(10):
            self.keep(result)
        return result

    def make(
        self, op: str, *operands: Value | None, attributes: Mapping[str, Attribute | Array] | None = None
    ) -> Value:
        """A node whose result later moves may read."""
        return self.keep(self.b.node(op, operands, attributes))

    # Constants

    def constant(self, array: Array) -> Value:
        """As an initializer, a node, or one that a caller may override."""
        form = self.choose(("initializer", "node", "initializer", "overridable")[: 4 if self.depth == 0 else 2])
        if form == "node":
            return self.b.node("Constant", (), {"value": array})
        if form == "overridable" and self.often(15):
            return self.b.input(self.name("d"), DType.of(array), array.shape, array)
        return self.b.initializer(self.name("c"), array)

    def fixed(self, array: Array) -> Value:
        """A constant that no caller may override."""
        if self.often(40):
            return self.b.node("Constant", (), {"value": array})
        return self.b.initializer(self.name("c"), array)

    def ints(self, *values: int) -> Value:
        return self.fixed(np.asarray(values, np.int64))

    def index(self, value: int) -> Value:
        return self.fixed(np.asarray(value, np.int64))

    def float32(self, value: float) -> Value:
        return self.single(value, DType.FLOAT)

    def single(self, value: float, dtype: DType) -> Value:
        """A number of no axes, as bounds must be."""
        return self.fixed(np.asarray(value).astype(dtype.numpy))

    def near(self, value: float) -> float:
        """The number that a rewrite looks for, and now and then one that is not."""
        return value * 1.01 + 0.001 if self.often(7) else value

    def scalar(self, value: float, dtype: DType = DType.FLOAT) -> Value:
        """A number in one of the shapes that exporters write."""
        shape = self.choose(((), (1,), (), (1, 1)))
        with np.errstate(over="ignore"):
            return self.fixed(np.full(shape, value).astype(dtype.numpy))

    def weight(self, *shape: int, dtype: DType = DType.FLOAT, positive: bool = False) -> Value:
        """Numbers near 1, of both signs unless they must be positive."""
        rng = np.random.default_rng(self.number(0, 1 << 16))
        array = np.asarray(rng.normal(0, 1, shape))
        return self.fixed(np.asarray(np.abs(array) + 0.2 if positive else array, dtype.numpy))

    def any_constant(self, shape: Sequence[int], dtype: DType) -> Value:
        """Numbers that rewrites look for: one value all over, ordinary ones, or special ones mixed in."""
        size = int(np.prod(tuple(shape)))
        pool = PLAIN_NUMBERS if self.smooth else SPECIAL_NUMBERS
        form = self.choose(("same", "normal", "mixed"))
        if form == "same":
            numbers = np.full(size, self.choose(pool))
        elif form == "normal":
            numbers = np.random.default_rng(self.number(0, 1 << 16)).normal(0, 2, size)
        else:
            numbers = np.asarray([self.choose(pool) for _ in range(min(size, 6))])
            numbers = np.resize(numbers, size) if size else np.zeros(0)
        return self.constant(_cast(numbers.reshape(tuple(shape)), dtype))

    def broadcastable(self, value: Value) -> tuple[int, ...]:
        """A shape that broadcasts with the value's, and may raise its rank, or stretch a dim that is 1."""
        dims = value.shape or ()
        known = [dim if isinstance(dim, int) and dim > 0 else 1 for dim in dims]
        keep = self.number(0, len(known))
        shape = [dim if self.often(60) else 1 for dim in known[len(known) - keep :]]
        if shape and self.often(8):
            place = self.number(0, len(shape) - 1)
            if shape[place] == 1 and known[len(known) - keep + place] == 1:
                shape[place] = 2
        return (1, *shape) if len(shape) == len(known) and self.often(10) and len(known) < 5 else tuple(shape)


def _type(dtype: DType, shape: Sequence[int | str]) -> TensorType:
    return TensorType(dtype, tuple([symbol(dim) if isinstance(dim, str) else dim for dim in shape]))


def _cast(numbers: NDArray[np.float64], dtype: DType) -> Array:
    if dtype.is_float:
        with np.errstate(over="ignore"):
            return np.asarray(numbers).astype(dtype.numpy)
    finite = np.nan_to_num(numbers, nan=0, posinf=7, neginf=-7)
    held = np.clip(finite, 0 if dtype in (DType.UINT8, DType.BOOL) else -100, 100)
    return np.asarray(held).astype(dtype.numpy)


def dtype_of(value: Value) -> DType:
    if value.dtype is None:
        raise SkipError
    return value.dtype


def _is_raw(value: Value) -> bool:
    return not (value.dtype is not None and value.dtype.is_float) or value.producer is None


def _elements(value: Value) -> int:
    return int(np.prod([dim if isinstance(dim, int) else 4 for dim in value.shape or ()]))
