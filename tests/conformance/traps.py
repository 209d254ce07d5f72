"""The corpus of small valid models in corpus/*.txt, which a wrong rewrite would change.

A trap is a stanza. `[name] opset=17` begins it, the graph in ONNX's text syntax follows, and behind it lines of

    with k: float 4,1,1 = 3; w: float 4,3,1,1 random    constants: one number for all, numbers in order, or normal ones;
                                                         `positive` are their magnitudes, `random twice` alike halves
    override k                                           constants that are inputs too
    feed c: bool = false; n: int64 = 0 | 1               what inputs may hold, where not anything
    bind N=1 M=4 | N=3 M=3                               extents to try, where not any

Options: opset, ir, the opset of another domain (local=1), `kinds` of hostile inputs, `unchecked` where onnx's own shape
inference fails, `strict` for what is alike under --fp strict alone, and T=int8,int64 for one model with each element
type in place of $T, and its number in place of $N.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish.ir import DType
from tests.equivalence import Inputs
from tests.hostile import Kind, Limits

Array = NDArray[np.generic]
FOLDER = Path(__file__).parent / "corpus"
_HEADER = re.compile(r"\[([\w.-]+)\](.*)")
_CONSTANT = re.compile(r"(\w+): (\w+)(?: ([\d,]+))? (?:= ?)?(.*)")


@dataclass
class Trap:
    """One model as text, and what to feed it."""

    name: str
    options: Mapping[str, str]
    text: str
    constants: dict[str, Array] = field(default_factory=dict[str, Array])
    overridable: tuple[str, ...] = ()
    values: dict[str, Sequence[Array]] = field(default_factory=dict[str, "Sequence[Array]"])
    bindings: Sequence[Mapping[str, int]] | None = None

    @property
    def is_checked(self) -> bool:
        return "unchecked" not in self.options

    @property
    def is_strict(self) -> bool:
        return "strict" in self.options

    @property
    def inputs(self) -> Inputs:
        asked = self.options.get("kinds", "")
        kinds: tuple[Kind, ...] = tuple([kind for kind in get_args(Kind) if not asked or kind in asked])
        return Inputs(self.bindings, self.values, kinds, refusals=True)

    def model(self) -> onnx.ModelProto:
        """Raises where it is not valid."""
        known = ("opset", "ir", "kinds", "unchecked", "strict", "T")
        others = "".join(f', "{name}" : {at}' for name, at in self.options.items() if name not in known)
        opset, version = self.options.get("opset", "17"), self.options.get("ir", "10")
        proto = parser.parse_model(f'<ir_version: {version}, opset_import: ["" : {opset}{others}]> {self.text}')
        for name, array in self.constants.items():
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
            if name in self.overridable:
                dtype = int(DType.of(array))
                proto.graph.input.append(helper.make_tensor_value_info(name, dtype, list(array.shape)))
        check_model(proto, full_check=self.is_checked)
        return proto


def kinds() -> list[str]:
    """The files of the corpus."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def traps(kind: str) -> list[Trap]:
    """The models of one file."""
    found: list[Trap] = []
    for stanza in (FOLDER / f"{kind}.txt").read_text(encoding="utf-8").split("\n\n"):
        found += _expanded(stanza.strip())
    return found


def _expanded(stanza: str) -> Iterator[Trap]:
    """The trap of a stanza, or one for each of its element types."""
    first, _, body = stanza.partition("\n")
    matched = _HEADER.fullmatch(first)
    if matched is None:
        raise ValueError(f"{first!r} begins no trap")
    name, rest = matched.groups()
    options = {key: value for key, _, value in (word.partition("=") for word in rest.split())}
    for dtype in options.get("T", "").split(","):
        text = body.replace("$T", dtype).replace("$N", str(int(DType[dtype.upper()])) if dtype else "")
        yield _read(f"{name}-{dtype}" if dtype else name, options, text.splitlines())


def _read(name: str, options: Mapping[str, str], lines: Sequence[str]) -> Trap:
    trap = Trap(name, options, "")
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "with":
            trap.constants.update(_arrays(name, rest))
        elif word == "override":
            trap.overridable = tuple(rest.split())
        elif word == "feed":
            for part in rest.split("; "):
                key, _, choices = part.partition(" = ")
                given = [_arrays(name, f"{key} = {choice}") for choice in choices.split(" | ")]
                trap.values[key.partition(":")[0]] = [array for arrays in given for array in arrays.values()]
        elif word == "bind":
            pairs = [[pair.split("=") for pair in part.split()] for part in rest.split(" | ")]
            trap.bindings = [{symbol: int(extent) for symbol, extent in part} for part in pairs]
        else:
            trap.text += f"{line}\n"
    return trap


def _arrays(name: str, text: str) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for part in text.split("; "):
        matched = _CONSTANT.fullmatch(part)
        if matched is None:
            raise ValueError(f"{name}: {part!r} is no constant")
        key, dtype, dims, content = matched.groups()
        shape = tuple(int(dim) for dim in dims.split(",")) if dims else ()
        found[key] = _array(f"{name}-{key}", DType[dtype.upper()], shape, content)
    return found


def _array(name: str, dtype: DType, shape: tuple[int, ...], content: str) -> Array:
    if content in ("random", "random twice", "positive"):
        values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 1, shape)
        if content == "random twice":
            values[..., shape[-1] // 2 :] = values[..., : shape[-1] // 2]
        return np.abs(values).astype(dtype.numpy) if content == "positive" else values.astype(dtype.numpy)
    words = content.split()
    if dtype is DType.STRING:
        return np.array(words, np.object_).reshape(shape)
    numbers = [_number(word, dtype) for word in words]
    if len(numbers) == 1:
        return np.full(shape, numbers[0], dtype.numpy)
    return np.array(numbers, dtype.numpy).reshape(shape)


def _number(word: str, dtype: DType) -> float:
    """`max` is the largest of the element type, `tiny` its least normal number."""
    if word in ("true", "false"):
        return word == "true"
    if word == "max":
        return (1 << (dtype.bits - dtype.name.startswith("INT"))) - 1 if dtype.is_integer else Limits.of(dtype).largest
    if word == "tiny":
        return Limits.of(dtype).normal
    return int(word) if dtype.is_integer else float(word)
