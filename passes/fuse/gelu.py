"""The Gaussian error linear unit, spelled with Erf or Tanh, becomes one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar, NamedTuple

from planish.ir import Graph, Node, Value
from planish.passes.fuse.polynomial import polynomial
from planish.passes.fuse.walk import Line, Root, claim, leads_to, line, producer, product, same, scaled
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_ARITHMETIC = ("Add", "Div", "Mul", "Sub")
_ERF = Root(("Mul", "Div"), reach=8, where=leads_to("Erf", through=_ARITHMETIC, levels=5))
_TANH = Root(("Mul", "Div"), reach=10, where=leads_to("Tanh", through=_ARITHMETIC, levels=5))
_FITS = "2 x that does not overflow"
_LINEAR, _CUBIC = sqrt(2 / pi), sqrt(2 / pi) * 0.044715
_FEW_DIGITS = 1e-5


class _Gated(NamedTuple):
    """factor * x * (1 + gate(of)), and the nodes that work it out; `gate` makes 1 of what is large."""

    x: Value
    factor: float
    gate: Node
    nodes: tuple[Node, ...]


@rule(_ERF, contract=Contract.REASSOCIATES, needs=_FITS)
def erf_gelu(m: Match) -> Value | None:
    """0.5 * x * (1 + Erf(x / sqrt(2))) -> Gelu(x)

    The product may be taken in any order. An element differs by a few roundings of |x|.
    """
    found = _gated(m.root, m.graph, "Erf")
    if found is None:
        return None
    inner = scaled(found.gate.operand(0), m.graph)
    if inner is None or inner.value is not found.x:
        return m.decline("Erf is not of x divided by a number")
    if not same(inner.factor, sqrt(0.5), found.x.dtype):
        return m.decline("Erf is not of x divided by the square root of 2")
    return _gelu(m, found._replace(nodes=(*found.nodes, inner.node)), "none")


@rule(_ERF, contract=Contract.APPROXIMATE, needs=_FITS)
def rough_erf_gelu(m: Match) -> Value | None:
    """0.5 * x * (1 + Erf(x / 1.41421)) -> Gelu(x)

    The square root of 2 was written with few digits, which moves an element by at most 5e-6.
    """
    found = _gated(m.root, m.graph, "Erf")
    inner = None if found is None else scaled(found.gate.operand(0), m.graph)
    if found is None or inner is None or inner.value is not found.x:
        return None
    if abs(inner.factor - sqrt(0.5)) > _FEW_DIGITS:
        return m.decline("Erf is not of x divided by the square root of 2")
    return _gelu(m, found._replace(nodes=(*found.nodes, inner.node)), "none")


@rule(_TANH, contract=Contract.REASSOCIATES, needs=_FITS)
def tanh_gelu(m: Match) -> Value | None:
    """0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))) -> Gelu(x), approximate = "tanh"

    Product and polynomial may be spelled in any order. An element differs by a few roundings of |x|.
    """
    found = _gated(m.root, m.graph, "Tanh")
    if found is None:
        return None
    inner = polynomial(found.gate.operand(0), found.x, m.graph)
    if inner is None or len(inner.coefficients) <= len("xxx"):
        return None
    zero, linear, square, cubic = inner.coefficients
    dtype = found.x.dtype
    if zero or square or not same(linear, _LINEAR, dtype) or not same(cubic, _CUBIC, dtype, steps=4):
        return m.decline("Tanh is not of sqrt(2 / pi) * (x + 0.044715 * x ** 3)")
    return _gelu(m, found._replace(nodes=(*found.nodes, *inner.nodes)), "tanh")


def _gated(root: Node, graph: Graph, op: str) -> _Gated | None:
    found = product(root, graph)
    if found is None:
        return None
    for x, side in ((found.left, found.right), (found.right, found.left)):
        gate = line(side, graph)
        node = producer(gate.value, (op,), graph)
        if node is not None and gate.intercept and _is_balanced(gate, x):
            return _Gated(x, found.factor * gate.intercept, node, (*found.nodes, *gate.nodes, node))
    return None


def _is_balanced(gate: Line, x: Value) -> bool:
    """Whether both ends of the gate are alike in size, so that one is 0."""
    return same(gate.slope, gate.intercept, x.dtype)


def _gelu(m: Match, found: _Gated, approximate: str) -> Value | None:
    if not same(found.factor, 0.5, found.x.dtype):
        return m.decline("the factor before the Gelu is not 1")
    return m.add("Gelu", (found.x,), {"approximate": approximate}) if claim(m, found.nodes) else None


@dataclass(frozen=True)
class FuseGelu(RulePass):
    """Fuse the Gaussian error linear unit, spelled with Erf or with Tanh, into Gelu of opset 20."""

    name: ClassVar[str] = "fuse-gelu"

    def rules(self) -> Sequence[Rule]:
        return (erf_gelu, tanh_gelu, rough_erf_gelu)
