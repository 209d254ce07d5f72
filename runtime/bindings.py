"""Extents for the symbols of a model: which it accepts is found by trying, as models do not tell.

Many take only certain extents (multiples of 32, one height, a fixed window), and say so nowhere but in what fails.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planish.ir import Dim, Graph, GraphError, OptionalType, SequenceType, TensorType, Type
from planish.ir.dim import Expr

Accepts = Callable[["Binding"], bool]

WANTED = 3
"""Bindings of a model whose symbols are free."""
_LARGEST_INPUT = 1 << 22
_LEADING = (1, 2, 3, 5, 7)
_INNER = (32, 64, 7, 16, 1, 2, 3, 48, 96, 128, 224, 256, 320, 512, 576, 640)
_UNLIKE = (32, 1, 2, 128, 64, 256, 512, 16, 3, 48, 7, 320)
_VARIED = (1, 2, 3, 7, 16, 32, 33, 48, 64, 96, 128)
_COMBINATIONS = 2048
_SECONDS = 20.0
_RANKS = (2, 4, 3, 1, 0, 5)
_UNKNOWN_RANK = (2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Binding:
    """The shapes of inputs, by name, and the values of inputs that may not hold any."""

    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, float] = field(default_factory=dict[str, float])

    def __str__(self) -> str:
        parts = [f"{name}={','.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()]
        return " ".join((*parts, *(f"{name}={value:g}" for name, value in self.fixed.items()))) or "no input"

    @property
    def is_empty(self) -> bool:
        """Whether an input has no elements."""
        return any(0 in shape for shape in self.shapes.values())

    def as_dict(self) -> dict[str, object]:
        return {"shapes": {n: list(s) for n, s in self.shapes.items()}, "fixed": dict(self.fixed)}


class Symbols:
    """The symbols in the shapes of the inputs that a caller must give; unnamed ones are independent of each other."""

    def __init__(self, graph: Graph) -> None:
        required = [value for value in graph.inputs if value not in graph.defaults]
        self._types = {value.name: _element(value.type) for value in required}
        names = list(dict.fromkeys(name for type in self._types.values() for name in _dims(type)))
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

    def complete(self, binding: Binding) -> Binding:
        """A binding with the shapes that follow from it; raises GraphError where one is still open."""
        extents = self.of(binding)
        for name, type in self._types.items():
            missing = [dim for dim in _dims(type) if dim not in extents and dim in self.names]
            if missing:
                raise GraphError(f"no shape is given for the input {name!r}, which has the dim {missing[0]!r}")
        full = self.bind(extents, _RANKS[0], binding.fixed)
        return Binding({**full.shapes, **binding.shapes}, binding.fixed)

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


def find_bindings(symbols: Symbols, fixed: Mapping[str, float], accepts: Accepts) -> tuple[Binding, ...]:
    """Bindings that the model accepts: WANTED of them that differ in every symbol where it lets them, 1 among the
    extents, and one more with an empty input. None at all when it accepts nothing that was tried."""
    search = _Search(symbols, fixed, accepts)
    base = search.first()
    if base is None:
        return ()
    found = search.spread(base)
    empty = search.empty(base)
    return (*found.values(), *((empty,) if empty is not None else ()))


@dataclass(frozen=True)
class _Guess:
    extents: Mapping[str, int]
    rank: int
    """Of inputs that declare none."""


class _Search:
    def __init__(self, symbols: Symbols, fixed: Mapping[str, float], accepts: Accepts) -> None:
        self.symbols = symbols
        self.fixed = fixed
        self.accepts = accepts
        self.deadline = time.monotonic() + _SECONDS

    def attempt(self, guess: _Guess) -> Binding | None:
        binding = self.symbols.bind(guess.extents, guess.rank, self.fixed)
        if any(math.prod(shape) > _LARGEST_INPUT for shape in binding.shapes.values()):
            return None
        return binding if self.accepts(binding) else None

    def first(self) -> _Guess | None:
        """Any guess that the model accepts: all inner extents alike, and then different ones."""
        for guess in self.guesses():
            if self.attempt(guess) is not None:
                return guess
            if time.monotonic() > self.deadline:
                return None
        return None

    def guesses(self) -> Iterator[_Guess]:
        names = self.symbols.names
        inner = [name for name in names if name not in self.symbols.leading]
        ranks = _RANKS if self.symbols.has_unknown_rank else _RANKS[:1]
        alike = [(extent,) * len(inner) for extent in (_INNER if inner else _INNER[:1])]
        few = max((n for n in range(len(_UNLIKE) + 1) if n ** len(inner) <= _COMBINATIONS), default=0)
        unlike = itertools.product(_UNLIKE[:few], repeat=len(inner)) if len(inner) > 1 else ()
        for rank, extents, batch in itertools.product(ranks, (*alike, *unlike), _LEADING[:2]):
            yield _Guess({**dict.fromkeys(names, batch), **dict(zip(inner, extents, strict=True))}, rank)

    def spread(self, base: _Guess) -> Mapping[str, Binding]:
        """Each symbol takes each of its extents once, never in step with the symbol beside it."""
        groups = self.groups(base)
        turns = [
            {name: row[(turn + place) % len(row)] for place, (group, row) in enumerate(groups) for name in group}
            for turn in range(WANTED)
        ]
        singles = [{**base.extents, **dict.fromkeys(group, extent)} for group, row in groups for extent in row]
        found: dict[str, Binding] = {}
        for chosen in (*turns, *singles, base.extents):
            binding = self.attempt(_Guess(chosen, base.rank))
            if binding is not None:
                found[str(binding)] = binding
            if len(found) == WANTED or (found and time.monotonic() > self.deadline):
                break
        return found

    def groups(self, base: _Guess) -> Sequence[tuple[tuple[str, ...], Sequence[int]]]:
        """Symbols with the extents that the model accepts for them. Those that it lets no other extent have by
        themselves, and that are alike in `base`, are one extent under several names: they change together."""
        rows = [((name,), self.extents((name,), base)) for name in self.symbols.names]
        stuck: dict[int, tuple[str, ...]] = {}
        for (name,), row in rows:
            if len(row) == 1:
                stuck[row[0]] = (*stuck.get(row[0], ()), name)
        joint = [(group, self.extents(group, base)) for group in stuck.values() if len(group) > 1]
        bound = {name for group, row in joint if len(row) > 1 for name in group}
        return [*(r for r in rows if r[0][0] not in bound), *(r for r in joint if len(r[1]) > 1)]

    def extents(self, group: tuple[str, ...], base: _Guess) -> Sequence[int]:
        """The smallest, the middle and the largest extent that the model accepts for symbols that change together."""
        known = base.extents[group[0]]
        leading = any(name in self.symbols.leading for name in group)
        candidates = sorted({*(_LEADING if leading else _VARIED), known})
        accepted = [extent for extent in candidates if extent == known or self.takes(group, extent, base)]
        return tuple(dict.fromkeys((accepted[0], accepted[len(accepted) // 2], accepted[-1])))

    def takes(self, group: tuple[str, ...], extent: int, base: _Guess) -> bool:
        if time.monotonic() > self.deadline:
            return False
        return self.attempt(_Guess({**base.extents, **dict.fromkeys(group, extent)}, base.rank)) is not None

    def empty(self, base: _Guess) -> Binding | None:
        for name in sorted(self.symbols.names, key=lambda name: name not in self.symbols.leading):
            binding = self.attempt(_Guess({**base.extents, name: 0}, base.rank))
            if binding is not None:
                return binding
        return None


def _element(type: Type | None) -> TensorType | None:
    """The tensor in a type: of a sequence its elements'."""
    while isinstance(type, SequenceType | OptionalType):
        type = type.element
    return type if isinstance(type, TensorType) else None


def _dims(type: TensorType | None) -> Iterator[str]:
    """The symbolic dims, as text."""
    for dim in (type.shape or ()) if type is not None else ():
        if isinstance(dim, Expr):
            yield str(dim)


def _sum(name: str, names: Sequence[str]) -> tuple[str | int, ...]:
    """The parts of a symbol that exporters name after others: `past_length + sequence_length`; nothing otherwise."""
    parts = [part.strip() for part in name.split("+")]
    if len(parts) == 1 or not all(part.isdigit() or part in names for part in parts):
        return ()
    return tuple(int(part) if part.isdigit() else part for part in parts)
