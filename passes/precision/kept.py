"""What stays in single precision, and why: decided node by node, before anything is changed.

Three things spread from where they arise, until an operator ends them:

- a number that may be beyond the finite numbers of half precision, as a mask of -3.4e38 or a power is, ends where a
  result is bounded whatever the operands are (Softmax), and where a measured range says that it fits;
- a number that may be too small for it, as an epsilon is, ends where it meets another computed number;
- a number that counts (made of integers: lengths, positions) ends where it meets one that does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from planish.ir import DType, Graph, Node, Value
from planish.ir.ops.table import is_pure
from planish.ir.types import TensorType
from planish.passes.kernels import Kernels, cpu
from planish.passes.precision.half import Half
from planish.passes.precision.sensitive import (
    BOUNDED,
    COORDINATES,
    JUMPS,
    SIGNALS,
    SQUARES,
    SUMS,
    divides,
    grows,
    is_addend,
    is_divisor,
    shrinks,
    spreads,
    terms,
)
from planish.passes.precision.slots import READ_SHAPE, exact_source, half_slots, in_half, never_binds, opset_needed
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.selection import is_named

_NO_BOUNDARY = ("Cast", "CastLike", "Constant", *READ_SHAPE)
Spreading = Literal["large", "small", "counted"]
_MEANING: Mapping[Spreading, str] = {
    "large": "what it reads may be beyond the finite numbers of {half}, because of {cause}",
    "small": "what it reads may be too small for {half}, because of {cause}",
    "counted": "it works on numbers that count, which come from {cause}",
}


@dataclass
class Survey:
    """Every node of a graph and of those nested in it that works on single precision: whether it can leave it."""

    half: Half
    opset: int
    kernels: Kernels
    ranges: Calibration | None = None
    keep: str = ""
    store: str = ""
    kept: dict[Node, str] = field(default_factory=dict[Node, str])
    """Why a node stays in single precision."""
    free: dict[Node, tuple[int, ...]] = field(default_factory=dict[Node, tuple[int, ...]])
    """The others, in order, with the operands that become half."""
    needed: dict[Node, int] = field(default_factory=dict[Node, int])
    """The opset that a free node needs then."""
    spread: dict[Value, dict[Spreading, str]] = field(default_factory=dict[Value, dict[Spreading, str]])
    """What reaches a value, and from where."""

    def look(self, graph: Graph) -> None:
        for node in graph.nodes:
            if node.graphs:
                self.enter(node)
            elif node.op not in _NO_BOUNDARY:
                self.judge(node)
            elif node.op == "Cast":
                self.cast(node)

    def enter(self, node: Node) -> None:
        """What holds a graph gives and takes single precision; what it reads may reach everything in it and behind."""
        reaching = self.reaching(node.operands)
        for nested in node.graphs:
            for value in nested.inputs:
                self.spread[value] = dict(reaching)
            self.look(nested)
            reaching = self.reaching(nested.outputs) | reaching
            for value in nested.outputs:
                if value.constant is not None and value.dtype is DType.FLOAT and self.half.loss(value.constant):
                    reaching["large"] = str(value)
        for result in node.results:
            self.spread[result] = dict(reaching)

    def reaching(self, values: Sequence[Value | None]) -> dict[Spreading, str]:
        found: dict[Spreading, str] = {}
        for value in values:
            found.update(self.spread.get(value, {}) if value is not None else {})
        return found

    def cast(self, node: Node) -> None:
        """A number that was an integer of many bits counts something."""
        operand, result = node.operands[0], node.result
        if operand is None or operand.dtype is None or result.dtype is not DType.FLOAT:
            return
        if not operand.dtype.is_float and not exact_source(node, self.half):
            self.spread[result] = {"counted": str(operand)}
        else:
            self.spread[result] = self.reaching(node.operands)

    def judge(self, node: Node) -> None:
        slots = half_slots(node, self.opset)
        floats = [result for result in node.results if result.dtype is DType.FLOAT]
        if not slots and not floats:
            return
        if not slots:
            if node.op == "Range":
                self.spread[node.result] = {"counted": str(node.result)}
            return
        meets = self.meeting(node, slots)
        reason = self.by_name(node) or self.by_kind(node, slots) or self.by_spread(node, slots, meets)
        reason = reason or self.by_range(node, slots) or self.by_opset(node, slots)
        if reason:
            self.kept[node] = reason
        else:
            self.free[node] = slots
        self.pass_on(node, slots, meets)

    def by_name(self, node: Node) -> str:
        for option, patterns in (("keep", self.keep), ("store", self.store)):
            if patterns and is_named(node, patterns):
                return f"{option} names it"
        return ""

    def by_kind(self, node: Node, slots: Sequence[int]) -> str:
        """What follows from the operator alone."""
        if not all(
            isinstance(value.type, TensorType) for value in (*node.operands, *node.results) if value is not None
        ):
            return "it works on sequences, optionals, or on what is not known"
        if not is_pure(node):
            return "it is random, or has effects"
        if any(result.is_used and not _is_float(result) for result in node.results):
            return "it gives integers or booleans, which would jump where a number is rounded"
        if node.op in JUMPS:
            return "its result would jump where a number is rounded"
        if node.op in COORDINATES:
            return "it works on coordinates"
        if node.op in SIGNALS:
            return "it sums over a signal"
        epsilon = node.attribute("epsilon")
        if isinstance(epsilon, float) and epsilon and self.half.is_zero(epsilon) and node.attribute("stash_type") != 1:
            return f"its epsilon, {epsilon:g}, is 0 in {self.half.name}"
        if grows(node) and not self.stays_within(node, slots):
            return "its sums or powers may overflow" + ("" if self.ranges else "; measured ranges would tell")
        return ""

    def meeting(self, node: Node, slots: Sequence[int]) -> dict[Spreading, str]:
        """What spreads to the node from its operands, and what its own constants begin."""
        found = self.reaching(node.operands)
        for position in slots:
            operand = node.operands[position]
            tensor = None if operand is None else operand.constant
            if tensor is None or never_binds(node, position, tensor, self.half):
                continue
            loss = self.half.loss(tensor)
            if loss == "vanishes" and is_addend(node, position) and (tensor.size > 1 or not divides(node.result)):
                continue
            if loss:
                found["large" if loss == "overflows" else "small"] = str(operand)
        computed = [node.operands[p] for p in slots if _is_computed(node.operands[p])]
        if not all("counted" in self.spread.get(value, {}) for value in computed if value is not None):
            found.pop("counted", None)
        return found

    def by_spread(self, node: Node, slots: Sequence[int], meets: Mapping[Spreading, str]) -> str:
        for kind, cause in meets.items():
            return _MEANING[kind].format(half=self.half.name, cause=cause)
        return ""

    def by_range(self, node: Node, slots: Sequence[int]) -> str:
        for value in (*[node.operands[position] for position in slots], *node.results):
            lost = "" if value is None or value.constant is not None else self.lost(value)
            if lost:
                return lost
        return ""

    def by_opset(self, node: Node, slots: tuple[int, ...]) -> str:
        trial = in_half(node, slots, self.half.dtype)
        needed = opset_needed(trial, self.opset)
        if needed is None:
            return f"{node.op} takes no {self.half.name}"
        if (
            self.half.dtype is DType.BFLOAT16
            and self.kernels.name == cpu().name
            and not self.kernels.runs(trial, needed)
        ):
            return f"{self.kernels.name} has no kernel for {node.op} of bfloat16, and casts around float16 alone"
        if needed > max(self.opset, self.kernels.newest):
            return (
                f"{node.op} takes {self.half.name} from opset {needed} on alone, which {self.kernels.name} does not run"
            )
        if needed > self.opset:
            self.needed[node] = needed
        return ""

    def pass_on(self, node: Node, slots: Sequence[int], meets: Mapping[Spreading, str]) -> None:
        """What spreads from a node to what reads it."""
        left = dict(meets)
        for position in slots:
            if is_divisor(node, position) and left.get("large") == str(node.operands[position]):
                del left["large"]
        if node.op in BOUNDED or self.is_clipped(node):
            left.clear()
        if shrinks(node) or self.is_ratio(node):
            left.pop("large", None)
        elif spreads(node) and not self.stays_within(node, slots):
            left["large"] = str(node.result)
        if sum(_is_computed(node.operands[position]) for position in slots) > 1:
            left.pop("small", None)
        for result in node.results:
            self.spread[result] = {kind: cause for kind, cause in left.items() if not self.is_measured(result, kind)}

    def is_ratio(self, node: Node) -> bool:
        """Whether a large number is divided by another one."""
        operands = node.operands if node.op == "Div" else ()
        return bool(operands) and all("large" in self.spread.get(o, {}) for o in operands if o is not None)

    def is_clipped(self, node: Node) -> bool:
        """Whether constant bounds on both sides keep the result among the numbers of half precision."""
        if node.op != "Clip":
            return False
        bounds = [operand.constant for operand in (node.operand(1), node.operand(2)) if operand is not None]
        return len(bounds) == 2 and all(tensor is not None and not self.half.loss(tensor) for tensor in bounds)

    # Measured ranges

    def is_measured(self, value: Value, kind: Spreading) -> bool:
        """Whether what was measured of a value says that it is not too large, or too small."""
        return kind != "counted" and self.magnitude(value) is not None and not self.lost(value)

    def magnitude(self, value: Value | None) -> float | None:
        """The largest one that was observed, or that the user says there is."""
        seen = None if self.ranges is None else self.ranges.of(value)
        return None if seen is None or seen.range is None else max(abs(end) for end in seen.range)

    def lost(self, value: Value) -> str:
        """Whether half precision has no room for what was observed: within a factor of 2 of its ends."""
        largest = self.magnitude(value)
        if largest is None or self.ranges is None:
            return ""
        if largest > self.half.largest / 2:
            return f"{value} reaches {largest:.3g}, and {self.half.name} ends at {self.half.largest:.5g}"
        seen = self.ranges.of(value)
        if seen is None or seen.mean is None or seen.variance is None or not largest:
            return ""
        size = math.sqrt(seen.mean**2 + seen.variance)
        return f"{value} is about {size:.3g}, too small for {self.half.name}" if size < self.half.normal else ""

    def stays_within(self, node: Node, slots: Sequence[int]) -> bool:
        """Whether measured ranges bound what an operator sums up or raises to a power, on the way to its result too."""
        sizes = [self.magnitude(node.operands[p]) for p in slots if _is_computed(node.operands[p])]
        largest = max([size for size in sizes if size is not None], default=0.0)
        if None in sizes or any(self.magnitude(result) is None for result in node.results):
            return False
        if node.op in SUMS or node.op in SQUARES:
            count = terms(node)
            each = largest if node.op in SUMS else largest**2
            return count is not None and count * each <= self.half.largest / 2
        return True


def _is_float(value: Value) -> bool:
    return value.dtype is not None and value.dtype.is_float


def _is_computed(value: Value | None) -> bool:
    return value is not None and value.constant is None
