"""Pad before a convolution or a pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from planish.ir import Node, Value
from planish.ir.dim import is_positive
from planish.ir.graph import Attribute
from planish.ir.ops.shape import constant_ints
from planish.passes.manager import RulePass
from planish.passes.pattern import Maybe, Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

x, pads, fill, axes, w, b = Var("x"), Var("pads"), Var("fill"), Var("axes"), Var("w"), Var("b")
pad = Op("Pad", (x, pads, Maybe(fill), Maybe(axes)))
_SPATIAL = 2
_NEVER_NEGATIVE = frozenset(("Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"))


@rule(Op("Conv", (pad, w, Maybe(b))), contract=Contract.REASSOCIATES)
def pad_conv(m: Match) -> Value | None:
    """Conv(Pad(x, zeros around), w, b) -> Conv(x, w, b) with these pads"""
    widths = _widths(m, (0.0,))
    attributes = None if widths is None else _with_pads(m, widths)
    return None if attributes is None else m.add("Conv", (m[x], m[w], m.get(b)), attributes)


@rule(Op("AveragePool", (pad,)), contract=Contract.REASSOCIATES)
def pad_average_pool(m: Match) -> Value | None:
    """AveragePool(Pad(x, zeros around)) -> AveragePool(x) with these pads, which count"""
    widths = _widths(m, (0.0,))
    if widths is None:
        return None
    if any(m.root.get_ints("pads") or ()) and not m.root.get_int("count_include_pad"):
        return m.decline("the pool's own pads do not count, those of the Pad do")
    attributes = _with_pads(m, widths)
    return None if attributes is None else m.add("AveragePool", (m[x],), {**attributes, "count_include_pad": 1})


@rule(Op("MaxPool", (pad,)), contract=Contract.REASSOCIATES, needs="no NaN, which a maximum finds or not")
def pad_max_pool(m: Match) -> Value | None:
    """MaxPool(Pad(x, -inf around)) -> MaxPool(x) with these pads; zeros around too, where x is never negative"""
    if len(m.root.results) > 1 and m.root.results[1].is_used:
        return m.decline("the pool's indices are read, and they count the padded elements")
    widths = _widths(m, (float("-inf"), 0.0) if _is_never_negative(m[x]) else (float("-inf"),))
    attributes = None if widths is None else _with_pads(m, widths)
    return None if attributes is None else m.add("MaxPool", (m[x],), attributes)


def _is_never_negative(value: Value) -> bool:
    """The least integer is its own magnitude."""
    producer = value.producer
    if producer is None or producer.op not in _NEVER_NEGATIVE:
        return False
    return producer.op != "Abs" or (value.dtype is not None and value.dtype.is_float)


def _widths(m: Match, fills: Sequence[float]) -> list[tuple[int, int]] | None:
    """Begin and end of each spatial axis, where the Pad puts one of `fills` around images that are not empty."""
    node, shape = m[pad], m[x].shape
    if shape is None or node.get_str("mode") != "constant":
        return m.decline("the Pad repeats or reflects its operand, or the rank is not known")
    value, given = m.get(fill), constant_ints(m[pads])
    known = value is not None and value.constant is not None and value.constant.size == 1
    number = 0.0 if value is None else float(m.array(value).reshape(())) if known else None
    if number not in fills:
        return m.decline(f"the Pad puts {number} around, where {' or '.join(map(str, fills))} would do")
    named = tuple(range(len(shape))) if m.get(axes) is None else constant_ints(m[axes])
    if given is None or named is None or any(width < 0 for width in given):
        return m.decline("the pads are computed or negative")
    widths = [(0, 0)] * len(shape)
    for place, axis in enumerate(named):
        widths[axis % len(shape)] = (given[place], given[place + len(named)])
    if any(widths[0]) or any(widths[1]):
        return m.decline("the Pad widens the batch or the channels")
    if not all(is_positive(extent) for extent in shape[_SPATIAL:]):
        return m.decline("the image may be empty, which only the Pad allows: give it static extents")
    return widths[_SPATIAL:]


def _with_pads(m: Match, widths: Sequence[tuple[int, int]]) -> dict[str, Attribute] | None:
    """The root's attributes, with the pads added to its own."""
    node, count = m.root, len(widths)
    if node.get_str("auto_pad") not in ("NOTSET", "VALID") or node.attribute("ceil_mode") == 1:
        return m.decline(f"{node.label} works its pads out by itself")
    own = (node.get_ints("pads") if node.get_str("auto_pad") == "NOTSET" else None) or (0,) * (2 * count)
    found = tuple([own[i] + widths[i][0] for i in range(count)] + [own[count + i] + widths[i][1] for i in range(count)])
    if node.op != "Conv" and not _smaller_than_window(node, found):
        return m.decline(f"a window of {node.label} may lie on pads alone")
    return {**{name: value for name, value in node.attributes.items() if name != "auto_pad"}, "pads": found}


def _smaller_than_window(node: Node, found: Sequence[int]) -> bool:
    """Runtimes refuse pads of a pool that are not smaller than its kernel; one with gaps may miss all but the pads."""
    kernel = node.get_ints("kernel_shape") or ()
    gaps = node.get_ints("dilations") or (1,) * len(kernel)
    return len(found) == 2 * len(kernel) and all(
        not width or (width < kernel[i % len(kernel)] and gaps[i % len(kernel)] == 1) for i, width in enumerate(found)
    )


@dataclass(frozen=True)
class FusePad(RulePass):
    """Let a convolution or a pool do the padding that stands before it.

    Only where it pads with the same: zeros for a convolution and an average that counts them, -inf for a maximum. Needs
    constant pads on spatial axes alone, and images that cannot be empty.
    """

    name: ClassVar[str] = "fuse-pad"

    def rules(self) -> Sequence[Rule]:
        return (pad_conv, pad_average_pool, pad_max_pool)
