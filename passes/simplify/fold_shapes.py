"""Shape arithmetic whose result is known becomes a constant, with dynamic dims left symbolic on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Graph, Node, Value
from planish.ir.dim import Dim, Shape
from planish.ir.ops.table import is_pure
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rewrite, rule
from planish.passes.run import Run

x, target = Var("x"), Var("target")
reshape = Op("Reshape", (x, target))


def _computes_known_elements(node: Node) -> bool:
    """Whether the node makes nothing but a small integer tensor, not constant yet, of which every element is known."""
    result = node.results[0] if node.results else None
    if result is None or result.elements is None or result.constant is not None:
        return False
    if result.rank is None or result.rank > 1 or not all(isinstance(dim, int) for dim in result.elements):
        return False
    return is_pure(node) and not any(other.is_used for other in node.results[1:])


@rule(Op((), where=_computes_known_elements), contract=Contract.EXACT)
def known_elements(m: Match) -> Value | None:
    """Shape -> Gather -> Concat ... -> constant, where every element is known"""
    result = m.root.results[0]
    if result.dtype is None:
        return None
    known = [dim for dim in result.elements or () if isinstance(dim, int)]
    array = np.array(known, result.dtype.numpy)
    return m.constant(array.reshape(()) if result.rank == 0 else array)


@rule(reshape, contract=Contract.EXACT)
def reshape_target(m: Match) -> Value | None:
    """Reshape(x, computed target) -> Reshape(x, constant of extents, 0 for a copied dim and at most one -1)"""
    elements, producer = m[target].elements, m[target].producer
    if m[target].constant is not None or elements is None:
        return None
    if producer is not None and _computes_known_elements(producer):  # then it becomes a constant itself
        return None
    attributes = dict(m.root.attributes)
    if attributes.pop("allowzero", 0):
        elements = elements if 0 in elements else m.root.result.shape or elements
        if 0 in elements:
            return m.decline("the target asks for an axis without elements, which 0 would copy without allowzero")
        if -1 in elements:
            return m.decline("what -1 stands for is not known, and with allowzero it may stand beside no elements")
    spelled = _spell(m[x].shape, elements)
    if spelled is None:
        return m.decline("more than one dim of the target is neither known nor a copy of the operand's")
    return m.add("Reshape", (m[x], m.constant(np.array(spelled, DType.INT64.numpy))), attributes)


def _spell(shape: Shape | None, target: tuple[Dim, ...]) -> list[int] | None:
    """The target with known numbers alone; None when that takes more than Reshape can say.

    A dim that is worked out by -1 needs every other one to be a positive number: Reshape cannot work one out of
    nothing.
    """
    spelled: list[int] = []
    for axis, dim in enumerate(target):
        if isinstance(dim, int):
            spelled.append(dim)
        elif shape is not None and axis < len(shape) and shape[axis] == dim:
            spelled.append(0)
        else:
            spelled.append(-1)
    worked_out = [axis for axis, extent in enumerate(spelled) if extent == -1]
    if len(worked_out) > 1:
        return None
    if worked_out and target[worked_out[0]] != -1 and any(e <= 0 for i, e in enumerate(spelled) if i != worked_out[0]):
        return None
    return spelled


@dataclass(frozen=True)
class FoldShapes(RulePass):
    """Replace shape arithmetic by its value, and computed Reshape targets by constants that keep dynamic dims.

    Holds for every binding of the symbols, empty tensors too.
    """

    name: ClassVar[str] = "fold-shapes"

    def rules(self) -> Sequence[Rule]:
        return (known_elements, reshape_target)

    def run(self, graph: Graph, run: Run, start: Sequence[Node] | None = None) -> None:
        rewrite(graph, self.rules(), run, start, readers_first=True)
