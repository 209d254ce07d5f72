"""Which values an input may sensibly hold, told from what the graph does with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.dim import Dim
from planish.ir.ops.cost import extent

SMALL = 9
"""Integers of which nothing is known go up to this: enough to differ, seldom too many."""
_MANY = 4096
_POINTS = 64
_POINT_SIZE = 16


@dataclass(frozen=True)
class Range:
    """Both ends belong to it. `wide`: no operator is known to mind any value of the type."""

    low: int
    high: int
    wide: bool = False
    points: tuple[int, ...] = ()
    """Values with which the graph compares it, and their neighbours."""


class Ranges:
    """Of the integer inputs of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._facts = {value.name: _facts(value) for value in graph.inputs if _counts(value)}
        self._dtypes = {value.name: value.dtype for value in graph.inputs if value.dtype is not None}

    def of(self, name: str, binding: Mapping[str, int]) -> Range:
        """The range of an integer input under a binding of the symbols."""
        facts = self._facts[name]
        least, most = limits(self._dtypes[name])
        points = tuple(sorted(p for p in facts.points if least <= p <= most))[:_POINTS]
        if facts.sizes:
            top = min(extent(size, binding, 1) for size in facts.sizes) - 1
            top = max(min(top, most), 0)
            low = max(-top - 1, least) if facts.from_end else 0
            return Range(low, top, points=tuple(p for p in points if low <= p <= top))
        if facts.makes_shape:
            return Range(1, 4, points=tuple(p for p in points if 0 <= p <= _MANY))
        low = 1 if facts.divides else 0
        if most - least < 1 << 8:
            return Range(low if facts.divides else least, most, wide=True, points=points)
        return Range(low, SMALL, wide=not facts.divides, points=points)


