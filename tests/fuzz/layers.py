"""Moves that lay down the layers of nets: convolutions, products, poolings, normalizations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir import DType, Value
from planish.ir.graph import Attribute
from tests.fuzz.operators import Move, extent, is_known, known, rank_of
from tests.fuzz.writer import FLOAT, REALS, Writer


def image(w: Writer) -> Value:
    """[batch, channels, height, width] whose channels are known; one is made from an input where there is none."""
    return w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, 1))


def conv(w: Writer) -> Value:
    x = image(w)
    return convolve(w, x, transposed=w.often(20))


def convolve(w: Writer, x: Value, *, transposed: bool = False) -> Value:
    """A Conv or ConvTranspose with kernels of 1 or 3, any group, sometimes a weight that another has too."""
    channels = known(x, 1)
    group = w.choose([1, channels] if channels > 1 else [1])
    each = w.choose((1, 2))
    kernel = w.choose((1, 1, 3))
    shape = (channels, each, kernel, kernel) if transposed else (group * each, channels // group, kernel, kernel)
    weight = shared_weight(w, shape)
    operands: list[Value | None] = [x, weight]
    if w.often(50):
        operands.append(w.weight(group * each))
    pad = w.choose((0, kernel // 2))
    attributes: dict[str, Attribute] = {"group": group, "kernel_shape": (kernel, kernel), "pads": (pad,) * 4}
    if w.often(20):
        attributes["strides"] = (2, 1)
    if w.often(10) and not transposed:
        del attributes["pads"]
        attributes["auto_pad"] = w.choose(("SAME_UPPER", "VALID", "SAME_LOWER"))
    return w.keep(w.b.node("ConvTranspose" if transposed else "Conv", operands, attributes))


def shared_weight(w: Writer, shape: tuple[int, ...]) -> Value:
    """Mostly a new one; now and then a constant that is already read."""
    if w.often(15):
        old = [
            operand
            for value in w.values
            if value.producer is not None
            for operand in value.producer.operands
            if operand is not None and operand.constant is not None and operand.shape == shape
        ]
        if old and old[0].dtype is DType.FLOAT and old[0].producer is None:
            return old[0]
    return w.weight(*shape)


def batch_norm(w: Writer) -> Value:
    x = w.pick(FLOAT, least=2, most=4, test=lambda v: is_known(v, 1))
    return normalize(w, x)


def normalize(w: Writer, x: Value) -> Value:
    channels = known(x, 1)
    parameters = (w.weight(channels), w.weight(channels), w.weight(channels), w.weight(channels, positive=True))
    return w.keep(w.b.node("BatchNormalization", (x, *parameters), {"epsilon": w.choose((1e-5, 1e-3))}))


def per_channel(w: Writer, x: Value) -> Value:
    """Arithmetic with a constant for each channel, or in a shape that means something else."""
    channels = known(x, 1)
    trailing = rank_of(x) - 2
    shapes = [(channels, *(1,) * trailing), (1, channels, *(1,) * trailing), (), (1,), (1,) * rank_of(x)]
    shape = w.choose(shapes)
    if w.often(15):
        shape = w.broadcastable(x)
    op = w.choose(("Mul", "Add", "Sub", "Div"))
    c = w.weight(*shape, positive=op == "Div")
    return w.keep(w.b.node(op, (c, x) if op != "Div" and w.often(30) else (x, c)))


def affine_chain(w: Writer) -> None:
    """A convolution or a product and what may be folded into it, before and behind it."""
    x = image(w)
    if w.often(30):
        x = per_channel(w, x)
    if w.often(20):
        x = normalize(w, x)
    y = convolve(w, x, transposed=w.often(25))
    for _ in range(w.number(1, 3)):
        y = normalize(w, y) if w.often(50) else per_channel(w, y)


def matmul(w: Writer) -> Value:
    x = w.pick(FLOAT, least=1, most=4)
    size = known(x, -1)
    weight = w.weight(size, w.choose((1, 2, 3, 4)))
    return w.keep(w.b.node("MatMul", (x, weight)))


def linear(w: Writer) -> Value:
    """MatMul and Add, Gemm, or Transpose of a weight and MatMul, with scales around them."""
    x = w.pick(FLOAT, least=2, most=4)
    inner, outer = known(x, -1), w.choose((2, 4, 3))
    if w.often(15):
        x = w.node("Mul", x, w.scalar(w.choose((0.5, 2.0))))
    form = w.choose(("matmul", "gemm", "transposed"))
    if form == "gemm" and rank_of(x) == 2:
        transposed = int(w.often(50))
        weight = w.weight(outer, inner) if transposed else w.weight(inner, outer)
        operands = [x, weight, *((w.weight(*w.choose(((outer,), (1, outer), (1,)))),) if w.often(70) else ())]
        y = w.node("Gemm", *operands, attributes={"transB": transposed, "alpha": w.choose((1.0, 0.5))})
    else:
        weight = w.weight(inner, outer)
        if form == "transposed":
            weight = w.node("Transpose", w.weight(outer, inner), attributes={"perm": (1, 0)})
        y = w.node("MatMul", x, weight)
    if w.often(70):
        bias = w.weight(*w.choose(((outer,), (1, outer), (1,), (1,) * rank_of(x) + (outer,))))
        y = w.node("Add", *((bias, y) if w.often(40) else (y, bias)))
    if w.often(20):
        y = w.node(w.choose(("Mul", "Div")), y, w.scalar(w.choose((2.0, 8.0))))
    if w.often(15) and rank_of(y) == 2:
        y = normalize(w, y)
    return w.keep(y)


def parallel_linear(w: Writer) -> None:
    """Two or three products of one value, as queries, keys and values are."""
    x = w.pick(FLOAT, least=2, most=3)
    size = known(x, -1)
    outer = w.choose((2, 4))
    for _ in range(w.number(2, 3)):
        y = w.node("MatMul", x, w.weight(size, outer))
        w.keep(w.b.node("Add", (y, w.weight(outer))) if w.often(60) else y)


def product(w: Writer) -> None:
    """Of two values, one of them transposed first."""
    x = w.pick(REALS, least=2, most=4)
    turned = (*range(rank_of(x) - 2), rank_of(x) - 1, rank_of(x) - 2)
    other = w.node("Transpose", x, attributes={"perm": turned})
    w.make("MatMul", *((x, other) if w.often(60) else (other, x)))


def gemm_of_transposed(w: Writer) -> None:
    x = w.pick(FLOAT, least=2, most=2, test=lambda v: is_known(v, 0))
    size = known(x, 0)
    turned = w.node("Transpose", x, attributes={"perm": (1, 0)})
    w.make("Gemm", turned, w.weight(size, 3), *((w.weight(3),) if w.often(50) else ()))


def pool(w: Writer) -> None:
    x = image(w)
    op = w.choose(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"))
    if op.startswith("Global"):
        w.make(op, x)
        return
    if w.often(30):
        pads = w.ints(0, 0, 1, 1, 0, 0, 1, w.choose((1, 0)))
        x = w.node("Pad", x, pads) if w.often(60) else w.node("Pad", x, pads, w.float32(w.choose((0.0, -1.0))))
    attributes: dict[str, Attribute] = {"kernel_shape": (2, 2), "strides": w.choose(((1, 1), (2, 2)))}
    attributes["pads"] = w.choose(((0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 0, 0)))
    if op != "LpPool":
        attributes["ceil_mode"] = int(w.often(20))
    if op == "AveragePool":
        attributes["count_include_pad"] = int(w.often(50))
    w.make(op, x, attributes=attributes)


def padded_conv(w: Writer) -> None:
    x = image(w)
    edges = [w.choose((1, 0, 2)) for _ in range(4)]
    value = w.float32(w.choose((0.0, 1.0))) if w.often(30) else None
    x = w.node("Pad", x, w.ints(0, 0, edges[0], edges[1], 0, 0, edges[2], edges[3]), *((value,) if value else ()))
    convolve(w, x)


def layer_norm(w: Writer) -> None:
    x = w.pick(FLOAT, least=1, most=4)
    size = known(x, -1)
    bias = (w.weight(size),) if w.often(60) else ()
    w.make("LayerNormalization", x, w.weight(size), *bias, attributes={"axis": -1})


def instance_norm(w: Writer) -> None:
    x = image(w)
    channels = known(x, 1)
    w.make("InstanceNormalization", x, w.weight(channels), w.weight(channels))


def resize(w: Writer) -> None:
    x = image(w)
    scales = w.fixed(np.asarray([1, 1, *w.choose(((2, 2), (1, 1), (2, 1)))], np.float32))
    attributes: dict[str, Attribute] = {
        "mode": w.choose(("nearest", "linear")),
        "coordinate_transformation_mode": w.choose(("asymmetric", "half_pixel", "align_corners")),
    }
    w.make("Resize", x, None, scales, attributes=attributes)


def space_to_depth(w: Writer) -> None:
    if w.often(50):
        w.make("SpaceToDepth", image(w), attributes={"blocksize": 1})
        return
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: extent(v, 1) == 4)
    w.make("DepthToSpace", x, attributes={"blocksize": 2})


def decoder(w: Writer) -> None:
    """Transposed convolutions whose windows touch, or overlap by one, with activations between, as decoders end."""
    x = image(w)
    for _ in range(w.choose((1, 2))):
        channels, results, kernel = known(x, 1), w.choose((1, 2)), w.choose((2, 2, 3))
        operands = [x, w.weight(channels, results, kernel, kernel), *((w.weight(results),) if w.often(50) else ())]
        stride = kernel if w.often(85) else 2
        x = w.b.node("ConvTranspose", operands, {"strides": (stride, stride)})
        if w.often(60):
            x = w.node(w.choose(("Relu", "Sigmoid", "LeakyRelu", "Tanh")), x)
        x = w.keep(x) if w.often(20) else x
    w.keep(x)


LAYERS: Sequence[Move] = (
    conv, decoder, batch_norm, affine_chain, affine_chain, affine_chain, matmul, linear, linear, parallel_linear,
    product, gemm_of_transposed, pool, padded_conv, layer_norm, instance_norm, resize, space_to_depth,
)  # fmt: skip
