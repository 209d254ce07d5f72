"""Swin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from planish.ir import DType, Graph, Value
from planish.ir.types import Array
from planish.models.architectures.layers import LAST, Exporter, Layers

Dim = Value | int


def swin_tiny(exporter: Exporter, *, width: int = 12, depths: Sequence[int] = (2, 2, 6, 2), heads: int = 3,
              window: int = 7, image: int = 224, classes: int = 10, seed: int = 0) -> Graph:  # fmt: skip
    """Liu et al. 2021, for one picture; the full size is width=96, classes=1000.

    heads: of the first stage; each stage has twice those of the one before. The picture is a multiple of
    4 * 2^(stages - 1), so that nothing needs padding; what works the padding out is there all the same.
    """
    net = _Swin("swin_tiny", exporter, seed)
    x = net.b.input("image", DType.FLOAT, (1, 3, image, image))
    x = net.conv("patch_embed.proj", x, (3, width), kernel=4, stride=4, pad=0, bias=True)
    x = net.layer_norm("patch_embed.norm", net.transpose(x, 0, 2, 3, 1), width)
    side, channels = image // 4, width
    for stage, depth in enumerate(depths):
        if stage:
            x = net.merged_patches(f"layers.{stage}.downsample", x, side, channels)
            side, channels = side // 2, 2 * channels
        for index in range(depth):
            shift = window // 2 if index % 2 and side > window else 0
            block = _Block(channels, heads << stage, side, min(window, side), shift)
            x = net.block(f"layers.{stage}.blocks.{index}", x, block, traced=stage > 0)
    x = net.layer_norm("norm", x, channels)
    mean = net.b.node("ReduceMean", (x, net.axes(1, 2)), {"keepdims": 0})
    return net.graph(logits=net.gemm("head", mean, (channels, classes)))


class _Block:
    def __init__(self, channels: int, heads: int, side: int, window: int, shift: int) -> None:
        self.channels = channels
        self.heads = heads
        self.side = side
        self.window = window
        self.shift = shift

    @property
    def windows(self) -> int:
        return (self.side // self.window) ** 2

    def bias_places(self) -> Array:
        """Of each pair of places in a window, the row of the table of biases."""
        steps = np.stack(np.meshgrid(*(np.arange(self.window),) * 2, indexing="ij")).reshape(2, -1)
        apart = steps[:, :, None] - steps[:, None] + self.window - 1
        return (apart[0] * (2 * self.window - 1) + apart[1]).reshape(-1)

    def mask(self) -> Array:
        """0 where two places of a shifted window were in one part of the picture, and else -100."""
        part = np.zeros((self.side, self.side))
        edges = (slice(-self.window), slice(-self.window, -self.shift), slice(-self.shift, None))
        for number, (rows, columns) in enumerate((a, b) for a in edges for b in edges):
            part[rows, columns] = number
        count = self.side // self.window
        rows = part.reshape(count, self.window, count, self.window).transpose(0, 2, 1, 3).reshape(self.windows, -1)
        return np.where(rows[:, None] != rows[:, :, None], -100.0, 0.0)[None, :, None]


class _Swin(Layers):
    def dims(self, x: Value, known: Sequence[int], *axes: int) -> tuple[Dim, ...]:
        """Extents, which TorchScript asks the tensor for."""
        return tuple(known[axis] if self.dynamo else self.extent(x, axis) for axis in axes)

    def unpadded(self, x: Value, sides: tuple[Dim, Dim], multiple: int, rounds: int) -> Value:
        """Pad to a multiple, which does nothing; TorchScript works out by how much."""
        if self.dynamo:
            return self.b.node("Pad", (x, self.constant((0,) * 8), self.number(0.0)), {"mode": "constant"})
        amounts: list[Value] = []
        for side in sides:
            rest = self.b.node("Mod", (self.scalar(side), self.constant(multiple)))
            if rounds > 1:
                short = self.b.node("Sub", (self.constant(multiple), rest))
                rest = self.b.node("Mod", (short, self.constant(multiple)))
            amounts.append(rest)
        pairs, counted = (self.vectors((0, 0, 0, amounts[1], 0, amounts[0])) for _ in "12")
        return self.pads(x, pairs, counted)

    def scalar(self, dim: Dim) -> Value:
        return self.constant(dim) if isinstance(dim, int) else dim

    def share(self, dim: Dim, by: int) -> Dim:
        if isinstance(dim, int):
            return dim // by
        part = self.b.node("Div", (dim, self.constant(by)))
        to = {"to": int(DType.INT64)}
        return self.b.node("Cast", (self.b.node("Cast", (part,), to),), to)

    def block(self, name: str, x: Value, block: _Block, *, traced: bool) -> Value:
        """Attention in windows and a feed-forward layer. traced: whether sizes are asked of `x`, as behind a merge."""
        known = (1, block.side, block.side, block.channels)
        outer = self.dims(x, known, 0, 1, 2, 3) if traced else known
        y = self.layer_norm(f"{name}.norm1", x, block.channels)
        inner = self.dims(y, known, 1, 2, 3) if traced else known[1:]
        if block.shift:
            y = self.rolled(y, block.shift)
        y = self.unpadded(y, (inner[0], inner[1]), block.window, 2)
        rows, columns, batch, channels = self.dims(y, known, 1, 2, 0, 3)
        count = self.share(rows, block.window), self.share(columns, block.window)
        y = self.reshape(y, batch, count[0], block.window, count[1], block.window, channels)
        y = self.reshape(self.transpose(y, 0, 1, 3, 2, 4, 5), -1, block.window, block.window, channels)
        y = self.reshape(y, -1, block.window**2, inner[2])
        y = self.attention(f"{name}.attn", y, block)
        y = self.reshape(y, -1, block.window, block.window, inner[2])
        (last,) = self.dims(y, (-1, block.window, block.window, block.channels), 3)
        y = self.reshape(y, -1, *count, block.window, block.window, last)
        y = self.reshape(self.transpose(y, 0, 1, 3, 2, 4, 5), -1, rows, columns, last)
        y = self.cropped(y, (inner[0], inner[1]))
        if block.shift:
            y = self.rolled(y, -block.shift)
        x = self.reshape(self.add(x, y), outer[0], -1, outer[3])
        y = self.mlp(f"{name}.mlp", self.layer_norm(f"{name}.norm2", x, block.channels), block.channels)
        return self.reshape(self.add(x, y), *outer)

    def rolled(self, x: Value, by: int) -> Value:
        for axis in (1, 2):
            spans = ((by, LAST), (0, by))
            parts = [self.b.node("Slice", (x, *map(self.constant, ((low,), (high,), (axis,))))) for low, high in spans]
            x = self.b.node("Concat", parts, {"axis": axis})
        return x

    def cropped(self, x: Value, sides: tuple[Dim, Dim]) -> Value:
        """The first rows and columns, which are all."""
        for axis, side in zip((1, 2), sides, strict=True):
            bounds = (0, side, axis, 1)
            if self.dynamo:
                parts = [self.constant((dim,)) if isinstance(dim, int) else dim for dim in bounds]
            else:
                parts = [self.b.node("Unsqueeze", (self.scalar(dim), self.constant((0,)))) for dim in bounds]
            x = self.b.node("Slice", (x, *parts))
        return x

    def attention(self, name: str, x: Value, block: _Block) -> Value:
        channels, heads, places = block.channels, block.heads, block.window**2
        known = (block.windows, places, channels)
        windows, count = self.dims(x, known, 0, 1)
        y = self.linear(f"{name}.qkv", x, (channels, 3 * channels))
        y = self.transpose(self.reshape(y, windows, count, 3, heads, -1), 2, 0, 3, 1, 4)
        query, key, value = self.split_three(y)
        query = self.b.node("Mul", (query, self.number(math.sqrt(heads / channels))))
        scores = self.b.node("MatMul", (query, self.transpose(key, 0, 1, 3, 2)))
        scores = self.add(scores, self.position_bias(name, block))
        if block.shift:
            scores = self.reshape(scores, -1, block.windows, heads, count, count)
            mask = self.b.node("Constant", (), {"value": block.mask().astype(np.float32)})
            scores = self.reshape(self.add(scores, mask), -1, heads, count, count)
        mixed = self.transpose(self.b.node("MatMul", (self.softmax(scores), value)), 0, 2, 1, 3)
        return self.linear(f"{name}.proj", self.reshape(mixed, windows, count, -1), (channels, channels))

    def position_bias(self, name: str, block: _Block) -> Value:
        rows, places = (2 * block.window - 1) ** 2, block.window**2
        table = self.floats(f"{name}.bias_table", 0.02 * self.random.standard_normal((rows, block.heads)))
        index = self.b.node("Constant", (), {"value": block.bias_places()})
        found = self.b.node("Gather", (table, index), {"axis": 0})
        found = self.b.node("Reshape", (found, self.constant((places, places, -1))))
        return self.b.node("Unsqueeze", (self.transpose(found, 2, 0, 1), self.constant((0,))))

    def merged_patches(self, name: str, x: Value, side: int, channels: int) -> Value:
        """Four neighbours become one place of four times the channels, which a linear layer halves."""
        known = (1, side, side, channels)
        x = self.unpadded(x, (side, side), 2, 1)
        rows, columns = self.dims(x, known, 1, 2)
        x = self.reshape(x, 1, self.share(rows, 2), 2, self.share(columns, 2), 2, channels)
        x = self.transpose(x, 0, 1, 3, 4, 2, 5)
        if self.dynamo:
            x = self.reshape(x, 1, side // 2, side // 2, 4 * channels)
        else:
            kept = self.b.node("Slice", (self.b.node("Shape", (x,)), *map(self.constant, ((0,), (3,), (0,)))))
            x = self.b.node("Reshape", (x, self.b.node("Concat", (kept, self.constant((-1,))), {"axis": 0})))
        x = self.layer_norm(f"{name}.norm", x, 4 * channels)
        return self.linear(f"{name}.reduction", x, (4 * channels, 2 * channels), bias=False)
