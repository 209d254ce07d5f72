"""Example inputs: taken from the caller, or made up to a shape, an element type and a range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from planish.models.lower.errors import LowerError

Array: TypeAlias = NDArray[np.generic]
Shape: TypeAlias = tuple[int, ...]
Dims: TypeAlias = Mapping[str, Mapping[int, str]]
"""Names of dynamic dims, by input and axis."""

BATCH = "batch"
_ROWS = 2
"""Of a first axis whose extent the model leaves open. Exporters take 1 for a constant."""
_SMALL = 9
"""Integers of which nothing is said go up to this."""
_PLAIN = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "str")


class _Tensor(Protocol):
    """PyTorch's, which this module does without."""

    def detach(self) -> _Tensor: ...
    def cpu(self) -> object: ...


@dataclass(frozen=True)
class Spec:
    """What a framework knows of an input; an extent of None is open."""

    name: str
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    required: bool = True


@dataclass(frozen=True)
class Inputs:
    """What the caller says of the inputs; each mapping by name."""

    example: object = None
    """Arrays by name or in order, or the one array."""
    shapes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    dtypes: Mapping[str, str] = field(default_factory=dict[str, str])
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    fixed: Mapping[str, float] = field(default_factory=dict[str, float])
    dynamic: Dims = field(default_factory=dict[str, Mapping[int, str]])
    seed: int = 0

    def arrays(self, specs: Sequence[Spec]) -> dict[str, Array]:
        """The example by input, in the order of `specs`. Raises LowerError where it is not one of these inputs."""
        names = [spec.name for spec in specs]
        self._check_names(names)
        if self.example is not None:
            return _given(self.example, specs)
        random = np.random.default_rng(self.seed)
        wanted = [spec for spec in specs if spec.required or spec.name in self.shapes or spec.name in self.fixed]
        return {spec.name: self._made(spec, random) for spec in wanted}

    def bounds(self, example: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
        """Between which values other inputs may lie: what the caller says, and for integers what the example holds."""
        held = {
            name: (float(array.min()), float(array.max()))
            for name, array in example.items()
            if array.size and array.dtype.kind in "iu"
        }
        return {**held, **self.ranges}

    def _check_names(self, names: Sequence[str]) -> None:
        for given in (self.shapes, self.dtypes, self.ranges, self.fixed, self.dynamic):
            for name in given:
                if name not in names:
                    raise LowerError(_unknown(name, names))
        if self.example is not None and self.shapes:
            raise LowerError("example inputs and shapes to make them up exclude each other; give one of them")

    def _made(self, spec: Spec, random: np.random.Generator) -> Array:
        word = self.dtypes.get(spec.name, spec.dtype or "float32")
        shape = self._shape(spec)
        low, high = self.ranges.get(spec.name, (None, None))
        if spec.name in self.fixed:
            return np.full(shape, self.fixed[spec.name]).astype(_dtype(word))
        if word == "bool":
            return random.random(shape) < 0.5
        dtype = _dtype(word)
        if dtype.kind in "iu":
            least, most = (0, _SMALL) if low is None or high is None else (int(low), int(high))
            return random.integers(least, most, shape, np.int64, endpoint=True).astype(dtype)
        if dtype.kind == "O":
            raise LowerError(f"input {spec.name!r} holds strings, which cannot be made up; give an example")
        if low is None or high is None:
            return random.standard_normal(shape).astype(dtype)
        return random.uniform(low, high, shape).astype(dtype)

    def _shape(self, spec: Spec) -> Shape:
        if spec.name in self.shapes:
            return self.shapes[spec.name]
        if spec.shape is None:
            if spec.name in self.fixed:
                return ()
            raise LowerError(f"input {spec.name!r} has no example and no shape; give one of them")
        found: list[int] = []
        for axis, extent in enumerate(spec.shape):
            if extent is None and axis:
                raise LowerError(f"axis {axis} of input {spec.name!r} may have any extent; give an example or a shape")
            found.append(_ROWS if extent is None else extent)
        return tuple(found)


def check_dims(example: Mapping[str, Array], dynamic: Dims) -> dict[str, int]:
    """The extent that the example gives each dynamic dim. Raises LowerError for an axis that is not there, and for a
    name that would be two extents."""
    extents: dict[str, int] = {}
    for name, axes in dynamic.items():
        if name not in example:
            raise LowerError(_unknown(name, list(example)))
        shape = example[name].shape
        for axis, dim in axes.items():
            if not 0 <= axis < len(shape):
                raise LowerError(f"input {name!r} has {len(shape)} axes, so its axis {axis} cannot be dynamic")
            if extents.setdefault(dim, shape[axis]) != shape[axis]:
                raise LowerError(
                    f"the dynamic dim {dim!r} is {extents[dim]} and {shape[axis]} in the example; "
                    "give the two dims different names"
                )
    return extents


def resized(example: Mapping[str, Array], dynamic: Dims, extents: Mapping[str, int]) -> dict[str, Array]:
    """The example with other extents of its dynamic dims; what is missing is filled by what is there, in turn."""
    return {name: _resized(array, dynamic.get(name, {}), extents) for name, array in example.items()}


def _resized(array: Array, axes: Mapping[int, str], extents: Mapping[str, int]) -> Array:
    found = array
    for axis, dim in axes.items():
        if dim in extents and array.shape[axis]:
            found = np.take(found, np.arange(extents[dim]) % array.shape[axis], axis)
    return found


def drawn(example: Mapping[str, Array], random: np.random.Generator) -> dict[str, Array]:
    """Inputs of other values: each element is one of the example's own, with any chosen more than once."""
    return {
        name: array if array.size < 2 else random.choice(array.reshape(-1), array.shape)
        for name, array in example.items()
    }


def _given(example: object, specs: Sequence[Spec]) -> dict[str, Array]:
    names = [spec.name for spec in specs]
    if isinstance(example, Mapping):
        given = {str(name): _array(item) for name, item in cast("Mapping[object, object]", example).items()}
    elif isinstance(example, list | tuple):
        items = cast("Sequence[object]", example)
        if len(items) > len(names):
            raise LowerError(f"the example has {len(items)} inputs and the model has {len(names)}: {_list(names)}")
        given = {name: _array(item) for name, item in zip(names, items, strict=False)}
    else:
        if not names:
            raise LowerError("the model has no inputs, and an example was given")
        given = {names[0]: _array(example)}
    for name in given:
        if name not in names:
            raise LowerError(_unknown(name, names))
    missing = [spec.name for spec in specs if spec.required and spec.name not in given]
    if missing:
        raise LowerError(f"the example has no input {missing[0]!r}; the model needs {_list(names)}")
    return {name: given[name] for name in names if name in given}


def _array(item: object) -> Array:
    """Of anything that numpy takes; of a tensor of PyTorch too, which lends its memory only when detached."""
    try:
        found = np.asarray(cast("_Tensor", item).detach().cpu() if hasattr(item, "detach") else item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LowerError(f"the example holds a {type(item).__name__} that is no array: {error}") from None
    if found.dtype.kind == "U":
        return found.astype(object)
    if found.dtype.kind == "O" and not all(isinstance(element, str) for element in found.reshape(-1)):
        raise LowerError(f"the example holds a {type(item).__name__} that is no array of numbers or strings")
    return found


def _dtype(word: str) -> np.dtype[np.generic]:
    if word not in _PLAIN:
        raise LowerError(f"there is no element type {word!r}; there are {', '.join(_PLAIN)}")
    if word == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(np.object_) if word == "str" else np.dtype(word)


def _unknown(name: str, names: Sequence[str]) -> str:
    return f"there is no input {name!r}; the inputs are {_list(names)}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def other_extents(extent: int) -> Iterator[int]:
    """Extents to try in place of one: first near ones, then those that models with strides and windows take."""
    yield from dict.fromkeys((extent + 1, 2 * extent, 3 * extent, extent + 32, max(extent // 2, 1), 1))
