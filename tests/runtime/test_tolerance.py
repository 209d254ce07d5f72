"""Bounds follow from element types and the lengths of sums; costs from shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from planish.ir import Builder, DType, Graph, TensorType, Value
from planish.ir.ops.cost import extent, macs, reduction_length
from planish.runtime.tolerance import SAFETY, Bound, Rounding

EPS = 2.0**-23


def bound(graph: Graph, **extents: int) -> Bound:
    (found,) = Rounding(graph).bounds(extents)
    return found


def dense(b: Builder, x: Value, rows: int, columns: int, dtype: type[np.generic] = np.float32) -> Value:
    return b.node("MatMul", (x, b.constant(np.ones((rows, columns), dtype))))


def test_sums_in_a_row_add_up() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 64))
    y = b.node("Relu", (dense(b, x, 64, 100),))
    b.output("y", dense(b, y, 100, 5))
    found = bound(b.graph(), n=3)
    assert found.terms == 64 + 1 + 100
    assert found.eps == EPS
    assert found.relative == pytest.approx(SAFETY * EPS * math.sqrt(165))


def test_the_longest_way_counts() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    b.output("y", b.node("Add", (dense(b, x, 8, 8), b.node("Neg", (x,)))))
    assert bound(b.graph(), n=1).terms == 9


def test_the_coarsest_type_counts() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    half = b.node("Cast", (x,), {"to": int(DType.FLOAT16)})
    b.output("y", b.node("Cast", (dense(b, half, 8, 8, np.float16),), {"to": int(DType.FLOAT)}))
    found = bound(b.graph(), n=1)
    assert found.eps == 2.0**-10
    assert found.floor == pytest.approx(SAFETY * math.sqrt(found.terms) * 2.0**-24)


def test_what_sums_over_trees_is_off_by_a_unit_of_the_sum() -> None:
    """The leaves may cancel: a result near 0 is as far off as the largest that they can make."""
    b = Builder(imports={"ai.onnx.ml": 3})
    leaves = {
        "nodes_featureids": (0, 0),
        "nodes_modes": ("LEAF", "LEAF"),
        "nodes_nodeids": (0, 0),
        "nodes_treeids": (0, 1),
        "nodes_values": (0.0, 0.0),
        "nodes_falsenodeids": (0, 0),
        "nodes_truenodeids": (0, 0),
        "n_targets": 1,
        "base_values": (-0.5,),
        "target_ids": (0, 0, 0),
        "target_nodeids": (0, 0, 0),
        "target_treeids": (0, 0, 1),
        "target_weights": (1.0, -3.0, 2.0),
    }
    b.output("y", b.node("ai.onnx.ml::TreeEnsembleRegressor", (b.input("x", DType.FLOAT, ("n", 1)),), leaves))
    assert bound(b.graph(), n=1).floor == pytest.approx(SAFETY * EPS * (0.5 + 3 + 2), rel=1e-3)


def test_symbols_are_bound() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", "length"))
    b.output("y", b.node("ReduceSum", (x, b.constant(np.asarray([1], np.int64))), {"keepdims": 0}))
    assert bound(b.graph(), n=1, length=1000).terms == 1000
    assert bound(b.graph(), n=1, length=10).terms == 10
    assert bound(b.graph()).terms == 64


def test_functions_around_one_have_an_absolute_floor() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    y = b.node("Sigmoid", (x,))
    b.output("direct", y)
    b.output("moved", b.node("Transpose", (y,)))
    b.output("scaled", b.node("Mul", (y, y)))
    direct, moved, scaled = Rounding(b.graph()).bounds({})
    assert direct.floor >= SAFETY * EPS
    assert moved.floor >= SAFETY * EPS
    assert scaled.floor < EPS


def test_integers_do_not_round() -> None:
    b = Builder()
    x = b.input("x", DType.INT32, ("n", 8))
    b.output("y", b.node("Add", (x, x)))
    assert bound(b.graph()) == Bound(0.0, 0.0, 0.0, 0)


def test_tensor_cores_round_products_alone() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    b.output("product", dense(b, x, 8, 8))
    b.output("sum", b.node("Add", (x, x)))
    product, total = Rounding(b.graph(), tf32=True).bounds({"n": 1})
    assert (product.eps, total.eps) == (2.0**-10, EPS)


def branches() -> Graph:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    condition = b.input("c", DType.BOOL, ())
    short, long = b.body("short"), b.body("long")
    short.output("s", short.node("Neg", (x,)))
    long.output("l", dense(long, dense(long, x, 8, 8), 8, 8))
    b.output("y", b.node("If", (condition,), {"then_branch": short.graph(), "else_branch": long.graph()}))
    return b.graph()


def test_branches_count_by_the_longer_one() -> None:
    assert bound(branches()).terms == 16


def test_loops_count_by_their_rounds() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, (4, 4))
    body = b.body("body")
    body.input("i", DType.INT64, ())
    again = body.input("again", DType.BOOL, ())
    carried = body.input("carried", DType.FLOAT, (4, 4))
    body.output("again_out", body.node("Identity", (again,)))
    body.output("carried_out", dense(body, carried, 4, 4))
    rounds = b.constant(np.asarray(10, np.int64))
    b.output("y", b.node("Loop", (rounds, None, x), {"body": body.graph()}), TensorType(DType.FLOAT, None))
    assert bound(b.graph()).terms == 10 * 4


Dims = tuple[int | str, ...]


@dataclass(frozen=True)
class Product:
    op: str
    a: Dims
    b: Dims
    attributes: Mapping[str, int | str]
    terms: int
    """Summed into one element, for n = 3."""
    macs: int


@pytest.mark.parametrize(
    "product",
    [
        Product("Conv", ("n", 6, 10, 10), (8, 3, 3, 5), {"group": 2}, 3 * 15, 3 * 8 * 8 * 6 * 45),
        Product("ConvTranspose", ("n", 6, 5, 5), (6, 4, 2, 2), {"group": 2}, 3 * 4, 3 * 6 * 25 * 4 * 4),
        Product("MatMul", ("n", 7, 5), (5, 9), {}, 5, 3 * 7 * 9 * 5),
        Product("Gemm", (5, "n"), (9, 5), {"transA": 1, "transB": 1}, 5, 3 * 9 * 5),
        Product("Einsum", ("n", 7, 5), (5, 9), {"equation": "...ij,jk->...ik"}, 5, 3 * 7 * 9 * 5),
        Product("Einsum", ("n", 7), ("n", 7), {"equation": "ij,ij"}, 3 * 7, 3 * 7),
    ],
    ids=lambda product: product.op,
)
def test_costs_of_products(product: Product) -> None:
    b = Builder()
    left, right = b.input("a", DType.FLOAT, product.a), b.input("b", DType.FLOAT, product.b)
    b.output("y", b.node(product.op, (left, right), product.attributes))
    (node,) = b.graph().nodes
    assert extent(reduction_length(node), {"n": 3}, -1) == product.terms
    assert extent(macs(node), {"n": 3}, -1) == product.macs


def test_costs_of_recurrent_layers_and_of_what_is_unknown() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("steps", "n", 4))
    w, r = b.input("w", DType.FLOAT, (1, 20, 4)), b.input("r", DType.FLOAT, (1, 20, 5))
    y = b.nodes("LSTM", (x, w, r), {"hidden_size": 5}, results=1)[0]
    b.output("y", y)
    (node,) = b.graph().nodes
    assert extent(reduction_length(node), {"steps": 6, "n": 2}, -1) == 6 * 9
    assert extent(macs(node), {"steps": 6, "n": 2}, -1) == 6 * 2 * 20 * 9
    assert extent(None, {}, 7) == 7
