"""MobileNet-v2 and -v3, EfficientNet-B0 and -Lite0: inverted bottlenecks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from planish.ir import DType, Graph, Value
from planish.models.architectures.layers import Exporter, Extent, Layers

Activation = Callable[[Layers, Value], Value]


class Block(NamedTuple):
    """An inverted bottleneck: kernel, channels inside and behind, stride, activation, and the width of its squeeze and
    excitation, 0 for none."""

    kernel: int
    inside: int
    after: int
    stride: int
    activation: Activation
    squeeze: int = 0


# Expansion, channels behind, blocks, stride of the first; EfficientNet has the kernel too.
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_B0 = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5)),
    (6, 320, 1, 1, 3),
)
# Kernel, channels inside and behind, squeeze and excitation, HardSwish rather than Relu, stride (Howard et al. 2019).
_V3 = (
    *((3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1)),
    *((5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1)),
    *((3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1), (5, 672, 160, 1, 1, 2)),
    *((5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1)),
)


def mobilenet_v2(exporter: Exporter, *, width: float = 0.125, image: int = 64, batch: Extent = "batch",
                 classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """Sandler et al. 2018; the full size is width=1, image=224, classes=1000."""
    blocks: list[Block] = []
    before = _scaled(32, width)
    for expansion, channels, count, stride in _V2:
        for index in range(count):
            after = _scaled(channels, width)
            blocks.append(Block(3, expansion * before, after, 1 if index else stride, Layers.relu6))
            before = after
    net = _Mobile("mobilenet_v2", exporter, seed)
    return net.build(blocks, _scaled(32, width), _scaled(1280, width), Layers.relu6, (batch, image, classes))


def mobilenet_v3(exporter: Exporter, *, width: float = 0.125, image: int = 64, batch: Extent = "batch",
                 classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """The large one; the full size is width=1, image=224, classes=1000."""
    blocks: list[Block] = []
    for kernel, inside, after, squeezes, hard, stride in _V3:
        channels = _scaled(inside, width)
        activation = Layers.hard_swish if hard else Layers.relu
        squeeze = _scaled(channels // 4, 1) if squeezes else 0
        blocks.append(Block(kernel, channels, _scaled(after, width), stride, activation, squeeze))
    net = _Mobile("mobilenet_v3", exporter, seed, gate=Layers.hard_sigmoid, late=_scaled(1280, width))
    return net.build(blocks, _scaled(16, width), _scaled(960, width), Layers.hard_swish, (batch, image, classes))


def efficientnet_b0(exporter: Exporter, *, width: float = 0.125, image: int = 64, batch: Extent = "batch",
                    classes: int = 10, lite: bool = False, seed: int = 0) -> Graph:  # fmt: skip
    """Tan and Le 2019; the full size is width=1, image=224, classes=1000.

    lite: Relu6 and no squeeze and excitation, and padding by a node of its own, as in TensorFlow.
    """
    activation = Layers.relu6 if lite else Layers.swish
    blocks: list[Block] = []
    before = _scaled(32, width)
    for expansion, channels, count, stride, kernel in _B0:
        for index in range(count):
            after, squeeze = _scaled(channels, width), 0 if lite else max(1, before // 4)
            blocks.append(Block(kernel, expansion * before, after, 1 if index else stride, activation, squeeze))
            before = after
    net = _Mobile("efficientnet_lite0" if lite else "efficientnet_b0", exporter, seed, padded=lite)
    return net.build(blocks, _scaled(32, width), _scaled(1280, width), activation, (batch, image, classes))


def _scaled(channels: int, width: float) -> int:
    """Multiples of 8 at the full width, of 4 below."""
    return max(4, int(channels * width + 2) // 4 * 4)


def _sigmoid(net: Layers, x: Value) -> Value:
    return net.b.node("Sigmoid", (x,))


class _Mobile(Layers):
    """`gate`: the last activation of squeeze and excitation. `padded`: a Pad before each convolution with a window.
    `late`: the channels of a convolution behind the global mean, 0 for none."""

    def __init__(
        self, name: str, exporter: Exporter, seed: int, *, gate: Activation = _sigmoid, padded: bool = False,
        late: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(name, exporter, seed)
        self.late = late
        self.gate = gate
        self.padded = padded

    def build(
        self, blocks: list[Block], stem: int, head: int, activation: Activation, sizes: tuple[Extent, int, int]
    ) -> Graph:
        batch, image, classes = sizes
        x = self.b.input("image", DType.FLOAT, (batch, 3, image, image))
        x = activation(self, self.unit("stem", x, (3, stem), kernel=3, stride=2))
        before = stem
        for index, block in enumerate(blocks):
            x = self.block(f"blocks.{index}", x, before, block)
            before = block.after
        x = activation(self, self.unit("head.conv", x, (before, head)))
        if not self.late:
            return self.graph(logits=self.classify(x, head, classes, view=self.padded))
        x = self.conv("head.late", self.global_mean(x), (head, self.late), bias=True)
        return self.graph(logits=self.gemm("head", self.flatten(activation(self, x), self.late), (self.late, classes)))

    def block(self, name: str, x: Value, before: int, block: Block) -> Value:
        y = x
        if block.inside != before:
            y = block.activation(self, self.unit(f"{name}.expand", y, (before, block.inside)))
        y = self.unit(f"{name}.depthwise", y, (block.inside, block.inside), kernel=block.kernel, stride=block.stride,
                      group=block.inside)  # fmt: skip
        y = block.activation(self, y)
        if block.squeeze:
            y = self.squeezed(f"{name}.se", y, (block.inside, block.squeeze), block.activation)
        y = self.unit(f"{name}.project", y, (block.inside, block.after))
        return self.add(y, x) if block.stride == 1 and before == block.after else y

    def unit(self, name: str, x: Value, channels: tuple[int, int], *, kernel: int = 1, stride: int = 1,
             group: int = 1) -> Value:  # fmt: skip
        """A convolution and its BatchNormalization."""
        pad = kernel // 2
        if self.padded and kernel > 1:
            x, pad = self.same_padding(x, kernel, stride), 0
        y = self.conv(f"{name}.conv", x, channels, kernel=kernel, stride=stride, group=group, pad=pad)
        return self.batch_norm(f"{name}.bn", y, channels[1])

    def same_padding(self, x: Value, kernel: int, stride: int) -> Value:
        """TensorFlow's: what is left of an odd sum goes behind."""
        total = kernel - stride
        edges = (total // 2, total - total // 2)
        if not self.dynamo:
            return self.pads(x, self.constant((*edges, *edges)))
        low, high = edges
        return self.b.node("Pad", (x, self.constant((0, 0, low, low, 0, 0, high, high)), self.number(0.0)))

    def squeezed(self, name: str, x: Value, channels: tuple[int, int], activation: Activation) -> Value:
        """Squeeze and excitation (Hu et al. 2018)."""
        mean = self.b.node("ReduceMean", (x, self.axes(2, 3)), {"keepdims": 1})
        inner = Layers.relu if activation is Layers.hard_swish else activation
        mean = inner(self, self.conv(f"{name}.reduce", mean, channels, bias=True))
        return self.b.node(
            "Mul", (x, self.gate(self, self.conv(f"{name}.expand", mean, (channels[1], channels[0]), bias=True)))
        )
