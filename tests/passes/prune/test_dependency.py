"""What vanishes together, and what stays: each trap names the node that keeps its channels."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest

from planish import ir
from planish.ir import DType, Graph, Value
from planish.passes.prune.dependency import Dependencies, dependencies
from planish.passes.prune.preparation import prepare
from planish.passes.run import Run
from tests.passes.prune.pruned import pruned
from tests.passes.prune.topologies import TOPOLOGIES, Net, channel_shuffle, concat_itself

_IMAGE = ("N", 3, 8, 8)


def found(graph: Graph, *, inexact: bool = False) -> Dependencies:
    graph = ir.load(ir.emit(graph))
    prepare(graph, Run())
    return dependencies(graph, inexact=inexact)


def keepers(graph: Graph, *, inexact: bool = False) -> dict[str, str]:
    """By the node, input or output that keeps axes of weights, the reason."""
    return {frozen.reason.node: frozen.reason.text for frozen in found(graph, inexact=inexact).frozen}


def sizes(graph: Graph) -> list[int]:
    return [group.size for group in found(graph).groups]


def test_a_unit_lies_wherever_its_channel_does() -> None:
    """Concat(x, x): one channel is two rows of what reads it."""
    first, _ = found(concat_itself()).groups
    slices = [(part.value, part.axis, part.indices.tolist()) for part in first.unit(3)]
    weights = [(axis, places) for value, axis, places in slices if value.constant is not None and value.rank == 4]
    assert weights == [(0, [3]), (1, [3, 19])]
    assert first.parameters == 3 * 9 + 5 + 2 * 16 * 9
    assert first.block_count == 1
    assert not first.rough


def test_the_view_joins_groups_with_the_values_that_shrink() -> None:
    dense = found(TOPOLOGIES["dense-concat"]())
    view = dense.view()
    assert set(dense.groups) <= set(view.nodes)
    assert nx.number_connected_components(view) == 1  # all are read by what reads the last Concat


def test_a_grouped_convolution_keeps_blocks_equal() -> None:
    graph = found(TOPOLOGIES["grouped"]())
    blocks = {group.size: np.bincount(group.blocks).tolist() for group in graph.groups[:2]}
    assert blocks == {16: [4, 4, 4, 4], 24: [6, 6, 6, 6]}


@pytest.mark.parametrize(("channels", "groups"), [(24, 3), (32, 4), (24, 2), (30, 5)])
def test_a_shuffle_that_blocks_do_not_divide(channels: int, groups: int) -> None:
    """Units across two blocks stay, or as many of each kind go."""
    for seed in range(3):
        pruned(channel_shuffle(channels, groups), seed=seed, bindings=({"N": 2},))


def _output(n: Net, x: Value) -> Value:
    n.b.output("also", x)
    return x


def _custom(n: Net, x: Value) -> Value:
    return n.b.node("my.domain::Whatever", (x,), name="whatever")


def _captured(n: Net, x: Value) -> Value:
    positive = n.op("Greater", n.op("ReduceSum", x, keepdims=0), n.b.constant(np.array(0, np.float32)))
    branches: dict[str, Graph] = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        body = n.b.body(name)
        body.output(f"{name}_out", body.node(op, (x,)))
        branches[name] = body.graph()
    return n.op("Add", x, n.b.node("If", (positive,), branches, name="choice"))


def _softmax(n: Net, x: Value) -> Value:
    return n.b.node("Softmax", (x,), {"axis": 1}, name="softmax")


def _layer_norm(n: Net, x: Value) -> Value:
    y = n.op("Transpose", x, perm=(0, 2, 3, 1))
    y = n.b.node("LayerNormalization", (y, n.positive(16)), {"axis": -1}, name="norm")
    return n.op("Transpose", y, perm=(0, 3, 1, 2))


def _mean(n: Net, x: Value) -> Value:
    return n.op("Mul", x, n.b.node("ReduceMean", (x, n.ints(-3)), name="mean"))


def _extreme(n: Net, x: Value) -> Value:
    return n.op("Mul", x, n.b.node("ReduceMax", (x, n.ints(1)), name="extreme"))


def _argument(n: Net, x: Value) -> Value:
    place = n.b.node("ArgMax", (x,), {"axis": 1}, name="place")
    return n.op("Mul", x, n.op("Cast", place, to=int(DType.FLOAT)))


def _response(n: Net, x: Value) -> Value:
    return n.b.node("LRN", (x,), {"size": 3}, name="response")


def _counted(n: Net, x: Value) -> Value:
    """A number of elements that depends on the batch is no constant."""
    count = n.op("Cast", n.b.node("Size", (x,), name="count"), to=int(DType.FLOAT))
    return n.op("Div", x, count)


def _counted_extents(n: Net, x: Value) -> Value:
    shape = n.b.node("Shape", (x,), name="shape")
    return n.op("Div", x, n.op("Cast", n.op("ReduceProd", shape, keepdims=0), to=int(DType.FLOAT)))


def _training(n: Net, x: Value) -> Value:
    mean, variance = n.weight(16), n.positive(16)
    operands = (x, n.positive(16), n.weight(16), mean, variance)
    return n.b.nodes("BatchNormalization", operands, {"training_mode": 1}, results=3, name="training")[0]


def _unaligned(n: Net, x: Value) -> Value:
    y = n.op("Slice", x, n.ints(0), n.ints(6), n.ints(3))
    y = n.b.node("Reshape", (y, n.ints(0, 24, 32)), name="unaligned")
    return n.op("Reshape", y, n.ints(0, 16, 8, 6))


def _one_channel(n: Net, x: Value) -> Value:
    picked = n.b.node("Gather", (x, n.b.constant(np.array(2))), {"axis": 1}, name="picked")
    return n.op("Mul", x, n.op("Unsqueeze", picked, n.ints(1)))


def _backwards(n: Net, x: Value) -> Value:
    least, channels = n.ints(-(2**63)), n.ints(1)
    return n.b.node("Slice", (x, n.ints(-1), least, channels, n.ints(-1)), name="backwards")


def _padded(n: Net, x: Value) -> Value:
    wide = n.b.node("Pad", (x, n.ints(0, 8, 0, 0, 0, 8, 0, 0)), name="padded")
    return n.op("Slice", n.op("Add", wide, n.op("Concat", x, x, axis=1)), n.ints(0), n.ints(16), n.ints(1))


def _indices(n: Net, x: Value) -> Value:
    """Where a pooling found its maxima counts the elements of the whole tensor."""
    attributes = {"kernel_shape": (1, 1)}
    y, places = n.b.nodes("MaxPool", (x,), attributes, results=2, name="places")
    return n.op("Add", y, n.op("Cast", places, to=int(DType.FLOAT)))


def _negative_padding(n: Net, x: Value) -> Value:
    y = n.b.node("Pad", (x, n.ints(0, -4, 0, 0, 0, 0, 0, 0)), name="cropped")
    return n.op("Concat", y, n.op("Slice", x, n.ints(0), n.ints(4), n.ints(1)), axis=1)


TRAPS: dict[str, tuple[Callable[[Net, Value], Value], str]] = {
    "an output": (_output, "also"),
    "an unknown operator": (_custom, "my.domain::Whatever whatever"),
    "a nested graph": (_captured, "choice"),
    "a softmax over channels": (_softmax, "Softmax softmax"),
    "a mean and variance over channels": (_layer_norm, "LayerNormalization norm"),
    "a mean over channels": (_mean, "ReduceMean mean"),
    "a maximum over channels": (_extreme, "ReduceMax extreme"),
    "the place of a maximum": (_argument, "ArgMax place"),
    "a window over channels": (_response, "LRN response"),
    "the number of elements": (_counted, "Size count"),
    "the product of the extents": (_counted_extents, "Shape shape"),
    "statistics of the batch": (_training, "BatchNormalization training"),
    "axes that do not divide": (_unaligned, "Reshape unaligned"),
    "one channel by its number": (_one_channel, "Gather picked"),
    "channels backwards": (_backwards, "Slice backwards"),
    "channels of zeros beside them": (_padded, "Pad padded"),
    "places of maxima": (_indices, "MaxPool places"),
    "channels cropped": (_negative_padding, "Pad cropped"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_it_keeps_its_channels_and_says_so(name: str) -> None:
    """The 16 channels in the middle stay; those before and behind them go."""
    trap, keeper = TRAPS[name]
    n = Net(_IMAGE)
    x = trap(n, n.conv(n.block(n.x, (3, 12)), (12, 16)))
    graph = n.head(n.block(x, (16, 20)), 20)
    assert any(node.startswith(keeper) for node in keepers(graph)), keepers(graph)
    assert sizes(graph) == [12, 20] or (name == "an unknown operator" and sizes(graph) == [12])
    if "unknown" not in name and "batch" not in name:
        pruned(graph, bindings=({"N": 1}, {"N": 3}))


def test_inexact_units_are_found_where_they_may_go() -> None:
    n = Net(_IMAGE)
    graph = n.head(_softmax(n, n.conv(n.x, (3, 16))), 16)
    assert not found(graph).groups
    (group,) = found(graph, inexact=True).groups
    assert [reason.node for reason in group.rough] == ["Softmax softmax"]


def test_an_overridable_weight_stays() -> None:
    n = Net(_IMAGE)
    w = n.b.input("w", DType.FLOAT, (16, 3, 1, 1), np.ones((16, 3, 1, 1), np.float32))
    graph = n.head(n.block(n.op("Conv", n.x, w), (16, 12)), 12)
    assert sizes(graph) == [12]
    assert "w" in keepers(graph)


def test_a_factor_for_columns_is_none_for_channels() -> None:
    """A vector as long as both: it is aligned with the last axis."""
    n = Net(("N", 3, 8, 16))
    x = n.op("Mul", n.conv(n.x, (3, 16)), n.positive(16))
    graph = n.head(x, 16)
    (group,) = found(graph).groups
    assert all(member.value.rank != 1 or member.value.constant is not None for member in group.members)
    pruned(graph, bindings=({"N": 2},))


def test_a_weight_that_two_layers_share() -> None:
    """As rows of one and, transposed, as columns of the other: both ends are tied, and the residual ties them again."""
    n = Net(("N", "T", 16))
    w = n.weight(16, 16)
    x = n.linear(n.x, (16, 16))
    y = n.op("MatMul", n.op("Relu", n.op("MatMul", x, w)), n.op("Transpose", w, perm=(1, 0)))
    graph = n.end(n.linear(y, (16, 4)))
    assert sum(sizes(graph)) == 16 * 2
    pruned(graph, bindings=({"N": 2, "T": 3},))
    n = Net(("N", "T", 16))
    w, x = n.weight(16, 16), n.linear(n.x, (16, 16))
    graph = n.end(n.linear(n.op("MatMul", n.op("Relu", n.op("MatMul", x, w)), w), (16, 4)))
    assert sizes(graph) == [16]
    pruned(graph, bindings=({"N": 2, "T": 3},))


def test_a_symbol_that_may_be_one() -> None:
    """Channels that meet an axis of unknown extent stay: it is broadcast in one run and not in another."""
    n = Net(_IMAGE)
    other = n.b.input("other", DType.FLOAT, ("N", "C", 1, 1))
    graph = n.head(n.op("Mul", n.conv(n.x, (3, 16)), other), 16)
    assert not found(graph).groups


def test_channels_merged_with_a_dynamic_axis_stay() -> None:
    n = Net(("N", 3, "H", 8))
    x = n.op("Reshape", n.conv(n.x, (3, 16)), n.ints(0, -1, 8))
    graph = n.end(n.linear(x, (8, 4)))
    assert not [group for group in found(graph).groups if group.size == 16]


def test_heads_go_where_their_elements_may_not() -> None:
    """A factor for each element of a head leaves both; one for the hidden axis of an input leaves none."""
    n = Net(("N", "T", 12))
    bias = n.b.input("bias", DType.FLOAT, (1, 1, 1, 8))
    q = n.op("Reshape", n.linear(n.x, (12, 32)), n.ints(0, 0, 4, 8))
    y = n.op("Reshape", n.op("Add", q, bias), n.ints(0, 0, -1))
    graph = n.end(n.linear(y, (32, 3)))
    assert sizes(graph) == [4]
    pruned(graph, bindings=({"N": 2, "T": 3},))


def test_a_target_of_a_shape_beside_a_tensor_of_unknown_rank() -> None:
    """What is reshaped is not followed, so that the channels that its target counts stay."""
    n = Net(("N", 3, "H", "W"))
    anything = n.b.input("anything", DType.FLOAT)
    x = n.conv(n.x, (3, 16))
    y = n.op("Reshape", anything, n.b.node("Shape", (x,), name="shape"))
    graph = n.end(n.conv(n.op("Add", n.op("Relu", x), y), (16, 3)))
    assert sizes(graph) == []
    n = Net(("N", 3, "H", "W"))
    anything = n.b.input("anything", DType.FLOAT)
    x = n.conv(n.x, (3, 16))
    n.b.output("z", n.op("Reshape", anything, n.b.node("Shape", (x,), name="shape")))
    assert sizes(n.end(n.conv(x, (16, 3)))) == []


def test_nothing_to_prune() -> None:
    n = Net(("N", 4))
    n.b.output("y", n.x)
    assert found(n.b.graph()).groups == ()
