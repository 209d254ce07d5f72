"""Einsum: letters tie axes; heads are found where two computed tensors share a letter that stays."""

from __future__ import annotations

import pytest

from planish import ir
from planish.ir import Graph, Value
from tests.passes.prune.pruned import analysed, pruned
from tests.passes.prune.topologies import Net

_SHAPES = ({"N": 1, "T": 1}, {"N": 2, "T": 5})


def einsum(n: Net, equation: str, *operands: Value) -> Value:
    return n.op("Einsum", *operands, equation=equation)


def attention() -> Graph:
    """The heads are axes of the weights."""
    n = Net(("N", "T", 12))
    q, k, v = (einsum(n, "btc,chd->bthd", n.x, n.weight(12, 4, 8)) for _ in range(3))
    scores = n.op("Softmax", einsum(n, "bqhd,bkhd->bhqk", q, k), axis=-1)
    return n.end(einsum(n, "bqhd,hdc->bqc", einsum(n, "bhqk,bkhd->bqhd", scores, v), n.weight(4, 8, 12)))


def test_elements_and_heads() -> None:
    found = pruned(attention(), bindings=_SHAPES)
    assert sorted(group.size for group in found.found.groups) == [4, 8, 8]
    heads = pruned(attention(), bindings=_SHAPES, heads=True)
    assert [group.size for group in heads.found.groups] == [4]
    assert heads.share == pytest.approx(0.5)


@pytest.mark.parametrize("equation", ["btc,cd", "btc, cd -> btd", "btc,cd->dtb"])
def test_spellings(equation: str) -> None:
    n = Net(("N", "T", 6))
    x = n.op("Relu", einsum(n, "btc,cd->btd", n.x, n.weight(6, 8)))
    y = einsum(n, equation, x, n.weight(8, 4))
    graph = n.end(n.op("Relu", y))
    assert pruned(graph, bindings=_SHAPES).groups.popitem()[1] == 8


@pytest.mark.parametrize("equation", ["...c,cd->...d", "bcc->bc"])
def test_dots_and_diagonals_stay(equation: str) -> None:
    n = Net(("N", 8, 8))
    x = n.op("MatMul", n.op("MatMul", n.weight(8, 8), n.x), n.weight(8, 8))
    operands = (x, n.weight(8, 4)) if "," in equation else (x,)
    y = einsum(n, equation, *operands)
    assert not analysed(ir.emit(n.end(y)))[1].groups


def test_an_axis_that_is_broadcast_stays() -> None:
    n = Net(("N", 6))
    x = n.op("Relu", n.op("MatMul", n.x, n.weight(6, 8)))
    y = einsum(n, "bc,bc->b", x, n.weight(1, 8))
    assert analysed(ir.emit(n.end(y)))[1].groups  # the letter of the batch meets one element, that of the channels none
    n = Net((2, 6))
    x = n.op("Relu", n.op("MatMul", n.x, n.weight(6, 8)))
    y = einsum(n, "bc,c->b", x, n.weight(1))
    assert not analysed(ir.emit(n.end(y)))[1].groups
