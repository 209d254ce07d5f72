"""Inputs that are hostile to wrong rewrites, and some that are random.

Inputs in [0, 1) find almost nothing: Relu, Clip, Abs, thresholds and saturation never turn there. Each set here holds a
value for every input of the model, of whatever type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planish.ir import DType, Graph, GraphError, OptionalType, SequenceType, TensorType, Type, Value
from planish.runtime.bindings import Binding, Symbols
from planish.runtime.floats import greatest, smallest
from planish.runtime.providers import Array
from planish.runtime.ranges import Range, Ranges, boundaries, limits, words
from planish.runtime.session import Feed

Bounds: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[int, ...]

_PARTS: Mapping[DType, np.dtype[np.generic]] = {
    DType.COMPLEX64: np.dtype(np.float32),
    DType.COMPLEX128: np.dtype(np.float64),
}
_WORDS = ("", "a", "B", "planish", "Übermaß", "日本", " two words ", "0", "-1.5", "nan")


@dataclass(frozen=True)
class Input:
    """An input of a model under one binding: its type, the shape of the tensor or of a sequence's elements."""

    name: str
    type: Type
    shape: Shape
    integers: Range | None = None
    """Where the graph bounds an integer input."""
    bounds: Bounds | None = None
    """What the user says; both ends belong to it."""
    value: float | None = None
    """What it must hold, all of it."""
    words: Sequence[str] = ()
    """Strings that stand in the graph."""


@dataclass(frozen=True)
class Set:
    """One run's inputs."""

    name: str
    feeds: Mapping[str, Feed]
    ordinary: bool = True
    """Whether floats stand where they happen to, not on points that are special to the model."""


@dataclass(frozen=True)
class Kind:
    """A way to fill inputs: floats directly, other types by the mood they share."""

    name: str
    floats: Callable[[np.random.Generator, Shape], Floats]
    ordinary: bool = True
    denormal: bool = False
    """Whether the floats count thousands of the smallest number of a type."""


def _normal(random: np.random.Generator, shape: Shape) -> Floats:
    return random.standard_normal(shape)


def _ties(random: np.random.Generator, shape: Shape) -> Floats:
    return random.choice((-1.0, 0.0, 0.5, 1.0), shape)


def _zeros(random: np.random.Generator, shape: Shape) -> Floats:
    return random.choice((0.0, -0.0), shape)


def _nonfinite(random: np.random.Generator, shape: Shape) -> Floats:
    numbers = random.standard_normal(shape)
    special = random.choice((np.nan, np.inf, -np.inf), shape)
    return np.where(random.random(shape) < 0.1, special, numbers)


NORMAL = Kind("normal", _normal)
UNIFORM = Kind("uniform", lambda random, shape: random.random(shape))
KINDS: tuple[Kind, ...] = (
    NORMAL,
    UNIFORM,
    Kind("shifted", lambda random, shape: 3.0 + 10.0 * random.standard_normal(shape)),
    Kind("negative", lambda random, shape: -np.abs(random.standard_normal(shape)) - 0.01),
    Kind("tiny", lambda random, shape: 1e-6 * random.standard_normal(shape)),
    Kind("denormal", _normal, denormal=True),
    Kind("zeros", _zeros, ordinary=False),
    Kind("ties", _ties, ordinary=False),
)
BOUNDARIES = "boundaries"
NONFINITE = Kind("nonfinite", _nonfinite)
OVERRIDDEN = "overridden"


def large(magnitude: float) -> Kind:
    return Kind("large", lambda random, shape: magnitude * random.standard_normal(shape))


def _boundary_kind(numbers: Sequence[float]) -> Kind:
    """Numbers at which a graph turns, with their neighbours in every type."""
    choices = np.asarray([*numbers, 0.0, 1.0, -1.0])

    def floats(random: np.random.Generator, shape: Shape) -> Floats:
        picked = random.choice(choices, shape)
        nudge = random.choice((-1.0, 0.0, 0.0, 1.0), shape) * np.spacing(np.abs(picked).astype(np.float32))
        return picked + nudge

    return Kind(BOUNDARIES, floats, ordinary=False)


