"""How far two ways of computing the same may lie apart when they round differently.

Rounding errors of a sum of n terms grow as sqrt(n) units of roundoff where their signs are random (N. Higham and
T. Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019), and those of steps
in a row add up the same way. So a result that comes through steps of n1, n2, ... terms is bounded by a constant times
eps * sqrt(n1 + n2 + ...) of its scale. What a net amplifies beyond that is measured on the net itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from planish.ir import DType, Graph, Node, Value
from planish.ir.ops.cost import extent, reduction_length
from planish.runtime.floats import eps, smallest

SAFETY = 4.0
NOISE_FACTOR = 8.0
"""How many times its own noise a model may differ: noise is a sample of a few runs, and two models have it each."""

_UNKNOWN_EXTENT = 64
_UNKNOWN_ITERATIONS = 16
_TF32_EPS = 2.0**-10


@dataclass(frozen=True)
class Bound:
    """What rounding may do to one output: relative to its largest magnitude, and absolutely where that underflows."""

    relative: float
    floor: float
    eps: float
    """Of the coarsest float type on the way."""
    terms: int
    """Summed along the way that sums most."""


@dataclass(frozen=True)
class _Way:
    """What rounded on the way to a value."""

    terms: int = 0
    eps: float = 0.0
    smallest: float = 0.0
    around_one: float = 0.0
    """What a function that is worked out around 1, or from terms that cancel, leaves of a result near 0, absolutely."""


class Rounding:
    """Bounds for the outputs of a model."""

    def __init__(self, graph: Graph, *, tf32: bool = False) -> None:
        """`tf32`: whether products of floats may round to 10 bits, as those of NVIDIA's tensor cores do."""
        self._graph = graph
        self._tf32 = tf32

    def bounds(self, binding: Mapping[str, int]) -> tuple[Bound, ...]:
        """One for each output. Extents that stay open count as 64, and loops without a known count as 16 rounds."""
        ways: dict[Value, _Way] = {}
        self._walk(self._graph, binding, ways)
        return tuple(_bound(ways.get(value, _Way())) for value in self._graph.outputs)

    def _walk(self, graph: Graph, binding: Mapping[str, int], ways: dict[Value, _Way]) -> None:
        for node in graph.nodes:
            before = _join([ways[o] for o in node.operands if o is not None and o in ways])
            if node.graphs:
                self._nested(node, before, binding, ways)
                continue
            terms = max(extent(reduction_length(node), binding, _UNKNOWN_EXTENT), 1)
            for result in node.results:
                ways[result] = self._step(before, result, node, terms)

    def _nested(self, node: Node, before: _Way, binding: Mapping[str, int], ways: dict[Value, _Way]) -> None:
        inner: list[_Way] = [before]
        for body in node.graphs:
            ways.update(dict.fromkeys(body.inputs, before))
            self._walk(body, binding, ways)
            inner.extend(ways[output] for output in body.outputs if output in ways)
        way = _join(inner)
        if node.op != "If":
            way = replace(way, terms=before.terms + (way.terms - before.terms) * _rounds(node, binding))
        ways.update(dict.fromkeys(node.results, way))

    def _step(self, before: _Way, result: Value, node: Node, terms: int) -> _Way:
        dtype = result.dtype
        if dtype is None or not dtype.is_float:
            return before
        unit = eps(dtype.numpy)
        if self._tf32 and dtype is DType.FLOAT and terms > 1:
            unit = _TF32_EPS
        around_one = before.around_one if node.op in _MOVES else unit * _intermediate(node)
        return _Way(
            before.terms + terms, max(before.eps, unit), max(before.smallest, smallest(dtype.numpy)), around_one
        )


def _join(ways: list[_Way]) -> _Way:
    if not ways:
        return _Way()
    return _Way(
        terms=max(way.terms for way in ways),
        eps=max(way.eps for way in ways),
        smallest=max(way.smallest for way in ways),
        around_one=max(way.around_one for way in ways),
    )


def _bound(way: _Way) -> Bound:
    growth = SAFETY * math.sqrt(way.terms)
    floor = growth * way.smallest + SAFETY * way.around_one
    return Bound(relative=growth * way.eps, floor=floor, eps=way.eps, terms=way.terms)


# Kernels work these out as 1 plus or minus something, so the result is good to a unit in the last place of 1.
_AROUND_ONE = frozenset(("Sigmoid", "Tanh", "Erf", "Softplus", "LogSoftmax"))
_MOVES = frozenset((
    *("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Gather", "Concat", "Split"),
    *("Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth"),
))  # fmt: skip


def _intermediate(node: Node) -> float:
    """The magnitude of numbers on the way to a result that may be far smaller: it is off by a unit of them."""
    if node.op in _AROUND_ONE:
        return 1.0
    prefix = _TREES.get(node.op)
    if prefix is None:
        return 0.0
    largest: dict[object, float] = {}
    trees, weights = node.attribute(f"{prefix}_treeids"), node.attribute(f"{prefix}_weights")
    for tree, weight in zip(_numbers(trees), _numbers(weights), strict=True):
        largest[tree] = max(largest.get(tree, 0.0), abs(weight))
    return sum(largest.values()) + max(map(abs, _numbers(node.attribute("base_values"))), default=0.0)


def _numbers(attribute: object) -> tuple[float, ...]:
    return cast("tuple[float, ...]", attribute) if isinstance(attribute, tuple) else ()


# What sums over trees -> whose attributes hold the leaves.
_TREES: Mapping[str, str] = {
    "ai.onnx.ml::TreeEnsembleRegressor": "target",
    "ai.onnx.ml::TreeEnsembleClassifier": "class",
}


def _rounds(node: Node, binding: Mapping[str, int]) -> int:
    """How often a body runs: the trip count of a Loop, or the extent that a Scan goes along."""
    if node.op == "Loop":
        count = node.operand(0)
        known = None if count is None or count.elements is None or not count.elements else count.elements[0]
        return min(extent(known, binding, _UNKNOWN_ITERATIONS), 1 << 20)
    last = node.operands[-1] if node.operands else None
    shape = None if last is None else last.shape
    return extent(shape[0] if shape else None, binding, _UNKNOWN_ITERATIONS)
