"""Random nets of convolutions and what may be fused into them, with readers and shapes that forbid it now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import onnx

from tests.passes.fuse.nets import Weights, net

_WINDOW = "2,3"


@dataclass
class Writer:
    """Lays down nodes as text; `values` have a number of channels, `terms` counts what sums up behind the last one."""

    random: Random
    body: list[str] = field(default_factory=list[str])
    weights: dict[str, Weights] = field(default_factory=dict[str, Weights])
    values: list[tuple[str, int]] = field(default_factory=lambda: [("x", 4)])
    terms: int = 4

    def pick(self) -> tuple[str, int]:
        return self.random.choice(self.values[-2:])

    def weight(self, *shape: int, least: float = 0.0) -> str:
        """Numbers of both signs whose magnitude is not below `least`."""
        name = f"w{len(self.weights)}"
        array = np.random.default_rng(self.random.randrange(1 << 30)).normal(0, 2, shape)
        self.weights[name] = np.where(np.abs(array) < least, least, array)
        return name

    def make(self, expression: str, channels: int, terms: int) -> None:
        self.body.append(f"v{len(self.values)} = {expression}")
        self.values.append((f"v{len(self.values)}", channels))
        self.terms += terms

    def convolution(self) -> None:
        x, channels = self.pick()
        group = self.random.choice([1, channels] + [2] * (channels % 2 == 0))
        each = self.random.choice([1, 2])
        transposed = self.random.random() < 0.4
        shape = (channels, each, 1, 1) if transposed else (group * each, channels // group, 1, 1)
        known = [name for name, array in self.weights.items() if array.shape == shape]
        weight = self.random.choice(known) if known and self.random.random() < 0.5 else self.weight(*shape)
        bias = f", {self.weight(group * each)}" if self.random.random() < 0.5 else ""
        op = "ConvTranspose" if transposed else "Conv"
        self.make(f"{op}<group = {group}>({x}, {weight}{bias})", group * each, channels + 2)

    def normalization(self) -> None:
        x, channels = self.pick()
        scale, offset, mean = (self.weight(channels) for _ in range(3))
        variance = self.weight(channels)
        self.weights[variance] = np.abs(self.weights[variance]) + 0.1
        self.make(f"BatchNormalization({x}, {scale}, {offset}, {mean}, {variance})", channels, 6)

    def arithmetic(self) -> None:
        x, channels = self.pick()
        shape = self.random.choice([(channels, 1, 1), (1, channels, 1, 1), (), (1,), (3,), (2, 1), (1, 1, 1, 1)])
        constant = self.weight(*shape, least=0.2)
        forms = ["Mul({0}, {1})", "Mul({1}, {0})", "Div({0}, {1})", "Add({1}, {0})", "Sub({0}, {1})", "Sub({1}, {0})"]
        self.make(self.random.choice(forms).format(x, constant), channels, 3)

    def activation(self) -> None:
        x, channels = self.pick()
        self.make(f"Relu({x})", channels, 0)


_MOVES: Sequence[Callable[[Writer], None]] = (
    Writer.convolution,
    Writer.convolution,
    Writer.normalization,
    Writer.arithmetic,
    Writer.arithmetic,
    Writer.activation,
)


def random_net(random: Random) -> tuple[onnx.ModelProto, int]:
    """A net of up to eight nodes, and the number of terms that sum up in it at most."""
    writer = Writer(random)
    for _ in range(random.randint(2, 8)):
        random.choice(_MOVES)(writer)
    last, channels = writer.values[-1]
    writer.body.append(f"y = Relu({last})")
    outputs = ""
    if random.random() < 0.3:
        name, other = random.choice(writer.values[1:])
        outputs = f", float[N,{other},{_WINDOW}] {name}"
    body = "  ".join(writer.body)
    source = net(body, writer.weights, f"N,4,{_WINDOW}", f"N,{channels},{_WINDOW}", outputs=outputs)
    return source, writer.terms
