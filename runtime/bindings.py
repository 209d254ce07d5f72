"""Extents for the symbols of a model: which it accepts is found by trying, as models do not tell.

Many take only certain extents (multiples of 32, one height, a fixed window), and say so nowhere but in what fails.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planish.ir import Dim, Graph, GraphError, OptionalType, SequenceType, TensorType, Type, Value
from planish.ir.dim import Expr

Accepts = Callable[["Binding"], bool]

WANTED = 3
"""Bindings of a model whose symbols are free."""
_LARGEST_INPUT = 1 << 22
_LEADING = (1, 2, 3, 5, 7)
_INNER = (32, 64, 7, 16, 1, 2, 3, 48, 96, 128, 224, 256, 320, 512, 576, 640)
_VARIED = (1, 2, 3, 7, 16, 32, 33, 48, 64, 96, 128, 256)
_PAIRS = 64
_KEPT_EXTENTS = 4
_RANKS = (2, 4, 3, 1, 0, 5)
_UNKNOWN_RANK = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Binding:
    """The shapes of inputs, by name, and the values of inputs that may not hold any."""

    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, float] = field(default_factory=dict[str, float])

    def __str__(self) -> str:
        parts = [f"{name}={','.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()]
        return " ".join(parts + [f"{name}={value:g}" for name, value in self.fixed.items()]) or "no input"

    @property
    def is_empty(self) -> bool:
        """Whether an input has no elements."""
        return any(0 in shape for shape in self.shapes.values())

    def as_dict(self) -> dict[str, object]:
        return {"shapes": {n: list(s) for n, s in self.shapes.items()}, "fixed": dict(self.fixed)}


class Symbols:
    """The symbols in the inputs' shapes; those that the model leaves unnamed are independent of each other."""

    def __init__(self, graph: Graph) -> None:
        self._types = {value.name: _element(value.type) for value in graph.inputs}
        self._defaults = {value.name for value in graph.inputs if value in graph.defaults}
        names = list(dict.fromkeys(_names(graph.inputs)))
        self._sums = {name: parts for name in names if (parts := _sum(name, names))}
        self.names = tuple(name for name in names if name not in self._sums)
        self.leading = frozenset(self._leading())

    @property
    def has_unknown_rank(self) -> bool:
        return any(type is not None and type.shape is None for type in self._types.values())

    def bind(self, extents: Mapping[str, int], rank: int, fixed: Mapping[str, float]) -> Binding:
        """The shapes under `extents`; inputs of unknown rank have `rank` axes."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, type in self._types.items():
            if type is None:
                shapes[name] = ()
            elif type.shape is None:
                shapes[name] = _UNKNOWN_RANK[:rank]
            else:
                shapes[name] = tuple(self._extent(dim, extents) for dim in type.shape)
        return Binding(shapes, fixed)

    def of(self, binding: Binding) -> dict[str, int]:
        """The extents that a binding gives the symbols; raises GraphError where it contradicts the model or itself."""
        found: dict[str, int] = {}
        for name, shape in binding.shapes.items():
            if name not in self._types:
                raise GraphError(f"there is no input {name!r}; the inputs are {', '.join(self._types) or 'none'}")
            type = self._types[name]
            if type is None or type.shape is None:
                continue
            if len(type.shape) != len(shape):
                raise GraphError(f"input {name!r} is {type}, and the shape {list(shape)} has {len(shape)} axes")
            for dim, extent in zip(type.shape, shape, strict=True):
                key = str(dim)
                if isinstance(dim, int) and dim != extent:
                    raise GraphError(f"input {name!r} is {type}, and the shape {list(shape)} is not of that type")
                if isinstance(dim, Expr) and found.setdefault(key, extent) != extent:
                    raise GraphError(f"the dim {key!r} would be {found[key]} and {extent} in one run")
        return found

    def _extent(self, dim: Dim, extents: Mapping[str, int]) -> int:
        if isinstance(dim, int):
            return dim
        name = str(dim)
        if name in self._sums:
            return sum(extents[part] if isinstance(part, str) else part for part in self._sums[name])
        return extents[name]

    def _leading(self) -> Iterator[str]:
        """Symbols of first axes: batches, most often."""
        for type in self._types.values():
            if type is not None and type.shape and len(type.shape) > 1 and isinstance(type.shape[0], Expr):
                yield str(type.shape[0])


def complete(binding: Binding, graph: Graph) -> Binding:
    """A binding by the user with the shapes that follow from it; raises GraphError where one is still open."""
    symbols = Symbols(graph)
    extents = symbols.of(binding)
    missing = [name for name in symbols.names if name not in extents and name not in _held_by_defaults(graph)]
    if missing:
        where = [v.name for v in graph.inputs if missing[0] in list(_names([v]))]
        raise GraphError(f"no shape is given for the input {where[0]!r}, which has the dim {missing[0]!r}")
    full = symbols.bind({name: extents.get(name, 1) for name in symbols.names}, _RANKS[0], binding.fixed)
    return Binding({**full.shapes, **binding.shapes}, binding.fixed)


def find_bindings(graph: Graph, fixed: Mapping[str, float], accepts: Accepts) -> tuple[Binding, ...]:
    """Bindings that the model accepts: WANTED of them that differ in every symbol where it lets them, 1 among the
    extents, and one more with an empty input. No binding at all when it accepts none that was tried."""
    symbols = Symbols(graph)
    base = _first(symbols, fixed, accepts)
    if base is None:
        return ()
    extents, rank = base
    if not symbols.names:
        return (symbols.bind(extents, rank, fixed),)
    accepted = {name: _accepted(symbols, name, extents, rank, fixed, accepts) for name in symbols.names}
    found = {symbols.bind(extents, rank, fixed): None} if False else {}
    del found
    return tuple(_compose(symbols, extents, accepted, rank, fixed, accepts))
