"""What to look at in a model, and the observers that look: one set a shard, merged in the order of the samples."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from planish.ir import Graph, Node, Value
from planish.passes.errors import CalibrationError
from planish.passes.quantize.gram import Gram, Window, gram_key
from planish.runtime.observe import TensorObserver
from planish.runtime.patches import GramObserver, Rows
from planish.runtime.providers import Array

ALL = "*"
"""The pattern that may fit nothing."""
_MOST_GRAM_BYTES = 256 << 20
_SHOWN = 3


@dataclass(frozen=True)
class Watch:
    """Picklable: what workers are told."""

    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Name, element type, and the axes along which the largest magnitudes are kept."""
    grams: tuple[tuple[str, str, Rows], ...]
    """Key, the tensor's name, and how rows are taken from it."""
    notes: tuple[str, ...]
    """What is left out."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*(name for name, _, _ in self.tensors), *(name for _, name, _ in self.grams)))


class Watching:
    """The observers of a watch."""

    def __init__(self, watch: Watch) -> None:
        self.tensors = {name: TensorObserver(dtype, axes) for name, dtype, axes in watch.tensors}
        self.grams = {key: GramObserver(rows) for key, _, rows in watch.grams}
        self.samples = 0
        self._grams_of: dict[str, list[GramObserver]] = {}
        for key, name, _ in watch.grams:
            self._grams_of.setdefault(name, []).append(self.grams[key])

    def look(self, name: str, tensor: Array) -> None:
        if name in self.tensors:
            self.tensors[name].observe(tensor)
        for observer in self._grams_of.get(name, ()):
            observer.observe(tensor)

    def merge(self, other: Watching) -> None:
        self.samples += other.samples
        for name, observer in other.tensors.items():
            self.tensors[name].merge(observer)
        for key, gram in other.grams.items():
            self.grams[key].merge(gram)


def watch(graph: Graph, tensors: Collection[str] | None, grams: Collection[str]) -> Watch:
    """tensors: names, or patterns with * and ?, of float tensors; None means all. grams: the same, of products with a
    constant weight by the tensor that they make or take.

    Raises:
        CalibrationError: a name or a pattern fits nothing.
    """
    known = {value.name: value for value in _floats(graph)}
    chosen = list(known) if tensors is None else _chosen(tensors, known, "float tensor")
    kept, notes = _grams(graph, grams)
    return Watch(
        tuple((name, _dtype(known[name]), _axes(known[name])) for name in chosen), kept, (*_nested_note(graph), *notes)
    )


def _floats(graph: Graph) -> list[Value]:
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.results)]
    return [value for value in values if _is_observable(value)]


def _is_observable(value: Value) -> bool:
    return bool(value.name) and value.dtype is not None and value.dtype.is_float and value.constant is None


def _dtype(value: Value) -> str:
    return "" if value.dtype is None else value.dtype.name.lower()


def _chosen(wanted: Collection[str], known: Collection[str], what: str) -> list[str]:
    for pattern in wanted:
        if pattern != ALL and not any(name == pattern or fnmatchcase(name, pattern) for name in known):
            near = difflib.get_close_matches(pattern, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise CalibrationError(f"the model has no {what} {pattern!r} outside of nested graphs{hint}")
    return [name for name in known if any(name == p or fnmatchcase(name, p) for p in wanted)]


def _grams(graph: Graph, wanted: Collection[str]) -> tuple[tuple[tuple[str, str, Rows], ...], tuple[str, ...]]:
    if not wanted:
        return (), ()
    products = [node for node in graph.nodes if gram_key(node) is not None]
    names = dict.fromkeys(name for node in products for name in _names(node))
    chosen = set(_chosen(wanted, names, "product with a constant weight"))
    kept: dict[str, tuple[str, str, Rows]] = {}
    large: dict[str, None] = {}
    for node in products:
        key, x = gram_key(node), node.operand(0)
        if key is None or x is None or not chosen.intersection(_names(node)):
            continue
        if _gram_bytes(node) > _MOST_GRAM_BYTES:
            large[key] = None
        else:
            kept[key] = (key, x.name, Rows(node.op == "Gemm" and bool(node.get_int("transA")), Window.of(node)))
    note = f"Gram matrices beyond {_MOST_GRAM_BYTES >> 20} MiB are left out: {_some(list(large))}"
    return tuple(kept.values()), (note,) if large else ()


def _names(node: Node) -> tuple[str, ...]:
    x = node.operand(0)
    return (node.result.name, *(() if x is None else (x.name,)))


def _gram_bytes(node: Node) -> int:
    w = node.operands[1]
    shape = () if w is None or w.constant is None else w.constant.shape
    if node.op == "Conv":
        return node.get_int("group") * math.prod(shape[1:]) ** 2 * 8
    return (shape[-1 if node.op == "Gemm" and node.get_int("transB") else 0] if shape else 1) ** 2 * 8


def _nested_note(graph: Graph) -> Sequence[str]:
    top = set(graph.nodes)
    nested = [v.name for node in graph.walk() if node not in top for v in node.results if _is_observable(v)]
    if not nested:
        return ()
    return (f"{len(nested)} tensors of nested graphs, bodies of If, Loop or Scan, are left out: {_some(nested)}",)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _axes(value: Value) -> tuple[int, ...]:
    """Those along which readers contract the tensor or have its channels, and along which its maker has them."""
    found: dict[int, None] = {}
    for user, index in value.uses:
        axis = _READ.get((user.op, index))
        if user.op == "Gemm" and index < 2:
            flipped = bool(user.get_int("transB" if index else "transA"))
            axis = int(flipped == bool(index))
        if axis is not None:
            found[axis] = None
    if value.producer is not None and value.producer.op in _MADE and value.index == 0:
        found[_MADE[value.producer.op]] = None
    rank = value.rank
    return tuple(dict.fromkeys(axis + rank if axis < 0 and rank is not None else axis for axis in found))


_READ: Mapping[tuple[str, int], int] = {
    ("MatMul", 0): -1,
    ("MatMul", 1): -2,
    **{(op, 0): 1 for op in ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization")},
    **{(op, 0): -1 for op in ("LayerNormalization", "RMSNormalization", "SkipLayerNormalization")},
}
_MADE: Mapping[str, int] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization"), 1),
    **dict.fromkeys(("MatMul", "Gemm", "LayerNormalization", "RMSNormalization"), -1),
}


def found_grams(watching: Watching) -> dict[str, Gram]:
    """Those of which a row was seen."""
    return {key: gram for key, observer in watching.grams.items() if (gram := observer.gram()) is not None}
