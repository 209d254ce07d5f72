"""Which outputs stayed, told from the weights alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from planish.ir import Node, Value
from planish.ir.graph import constant
from planish.runtime.pruning.kept_outputs import kept_outputs

Singles = NDArray[np.float32]
RNG = np.random.default_rng(0)


def node(op: str, weight: Singles, **attributes: int) -> Node:
    return Node(op, (Value("x"), constant(np.ascontiguousarray(weight), "w")), attributes)


def random(*shape: int) -> Singles:
    return RNG.standard_normal(shape).astype(np.float32)


OUTPUTS, INPUTS = [0, 3, 4, 7], [1, 2, 5]


@pytest.mark.parametrize("inputs", [list(range(6)), INPUTS])
@pytest.mark.parametrize("op", ["Conv", "Gemm", "Gemm transposed", "MatMul"])
def test_slices(op: str, inputs: list[int]) -> None:
    w = random(8, 6, 3, 3) if op == "Conv" else random(8, 6)
    p = w[OUTPUTS][:, inputs]
    name, _, transposed = op.partition(" ")
    if name == "Conv":
        pair = node(name, w, group=1), node(name, p, group=1)
    elif transposed:
        pair = node(name, w, transB=1), node(name, p, transB=1)
    else:
        pair = node(name, w.T), node(name, p.T)
    found = kept_outputs(*pair)
    assert found is not None
    assert found.tolist() == OUTPUTS


def test_groups_lose_each_their_own() -> None:
    w = random(8, 4, 3, 3)
    p = np.concatenate([w[[0, 2]][:, [0, 3]], w[[5, 7]][:, [1, 2]]])
    found = kept_outputs(node("Conv", w, group=2), node("Conv", p, group=2))
    assert found is not None
    assert found.tolist() == [0, 2, 5, 7]


def test_depthwise_filters_go_with_their_groups() -> None:
    w = random(6, 1, 3, 3)
    found = kept_outputs(node("Conv", w, group=6), node("Conv", w[[1, 4, 5]], group=3))
    assert found is not None
    assert found.tolist() == [1, 4, 5]


def test_filters_of_zeros_and_twins_do_not_mislead() -> None:
    w = random(8, 6, 1, 1)
    w[0] = w[3, 1:4] = 0
    w[:, 2] = w[:, 1]
    found = kept_outputs(node("Conv", w, group=1), node("Conv", w[OUTPUTS][:, INPUTS], group=1))
    assert found is not None
    assert found.tolist() == OUTPUTS


def test_negative_zero_and_nan_are_themselves() -> None:
    w = random(4, 6)
    w[1, 1], w[2, 2], w[3] = np.nan, -0.0, 0.0
    found = kept_outputs(node("MatMul", w.T), node("MatMul", w[[1, 2, 3]][:, [0, 1, 2]].T))
    assert found is not None
    assert found.tolist() == [1, 2, 3]


def test_what_is_all_there_may_have_changed() -> None:
    found = kept_outputs(node("MatMul", random(6, 8)), node("MatMul", random(4, 8)))
    assert found is not None
    assert found.tolist() == list(range(8))


@pytest.mark.parametrize(
    "pruned", [node("MatMul", random(4, 5)), node("MatMul", random(9, 9)), node("Conv", random(4, 4, 1), group=1)]
)
def test_what_is_no_slice(pruned: Node) -> None:
    assert kept_outputs(node("MatMul", random(6, 8)), pruned) is None
