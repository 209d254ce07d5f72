"""Small nets by name, with seeded weights, laid out the way exporters write them: with all that passes clear away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import Builder, DType, Graph, Value
from planish.ir.types import Array

_OPSET = 17


class _Net:
    """A Builder with the layers of the nets below; weights come from one generator, in the order of the layers."""

    def __init__(self, name: str, seed: int) -> None:
        self.b = Builder(name, opset=_OPSET)
        self.random = np.random.default_rng(seed)

    def weight(self, name: str, shape: Sequence[int], fan_in: int) -> Value:
        """Normal with variance 2 / fan-in (He et al. 2015), which keeps the scale of activations through Relu."""
        return self.floats(name, self.random.standard_normal(tuple(shape)) * math.sqrt(2 / fan_in))

    def floats(self, name: str, array: Array) -> Value:
        return self.b.initializer(name, array.astype(np.float32))

    def ints(self, *values: int) -> Value:
        return self.b.constant(np.asarray(values, np.int64))

    def scalar(self, value: float) -> Value:
        return self.b.constant(np.asarray(value, np.float32))

    def conv(self, name: str, x: Value, channels: tuple[int, int], *, kernel: int = 3, stride: int = 1, group: int = 1,
             bias: bool = True) -> Value:  # fmt: skip
        """From channels[0] to channels[1], padded to keep the extents at stride 1."""
        fan_in = channels[0] // group * kernel * kernel
        w = self.weight(f"{name}.weight", (channels[1], channels[0] // group, kernel, kernel), fan_in)
        operands = [x, w]
        if bias:
            operands.append(self.floats(f"{name}.bias", 0.1 * self.random.standard_normal(channels[1])))
        pad = kernel // 2
        attributes = {"kernel_shape": (kernel, kernel), "strides": (stride, stride), "pads": (pad,) * 4, "group": group}
        return self.b.node("Conv", operands, attributes, name=name)

    def batch_norm(self, name: str, x: Value, channels: int) -> Value:
        random = self.random
        operands = [
            x,
            self.floats(f"{name}.weight", random.uniform(0.5, 1.5, channels)),
            self.floats(f"{name}.bias", 0.1 * random.standard_normal(channels)),
            self.floats(f"{name}.running_mean", 0.1 * random.standard_normal(channels)),
            self.floats(f"{name}.running_var", random.uniform(0.5, 1.5, channels)),
        ]
        return self.b.node("BatchNormalization", operands, {"epsilon": 1e-5}, name=name)

    def dense(self, name: str, x: Value, features: tuple[int, int]) -> Value:
        w = self.weight(f"{name}.weight", (features[1], features[0]), features[0])
        bias = self.floats(f"{name}.bias", 0.1 * self.random.standard_normal(features[1]))
        return self.b.node("Gemm", (x, w, bias), {"transB": 1}, name=name)

    def relu(self, x: Value) -> Value:
        return self.b.node("Relu", (x,))

    def extent(self, x: Value, axis: int) -> Value:
        """The extent of an axis as a vector of one element, by Shape, Gather and Unsqueeze as exporters take it."""
        picked = self.b.node("Gather", (self.b.node("Shape", (x,)), self.b.constant(np.asarray(axis, np.int64))))
        return self.b.node("Unsqueeze", (picked, self.ints(0)))

    def reshape(self, x: Value, *dims: Value) -> Value:
        return self.b.node("Reshape", (x, self.b.node("Concat", dims, {"axis": 0})))


def tutorial_cnn(seed: int = 0) -> Graph:
    """Two convolutions, two poolings and two dense layers over 28 x 28 pictures: the net that tutorials compress."""
    net = _Net("tutorial-cnn", seed)
    x = net.b.input("image", DType.FLOAT, ("batch", 1, 28, 28))
    for name, channels in (("conv1", (1, 16)), ("conv2", (16, 32))):
        x = net.relu(net.conv(name, x, channels))
        x = net.b.node("MaxPool", (x,), {"kernel_shape": (2, 2), "strides": (2, 2)})
    x = net.reshape(x, net.extent(x, 0), net.ints(32 * 7 * 7))
    x = net.relu(net.dense("fc1", x, (32 * 7 * 7, 128)))
    x = net.b.node("Dropout", (x, net.scalar(0.5), net.b.constant(np.asarray(False))))
    net.b.output("logits", net.dense("fc2", x, (128, 10)))
    return net.b.graph()


def digits_cnn(seed: int = 0) -> Graph:
    """The tutorial CNN for pictures of 8 x 8, with BatchNormalization and a residual block before the first pooling.

    `planish.models.trained` holds it with the weights that training on handwritten digits gave it.
    """
    net = _Net("digits-cnn", seed)
    x = net.b.input("image", DType.FLOAT, ("batch", 1, 8, 8))
    x = net.relu(net.batch_norm("bn1", net.conv("conv1", x, (1, 16), bias=False), 16))
    x = _residual_block(net, "block", x, (16, 16), 1)
    x = net.b.node("MaxPool", (x,), {"kernel_shape": (2, 2), "strides": (2, 2)})
    x = net.relu(net.batch_norm("bn2", net.conv("conv2", x, (16, 32), bias=False), 32))
    x = net.b.node("MaxPool", (x,), {"kernel_shape": (2, 2), "strides": (2, 2)})
    x = net.reshape(x, net.extent(x, 0), net.ints(32 * 2 * 2))
    x = net.relu(net.dense("fc1", x, (32 * 2 * 2, 64)))
    x = net.b.node("Dropout", (x, net.scalar(0.5), net.b.constant(np.asarray(False))))
    net.b.output("logits", net.dense("fc2", x, (64, 10)))
    return net.b.graph()


def residual_convnet(seed: int = 0) -> Graph:
    """Residual blocks with BatchNormalization, one of them with a strided shortcut (He et al. 2016)."""
    net = _Net("residual-convnet", seed)
    x = net.b.input("image", DType.FLOAT, ("batch", 3, "height", "width"))
    x = net.relu(net.batch_norm("stem.bn", net.conv("stem.conv", x, (3, 16), stride=2, bias=False), 16))
    for index, (before, after, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 32, 1))):
        x = _residual_block(net, f"block{index}", x, (before, after), stride)
    x = net.b.node("Flatten", (net.b.node("GlobalAveragePool", (x,)),))
    net.b.output("logits", net.dense("fc", x, (32, 10)))
    return net.b.graph()


def _residual_block(net: _Net, name: str, x: Value, channels: tuple[int, int], stride: int) -> Value:
    after = channels[1]
    y = net.relu(
        net.batch_norm(f"{name}.bn1", net.conv(f"{name}.conv1", x, channels, stride=stride, bias=False), after)
    )
    y = net.batch_norm(f"{name}.bn2", net.conv(f"{name}.conv2", y, (after, after), bias=False), after)
    if stride > 1:
        x = net.conv(f"{name}.down", x, channels, kernel=1, stride=stride, bias=False)
        x = net.batch_norm(f"{name}.down_bn", x, after)
    return net.relu(net.b.node("Add", (y, x)))


def separable_convnet(seed: int = 0) -> Graph:
    """Depthwise and pointwise convolutions with BatchNormalization and Relu6 as Clip (Sandler et al. 2018)."""
    net = _Net("separable-convnet", seed)
    x = net.b.input("image", DType.FLOAT, ("batch", 3, "height", "width"))
    x = net.conv("stem.conv", x, (3, 8), stride=2)
    for index, (before, after, stride) in enumerate(((8, 16, 1), (16, 32, 2))):
        name = f"block{index}"
        x = net.conv(f"{name}.depthwise", x, (before, before), stride=stride, group=before, bias=False)
        x = net.batch_norm(f"{name}.bn1", x, before)
        x = net.b.node("Clip", (x, net.scalar(0.0), net.scalar(6.0)))
        x = net.conv(f"{name}.pointwise", x, (before, after), kernel=1, bias=False)
        x = net.batch_norm(f"{name}.bn2", x, after)
    x = net.b.node("ReduceMean", (x, net.ints(2, 3)), {"keepdims": 0})
    net.b.output("logits", net.dense("fc", x, (32, 10)))
    return net.b.graph()


def transformer_block(seed: int = 0) -> Graph:
    """Embedding, attention and a feed-forward layer with Gelu by Erf; batch and sequence are dynamic."""
    net, width, heads, words = _Net("transformer-block", seed), 32, 4, 100
    tokens = net.b.input("tokens", DType.INT64, ("batch", "sequence"))
    x = net.b.node("Gather", (net.floats("embedding", net.random.standard_normal((words, width))), tokens))
    y = _attention(net, _layer_norm(net, "norm1", x, width), width, heads)
    x = net.b.node("Add", (x, y))
    y = _linear(net, "up", _layer_norm(net, "norm2", x, width), (width, 4 * width))
    x = net.b.node("Add", (x, _linear(net, "down", _gelu(net, y), (4 * width, width))))
    net.b.output("hidden", x)
    return net.b.graph()


def _layer_norm(net: _Net, name: str, x: Value, width: int) -> Value:
    """Written out, as it was before opset 17 had an operator for it."""
    b = net.b
    centred = b.node("Sub", (x, b.node("ReduceMean", (x, net.ints(-1)))))
    variance = b.node("ReduceMean", (b.node("Pow", (centred, net.scalar(2.0))), net.ints(-1)))
    scaled = b.node("Div", (centred, b.node("Sqrt", (b.node("Add", (variance, net.scalar(1e-5))),))))
    scaled = b.node("Mul", (scaled, net.floats(f"{name}.weight", net.random.uniform(0.5, 1.5, width))))
    return b.node("Add", (scaled, net.floats(f"{name}.bias", 0.1 * net.random.standard_normal(width))))


def _linear(net: _Net, name: str, x: Value, features: tuple[int, int]) -> Value:
    product = net.b.node("MatMul", (x, net.weight(f"{name}.weight", features, features[0])))
    return net.b.node("Add", (product, net.floats(f"{name}.bias", 0.1 * net.random.standard_normal(features[1]))))


def _attention(net: _Net, x: Value, width: int, heads: int) -> Value:
    b, per_head = net.b, width // heads

    def split(name: str, order: tuple[int, ...]) -> Value:
        y = _linear(net, name, x, (width, width))
        y = net.reshape(y, net.extent(y, 0), net.extent(y, 1), net.ints(heads), net.ints(per_head))
        return b.node("Transpose", (y,), {"perm": order})

    query, key, value = split("query", (0, 2, 1, 3)), split("key", (0, 2, 3, 1)), split("value", (0, 2, 1, 3))
    scores = b.node("Div", (b.node("MatMul", (query, key)), net.scalar(math.sqrt(per_head))))
    mixed = b.node("MatMul", (b.node("Softmax", (scores,), {"axis": -1}), value))
    mixed = b.node("Transpose", (mixed,), {"perm": (0, 2, 1, 3)})
    mixed = net.reshape(mixed, net.extent(mixed, 0), net.extent(mixed, 1), net.ints(width))
    return _linear(net, "project", mixed, (width, width))


def _gelu(net: _Net, x: Value) -> Value:
    b = net.b
    erf = b.node("Erf", (b.node("Div", (x, net.scalar(math.sqrt(2)))),))
    doubled = b.node("Mul", (x, b.node("Add", (erf, net.scalar(1.0)))))
    return b.node("Mul", (doubled, net.scalar(0.5)))


def branching_net(seed: int = 0) -> Graph:
    """An If on the data whose branches read what lies around them, and one whose condition is a constant."""
    net = _Net("branching-net", seed)
    b = net.b
    x = b.input("x", DType.FLOAT, ("batch", 16))
    hidden = net.relu(net.dense("shared", x, (16, 16)))
    positive = b.node("Greater", (b.node("ReduceSum", (x,), {"keepdims": 0}), net.scalar(0.0)))
    y = _either(net, positive, hidden, ("wide", 32), ("narrow", 8))
    b.output("y", _either(net, b.constant(np.asarray(True)), y, ("taken", 16), ("left", 8)))
    return b.graph()


def _either(net: _Net, condition: Value, x: Value, *branches: tuple[str, int]) -> Value:
    """An If over two branches, each of two dense layers with a hidden width of its own."""
    bodies = [_branch(net, name, x, width) for name, width in branches]
    return net.b.node("If", (condition,), {"then_branch": bodies[0], "else_branch": bodies[1]})


def _branch(net: _Net, name: str, x: Value, width: int) -> Graph:
    around, net.b = net.b, net.b.body(name)
    inner = net.relu(net.dense(f"{name}.up", x, (16, width)))
    net.b.output(f"{name}.out", net.dense(f"{name}.down", inner, (width, 16)))
    body, net.b = net.b.graph(), around
    return body


BUILDERS: dict[str, Callable[..., Graph]] = {
    "tutorial-cnn": tutorial_cnn,
    "digits-cnn": digits_cnn,
    "residual-convnet": residual_convnet,
    "separable-convnet": separable_convnet,
    "transformer-block": transformer_block,
    "branching-net": branching_net,
}
"""Each takes `seed`, and gives the same graph for the same seed."""
