"""What lies between two convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planish.ir import DType, Value
from tests.passes.quantize.statically import Static, quantized
from tests.passes.quantize.topologies import Net

Lay = Callable[[Net, Value], Value]
SHAPE = (2, 8, 6, 6)
random = np.random.default_rng(11)


def between(lay: Lay, shape: Sequence[int | str] = SHAPE, *, scale: float = 1.0) -> Static:
    """What lies between two convolutions, so that it is fed codes and read as codes."""
    net = Net()
    x = net.conv(net.b.input("x", DType.FLOAT, shape), 8)
    net.b.output("y", net.conv(lay(net, x), 4, kernel=1))
    feeds = [{"x": (scale * random.standard_normal(SHAPE)).astype(np.float32)} for _ in range(4)]
    return quantized(net.b.graph(), feeds)