class Feeds:
    """Makes up the inputs of a model."""

    def __init__(self, graph: Graph, fixed: Mapping[str, float], ranges: Mapping[str, Bounds], seed: int) -> None:
        """`fixed` and `ranges` are the user's, by input; raises GraphError for an input that is not there."""
        self.graph = graph
        self.fixed = fixed
        self._bounds = ranges
        self._seed = seed
        self._integers = Ranges(graph)
        self.symbols = Symbols(graph)
        self.boundaries = _boundary_kind(boundaries(graph))
        self._words = words(graph)
        known = [value.name for value in graph.inputs]
        for name in (*fixed, *ranges):
            if name not in known:
                raise GraphError(f"there is no input {name!r}; the inputs are {', '.join(known) or 'none'}")

    def complete(self, binding: Binding) -> Binding:
        """The user's binding, with the shapes and values that it leaves open; raises GraphError where it cannot be."""
        return self.symbols.complete(Binding(binding.shapes, {**binding.fixed, **self.fixed}))

    def make(self, kind: Kind, binding: Binding, *, turn: int = 0, overridden: bool = False) -> Set:
        """One run's inputs, the same for the same arguments. Overridable initializers stay unless `overridden`."""
        random = np.random.default_rng([self._seed, turn, *kind.name.encode()])
        extents = self.symbols.of(binding)
        feeds: dict[str, Feed] = {}
        for value in self.graph.inputs:
            if overridden or value not in self.graph.defaults:
                item = self._input(value, binding, extents)
                feeds[value.name] = _feed(kind, item, item.type, random)
        return Set(OVERRIDDEN if overridden else kind.name, feeds, kind.ordinary)

    def _input(self, value: Value, binding: Binding, extents: Mapping[str, int]) -> Input:
        if value.type is None:
            raise GraphError(f"input {value.name!r} has no type, so planish cannot make it up")
        default = self.graph.defaults.get(value)
        counts = value.dtype is not None and value.dtype.is_integer
        return Input(
            name=value.name,
            type=value.type,
            shape=binding.shapes.get(value.name, ()) if default is None else default.shape,
            integers=self._integers.of(value.name, extents) if counts else None,
            bounds=self._bounds.get(value.name),
            value=binding.fixed.get(value.name),
            words=self._words,
        )


def _feed(kind: Kind, item: Input, type: Type, random: np.random.Generator) -> Feed:
    if isinstance(type, TensorType):
        return _tensor(kind, item, type.dtype, random)
    if isinstance(type, SequenceType) and isinstance(type.element, TensorType):
        element = type.element
        return [_tensor(kind, item, element.dtype, random) for _ in range(int(random.integers(1, 4)))]
    if isinstance(type, OptionalType) and type.element is not None:
        return None if kind.name == "zeros" else _feed(kind, item, type.element, random)
    raise GraphError(f"input {item.name!r} is of the type {type}, which planish cannot make up")


def _tensor(kind: Kind, item: Input, dtype: DType, random: np.random.Generator) -> Array:
    if item.value is not None:
        return np.full(item.shape, item.value).astype(dtype.numpy)
    if dtype is DType.STRING:
        return random.choice(np.asarray([*item.words, *_WORDS], dtype=object), item.shape)
    if dtype is DType.BOOL:
        share = {"zeros": 0.0, "negative": 0.0, "large": 1.0}.get(kind.name, 0.5)
        return random.random(item.shape) < share
    if dtype.is_integer:
        return _integers(kind, item, dtype, random)
    numbers = _floats(kind, item, dtype, random)
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        return (numbers + 1j * _floats(kind, item, dtype, random)).astype(dtype.numpy)
    return numbers.astype(dtype.numpy)


def _floats(kind: Kind, item: Input, dtype: DType, random: np.random.Generator) -> Floats:
    """In double precision, within what `dtype` holds and the user allows."""
    plain = _PARTS.get(dtype, dtype.numpy)
    numbers = np.asarray(kind.floats(random, item.shape), np.float64)
    if kind.denormal:
        numbers = numbers * 1e3 * smallest(plain)
    end = greatest(plain)
    numbers = np.where(np.isfinite(numbers), np.clip(numbers, -end, end), numbers)
    if item.bounds is None:
        return numbers
    low, high = item.bounds
    return low + (high - low) * random.random(item.shape) if kind is NORMAL else np.clip(numbers, low, high)


def _integers(kind: Kind, item: Input, dtype: DType, random: np.random.Generator) -> Array:
    least, most = limits(dtype)
    known = item.integers or Range(0, 0, wide=True)
    low, high = known.low, known.high
    if item.bounds is not None:
        low, high = max(math.ceil(item.bounds[0]), least), min(math.floor(item.bounds[1]), most)
    elif kind.name == "large" and known.wide:
        low, high = least, most
    if kind.name == "zeros":
        return np.full(item.shape, min(max(0, low), high)).astype(dtype.numpy)
    if kind.name == BOUNDARIES:
        points = [point for point in known.points if item.bounds is None or low <= point <= high]
        choices = np.asarray(sorted({low, high, *points}), np.uint64 if most > 2**63 else np.int64)
        return random.choice(choices, item.shape).astype(dtype.numpy)
    if kind.name == "ties":
        return random.choice((low, min(low + 1, high)), item.shape).astype(dtype.numpy)
    if kind.name == "negative" and low >= 0 and item.bounds is None and known.wide:
        low = max(least, -high)
    wide = np.uint64 if most > 2**63 else np.int64
    return random.integers(low, high, item.shape, dtype=wide, endpoint=True).astype(dtype.numpy)
