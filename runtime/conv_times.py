"""How long a target takes for a convolution on codes, in either of two spellings, by its shape: measured, and kept.

ONNX Runtime has two kernels for an integer convolution on x86: one of its own for weights whose zero point is 0, and
the matrix product, which reaches AMX, for others. Which is faster depends on the shape. Times of frequent shapes ship
for some processors; they hold for the very same one, with the same release of ONNX Runtime, and for no other.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from planish import ir
from planish.ir import DType, Node
from planish.ir.build import Builder
from planish.passes.quantize.calibration import Calibration
from planish.runtime.providers import Target
from planish.runtime.session import Session
from planish.runtime.times_file import TimesFile, best_seconds

_ROUNDS = 4
_MUCH = 0.95
_NUMBERS = 8
_LEAST_LENGTH = 128
"""Of a product, from which another kernel may be the faster one."""


@dataclass(frozen=True)
class ConvShape:
    """What the time of a convolution depends on."""

    channels: int
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    image: tuple[int, int]

    @property
    def key(self) -> str:
        return "x".join(map(str, (self.channels, self.filters, *self.kernel, *self.strides, *self.image)))

    @classmethod
    def of(cls, key: str) -> ConvShape:
        """The shape that a key stands for; raises ValueError where it is none."""
        numbers = [int(part) for part in key.split("x")]
        if len(numbers) != _NUMBERS or min(numbers) < 1:
            raise ValueError(f"{key!r} is no shape of a convolution: {_NUMBERS} numbers from 1 on, joined by x")
        c, f, *rest = numbers
        return cls(c, f, (rest[0], rest[1]), (rest[2], rest[3]), (rest[4], rest[5]))


def shape_of(node: Node, seen: Calibration) -> ConvShape | None:
    """The shape of a convolution as it was calibrated; None for another node, and where no other kernel could pay."""
    found = seen.of(node.operand(0))
    if found is None or not seen.samples or not may_pay(node):
        return None
    return shape_for(node, found.count // seen.samples)


def may_pay(node: Node) -> bool:
    """Whether it is a convolution of images whose other kernel could be the faster one."""
    weight = None if node.op != "Conv" else node.operands[1]
    if weight is None or weight.constant is None or len(weight.constant.shape) != 4 or node.get_int("group") != 1:
        return False
    return math.prod(weight.constant.shape[1:]) >= _LEAST_LENGTH


def shape_for(node: Node, count: int) -> ConvShape | None:
    """The shape of a convolution that may pay, of so many numbers, as if they were a square image."""
    weight = node.operands[1]
    if weight is None or weight.constant is None:
        return None
    filters, channels, *kernel = weight.constant.shape
    strides = node.get_ints("strides") or (1, 1)
    area = max(1, count // channels)
    height = max(kernel[0], round(area**0.5))
    image = (height, max(kernel[1], -(-area // height)))
    return ConvShape(channels, filters, (kernel[0], kernel[1]), (strides[0], strides[1]), image)


def frequent_shapes() -> tuple[ConvShape, ...]:
    """Those of well-known nets."""
    return tuple([ConvShape.of(key) for key in _shipped()["shapes"]])


class _Shipped(TypedDict):
    shapes: list[str]
    processors: dict[str, dict[str, tuple[float, float]]]
    """By the digest of processor, ONNX Runtime and threads: seconds by shape."""


@cache
def _shipped() -> _Shipped:
    return cast("_Shipped", json.loads((files("planish.runtime") / "conv_times.json").read_text()))


class ConvTimes:
    """Seconds by shape and zero point of the weights, for one target on this machine."""

    def __init__(self, target: Target, folder: Path | None = None) -> None:
        """folder: where times are kept between runs; None keeps none."""
        self.target = target
        self.kept = TimesFile("conv-times", 2, target, folder)
        self._shipped = _shipped()["processors"].get(self.kept.machine, {})

    def known(self, shape: ConvShape) -> tuple[float, float] | None:
        """The seconds with zero point 0 and with 1, where they were measured before or ship for this machine."""
        found = self.kept.seconds.get(shape.key) or self._shipped.get(shape.key)
        return None if found is None else (found[0], found[1])

    def prefers_shift(self, shape: ConvShape) -> bool:
        """Whether weights with a zero point of 1 are faster, by 5 % at least."""
        found = self.known(shape) or self.measure(shape)
        return found[1] < _MUCH * found[0]

    def measure(self, shape: ConvShape) -> tuple[float, float]:
        """As `known`, measured now and kept, whatever was kept before."""
        found = self._measure(shape)
        self.kept.keep(shape.key, found)
        return found

    def _measure(self, shape: ConvShape) -> tuple[float, float]:
        """The best of a few rounds, in turn."""
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            sessions: list[Session] = []
            for zero_point in (0, 1):
                path = Path(folder) / f"{zero_point}.onnx"
                ir.save(_model(shape, zero_point), path)
                sessions.append(Session(path, self.target))
            feeds = {"x": np.random.default_rng(0).standard_normal((1, shape.channels, *shape.image), np.float32)}
            best = [float("inf")] * 2
            for _ in range(_ROUNDS):
                for index, session in enumerate(sessions):
                    best[index] = min(best[index], best_seconds(session, feeds))
        return best[0], best[1]


def _model(shape: ConvShape, zero_point: int) -> ir.Graph:
    """Q -> DQ -> Conv -> Q -> DQ, as quantize-static writes it."""
    b = Builder("conv", opset=21)
    step, middle = b.constant(np.array(0.05, np.float32)), b.constant(np.array(128, np.uint8))
    x = b.input("x", DType.FLOAT, (1, shape.channels, *shape.image))
    real = b.node("DequantizeLinear", (b.node("QuantizeLinear", (x, step, middle)), step, middle))
    rng = np.random.default_rng(0)
    codes = rng.integers(-100, 100, (shape.filters, shape.channels, *shape.kernel)).astype(np.int8)
    scales = b.constant(np.full(shape.filters, 0.01, np.float32))
    zeros = b.constant(np.full(shape.filters, zero_point, np.int8))
    weight = b.node("DequantizeLinear", (b.constant(codes), scales, zeros), {"axis": 0})
    pads = tuple(extent // 2 for extent in shape.kernel)
    y = b.node("Conv", (real, weight), {"pads": pads + pads, "strides": shape.strides, "kernel_shape": shape.kernel})
    b.output("y", b.node("DequantizeLinear", (b.node("QuantizeLinear", (y, step, middle)), step, middle)))
    return b.graph()
