"""Nodes whose operands are all constants become constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from planish.ir import Node, Value
from planish.ir.graph import RETURN
from planish.ir.ops import reference
from planish.ir.ops.table import is_pure, lookup
from planish.ir.types import Array, DType
from planish.passes.halves import HALF, is_half
from planish.passes.manager import RulePass
from planish.passes.pattern import Op
from planish.passes.rewrite import Contract, Match, Rule


@dataclass(frozen=True)
class FoldConstants(RulePass):
    """Evaluate nodes whose operands are all constants.

    Never a node that is random, has state or effects, or holds a graph; never the DequantizeLinear of a weight, which
    runtimes need to choose quantized kernels by; never to a number that overflows in half precision where the target
    works in single; never one whose result would make the file grow
    by more than `growth` bytes over the operands that it alone reads; never one on weights kept outside of the model of
    more than `read` bytes.
    """

    name: ClassVar[str] = "fold-constants"
    growth: int = 65536
    read: int = 1 << 30

    def rules(self) -> Sequence[Rule]:
        summary = "op(constants...) -> constant"
        return (
            Rule(
                "fold-exactly", _exact, Contract.EXACT, partial(_fold_exactly, self), f"{summary}, the runtime's bits"
            ),
            Rule(
                "fold-rounding", _rounding, Contract.REASSOCIATES, partial(_fold, self), f"{summary}, rounded once more"
            ),
        )


def _has_constant_operands(node: Node) -> bool:
    if not node.operands or node.graphs:
        return False
    for operand in node.operands:
        if operand is not None and operand.constant is None:
            return False
    return is_pure(node)


def _is_exact(node: Node) -> bool | None:
    """Whether the runtime surely gives the bits that folding gives; None where more may differ, or the node stays."""
    entry = lookup(node.op)
    if entry.kept:
        return None
    return reference.agreement(node.op) if entry.fold is None else entry.exact


def _may_round(node: Node) -> bool:
    exact = _is_exact(node)
    return exact is False or (exact is True and is_half(node))


_exact = Op((), where=lambda node: _has_constant_operands(node) and _is_exact(node) is True)
_rounding = Op((), where=lambda node: _has_constant_operands(node) and _may_round(node))


def _fold_exactly(options: FoldConstants, m: Match) -> tuple[Value, ...] | None:
    found = _fold(options, m)
    if found is not None and _runs_in_single(m) and not _is_same_in_single(m.root, found):
        m.decline("the target has no kernel of half precision, and rounds to it later than folding would")
        return None
    return found


def _runs_in_single(m: Match) -> bool:
    """Whether the target works out numbers of half precision in single, and may leave them so for the next node.

    ONNX Runtime takes a Cast to half precision away before a node that it works out in single.
    """
    if not is_half(m.root):
        return False
    nodes = (m.root, *m.root.result.users) if m.root.op == "Cast" else (m.root,)
    opset = m.graph.root.opset_imports.get("", 0)
    return any(not m.run.kernels.runs(node, opset) for node in nodes if node.op != RETURN)


def _is_same_in_single(node: Node, results: Sequence[Value]) -> bool:
    """Whether no result was rounded to half precision."""
    fold = lookup(node.op).fold
    arrays = [None if o is None or o.constant is None else o.constant.array() for o in node.operands]
    halves = [dtype.numpy for dtype in HALF]
    wide = [a.astype(np.float32) if a is not None and a.dtype in halves else a for a in arrays]
    found = wide if node.op == "Cast" else None if fold is None else fold(node, wide)
    return found is not None and all(
        array is not None and value.constant is not None and _are_equal(array, value.constant.array())
        for array, value in zip(found, results, strict=False)
    )


def _are_equal(wide: Array, narrow: Array) -> bool:
    return np.array_equal(wide.astype(np.float64), narrow.astype(np.float64), equal_nan=True)


def _fold(options: FoldConstants, m: Match) -> tuple[Value, ...] | None:
    node = m.root
    results = _evaluate(options, m)
    if results is None:
        return None
    if _runs_in_single(m) and not all(np.all(np.isfinite(array)) for array in results):
        m.decline("the constant overflows in half precision, and may not where the target works in single")
        return None
    freed = sum(o.constant.nbytes for o in node.operands if o is not None and o.constant is not None and o.has_one_use)
    if sum(result.nbytes for result in results) > freed + options.growth:
        m.decline("the constant would make the file grow; raise fold-constants{growth=...}")
        return None
    return tuple([m.constant(result) for result in results])


def _evaluate(options: FoldConstants, m: Match) -> Sequence[Array] | None:
    """The results, when they are what the operators' own rules say they must be."""
    node = m.root
    constants = [operand.constant for operand in node.operands if operand is not None and operand.constant is not None]
    for result in node.results:
        static = [dim for dim in result.shape or () if isinstance(dim, int)]
        if result.shape is None or len(static) < len(result.shape):
            if not all(tensor.in_memory for tensor in constants):  # it may be a shape, and the result of any size
                return None
            continue
        size = int(np.prod(static, dtype=object)) if static else 1
        if size * 16 > options.growth and size > 2 * sum(tensor.size for tensor in constants):
            m.decline("the constant would make the file grow; raise fold-constants{growth=...}")
            return None
    arrays: list[Array | None] = []
    for operand in node.operands:
        tensor = None if operand is None else operand.constant
        if tensor is not None and not tensor.in_memory and tensor.nbytes > options.read:
            return None
        arrays.append(None if tensor is None else tensor.array())
    fold = lookup(node.op).fold
    results = reference.fold(node, arrays) if fold is None else fold(node, arrays)
    if results is None or len(results) < len(node.results):
        return None
    for value, array in zip(node.results, results, strict=False):
        shape = value.shape
        if value.dtype is None or DType.of(array) is not value.dtype:
            return None
        if shape is not None and (
            len(shape) != array.ndim
            or any(isinstance(dim, int) and dim != extent for dim, extent in zip(shape, array.shape, strict=True))
        ):
            return None
    return results[: len(node.results)]
