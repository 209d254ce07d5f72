"""ResNet-50, DenseNet and ConvNeXt."""

from __future__ import annotations

from collections.abc import Sequence

from planish.ir import DType, Graph, Value
from planish.models.architectures.layers import Exporter, Extent, Layers


def resnet50(exporter: Exporter, *, width: int = 8, blocks: Sequence[int] = (3, 4, 6, 3), image: int = 64,
             batch: Extent = "batch", classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """He et al. 2016; the full size is width=64, image=224, classes=1000."""
    net = Layers("resnet50", exporter, seed)
    x = net.b.input("image", DType.FLOAT, (batch, 3, image, image))
    x = net.relu(net.batch_norm("stem.bn", net.conv("stem.conv", x, (3, width), kernel=7, stride=2), width))
    x = net.max_pool(x, 3, 2, 1)
    before = width
    for stage, count in enumerate(blocks):
        inner = width << stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            x = _bottleneck(net, f"layer{stage + 1}.{index}", x, (before, inner, 4 * inner), stride)
            before = 4 * inner
    return net.graph(logits=net.classify(x, before, classes))


def _bottleneck(net: Layers, name: str, x: Value, channels: tuple[int, int, int], stride: int) -> Value:
    before, inner, after = channels
    y = net.relu(net.batch_norm(f"{name}.bn1", net.conv(f"{name}.conv1", x, (before, inner)), inner))
    y = net.conv(f"{name}.conv2", y, (inner, inner), kernel=3, stride=stride)
    y = net.relu(net.batch_norm(f"{name}.bn2", y, inner))
    y = net.batch_norm(f"{name}.bn3", net.conv(f"{name}.conv3", y, (inner, after)), after)
    if before != after:
        x = net.batch_norm(f"{name}.downsample.bn", net.conv(f"{name}.downsample", x, (before, after), stride=stride),
                           after)  # fmt: skip
    return net.relu(net.add(y, x))


def densenet121(exporter: Exporter, *, growth: int = 4, blocks: Sequence[int] = (6, 12, 24, 16), image: int = 64,
                batch: Extent = "batch", classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """Huang et al. 2017; the full size is growth=32, image=224, classes=1000."""
    net = Layers("densenet121", exporter, seed)
    channels = 2 * growth
    x = net.b.input("image", DType.FLOAT, (batch, 3, image, image))
    x = net.conv("stem.conv", x, (3, channels), kernel=7, stride=2)
    x = net.max_pool(net.relu(net.batch_norm("stem.bn", x, channels)), 3, 2, 1)
    for stage, count in enumerate(blocks):
        if stage:
            x = net.relu(net.batch_norm(f"transition{stage}.bn", x, channels))
            x = net.conv(f"transition{stage}.conv", x, (channels, channels // 2))
            x = net.b.node("AveragePool", (x,), {"kernel_shape": (2, 2), "strides": (2, 2)})
            channels //= 2
        features = [x]
        for index in range(count):
            features.append(_dense_layer(net, f"block{stage}.{index}", features, channels + index * growth, growth))
        x = net.b.node("Concat", features, {"axis": 1})
        channels += count * growth
    x = net.relu(net.batch_norm("norm", x, channels))
    return net.graph(logits=net.classify(x, channels, classes))


def _dense_layer(net: Layers, name: str, features: Sequence[Value], channels: int, growth: int) -> Value:
    x = net.b.node("Concat", features, {"axis": 1})
    x = net.relu(net.batch_norm(f"{name}.bn1", x, channels))
    x = net.conv(f"{name}.conv1", x, (channels, 4 * growth))
    x = net.relu(net.batch_norm(f"{name}.bn2", x, 4 * growth))
    return net.conv(f"{name}.conv2", x, (4 * growth, growth), kernel=3)


def convnext_tiny(exporter: Exporter, *, width: int = 8, depths: Sequence[int] = (3, 3, 9, 3), image: int = 64,
                  batch: Extent = "batch", classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """Liu et al. 2022; the full size is width=96, image=224, classes=1000."""
    net = Layers("convnext_tiny", exporter, seed)
    x = net.b.input("image", DType.FLOAT, (batch, 3, image, image))
    x = _channel_norm(
        net, "stem.norm", net.conv("stem.conv", x, (3, width), kernel=4, stride=4, pad=0, bias=True), width
    )
    for stage, depth in enumerate(depths):
        channels = width << stage
        if stage:
            x = _channel_norm(net, f"down{stage}.norm", x, channels // 2)
            x = net.conv(f"down{stage}.conv", x, (channels // 2, channels), kernel=2, stride=2, pad=0, bias=True)
        for index in range(depth):
            x = _convnext_block(net, f"stages.{stage}.{index}", x, channels)
    channels = width << (len(depths) - 1)
    y = _channel_norm(net, "head.norm", net.global_mean(x), channels)
    return net.graph(logits=net.gemm("head", net.flatten(y, channels), (channels, classes)))


def _channel_norm(net: Layers, name: str, x: Value, channels: int) -> Value:
    """LayerNormalization over the channels: they are turned to the end and back."""
    return net.transpose(net.layer_norm(name, net.transpose(x, 0, 2, 3, 1), channels), 0, 3, 1, 2)


def _convnext_block(net: Layers, name: str, x: Value, channels: int) -> Value:
    y = net.conv(f"{name}.conv_dw", x, (channels, channels), kernel=7, group=channels, bias=True)
    y = net.layer_norm(f"{name}.norm", net.transpose(y, 0, 2, 3, 1), channels)
    y = net.transpose(net.mlp(f"{name}.mlp", y, channels), 0, 3, 1, 2)
    target = net.vectors((1, -1, 1, 1)) if net.dynamo else net.constant((1, -1, 1, 1))
    gamma = net.b.node("Reshape", (net.vector(f"{name}.gamma", channels, 0.2), target))
    return net.add(net.b.node("Mul", (y, gamma)), x)
