"""Nets of the shapes that channels take through real ones, small, with weights that leave no two channels alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import Builder, DType, Graph, Value
from planish.ir.graph import Attribute


class Net:
    """A builder with random weights; `x` is its input."""

    def __init__(self, shape: Sequence[int | str], *, opset: int = 21, seed: int = 0) -> None:
        self.b = Builder("net", opset=opset)
        self.random = np.random.default_rng(seed)
        self.x = self.b.input("x", DType.FLOAT, shape)

    def weight(self, *shape: int) -> Value:
        size = np.sqrt(max(np.prod(shape[1:]), 1))
        return self.b.constant((self.random.standard_normal(shape) / size).astype(np.float32))

    def positive(self, *shape: int) -> Value:
        return self.b.constant(self.random.uniform(0.5, 1.5, shape).astype(np.float32))

    def ints(self, *values: int) -> Value:
        return self.b.constant(np.array(values, np.int64))

    def op(self, op: str, *operands: Value, **attributes: Attribute) -> Value:
        return self.b.node(op, operands, attributes)

    def conv(self, x: Value, channels: tuple[int, int], kernel: int = 3, **attributes: Attribute) -> Value:
        group = attributes.get("group", 1)
        each = channels[0] // (group if isinstance(group, int) else 1)
        w = self.weight(channels[1], each, kernel, kernel)
        return self.op("Conv", x, w, self.weight(channels[1]), pads=(kernel // 2,) * 4, **attributes)

    def norm(self, x: Value, channels: int) -> Value:
        parameters = [self.weight(channels), self.weight(channels), self.positive(channels)]
        return self.op("BatchNormalization", x, self.positive(channels), *parameters)

    def block(self, x: Value, channels: tuple[int, int], kernel: int = 3, **attributes: Attribute) -> Value:
        return self.op("Relu", self.norm(self.conv(x, channels, kernel, **attributes), channels[1]))

    def head(self, x: Value, channels: int, classes: int = 5) -> Graph:
        """Pooling, and a product that makes the output."""
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.end(self.op("Gemm", pooled, self.weight(channels, classes), self.weight(classes)))

    def end(self, x: Value) -> Graph:
        self.b.output("y", x)
        return self.b.graph()

    def linear(self, x: Value, sizes: tuple[int, int]) -> Value:
        return self.op("Add", self.op("MatMul", x, self.weight(*sizes)), self.weight(sizes[1]))


_IMAGE = ("N", 3, 8, 8)


def chain() -> Graph:
    n = Net(_IMAGE)
    return n.head(n.block(n.block(n.block(n.x, (3, 16)), (16, 24)), (24, 16)), 16)


def residual() -> Graph:
    n = Net(_IMAGE)
    x = n.op("Relu", n.conv(n.x, (3, 16)))
    y = n.conv(n.op("Relu", n.conv(x, (16, 16))), (16, 16))
    return n.head(n.op("Relu", n.op("Add", x, y)), 16)


def downsampling() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.x, (3, 16))
    y = n.norm(n.conv(n.block(x, (16, 24), strides=(2, 2)), (24, 24)), 24)
    shortcut = n.norm(n.op("Conv", x, n.weight(24, 16, 1, 1), n.weight(24), strides=(2, 2)), 24)
    return n.head(n.op("Relu", n.op("Add", y, shortcut)), 24)


def dense_concat() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.x, (3, 16))
    for width in (16, 24, 32):
        x = n.op("Concat", x, n.block(x, (width, 8)), axis=1)
    return n.head(n.norm(x, 40), 40)


def split_concat() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.x, (3, 24))
    one, other = n.b.nodes("Split", (x, n.ints(8, 16)), {"axis": 1}, results=2)
    joined = n.op("Concat", n.block(other, (16, 8)), n.conv(one, (8, 16)), other, axis=-3)
    return n.head(n.block(joined, (40, 16)), 16)


def inverted_residual() -> Graph:
    """With squeeze and excitation (Howard et al. 2019)."""
    n = Net(_IMAGE)
    x = n.block(n.x, (3, 32))
    y = n.op("HardSwish", n.norm(n.conv(x, (32, 96), 1), 96))
    y = n.op("HardSwish", n.norm(n.conv(y, (96, 96), group=96), 96))
    squeezed = n.op("Relu", n.conv(n.op("ReduceMean", y, n.ints(2, 3)), (96, 24), 1))
    y = n.op("Mul", y, n.op("HardSigmoid", n.conv(squeezed, (24, 96), 1)))
    return n.head(n.op("Add", x, n.norm(n.conv(y, (96, 32), 1), 32)), 32)


def grouped() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.block(n.x, (3, 16)), (16, 24), group=4)
    return n.head(n.block(n.block(x, (24, 24), group=2), (24, 16)), 16)


def flatten_gemm() -> Graph:
    n = Net(_IMAGE)
    x = n.op("MaxPool", n.block(n.x, (3, 16)), kernel_shape=(4, 4), strides=(4, 4))
    x = n.op("Relu", n.op("Gemm", n.op("Flatten", x), n.weight(64, 32), n.weight(32)))
    return n.end(n.op("Gemm", x, n.weight(5, 32), n.weight(5), transB=1))


def reshape_gemm() -> Graph:
    """The number of features stands in the target."""
    n = Net(_IMAGE)
    x = n.op("MaxPool", n.block(n.x, (3, 16)), kernel_shape=(4, 4), strides=(4, 4))
    batch = n.op("Unsqueeze", n.op("Gather", n.op("Shape", x), n.b.constant(np.array(0))), n.ints(0))
    x = n.op("Reshape", x, n.op("Concat", batch, n.ints(64), axis=0))
    x = n.op("Relu", n.op("Gemm", x, n.weight(64, 32), n.weight(32)))
    return n.end(n.op("Gemm", x, n.weight(32, 5), n.weight(5)))


def pixel_shuffle() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.block(n.x, (3, 32)), (32, 64))
    x = n.conv(n.op("DepthToSpace", x, blocksize=2, mode="CRD"), (16, 32))
    x = n.op("DepthToSpace", n.op("Relu", x), blocksize=2)
    x = n.op("SpaceToDepth", n.block(x, (8, 8)), blocksize=2)
    return n.end(n.conv(x, (32, 3)))


def channel_shuffle(channels: int = 32, groups: int = 4) -> Graph:
    """Zhang et al. 2018 (ShuffleNet)."""
    n, each = Net(_IMAGE), channels // groups
    x = n.block(n.block(n.x, (3, channels)), (channels, channels), group=groups)
    x = n.op("Transpose", n.op("Reshape", x, n.ints(-1, groups, each, 8, 8)), perm=(0, 2, 1, 3, 4))
    x = n.op("Reshape", x, n.ints(-1, channels, 8, 8))
    return n.head(n.block(n.block(x, (channels, channels), group=groups), (channels, 16), kernel=1), 16)


def _heads(n: Net, x: Value, heads: int, size: int) -> Value:
    return n.op("Transpose", n.op("Reshape", x, n.ints(0, 0, heads, size)), perm=(0, 2, 1, 3))


def attention() -> Graph:
    """The scale is worked out of the shape, as exporters write it."""
    n = Net(("N", "T", 12))
    q, k, v = (_heads(n, n.linear(n.x, (12, 32)), 4, 8) for _ in range(3))
    size = n.op("Cast", n.op("Gather", n.op("Shape", q), n.b.constant(np.array(-1))), to=int(DType.FLOAT))
    scores = n.op("Div", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))), n.op("Sqrt", size))
    mixed = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
    y = n.linear(n.op("Reshape", mixed, n.ints(0, 0, 32)), (32, 12))
    y = n.op("LayerNormalization", n.op("Add", n.x, y), n.positive(12), n.weight(12))
    return n.end(n.linear(n.op("Gelu", n.linear(y, (12, 32))), (32, 12)))


def concat_itself() -> Graph:
    n = Net(_IMAGE)
    x = n.block(n.x, (3, 16))
    return n.head(n.block(n.op("Concat", x, x, axis=1), (32, 16)), 16)


TOPOLOGIES: dict[str, Callable[[], Graph]] = {
    build.__name__.replace("_", "-"): build
    for build in (
        *(chain, residual, downsampling, dense_concat, split_concat, inverted_residual, grouped),
        *(flatten_gemm, reshape_gemm, pixel_shuffle, channel_shuffle, attention, concat_itself),
    )
}


def u_net() -> Graph:
    n = Net(("N", 3, "H", "W"))
    fine = n.block(n.x, (3, 16))
    coarse = n.block(n.op("MaxPool", fine, kernel_shape=(2, 2), strides=(2, 2)), (16, 32))
    coarse = n.op("GroupNormalization", coarse, n.positive(32), n.weight(32), num_groups=8, epsilon=1e-3)
    deep = n.block(n.op("AveragePool", coarse, kernel_shape=(2, 2), strides=(2, 2)), (32, 32))
    up = n.op("ConvTranspose", deep, n.weight(32, 24, 2, 2), n.weight(24), strides=(2, 2))
    x = n.block(n.op("Concat", up, coarse, axis=1), (56, 24))
    scales = n.b.constant(np.array([1, 1, 2, 2], np.float32))
    up = n.b.node("Resize", (x, None, scales), {"mode": "linear"})
    return n.end(n.conv(n.block(n.op("Concat", fine, up, axis=1), (40, 16)), (16, 2)))


def spelled_group_norm() -> Graph:
    """As exporters write it: an InstanceNormalization of groups, scaled and shifted by channel."""
    n = Net(("N", 3, "H", "W"))
    x = n.conv(n.op("Relu", n.conv(n.x, (3, 16))), (16, 32))
    shape = n.op("Shape", x)
    y = n.op("Reshape", x, n.ints(0, 8, -1))
    y = n.b.node("InstanceNormalization", (y, n.positive(8), n.weight(8)), {"epsilon": 1e-3})
    y = n.op("Add", n.op("Mul", n.op("Reshape", y, shape), n.positive(32, 1, 1)), n.weight(32, 1, 1))
    return n.end(n.conv(n.op("Relu", n.block(y, (32, 16))), (16, 3)))


def spelled_pixel_shuffle() -> Graph:
    n = Net(("N", 3, 4, 6))
    y = n.op("Reshape", n.block(n.block(n.x, (3, 32)), (32, 64)), n.ints(-1, 16, 2, 2, 4, 6))
    y = n.op("Reshape", n.op("Transpose", y, perm=(0, 1, 4, 2, 5, 3)), n.ints(-1, 16, 8, 12))
    return n.end(n.conv(n.block(y, (16, 16)), (16, 3)))


def recurrent(op: str = "GRU", directions: int = 2) -> Graph:
    n, gates = Net(("T", "N", 6)), {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    x = n.op("Relu", n.linear(n.x, (6, 16)))
    for size in (16, directions * 12):
        w, r = n.weight(directions, gates * 12, size), n.weight(directions, gates * 12, 12)
        kind: Attribute = "bidirectional" if directions == 2 else "forward"
        operands = (x, w, r, n.weight(directions, 2 * gates * 12))
        attributes: dict[str, Attribute] = {"hidden_size": 12, "direction": kind}
        y = n.b.nodes(op, operands, attributes, results=2)[0]
        x = n.op("Reshape", n.op("Transpose", y, perm=(0, 2, 1, 3)), n.ints(0, 0, directions * 12))
    return n.end(n.linear(x, (directions * 12, 3)))


def fused_attention(heads: int = 4, groups: int = 4) -> Graph:
    n = Net(("N", "T", 12), opset=23)
    q, k, v = (n.linear(n.x, (12, 8 * count)) for count in (heads, groups, groups))
    y = n.b.node("Attention", (q, k, v), {"q_num_heads": heads, "kv_num_heads": groups})
    return n.end(n.linear(y, (8 * heads, 12)))


def microsoft_attention() -> Graph:
    n = Net(("N", "T", 12))
    q, k, v = (n.op("MatMul", n.x, n.weight(12, size)) for size in (32, 32, 16))
    y = n.op("com.microsoft::MultiHeadAttention", q, k, v, n.weight(80), num_heads=4)
    return n.end(n.linear(y, (16, 12)))


def grouped_query_attention() -> Graph:
    """Two heads of keys and values for eight of queries, each repeated by Expand, with a rotary embedding."""
    n, size = Net((2, 6, 12)), 8
    cos, sin = n.weight(6, size), n.weight(6, size)

    def rotated(x: Value) -> Value:
        first = n.op("Slice", x, n.ints(0), n.ints(size // 2), n.ints(3))
        second = n.op("Slice", x, n.ints(size // 2), n.ints(2**63 - 1), n.ints(-1))
        turned = n.op("Concat", n.op("Neg", second), first, axis=-1)
        return n.op("Add", n.op("Mul", x, cos), n.op("Mul", turned, sin))

    def repeated(x: Value) -> Value:
        wide = n.op("Expand", n.op("Unsqueeze", x, n.ints(2)), n.ints(2, 2, 4, 6, size))
        return n.op("Reshape", wide, n.ints(2, 8, 6, size))

    q = rotated(_heads(n, n.linear(n.x, (12, 64)), 8, size))
    k = repeated(rotated(_heads(n, n.linear(n.x, (12, 16)), 2, size)))
    v = repeated(_heads(n, n.linear(n.x, (12, 16)), 2, size))
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=(0, 1, 3, 2))))
    mixed = n.op("Transpose", n.op("MatMul", scores, v), perm=(0, 2, 1, 3))
    return n.end(n.linear(n.op("Reshape", mixed, n.ints(2, 6, 64)), (64, 12)))
