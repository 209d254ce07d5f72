"""Small faults in what passes build, for the test that the fuzzer finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planish.ir import Value
from planish.ir.graph import Attribute
from planish.ir.types import Array

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
