"""The names of Gram matrices: the same for products that take the same rows, and none for what is no such product."""

from __future__ import annotations

import numpy as np

from planish import ir
from planish.ir import DType, Node
from planish.passes.quantize.gram import gram_key

Attributes = dict[str, int | str | tuple[int, ...]]


def convolution(weight: float, attributes: Attributes) -> Node:
    b = ir.Builder()
    x = b.input("x", DType.FLOAT, (1, 2, 9, 9))
    w = b.initializer("w", np.full((4, 1, 3, 3), weight, np.float32))
    b.output("y", b.node("Conv", (x, w), attributes, result="y"))
    return b.graph().nodes[0]


def test_only_products_with_constant_weights_have_a_key() -> None:
    b = ir.Builder()
    x, y = b.input("x", DType.FLOAT, (2, 3)), b.input("y", DType.FLOAT, (3, 4))
    w = b.initializer("w", np.ones((3, 4), np.float32))
    t = b.initializer("t", np.ones((2, 4), np.float32))
    products = (
        b.node("MatMul", (x, w), result="a"),
        b.node("MatMul", (x, y), result="b"),
        b.node("Gemm", (x, t), {"transA": 1}, result="c"),
        b.node("Relu", (x,), result="d"),
        b.node("MatMul", (x, b.initializer("batch", np.ones((5, 3, 4), np.float32))), result="e"),
        b.node("Gemm", (x, w), result="f"),
    )
    keys = [gram_key(value.producer) for value in products if value.producer is not None]
    assert keys == ["x", None, "x|transposed", None, None, "x"]


def test_the_key_of_a_convolution_tells_its_windows_and_nothing_else() -> None:
    spellings: list[Attributes] = [{"group": 2}, {"group": 2, "auto_pad": "VALID"}, {"group": 2, "pads": (0, 0, 0, 0)}]
    nodes = [convolution(scale, more) for scale in (1, 2) for more in spellings]
    keys = {gram_key(node) for node in nodes}
    assert keys == {"x|conv(kernel=3x3 strides=1x1 dilations=1x1 pads=0x0x0x0 group=2)"}