def limits(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    if dtype.name.startswith("U"):
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


@dataclass
class _Facts:
    sizes: list[Dim]
    """Extents of the axes that it indexes."""
    points: set[int]
    from_end: bool = True
    """Whether all that it indexes take negative indices."""
    makes_shape: bool = False
    divides: bool = False


def boundaries(graph: Graph) -> tuple[float, ...]:
    """The numbers at which the graph's behaviour may turn: its small constants, and half steps of its quantizers."""
    found: dict[float, None] = {}
    for node in graph.walk():
        for operand in node.operands:
            if operand is not None:
                found.update(dict.fromkeys(_numbers(operand)))
        for value in node.attributes.values():
            if isinstance(value, float):
                found[value] = None
        if node.op in ("QuantizeLinear", "DynamicQuantizeLinear") and len(node.operands) > 1:
            scale = node.operands[1]
            steps = _numbers(scale) if scale is not None else ()
            found.update(dict.fromkeys(step * half for step in steps for half in (-0.5, 0.5, 1.5, 2.5, 127.5, -128.5)))
    return tuple(found)[:_POINTS]


def words(graph: Graph) -> tuple[str, ...]:
    """The strings that the graph may look for: those in its constants and in lists of strings."""
    found: dict[str, None] = {}
    for node in graph.walk():
        parts: list[object] = [part for value in node.attributes.values() if isinstance(value, tuple) for part in value]
        for operand in node.operands:
            tensor = None if operand is None else operand.constant
            if tensor is not None and tensor.dtype is DType.STRING and tensor.size <= _POINTS:
                parts += tensor.array().ravel().tolist()
        found.update(dict.fromkeys(part for part in parts if isinstance(part, str)))
    return tuple(found)[:_POINTS]


def _counts(value: Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer


def _facts(value: Value) -> _Facts:
    """Follow a value and what is worked out from it through the integers of the graph."""
    facts = _Facts([], set())
    queue: deque[tuple[Value, bool]] = deque([(value, True)])
    seen: set[Value] = set()
    while queue:
        current, itself = queue.popleft()
        if current in seen:
            continue
        seen.add(current)
        for user, index in current.uses:
            _note(facts, user, index, itself)
            carries = itself and (user.op, index) in _CARRIERS
            queue.extend((inner, itself) for inner in _into_bodies(user, index))
            queue.extend((result, carries) for result in user.results if _counts(result) and user.op not in _MEASURES)
    return facts


def _note(facts: _Facts, node: Node, index: int, itself: bool) -> None:
    if (node.op, index) in _SHAPES or node.op == "Range":
        facts.makes_shape = True
    if node.op in ("Div", "Mod") and index == 1:
        facts.divides = True
    if not itself:
        return
    if (node.op, index) in _INDICES:
        facts.sizes.append(_indexed(node))
        facts.from_end = facts.from_end and node.op in _FROM_END
    if node.op in _COMPARISONS:
        for other in node.operands:
            for number in _numbers(other) if other is not None else ():
                facts.points.update((int(number) - 1, int(number), int(number) + 1))


def _indexed(node: Node) -> Dim:
    """The extent of the axis that a node's indices run along; the smallest, where they run along several."""
    data = node.operands[0]
    shape = data.shape if data is not None else None
    if not shape:
        return 1
    if node.op in ("GatherND", "ScatterND"):
        numbers = [dim for dim in shape if isinstance(dim, int)]
        return min(numbers) if len(numbers) == len(shape) else 1
    return shape[node.get_int("axis") % len(shape)]


def _into_bodies(node: Node, index: int) -> list[Value]:
    """The inputs of a loop's body that an operand becomes."""
    if node.op not in ("Loop", "Scan") or not node.graphs:
        return []
    inputs = node.graphs[0].inputs
    return [inputs[index]] if index < len(inputs) else []


def _numbers(value: Value) -> tuple[float, ...]:
    """The elements of a small constant of numbers that is at hand."""
    tensor = value.constant
    if tensor is None or not tensor.in_memory or tensor.size > _POINT_SIZE or tensor.dtype in _NO_NUMBERS:
        return ()
    numbers = [float(number) for number in tensor.array().astype(np.float64).ravel()]
    return tuple(number for number in numbers if np.isfinite(number))


_NO_NUMBERS = frozenset((DType.STRING, DType.COMPLEX64, DType.COMPLEX128, DType.BOOL))
_COMPARISONS = frozenset(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Min", "Max", "Clip", "Mod"))
_MEASURES = frozenset(("Shape", "Size", "ArgMax", "ArgMin", "NonZero"))
_CARRIERS = frozenset(
    (op, 0)
    for op in (
        *("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Slice", "Expand", "Tile"),
        *("Gather", "Split", "Concat"),
    )
)  # fmt: skip
_INDICES = frozenset(
    (op, 1) for op in ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Scatter")
)
_FROM_END = frozenset(("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"))
_SHAPES = frozenset((
    ("Reshape", 1), ("Expand", 1), ("Tile", 1), ("ConstantOfShape", 0), ("Resize", 2), ("Resize", 3), ("Upsample", 1),
    ("Slice", 1), ("Slice", 2), ("Slice", 3), ("Slice", 4), ("Pad", 1), ("Pad", 3), ("TopK", 1), ("OneHot", 1),
    ("Split", 1), ("Loop", 0), ("Squeeze", 1), ("Unsqueeze", 1), ("CenterCropPad", 1), ("CumSum", 1), ("Trilu", 1),
    ("AffineGrid", 1), ("MaxUnpool", 2), ("GroupNormalization", 1), ("BlackmanWindow", 0), ("HannWindow", 0),
    ("HammingWindow", 0), ("MelWeightMatrix", 0), ("MelWeightMatrix", 1), ("MelWeightMatrix", 2), ("Col2Im", 1),
    ("Col2Im", 2), ("DFT", 1), ("STFT", 1), ("STFT", 3), ("Compress", 1), ("SequenceAt", 1), ("SequenceErase", 1),
    ("SequenceInsert", 2), ("SplitToSequence", 1), ("BitShift", 1), ("Pow", 1),
))  # fmt: skip
