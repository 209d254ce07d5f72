"""Small faults in passes, for the test that the fuzzer finds them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from planish.ir import Node, Value
from planish.ir.graph import Attribute
from planish.ir.types import Array
from planish.passes.rewrite import Match

Attributes = Mapping[str, Attribute]
Operands = Sequence[Value | None]
_OFF = 1 + 1e-3
_ORDERED = frozenset(("Attention", "Concat", "Div", "Gemm", "Greater", "Less", "MatMul", "Sub"))
"""Operators whose first two operands cannot change places."""


@dataclass(frozen=True)
class Mutation:
    """What becomes of the constants and nodes that rules make; of itself it changes nothing."""

    def constant(self, array: Array) -> Array:
        return array

    def node(self, op: str, operands: Operands, attributes: Attributes) -> tuple[Operands, Attributes]:
        del op
        return operands, attributes


class OffConstants(Mutation):
    """Constants of floats are a thousandth too large."""

    def constant(self, array: Array) -> Array:
        return np.asarray(array.astype(np.float64) * _OFF, array.dtype) if array.dtype.kind == "f" else array


class OffAttributes(Mutation):
    """Attributes of floats are a thousandth too large."""

    def node(self, op: str, operands: Operands, attributes: Attributes) -> tuple[Operands, Attributes]:
        off = {name: value * _OFF for name, value in attributes.items() if isinstance(value, float)}
        return operands, {**attributes, **off}


class SwappedOperands(Mutation):
    """The first two operands change places where that matters."""

    def node(self, op: str, operands: Operands, attributes: Attributes) -> tuple[Operands, Attributes]:
        if op not in _ORDERED or len(operands) < 2:
            return operands, attributes
        return (operands[1], operands[0], *operands[2:]), attributes


class OtherAxis(Mutation):
    """An axis is the one before, and the first axis of an order goes to its end."""

    def node(self, op: str, operands: Operands, attributes: Attributes) -> tuple[Operands, Attributes]:
        rank = None if not operands or operands[0] is None else operands[0].rank
        axis, order = attributes.get("axis"), attributes.get("perm")
        if isinstance(axis, int) and rank and op != "LayerNormalization":
            return operands, {**attributes, "axis": (axis - 1) % rank}
        if isinstance(order, tuple):
            turned = [place for place in order if isinstance(place, int)]
            return operands, {**attributes, "perm": (*turned[1:], *turned[:1])}
        return operands, attributes


BUILDS: Mapping[str, Mutation] = {
    "off-constants": OffConstants(),
    "off-attributes": OffAttributes(),
    "swapped-operands": SwappedOperands(),
    "other-axis": OtherAxis(),
}
"""Faults in what rules build."""


def _always(*_: object) -> bool:
    return True


def _never(*_: object) -> bool:
    return False


def _of_same_rank(node: Node) -> bool:
    first = node.operand(0)
    return first is not None and first.rank == node.result.rank


def _behind_any_node(value: Value) -> Value:
    return (value.producer.operand(0) if value.producer is not None and value.producer.operands else None) or value


def _the_first(value: Value | None, length: int, default: int) -> int | None:
    del value, default
    return 0 if length else None


GUARDS: Mapping[str, object] = {
    "fuse.attention.is_positive": _always,
    "fuse.pad.is_positive": _always,
    "fuse.pad._NEVER_NEGATIVE": frozenset(("Neg", "Mul", "Add", "Conv", "Relu")),
    "simplify.merge_bounds.broadcasts_to": _always,
    "simplify.merge_bounds.isnan": _never,
    "simplify.merge_casts.holds": _always,
    "simplify.merge_transposes._keeps_elements": _always,
    "simplify.move_reshapes._single_numbers": _always,
    "simplify.move_splits._is_same_constant": _always,
    "simplify.move_splits._slices_elsewhere": _always,
    "simplify.remove_noops._same_shape": _of_same_rank,
    "simplify.remove_noops.broadcasts_to": _always,
    "simplify.remove_noops.copysign": _always,
    "simplify.simplify_ifs.same_graphs": _always,
    "simplify.simplify_ifs.same_tensors": _always,
    "simplify.simplify_logic.broadcasts_to": _always,
    "simplify.simplify_loops._least_trips": _always,
    "simplify.simplify_loops._source": _behind_any_node,
    "simplify.simplify_sequences._position": _the_first,
}
"""What passes ask before they build, and what answers instead."""


@contextmanager
def broken(fault: str) -> Generator[None]:
    """The passes with one of these faults, or without any."""
    with pytest.MonkeyPatch.context() as patch:
        if fault in GUARDS:
            patch.setattr(f"planish.passes.{fault}", GUARDS[fault])
        elif fault:
            _break_builds(BUILDS[fault], patch)
        yield


def _break_builds(mutation: Mutation, patch: pytest.MonkeyPatch) -> None:
    add, constant = Match.add, Match.constant

    def other_node(m: Match, op: str, operands: Operands, attributes: Attributes | None = None) -> Value:
        return add(m, op, *mutation.node(op, operands, attributes or {}))

    def other_constant(m: Match, array: Array, name: str = "") -> Value:
        return constant(m, mutation.constant(np.asarray(array)), name)

    patch.setattr(Match, "add", other_node)
    patch.setattr(Match, "constant", other_constant)
