"""Arithmetic on a tensor that is the same number everywhere is done on that number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops import elementwise
from planish.ir.ops.table import lookup
from planish.ir.tensor import ArrayTensor, Tensor
from planish.ir.types import Array
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.rewrite import Contract, Match, Rule

_FILL = "ConstantOfShape"


def _fill(node: Node) -> Node | None:
    """The one ConstantOfShape that an elementwise node reads, beside constants of one element; None unless so."""
    found: list[Node] = []
    for operand in node.operands:
        if operand is None or (operand.constant is not None and operand.constant.size == 1):
            continue
        made = operand.producer
        if made is None or made.op != _FILL or not operand.has_one_use or made.graph is not node.graph:
            return None
        found.append(made)
    return found[0] if len(found) == 1 else None


def _folds(node: Node, *, exactly: bool) -> bool:
    entry = lookup(node.op)
    return entry.fold is not None and entry.exact is exactly and _fill(node) is not None


def _apply(m: Match) -> Value | None:
    fill = _fill(m.root)
    if fill is None or fill.result.shape is None or fill.result.shape != m.root.result.shape:
        return m.decline("a constant may change the shape")
    fold = lookup(m.root.op).fold
    arrays = [None if operand is None else _number(operand, fill) for operand in m.root.operands]
    results = None if fold is None else fold(m.root, arrays)
    if not results or results[0].size != 1 or DType.of(results[0]) is not m.root.result.dtype:
        return None
    m.cover(fill)
    return m.add(_FILL, fill.operands, {"value": ArrayTensor(results[0].reshape(1))})


def _number(operand: Value, fill: Node) -> Array:
    """The one element of a constant, or that of the fill, in one dim."""
    tensor = fill.attribute("value") if operand.producer is fill else operand.constant
    return tensor.array().reshape(1) if isinstance(tensor, Tensor) else np.zeros(1, np.float32)


_SUMMARY = "f(ConstantOfShape(s), k) -> ConstantOfShape(s) of f of the one number"


@dataclass(frozen=True)
class FoldFills(RulePass):
    """Do elementwise arithmetic of a ConstantOfShape with single numbers on its one number.

    Nothing else may read the ConstantOfShape.
    """

    name: ClassVar[str] = "fold-fills"

    def rules(self) -> Sequence[Rule]:
        exact = Op(tuple(elementwise.OPERATORS), where=partial(_folds, exactly=True))
        rounding = Op(tuple(elementwise.OPERATORS), where=partial(_folds, exactly=False))
        return (
            Rule("fill-exactly", exact, Contract.EXACT, _apply, f"{_SUMMARY}, the runtime's own bits"),
            Rule("fill-rounding", rounding, Contract.REASSOCIATES, _apply, f"{_SUMMARY}, rounded once more"),
        )
