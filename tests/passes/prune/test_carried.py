"""What a channel without its filter adds moves into biases: the model with those filters at 0 gives the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planish import ir
from planish.ir import Graph, Value
from planish.passes.prune.carried import add_to_biases, carried
from planish.passes.prune.masking import mask_channels, mask_filters
from planish.passes.prune.slicing import slice_channels
from planish.passes.run import Run
from tests.equivalence import Inputs, feeds_for
from tests.passes.prune.pruned import analysed, at_random, same
from tests.passes.prune.random_nets import SCALE, RandomNet
from tests.passes.prune.topologies import TOPOLOGIES, Net

_IMAGE = ("N", 3, 8, 8)


def merged(graph: Graph, *, ratio: float = 0.5, seed: int = 0) -> tuple[float, int]:
    """The part of the units that go whose constants were moved, and how many biases took them.

    Raises AssertionError unless the result is that of the model with filters of these at 0, and of the others all.
    """
    before = ir.emit(graph)
    sliced, found = analysed(before)
    removal = at_random(found.groups, ratio, seed)
    moved = carried(sliced, removal)
    slice_channels(sliced, removal, Run())
    add_to_biases(moved.additions)
    masked, again = analysed(before)
    mask_filters(masked, again.groups, moved.merged)
    others = [gone & ~taken for gone, taken in zip(removal.gone, moved.merged, strict=True)]
    mask_channels(masked, again.groups, others)
    one, other = ir.emit(masked), ir.emit(sliced)
    onnx.checker.check_model(other, full_check=True)  # pyright: ignore[reportUnknownMemberType]  PathLike of anything
    for feeds in feeds_for(before, Inputs(bindings=[{"N": 2, "T": 3}], kinds=("ordinary",)), ("ordinary",)):
        same(one, other, feeds, 1e-5, scale=SCALE)
    gone = sum(int(part.sum()) for part in removal.gone)
    return sum(int(part.sum()) for part in moved.merged) / max(gone, 1), len(moved.additions)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_thirteen(name: str) -> None:
    for seed in range(2):
        merged(TOPOLOGIES[name](), seed=seed)


def _pointwise(n: Net, x: Value) -> Value:
    return n.op("Conv", x, n.weight(8, 16, 1, 1), n.weight(8))


def _without_bias(n: Net, x: Value) -> Value:
    return n.op("Conv", x, n.weight(8, 16, 3, 3))


def _padded(n: Net, x: Value) -> Value:
    return n.conv(x, (16, 8))


def _padded_to_size(n: Net, x: Value) -> Value:
    return n.b.node("Conv", (x, n.weight(8, 16, 3, 3)), {"auto_pad": "SAME_UPPER"})


def _pooled(n: Net, x: Value) -> Value:
    x = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.b.node("Gemm", (x, n.weight(16, 8), n.weight(1, 8)), {"alpha": 0.5, "beta": 2.0})


def _scaled_away(n: Net, x: Value) -> Value:
    """beta=0: what would be added to the bias is multiplied by 0."""
    x = n.op("Flatten", n.op("GlobalMaxPool", x))
    return n.b.node("Gemm", (x, n.weight(8, 16), n.weight(8)), {"transB": 1, "beta": 0.0})


def _product(n: Net, x: Value) -> Value:
    return n.linear(n.op("Transpose", x, perm=(0, 2, 3, 1)), (16, 8))


def _bare_product(n: Net, x: Value) -> Value:
    return n.op("MatMul", n.op("Transpose", x, perm=(0, 2, 3, 1)), n.weight(16, 8))


def _flattened(n: Net, x: Value) -> Value:
    x = n.op("Flatten", n.op("MaxPool", x, kernel_shape=(4, 4), strides=(4, 4)))
    return n.op("Gemm", x, n.weight(64, 8), n.weight(8))


def _averaged(n: Net, x: Value) -> Value:
    """At the border the average counts zeros."""
    attributes = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), "count_include_pad": 1}
    return _pointwise(n, n.b.node("AveragePool", (x,), attributes))


def _normalized(n: Net, x: Value) -> Value:
    x = n.op("InstanceNormalization", x, n.positive(16), n.weight(16))
    return _pointwise(n, x)


def _twice(n: Net, x: Value) -> Value:
    """One unit holds two numbers where a channel and its square meet in one product."""
    joined = n.op("Concat", x, n.op("Mul", x, x), axis=1)
    return n.op("Conv", joined, n.weight(8, 32, 1, 1), n.weight(8))


def _two_readers(n: Net, x: Value) -> Value:
    """One of them could take the constant, and the other not."""
    return n.op("Add", _pointwise(n, x), _padded(n, x))


READERS: dict[Callable[[Net, Value], Value], bool] = {
    **dict.fromkeys((_pointwise, _without_bias, _pooled, _product, _flattened), True),
    **dict.fromkeys((_padded, _padded_to_size, _scaled_away, _bare_product, _averaged, _normalized), False),
    **dict.fromkeys((_twice, _two_readers), False),
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_that_take_a_constant_and_those_that_cannot(reader: Callable[[Net, Value], Value]) -> None:
    n = Net(_IMAGE)
    x = n.op("Clip", n.norm(n.conv(n.x, (3, 16)), 16), n.b.constant(np.array(0.01, np.float32)))
    part, biases = merged(n.end(reader(n, x)))
    assert (part, biases) == ((1.0, 1) if READERS[reader] else (0.0, 0))


def test_a_constant_of_zero_needs_no_place() -> None:
    """A Relu of a bias below 0; a padded reader does not see the difference."""
    n = Net(_IMAGE)
    bias = n.b.constant(-np.ones(16, np.float32))
    x = n.op("Relu", n.op("Conv", n.x, n.weight(16, 3, 1, 1), bias))
    assert merged(n.end(_padded(n, x))) == (1.0, 0)


def test_a_residual_carries_the_sum() -> None:
    n = Net(_IMAGE)
    x = n.op("Relu", n.conv(n.x, (3, 16)))
    y = n.op("Conv", x, n.weight(16, 16, 1, 1), n.weight(16))
    assert merged(n.end(_pointwise(n, n.op("Add", x, y)))) == (1.0, 2)


@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 3), min_size=1, max_size=10))
@settings(max_examples=8)
def test_random_nets(choices: list[tuple[int, int, int]]) -> None:
    merged(RandomNet().grow(choices), seed=1)


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 3), min_size=1, max_size=12))
@settings(max_examples=150)
def test_random_nets_at_length(choices: list[tuple[int, int, int]]) -> None:
    merged(RandomNet().grow(choices), seed=2)
