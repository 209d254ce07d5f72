"""An Einsum that is a matrix product, a product, a transposition or a sum becomes that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from planish.ir import DType, Node, Value
from planish.passes.manager import RulePass
from planish.passes.pattern import Op, Var
from planish.passes.rewrite import Contract, Match, Rule, rule

a, b = Var("a"), Var("b")
_MULTIPLIED = (DType.FLOAT, DType.DOUBLE, DType.FLOAT16)
_LARGEST_COPY = 1024


class Equation(NamedTuple):
    """The letters of each operand and of the result."""

    terms: tuple[str, ...]
    result: str

    @staticmethod
    def of(node: Node) -> Equation | None:
        """None where a letter stands twice in a term (a diagonal), or where there is an ellipsis."""
        text = node.get_str("equation").replace(" ", "")
        left, arrow, result = text.partition("->")
        terms = tuple(left.split(","))
        letters = "".join(terms)
        if not arrow:
            result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
        if "." in text or any(len(set(term)) < len(term) for term in (*terms, result)):
            return None
        return Equation(terms, result) if len(terms) == len(node.operands) else None


def _equation(m: Match) -> Equation | None:
    found = Equation.of(m.root)
    if found is None:
        return m.decline("the equation has an ellipsis or a diagonal")
    ranks = [operand.rank if operand is not None else None for operand in m.root.operands]
    if any(rank != len(term) for rank, term in zip(ranks, found.terms, strict=True)):
        return m.decline("the rank of an operand is not known")
    return found


# One operand


@rule(Op("Einsum", (a,)), contract=Contract.EXACT)
def transposition(m: Match) -> Value | None:
    """Einsum "ij->ji"(a) -> Transpose(a)"""
    found = _equation(m)
    if found is None or sorted(found.terms[0]) != sorted(found.result):
        return None
    if found.terms[0] == found.result:
        return m[a]
    return m.add("Transpose", (m[a],), {"perm": tuple([found.terms[0].index(letter) for letter in found.result])})


@rule(Op("Einsum", (a,)), contract=Contract.REASSOCIATES)
def total(m: Match) -> Value | None:
    """Einsum "ijk->ik"(a) -> ReduceSum(a), of floats"""
    found = _equation(m)
    if found is None or m[a].dtype not in _MULTIPLIED:
        return None
    term = found.terms[0]
    if "".join(letter for letter in term if letter in found.result) != found.result or term == found.result:
        return m.decline("the axes that are left change places")
    axes = [axis for axis, letter in enumerate(term) if letter not in found.result]
    return m.add("ReduceSum", (m[a], m.constant(np.array(axes, np.int64))), {"keepdims": 0})


# Two operands


@rule(Op("Einsum", (a, b)), contract=Contract.REASSOCIATES)
def elementwise(m: Match) -> Value | None:
    """Einsum "ij,j->ij"(a, b) -> Mul(a, b), of floats"""
    found = _equation(m)
    if found is None or m[a].dtype not in _MULTIPLIED or found.result not in found.terms:
        return None
    return m.add("Mul", (m[a], m[b])) if all(found.result.endswith(term) for term in found.terms) else None


class _Product(NamedTuple):
    """A matrix product: which operand has the rows, and which of the two must be transposed first."""

    rows: int
    transposed: tuple[bool, bool]


@rule(Op("Einsum", (a, b)), contract=Contract.REASSOCIATES)
def matrix_product(m: Match) -> Value | None:
    """Einsum "bij,bkj->bik"(a, b) -> MatMul(a, Transpose(b)), of floats; the transposition of a constant is done here

    A Transpose more, at most one, and faster all the same: an Einsum transposes inside.
    """
    found = _equation(m)
    if found is None or m[a].dtype not in _MULTIPLIED:
        return None
    for rows in (0, 1):
        product = _product(found, rows)
        if product is not None:
            return _emit(m, found, product)
    return m.decline("the equation is no matrix product of leading batch axes, and one axis each for rows and columns")


def _product(found: Equation, rows: int) -> _Product | None:
    """How the equation is a matrix product whose rows are an axis of that operand."""
    left, right, result = found.terms[rows], found.terms[1 - rows], found.result
    if len(result) < 2 or len(left) < 2 or len(right) < 2:
        return None
    row, column, lead = result[-2], result[-1], result[:-2]
    summed = [letter for letter in left if letter in right and letter not in result]
    if len(summed) != 1 or row in right or column in left:
        return None
    transposed: list[bool] = []
    leads: list[str] = []
    for term, straight in ((left, row + summed[0]), (right, summed[0] + column)):
        if term[-2:] not in (straight, straight[::-1]):
            return None
        transposed.append(term[-2:] != straight)
        leads.append(term[:-2])
    if lead not in leads or not all(lead.endswith(part) for part in leads):
        return None
    return _Product(rows, (transposed[0], transposed[1]))


def _emit(m: Match, found: Equation, product: _Product) -> Value | None:
    left, right = (m[a], m[b]) if product.rows == 0 else (m[b], m[a])
    if not _contracts(found, product, left, right):
        return m.decline("the axis that is summed may be one element in one operand, which Einsum would repeat")
    sides = list(zip((left, right), product.transposed, strict=True))
    if sum(transposed and not _is_copied(side) for side, transposed in sides) > 1:
        return m.decline("both operands would have to be transposed first")
    return m.add("MatMul", [_swapped(m, side) if transposed else side for side, transposed in sides])


def _contracts(found: Equation, product: _Product, left: Value, right: Value) -> bool:
    """Whether both have the same extent on the axis that is summed, for every binding of the symbols."""
    if left.shape is None or right.shape is None:
        return False
    terms = found.terms[product.rows], found.terms[1 - product.rows]
    (letter,) = set(terms[0]) & set(terms[1]) - set(found.result)
    return left.shape[terms[0].index(letter)] == right.shape[terms[1].index(letter)]


def _is_copied(value: Value) -> bool:
    """Whether the value is a constant that is transposed here and now."""
    tensor = value.constant
    return tensor is not None and tensor.in_memory and (value.has_one_use or tensor.size <= _LARGEST_COPY)


def _swapped(m: Match, value: Value) -> Value:
    """The value with its last two axes in the other order."""
    if _is_copied(value):
        return m.constant(np.ascontiguousarray(np.swapaxes(m.array(value), -1, -2)), value.name)
    rank = value.rank or 0
    return m.add("Transpose", (value,), {"perm": (*range(rank - 2), rank - 1, rank - 2)})


@dataclass(frozen=True)
class LowerEinsum(RulePass):
    """Replace an Einsum that is a matrix product, an elementwise product, a transposition or a sum by that operator."""

    name: ClassVar[str] = "lower-einsum"

    def rules(self) -> Sequence[Rule]:
        return (transposition, total, elementwise, matrix_product)
