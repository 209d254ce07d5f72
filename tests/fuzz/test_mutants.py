"""What the fuzzer is worth: each pass, broken in small ways where it builds its results, is found to be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis.errors import Unsatisfiable

from planish.ir import Value
from planish.ir.graph import Attribute
from planish.ir.types import Array
from planish.passes.rewrite import Match
from tests.equivalence import RefusedError
from tests.fuzz.check import WrongError, check
from tests.fuzz.generator import Fuzzed, fuzzed, inviting
from tests.fuzz.worker import MOST_AIMED, modes

Attributes = Mapping[str, Attribute]
_OFF = np.float64(1 + 1e-3)
MODELS = 400


@dataclass
class Mutant:
    """A change to what the rules of a pass build; `changed` counts how often it did change anything."""

    name: str
    changed: int = 0
    kinds: set[str] = field(default_factory=set[str])

    def constant(self, array: Array) -> Array:
        return array

    def node(
        self, op: str, operands: Sequence[Value | None], attributes: Attributes
    ) -> tuple[Sequence[Value | None], Attributes]:
        return operands, attributes


class OffConstants(Mutant):
    """Constants of floats are a thousandth too large."""

    def constant(self, array: Array) -> Array:
        if array.dtype.kind != "f" or not array.size or not np.any(array):
            return array
        self.changed += 1
        return (array.astype(np.float64) * _OFF).astype(array.dtype)


class OffAttributes(Mutant):
    """Attributes of floats are a thousandth too large, but for an epsilon, which may be too small to show."""

    def node(
        self, op: str, operands: Sequence[Value | None], attributes: Attributes
    ) -> tuple[Sequence[Value | None], Attributes]:
        off = {
            name: value * float(_OFF)
            for name, value in attributes.items()
            if isinstance(value, float) and value and name != "epsilon"
        }
        self.changed += bool(off)
        return operands, {**attributes, **off}


class SwappedOperands(Mutant):
    """The first two operands change places where that matters."""

    def node(
        self, op: str, operands: Sequence[Value | None], attributes: Attributes
    ) -> tuple[Sequence[Value | None], Attributes]:
        if op not in ("Sub", "Div", "MatMul", "Gemm", "Concat", "Less", "Greater", "Attention") or len(operands) < 2:
            return operands, attributes
        self.changed += operands[0] is not operands[1]
        return (operands[1], operands[0], *operands[2:]), attributes


class OtherAxis(Mutant):
    """An axis is the one before, and an order of axes begins with its end."""

    def node(
        self, op: str, operands: Sequence[Value | None], attributes: Attributes
    ) -> tuple[Sequence[Value | None], Attributes]:
        first = operands[0] if operands else None
        rank = None if first is None else first.rank
        axis, order = attributes.get("axis"), attributes.get("perm")
        if isinstance(axis, int) and rank is not None and rank > 1 and op != "LayerNormalization":
            self.changed += 1
            return operands, {**attributes, "axis": (axis - 1) % rank}
        if isinstance(order, tuple) and len(order) > 1:
            self.changed += 1
            return operands, {**attributes, "perm": (*order[1:], order[0])}
        return operands, attributes
