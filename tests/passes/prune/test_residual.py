"""Which sums are residual blocks, and which only look like it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType, Graph, Value
from planish.ir.graph import Attribute
from planish.models.architectures import ARCHITECTURES
from planish.passes.prune.residual import residual_blocks
from tests.passes.prune.attentions import WORDS, layer
from tests.passes.prune.topologies import TOPOLOGIES, Net

_IMAGE = ("N", 8, 6, 6)


def names(graph: Graph) -> list[str]:
    return [block.name for block in residual_blocks(graph)]


def conv(n: Net, x: Value, channels: int = 8) -> Value:
    return n.op("Relu", n.conv(x, (channels, channels)))


def add(n: Net, a: Value, b: Value, name: str = "sum") -> Value:
    return n.b.node("Add", (a, b), name=name)


def ending(n: Net, x: Value) -> Graph:
    return n.end(n.op("Sigmoid", x))


def _plain(n: Net) -> Value:
    return add(n, n.x, conv(n, n.x))


def _reversed(n: Net) -> Value:
    return add(n, conv(n, n.x), n.x)


def _gated(n: Net) -> Value:
    """Squeeze and excitation within the branch, and a factor behind it."""
    y = conv(n, n.x)
    gate = n.op("Sigmoid", n.conv(n.op("GlobalAveragePool", y), (8, 8), 1))
    return add(n, n.x, n.op("Mul", n.op("Mul", y, gate), n.positive(8, 1, 1)))


def _parallel(n: Net) -> Value:
    """Two branches behind one normalization (GPT-J): the second is added to what has the first already."""
    shared = n.norm(n.x, 8)
    return add(n, add(n, n.x, n.conv(shared, (8, 8)), "first"), n.conv(shared, (8, 8)))


def _transposed_skip(n: Net) -> Value:
    y = n.op("Transpose", n.x, perm=(0, 2, 3, 1))
    return add(n, y, n.op("Transpose", conv(n, n.x), perm=(0, 2, 3, 1)))


def _weights_that_are_turned(n: Net) -> Value:
    """As PyTorch's exporter leaves them; and codes with a scale."""
    y = n.op("MatMul", n.x, n.op("Transpose", n.weight(6, 6), perm=(1, 0)))
    x = add(n, n.x, n.op("Relu", y), "turned")
    codes = n.b.constant(n.random.integers(-9, 9, (6, 6)).astype(np.int8))
    return add(n, x, n.op("MatMul", x, n.op("DequantizeLinear", codes, n.b.constant(np.array(0.1, np.float32)))))


def _codes(n: Net) -> Value:
    """The skip is made a number again once for the sum, and once for the branch."""

    def coded(x: Value) -> Value:
        return n.op("QuantizeLinear", x, n.b.constant(np.array(0.1, np.float32)), n.b.constant(np.array(3, np.uint8)))

    def number(x: Value) -> Value:
        return n.op("DequantizeLinear", x, n.b.constant(np.array(0.1, np.float32)), n.b.constant(np.array(3, np.uint8)))

    x = coded(n.x)
    return add(n, number(x), number(coded(conv(n, number(x)))))


def _chosen(n: Net) -> Value:
    """The branch is chosen at run time, by what goes through it."""
    positive = n.op("Greater", n.op("ReduceSum", n.x, keepdims=0), n.b.constant(np.array(0, np.float32)))
    whole = n.b
    branches: dict[str, Attribute] = {}
    for name in ("then_branch", "else_branch"):
        n.b = whole.body(name)
        n.b.output(f"{name}_out", n.conv(n.x, (8, 8)))
        branches[name] = n.b.graph()
    n.b = whole
    return add(n, n.x, n.b.node("If", (positive,), branches))


