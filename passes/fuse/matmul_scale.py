"""MatMul or Gemm by a constant weight, and the constant factors before and behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from planish.ir import DType, Node, Value
from planish.ir.ops.linear import FLOATS, single
from planish.passes.fuse.affine import scaled
from planish.passes.fuse.factor import LAYOUT, REACH, Factor, factor_of, way_up
from planish.passes.fuse.gemm import EMPTY_SUMS, sums_something
from planish.passes.fuse.walk import Root
from planish.passes.manager import RulePass
from planish.passes.rewrite import Contract, Match, Rule, rule

_PRODUCTS = frozenset(("Gemm", "MatMul"))
_SCALES = frozenset(("Div", "Mul"))
_BIASED = LAYOUT | {"Add"}
_MATRIX = 2
_FINITE = "products and factors whose results do not overflow, scaled or not"


def _made_by(ops: frozenset[str]) -> frozenset[str]:
    return ops | LAYOUT


_AFTER, _BEFORE = _made_by(_PRODUCTS | {"Add"}), _made_by(_SCALES)


def _scales_a_result(node: Node) -> bool:
    return _has_constant(node) and _reads(node, _AFTER)


def _may_read_scaled(node: Node) -> bool:
    return _has_constant(node) and _reads(node, _BEFORE)


def _has_constant(node: Node) -> bool:
    return any(operand is not None and operand.constant is not None for operand in node.operands[:2])


def _reads(node: Node, ops: frozenset[str]) -> bool:
    return any(
        operand is not None and operand.producer is not None and operand.producer.op in ops and operand.has_one_use
        for operand in node.operands[:2]
    )


@rule(Root(("Div", "Mul"), reach=REACH + 1, where=_scales_a_result), contract=Contract.REASSOCIATES, needs=_FINITE)
def scaled_product(m: Match) -> Value | None:
    """Mul(MatMul(x, w) + b, k) -> MatMul(x, w * k) + b * k, and Mul(Gemm(x, w, b), k) -> Gemm<alpha = k, beta = k>

    Between the two may lie nodes that move elements: Transposes, and under a single number Reshapes and their kin.
    """
    found = factor_of(m.root)
    if found is None:
        return m.decline("the constant is not finite, differs along two axes, or would broadcast what it multiplies")
    data, factor = found
    way = way_up(data, _PRODUCTS, _BIASED)
    if way is None:
        return m.decline("between the product and its factor something else is read or computed")
    for node in way:
        m.cover(node)
    return _with_scaled_product(m, way, factor)


def _with_scaled_product(m: Match, way: Sequence[Node], factor: Factor) -> Value | None:
    """The first result of a way up to a product, multiplied by a factor that goes all the way."""
    node, rest = way[0], way[1:]
    made = _times_columns(m, node, factor) if not rest else _moved(m, node, rest, factor)
    if made is not None:
        made.name = node.result.name
    return made


def _moved(m: Match, node: Node, rest: Sequence[Node], factor: Factor) -> Value | None:
    """A node between the product and its factor, now behind both."""
    above = factor if node.op == "Add" else factor.before(node)
    if above is None:
        return m.decline(f"the factor differs along an axis that {node.op} changes")
    operands = list(node.operands)
    place = operands.index(rest[0].result)
    if node.op == "Add":
        bias = _times_bias(m, node, operands[1 - place], operands[place], factor)
        if bias is None:
            return None
        operands[1 - place] = bias
    operand = _with_scaled_product(m, rest, above)
    if operand is None:
        return None
    operands[place] = operand
    return m.add(node.op, operands, node.attributes)


def _times_bias(m: Match, add: Node, bias: Value | None, data: Value | None, factor: Factor) -> Value | None:
    """The constant that an Add adds, times a factor of its result; None where it is the bias that makes the shape."""
    rank = add.result.rank
    if bias is None or bias.constant is None or data is None or rank is None or data.shape != add.result.shape:
        return m.decline("the bias broadcasts the product, or shapes are unknown")
    return _times_constant(m, bias, factor, rank)


def _times_constant(m: Match, value: Value, factor: Factor, rank: int) -> Value | None:
    """A small constant that is added to a tensor of that rank, times a factor of that tensor."""
    tensor = value.constant
    if tensor is None:
        return m.decline("what is added to the product is computed")
    behind = 0 if factor.axis is None else rank - factor.axis
    factors = (factor if factor.axis is None else factor._replace(axis=0)).aligned(behind)
    with np.errstate(all="ignore"):
        array = (tensor.array().astype(np.float64) * factors).astype(tensor.dtype.numpy)
    if array.size > max(tensor.size, factors.size):
        return m.decline("the bias differs along another axis than the factor")
    if not np.isfinite(array).all():
        return m.decline("the scaled bias overflows its element type")
    return m.constant(array, value.name)


def _times_columns(m: Match, node: Node, factor: Factor) -> Value | None:
    """A product whose columns are multiplied."""
    if node.op == "Gemm":
        return _times_gemm(m, node, factor)
    left, right = node.operands[:2]
    if left is None or right is None or node.result.rank is None:
        return m.decline("the rank of the product is unknown")
    if factor.axis is None and left.constant is not None and right.constant is None:
        weight = _times_weight(m, left, Factor(factor.values))
        return None if weight is None else m.add("MatMul", (weight, right))
    if factor.axis is not None and (factor.axis != node.result.rank - 1 or (right.rank or 0) < _MATRIX):
        return m.decline("the factor differs along another axis than the columns of the weight")
    axis = None if factor.axis is None else (right.rank or 0) - 1
    weight = _times_weight(m, right, Factor(factor.values, axis))
    return None if weight is None else m.add("MatMul", (left, weight))


def _times_weight(m: Match, weight: Value, factor: Factor) -> Value | None:
    tensor = weight.constant
    if tensor is None or tensor.dtype not in FLOATS:
        return m.decline("no operand of the product is a constant of floats")
    if not weight.has_one_use:
        return m.decline("the weight is read elsewhere too, and would be kept twice")
    return scaled(m, weight, factor.aligned(len(tensor.shape)))


def _times_gemm(m: Match, node: Node, factor: Factor) -> Value | None:
    """A Gemm times a number by alpha and beta, or times one number a column by its constants."""
    if factor.axis is None:
        return _times_alpha(m, node, float(factor.values[0]))
    right, bias = node.operands[1], node.operand(2)
    if right is None or factor.axis != 1:
        return m.decline("the factor differs from row to row")
    new_bias = None if bias is None else _times_constant(m, bias, factor, _MATRIX)
    if new_bias is None and bias is not None:
        return None
    weight = _times_weight(m, right, factor._replace(axis=0 if node.get_int("transB") else 1))
    if weight is None:
        return None
    operands = (node.operands[0], weight) if new_bias is None else (node.operands[0], weight, new_bias)
    return m.add("Gemm", operands, node.attributes)


def _times_alpha(m: Match, node: Node, number: float) -> Value | None:
    """A Gemm times a number, as far as its attributes can hold the products."""
    adds = node.operand(2) is not None and single(node, "beta") != 0
    left = node.operands[0]
    if adds and (left is None or not sums_something(left, bool(node.get_int("transA")))):
        return m.decline(EMPTY_SUMS)
    attributes = dict(node.attributes)
    for name in ("alpha", "beta") if adds else ("alpha",):
        product = single(node, name) * number
        with np.errstate(all="ignore"):
            kept = float(np.float32(product))
        if not np.finfo(np.float32).tiny <= abs(kept) < np.inf:
            return m.decline(f"{name} would vanish or overflow")
        if node.result.dtype is DType.DOUBLE and kept != product:
            return m.decline(f"{name} holds single precision, and the Gemm is of doubles")
        attributes[name] = kept
    return m.add("Gemm", node.operands, attributes)


@rule(Root(("Gemm", "MatMul"), reach=REACH + 1, where=_may_read_scaled), contract=Contract.REASSOCIATES, needs=_FINITE)
def scaled_operand(m: Match) -> Value | None:
    """MatMul(Mul(x, k), w) -> MatMul(x, w'), the rows of the constant w multiplied by k; a Gemm alike

    Between the two may lie nodes that move elements. A Mul that may end an activation or a normalization stays.
    """
    place = 1 if m.root.operands[0] is None or m.root.operands[0].constant is not None else 0
    data = m.root.operands[place]
    way = None if data is None else way_up(data, _SCALES)
    found = None if way is None else factor_of(way[-1])
    if way is None or found is None:
        return m.decline("no factor that could go into the weight leads straight to the product")
    source, factor = found
    if source.producer is not None and source.producer.op in _SCALES and not _has_constant(source.producer):
        return m.decline("the factor may end an activation or a normalization, which is worth more in one piece")
    for node in way:
        m.cover(node)
    moves = way[-2::-1]
    for node in moves:
        after = factor.after(node)
        if after is None:
            return m.decline(f"the factor differs along an axis that {node.op} changes")
        factor = after
    weight = _times_rows(m, place, factor)
    if weight is None:
        return None
    for node in moves:
        source = m.add(node.op, (source, *node.operands[1:]), node.attributes)
        source.name = node.result.name
    operands = list(m.root.operands)
    operands[place], operands[1 - place] = source, weight
    return m.add(m.root.op, operands, m.root.attributes)


def _times_rows(m: Match, place: int, factor: Factor) -> Value | None:
    """The weight of the root by which the operand at `place`, multiplied by a factor, is multiplied."""
    node = m.root
    data, weight = node.operands[place], node.operands[1 - place]
    if data is None or weight is None or weight.constant is None or data.rank is None:
        return m.decline("the weight is computed, or the rank of the other operand unknown")
    if factor.axis is None:
        return _times_weight(m, weight, factor)
    rank = len(weight.constant.shape)
    summed = 0 if node.op == "Gemm" and node.get_int("transA") else data.rank - 1
    if place or factor.axis != summed or rank < _MATRIX:
        return m.decline("the factor differs along an axis that the product keeps")
    rows = 1 if node.op == "Gemm" and node.get_int("transB") else rank - _MATRIX
    return _times_weight(m, weight, factor._replace(axis=rows))


@dataclass(frozen=True)
class FuseMatMulScale(RulePass):
    """Fold constant factors around a product into its constant weight and bias, or into alpha and beta of a Gemm.

    A factor is one number, or one for each column behind the product and for each row of the weight before it. It may
    lie beyond nodes that move elements. All on the way must have no other reader, nor may the weight.
    """

    name: ClassVar[str] = "fuse-matmul-scale"

    def rules(self) -> Sequence[Rule]:
        return (scaled_product, scaled_operand)
