"""How long a graph would take with less of its channels: the sum of what its operators take by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from planish.ir import Graph, Node, Value
from planish.ir.ops.cost import extent, mac_axes
from planish.passes.prune.dependency import Group
from planish.passes.prune.operator_call import Call, Shape, call_of

BLOCK = 16
"""Channels that ONNX Runtime's kernels take at once, at most: a part of them takes as long as all."""
_FUSED = frozenset(("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"))
"""Behind a convolution ONNX Runtime computes these within it."""
_UNKNOWN = -1
_Part = tuple[tuple[str, ...], tuple[int, ...]]
"""The groups that nodes shrink with, and how many units these keep."""


class Times(Protocol):
    def seconds(self, call: Call) -> float:
        """Of one run of an operator by itself, without what any run takes."""
        ...


class _Share(NamedTuple):
    """Of an axis: so many indices for each unit of a group."""

    key: str
    axis: int
    width: float


class GraphTimes:
    """A cost of groups by their keys (see `unit_cost`): seconds of a run of a graph whose symbols have those extents.

    What a runtime does across operators is not in it (other layouts, fusions but the most frequent, caches): it tells
    which channels cost most, and a whole model is to be measured by itself.
    """

    def __init__(self, graph: Graph, groups: Mapping[str, Group], extents: Mapping[str, int], times: Times) -> None:
        self._groups = groups
        self._extents = extents
        self._times = times
        self._shares: dict[Value, list[_Share]] = {}
        for key, group in groups.items():
            for member in group.members:
                rows = 1 if member.units.ndim == 1 else len(member.units)
                width = float((member.units >= 0).sum()) / (rows * group.size)
                self._shares.setdefault(member.value, []).append(_Share(key, member.axis, width))
        self._parts: dict[tuple[str, ...], list[Node]] = {}
        for node in graph.walk():
            if not _is_fused(node):
                self._parts.setdefault(self._deciding(node), []).append(node)
        self._called: dict[_Part, list[Call]] = {}
        self._known: dict[_Part, float] = {}

    def __call__(self, kept: Mapping[str, int]) -> float:
        """kept: how many units of a group stay, where it does not keep all."""
        total = 0.0
        for part, calls in self._calls(kept):
            if part not in self._known:
                self._known[part] = sum(self._times.seconds(call) for call in calls)
            total += self._known[part]
        return total

    def calls(self, kept: Mapping[str, int], key: str | None = None) -> Iterator[Call]:
        """What is to be known for that; key: only of what shrinks with that group."""
        for (keys, _), calls in self._calls(kept):
            if key is None or key in keys:
                yield from calls

    @property
    def uncounted(self) -> list[Node]:
        """Products of which the time is not known: those of open shapes, and of other numbers than 32-bit floats."""
        nodes = [node for part in self._parts.values() for node in part if mac_axes(node) != ()]
        return [node for node in nodes if call_of(node, lambda value: self._shape(value, {})) is None]

    def _calls(self, kept: Mapping[str, int]) -> Iterator[tuple[_Part, list[Call]]]:
        """Of the nodes whose operands shrink with the same groups."""
        counts = {key: group.size for key, group in self._groups.items()} | dict(kept)
        for keys, nodes in self._parts.items():
            part = keys, tuple([counts[key] for key in keys])
            if part not in self._called:
                calls = [call_of(node, lambda value: self._shape(value, kept)) for node in nodes]
                self._called[part] = [call for call in calls if call is not None]
            yield part, self._called[part]

    def _deciding(self, node: Node) -> tuple[str, ...]:
        shares = [share for value in node.operands if value is not None for share in self._shares.get(value, ())]
        return tuple(sorted({share.key for share in shares}))

    def _shape(self, value: Value, kept: Mapping[str, int]) -> Shape | None:
        if value.shape is None:
            return None
        found = [extent(dim, self._extents, _UNKNOWN) for dim in value.shape]
        if _UNKNOWN in found:
            return None
        less = [0.0] * len(found)
        for share in self._shares.get(value, ()):
            size = self._groups[share.key].size
            less[share.axis] += share.width * (size - kept.get(share.key, size))
        return tuple([_in_blocks(whole, round(whole - gone)) for whole, gone in zip(found, less, strict=True)])


def _in_blocks(whole: int, left: int) -> int:
    return min(whole, max(-(-left // BLOCK) * BLOCK, 1))


def _is_fused(node: Node) -> bool:
    x = node.operands[0] if node.operands else None
    return node.op in _FUSED and x is not None and x.has_one_use and x.producer is not None and x.producer.op == "Conv"
