"""Nets in the shapes that quantization meets, small, with seeded weights; batch and picture dynamic or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planish.ir import Builder, DType, Graph, Value
from planish.ir.graph import Attribute
from planish.ir.types import Array

WIDTH = 16
SIZE = 8


class Net:
    """A Builder with layers whose weights keep the scale of activations."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.b = Builder("net", opset=opset)
        self.random = np.random.default_rng(seed)

    def floats(self, array: Array | float) -> Value:
        return self.b.constant(np.asarray(array, np.float32))

    def ints(self, *values: int) -> Value:
        return self.b.constant(np.asarray(values, np.int64))

    def normal(self, *shape: int, fan_in: int) -> Value:
        return self.floats(self.random.standard_normal(shape) * math.sqrt(2 / fan_in))

    def op(self, op: str, *operands: Value | None, **attributes: Attribute) -> Value:
        return self.b.node(op, operands, attributes, result=self.name(op))

    def name(self, op: str) -> str:
        """conv1, relu2, ...: a name for what the next node makes, since statistics go by names."""
        self.count = getattr(self, "count", 0) + 1
        return f"{op.lower()}{self.count}"

    def conv(
        self, x: Value, to: int = WIDTH, *, kernel: int = 3, stride: int = 1, group: int = 1, bias: bool = True
    ) -> Value:
        channels = x.shape[1] if x.shape is not None else None
        assert isinstance(channels, int)
        w = self.normal(to, channels // group, kernel, kernel, fan_in=channels // group * kernel * kernel)
        b = self.floats(0.1 * self.random.standard_normal(to)) if bias else None
        attributes = {"kernel_shape": (kernel,) * 2, "strides": (stride,) * 2, "pads": (kernel // 2,) * 4}
        return self.op("Conv", x, w, *([] if b is None else [b]), group=group, **attributes)

    def batch_norm(self, x: Value) -> Value:
        channels = x.shape[1] if x.shape is not None else None
        assert isinstance(channels, int)
        scale, shift, mean = (self.floats(self.random.normal(m, 0.2, channels)) for m in (1, 0, 0))
        return self.op("BatchNormalization", x, scale, shift, mean, self.floats(self.random.uniform(0.5, 2, channels)))

    def dense(self, x: Value, features: tuple[int, int]) -> Value:
        bias = self.floats(0.1 * self.random.standard_normal(features[1]))
        return self.op("Gemm", x, self.normal(features[1], features[0], fan_in=features[0]), bias, transB=1)

    def linear(self, x: Value, features: tuple[int, int]) -> Value:
        """As exporters write it for more than two axes."""
        bias = self.floats(0.1 * self.random.standard_normal(features[1]))
        return self.op("Add", self.op("MatMul", x, self.normal(*features, fan_in=features[0])), bias)

    def relu(self, x: Value) -> Value:
        return self.op("Relu", x)

    def relu6(self, x: Value) -> Value:
        return self.op("Clip", x, self.floats(0), self.floats(6))

    def silu(self, x: Value) -> Value:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def pool(self, x: Value) -> Value:
        return self.op("GlobalAveragePool", x)

    def squeeze_excite(self, x: Value, channels: int) -> Value:
        gate = self.relu(self.conv(self.pool(x), 8, kernel=1))
        return self.op("Mul", x, self.op("Sigmoid", self.conv(gate, channels, kernel=1)))


Extent = int | str


def _image(net: Net, batch: Extent, size: Extent, channels: int = 3) -> Value:
    return net.b.input("x", DType.FLOAT, (batch, channels, size, size))


def residual(net: Net, dynamic: bool) -> Value:
    x = net.relu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    for _ in range(2):
        x = net.relu(net.op("Add", net.conv(net.relu(net.conv(x))), x))
    return _head(net, x)


def residual_with_norm(net: Net, dynamic: bool) -> Value:
    """With a strided shortcut."""
    x = net.relu(net.batch_norm(net.conv(_image(net, *_extents(dynamic)), WIDTH, bias=False)))
    for stride in (1, 2):
        long = net.relu(net.batch_norm(net.conv(x, 2 * WIDTH, stride=stride, bias=False)))
        long = net.batch_norm(net.conv(long, 2 * WIDTH, bias=False))
        short = net.batch_norm(net.conv(x, 2 * WIDTH, kernel=1, stride=stride, bias=False))
        x = net.relu(net.op("Add", long, short))
    return _head(net, x)


def pre_activation(net: Net, dynamic: bool) -> Value:
    """Residual blocks whose clips read what the sum keeps (He et al. 2016b): these cannot vanish."""
    x = net.conv(_image(net, *_extents(dynamic)), WIDTH)
    for clip in (net.relu, net.relu6):
        x = net.op("Add", net.conv(net.relu(net.conv(clip(x)))), x)
    return _head(net, net.relu(x))


def inverted_residual(net: Net, dynamic: bool) -> Value:
    """MobileNetV3's block (Howard et al. 2019), with Relu6 as Clip."""
    x = net.relu6(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    for _ in range(2):
        wide = net.relu6(net.conv(x, 2 * WIDTH, kernel=1))
        wide = net.relu6(net.conv(wide, 2 * WIDTH, group=2 * WIDTH))
        x = net.op("Add", net.conv(net.squeeze_excite(wide, 2 * WIDTH), WIDTH, kernel=1), x)
    return _head(net, x)


def dense_concat(net: Net, dynamic: bool) -> Value:
    """DenseNet (Huang et al. 2017) without its normalization, with pooling between."""
    x = net.relu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    for _ in range(3):
        x = net.op("Concat", x, net.relu(net.conv(x, 8)), axis=1)
    x = net.conv(x, WIDTH, kernel=1)
    return _head(net, net.op("AveragePool", x, kernel_shape=(2, 2), strides=(2, 2)))


def split_concat(net: Net, dynamic: bool) -> Value:
    """ShuffleNetV2's unit (Ma et al. 2018), its shuffle included."""
    batch, size = _extents(dynamic)
    x = net.relu(net.conv(_image(net, batch, size), WIDTH))
    a, b = net.b.nodes("Split", (x, net.ints(8, 8)), {"axis": 1}, results=("split_a", "split_b"))
    b = net.relu(net.conv(net.conv(net.relu(net.conv(b, 8, kernel=1)), 8, group=8), 8, kernel=1))
    x = net.op("Concat", a, b, axis=1)
    x = net.op("Reshape", x, net.ints(0, 2, 8, SIZE, SIZE))
    x = net.op("Reshape", net.op("Transpose", x, perm=(0, 2, 1, 3, 4)), net.ints(0, WIDTH, SIZE, SIZE))
    return _head(net, net.relu(net.conv(x)))


def silu_blocks(net: Net, dynamic: bool) -> Value:
    """YOLO's bottleneck: SiLU behind each convolution, a residual, a Concat of halves."""
    x = net.silu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    a, b = net.b.nodes("Split", (x, net.ints(8, 8)), {"axis": 1}, results=("split_a", "split_b"))
    c = net.op("Add", b, net.silu(net.conv(net.silu(net.conv(b, 8)), 8)))
    x = net.silu(net.conv(net.op("Concat", a, b, c, axis=1), WIDTH, kernel=1))
    pooled = net.op("MaxPool", x, kernel_shape=(5, 5), strides=(1, 1), pads=(2, 2, 2, 2))
    return _head(net, net.silu(net.conv(net.op("Concat", x, pooled, axis=1), WIDTH, kernel=1)))


def hard_swish(net: Net, dynamic: bool) -> Value:
    x = net.op("HardSwish", net.conv(_image(net, *_extents(dynamic)), WIDTH))
    x = net.op("HardSwish", net.conv(x, WIDTH, group=WIDTH))
    gate = net.relu(net.conv(net.pool(x), 8, kernel=1))
    gate = net.op("HardSigmoid", net.conv(gate, WIDTH, kernel=1))
    return _head(net, net.op("HardSwish", net.conv(net.op("Mul", gate, x), kernel=1)))


def grouped(net: Net, dynamic: bool) -> Value:
    """ResNeXt's block (Xie et al. 2017)."""
    x = net.relu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    inner = net.relu(net.conv(net.relu(net.conv(x, WIDTH, kernel=1)), WIDTH, group=4))
    return _head(net, net.relu(net.op("Add", net.conv(inner, WIDTH, kernel=1), x)))


def attention(net: Net, dynamic: bool) -> Value:
    """Written out, with a feed-forward layer: products of two activations, Softmax and normalizations are float."""
    batch, length = ("N", "L") if dynamic else (2, 10)
    heads, width = 2, 32
    x = net.b.input("x", DType.FLOAT, (batch, length, width))
    q, k, v = (
        net.op("Transpose", net.op("Reshape", net.linear(x, (width, width)), net.ints(0, 0, heads, -1)), perm=perm)
        for perm in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
    )
    scores = net.op("Softmax", net.op("Mul", net.op("MatMul", q, k), net.floats(0.25)), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", scores, v), perm=(0, 2, 1, 3))
    mixed = net.linear(net.op("Reshape", mixed, net.ints(0, 0, width)), (width, width))
    x = _layer_norm(net, net.op("Add", x, mixed), width)
    hidden = net.relu(net.linear(x, (width, 4 * width)))
    return _layer_norm(net, net.op("Add", x, net.linear(hidden, (4 * width, width))), width)


def _layer_norm(net: Net, x: Value, width: int) -> Value:
    scale, shift = (net.floats(net.random.normal(mean, 0.1, width)) for mean in (1, 0))
    return net.op("LayerNormalization", x, scale, shift, axis=-1)


def unet(net: Net, dynamic: bool) -> Value:
    x = net.relu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    deep = net.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    deep = net.relu(net.conv(net.relu(net.conv(deep, 2 * WIDTH)), WIDTH))
    scales = net.floats(np.array([1, 1, 2, 2]))
    up = net.op(
        "Resize", deep, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    x = net.relu(net.conv(net.op("Concat", up, x, axis=1), WIDTH))
    return net.conv(x, 4, kernel=1)


def padded(net: Net, dynamic: bool) -> Value:
    """Shortcuts that fill up channels with 0 (He et al. 2016, option A), edges that are repeated, space to depth."""
    x = net.relu(net.conv(_image(net, *_extents(dynamic)), WIDTH))
    halved = net.op("Slice", x, net.ints(0, 0), net.ints(SIZE, SIZE), net.ints(2, 3), net.ints(2, 2))
    wider = net.op("Pad", halved, net.ints(0, 8, 0, 0, 0, 8, 0, 0))
    deep = net.op("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 0, 0), mode="edge")
    weight = net.normal(2 * WIDTH, WIDTH, 3, 3, fan_in=9 * WIDTH)
    deep = net.relu(net.op("Conv", deep, weight, strides=(2, 2), kernel_shape=(3, 3)))
    x = net.op("Add", wider, net.conv(deep, 2 * WIDTH))
    return _head(net, net.relu(net.conv(net.op("SpaceToDepth", x, blocksize=2), WIDTH, kernel=1)))


def lstm_head(net: Net, dynamic: bool) -> Value:
    length, batch = ("L", "N") if dynamic else (10, 2)
    x = net.b.input("x", DType.FLOAT, (length, batch, 16))
    w, r, b = net.normal(1, 64, 16, fan_in=16), net.normal(1, 64, 16, fan_in=32), net.floats(np.zeros((1, 128)))
    states = net.b.nodes("LSTM", (x, w, r, b), {"hidden_size": 16}, results=("y_all", "y_last"))
    last = net.op("Squeeze", states[1], net.ints(0))
    return net.dense(net.relu(net.dense(last, (16, 32))), (32, 4))


def mlp(net: Net, dynamic: bool) -> Value:
    x = net.b.input("x", DType.FLOAT, ("N" if dynamic else 4, 24))
    x = net.relu(net.dense(x, (24, 32)))
    return net.dense(net.relu(net.dense(x, (32, 32))), (32, 5))


def audio(net: Net, dynamic: bool) -> Value:
    """One axis, as keyword spotters have it."""
    batch, length = ("N", "L") if dynamic else (2, 40)
    x = net.b.input("x", DType.FLOAT, (batch, 4, length))
    for channels in ((4, 16), (16, 16)):
        w = net.normal(channels[1], channels[0], 3, fan_in=3 * channels[0])
        x = net.relu(net.op("Conv", x, w, net.floats(np.full(channels[1], 0.1)), pads=(1, 1), kernel_shape=(3,)))
    return net.op("Conv", x, net.normal(4, 16, 1, fan_in=16))


def mixer(net: Net, dynamic: bool) -> Value:
    """Products of rank 3 with a matrix, without and with biases, one behind the other."""
    x = net.b.input("x", DType.FLOAT, ("N" if dynamic else 2, 6, 24))
    x = net.relu(net.linear(x, (24, 32)))
    x = net.op("Add", net.linear(x, (32, 32)), x)
    return net.op("MatMul", x, net.normal(32, 8, fan_in=32))


def _extents(dynamic: bool) -> tuple[Extent, Extent]:
    return ("N" if dynamic else 2), SIZE


def _head(net: Net, x: Value) -> Value:
    channels = x.shape[1] if x.shape is not None else None
    assert isinstance(channels, int)
    return net.dense(net.op("Flatten", net.pool(x), axis=1), (channels, 5))


@dataclass(frozen=True)
class Topology:
    lay: Callable[[Net, bool], Value]
    shape: tuple[int, ...]
    """Of x, where its dims are dynamic."""
    first: str = ""
    """The passes that go before quantization."""

    def graph(self, *, dynamic: bool = False, opset: int = 17) -> Graph:
        net = Net(opset)
        net.b.output("y", self.lay(net, dynamic))
        return net.b.graph()

    def feeds(self, count: int = 4, seed: int = 1) -> Sequence[dict[str, Array]]:
        random = np.random.default_rng(seed)
        return [{"x": random.standard_normal(self.shape).astype(np.float32)} for _ in range(count)]


_IMAGE = (2, 3, SIZE, SIZE)
TOPOLOGIES: dict[str, Topology] = {
    "residual": Topology(residual, _IMAGE),
    "residual with BatchNormalization": Topology(residual_with_norm, _IMAGE, "simplify,fuse"),
    "pre-activation": Topology(pre_activation, _IMAGE),
    "inverted residual": Topology(inverted_residual, _IMAGE),
    "dense concat": Topology(dense_concat, _IMAGE),
    "split and concat": Topology(split_concat, _IMAGE),
    "silu": Topology(silu_blocks, _IMAGE),
    "hard swish": Topology(hard_swish, _IMAGE, "lower-activations"),
    "grouped": Topology(grouped, _IMAGE),
    "attention": Topology(attention, (2, 10, 32)),
    "u-net": Topology(unet, _IMAGE),
    "padded": Topology(padded, _IMAGE),
    "lstm": Topology(lstm_head, (10, 2, 16)),
    "mlp": Topology(mlp, (4, 24)),
    "audio": Topology(audio, (2, 4, 40)),
    "mixer": Topology(mixer, (2, 6, 24)),
}