BLOCKS: dict[str, tuple[Callable[[Net], Value], list[str]]] = {
    "plain": (_plain, ["sum"]),
    "the branch first": (_reversed, ["sum"]),
    "gated": (_gated, ["sum"]),
    "parallel": (_parallel, ["first", "sum"]),
    "a skip with its axes swapped": (_transposed_skip, ["sum"]),
    "a branch chosen at run time": (_chosen, ["sum"]),
    "weights that are turned": (_weights_that_are_turned, ["turned", "sum"]),
    "codes": (_codes, ["sum"]),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block(name: str) -> None:
    build, expected = BLOCKS[name]
    n = Net(_IMAGE)
    assert names(ending(n, build(n))) == expected


def _downsampled(n: Net) -> Value:
    return add(n, n.conv(n.x, (8, 8), 1), conv(n, n.x))


def _read_elsewhere(n: Net) -> Value:
    y = conv(n, n.x)
    return n.op("Mul", add(n, n.x, y), y)


def _output(n: Net) -> Value:
    y = conv(n, n.x)
    n.b.output("also", y)
    return add(n, n.x, y)


def _no_weights(n: Net) -> Value:
    """A Gelu that is written out."""
    cube = n.op("Mul", n.op("Mul", n.x, n.x), n.x)
    return add(n, n.x, n.op("Mul", cube, n.b.constant(np.array(0.044715, np.float32))))


def _a_way_around(n: Net) -> Value:
    """n + z * (h - n), as a GRU goes on: without the second part, it is not what goes through but what is new."""
    new = n.op("Tanh", n.conv(n.x, (8, 8)))
    gate = n.op("Sigmoid", n.conv(n.x, (8, 8)))
    return add(n, new, n.op("Mul", gate, n.op("Sub", n.x, new)))


def _lateral(n: Net) -> Value:
    """A pyramid of features (Lin et al. 2017)."""
    coarse = n.op("MaxPool", conv(n, n.x), kernel_shape=(2, 2), strides=(2, 2))
    scales = n.b.constant(np.array([1, 1, 2, 2], np.float32))
    up = n.b.node("Resize", (conv(n, coarse), None, scales), {"mode": "nearest"})
    return add(n, n.conv(n.x, (8, 8), 1), up)


def _broadcast(n: Net) -> Value:
    return add(n, n.x, n.conv(n.op("GlobalAveragePool", n.x), (8, 8), 1))


def _random(n: Net) -> Value:
    drop = n.b.constant(np.array(0.5, np.float32)), n.b.constant(np.array(True))
    return add(n, n.x, n.b.node("Dropout", (conv(n, n.x), *drop), {"seed": 1}))


def _unknown(n: Net) -> Value:
    y = n.b.node("my.domain::Whatever", (conv(n, n.x),))
    return add(n, n.x, n.op("Reshape", y, n.op("Shape", n.x)))


def _twice(n: Net) -> Value:
    y = conv(n, n.x)
    return add(n, y, y)


def _constant(n: Net) -> Value:
    return add(n, n.conv(n.x, (8, 8)), n.weight(8, 1, 1))


OTHERS: dict[str, Callable[[Net], Value]] = {
    "a convolution on the skip": _downsampled,
    "a branch that is read elsewhere": _read_elsewhere,
    "a branch that is an output": _output,
    "no weights": _no_weights,
    "a way around the weights": _a_way_around,
    "another tensor": _lateral,
    "a branch of another shape": _broadcast,
    "a random branch": _random,
    "a branch of which nothing is known": _unknown,
    "twice the same": _twice,
    "a bias": _constant,
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_block(name: str) -> None:
    n = Net(_IMAGE)
    assert names(ending(n, OTHERS[name](n))) == []


def test_of_blocks_within_a_block_the_inner_ones() -> None:
    n = Net(_IMAGE)
    y = add(n, n.x, conv(n, n.x), "inner")
    y = add(n, n.x, n.conv(n.op("Relu", y), (8, 8)), "outer")
    assert names(ending(n, y)) == ["inner"]


def test_what_a_loop_carries() -> None:
    """A state is no residual stream; a sum in the midst of the body is one."""
    n = Net(WORDS)
    whole, body = n.b, n.b.body("body")
    body.input("turn", DType.INT64, ())
    going, state = body.input("going", DType.BOOL, ()), body.input("state", DType.FLOAT, WORDS)
    n.b = body
    y = n.op("Relu", n.linear(state, (12, 12)))
    y = add(n, y, n.op("Relu", n.linear(y, (12, 12))), "midst")
    body.output("going_out", body.node("Identity", (going,)))
    body.output("state_out", add(n, state, n.linear(y, (12, 12)), "carried"))
    n.b = whole
    turns: dict[str, Attribute] = {"body": body.graph()}
    graph = n.end(n.b.node("Loop", (n.b.constant(np.array(3)), n.b.constant(np.array(True)), n.x), turns))
    assert names(graph) == ["midst"]


def test_a_block_within_a_nested_graph() -> None:
    n = Net(WORDS)
    flag = n.b.input("flag", DType.BOOL, ())
    whole = n.b
    branches: dict[str, Attribute] = {}
    for name, places in (("then_branch", ("one", "two")), ("else_branch", ())):
        n.b, x = whole.body(name), n.x
        for place in places:
            x = add(n, x, layer(n, x), place)
        n.b.output(f"{name}_out", n.op("Neg", x))
        branches[name] = n.b.graph()
    n.b = whole
    assert names(n.end(n.b.node("If", (flag,), branches))) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("chain", 0),
        ("residual", 1),
        ("downsampling", 0),
        ("dense-concat", 0),
        ("inverted-residual", 1),
        ("attention", 1),
    ],
)
def test_topologies(name: str, count: int) -> None:
    assert len(residual_blocks(TOPOLOGIES[name]())) == count


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["simplify", "simplify,fuse"])
@pytest.mark.parametrize(
    ("name", "count"),
    [("bert", 12), ("vit-small", 24), ("swin-tiny", 24), ("convnext-tiny", 18), ("resnet50", 12), ("mobilenet-v2", 11),
     ("mobilenet-v3", 10), ("efficientnet-b0", 10), ("densenet121", 0)],
)  # fmt: skip
def test_architectures(name: str, count: int, pipeline: str) -> None:
    for exporter in ("dynamo", "torchscript"):
        graph = ARCHITECTURES[name](exporter)
        passes.run(graph, pipeline)
        assert len(residual_blocks(ir.load(ir.emit(graph)))) == count
