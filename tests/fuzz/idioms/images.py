"""What stands around convolutions and pools: pads, scales and shifts, shuffles, and decoders."""

from __future__ import annotations

import math

import numpy as np

from planish.ir import Value
from planish.ir.graph import Attribute
from tests.fuzz.idioms.spelling import Idioms, plus, swapped, times
from tests.fuzz.layers import convolve, image, normalize, per_channel
from tests.fuzz.operators import is_known, known
from tests.fuzz.writer import FLOAT, Writer


def padded(w: Writer) -> None:
    """Pad before a convolution or a pool, with zeros or with what a maximum passes over."""
    known_size = w.often(75)
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, 1) and is_known(v, 2, 3) is known_size)
    if w.often(40):
        x = w.node(w.choose(("Relu", "Sigmoid", "Abs")), x)
    ends = [w.choose((1, 0, 1)) for _ in range(4)]
    widths = [*([0, int(w.often(5))]), *ends[:2], 0, 0, *ends[2:]]
    op = w.choose(("Conv", "MaxPool", "AveragePool"))
    fill = w.choose((0.0, -math.inf, 1.0) if op == "MaxPool" and not w.smooth else (0.0, 0.0, 0.0, 1.0))
    operands = (w.float32(fill),) if fill or w.often(50) else ()
    x = w.node("Pad", x, w.ints(*widths), *operands)
    if op == "Conv":
        convolve(w, x)
        return
    attributes: dict[str, Attribute] = {"kernel_shape": (2, 2)}
    if w.often(30):
        attributes["pads"] = (0, 0, 1, 1)
    if op == "AveragePool":
        attributes["count_include_pad"] = int(w.often(60))
    w.make(op, x, attributes=attributes)


def scale_and_shift(w: Writer) -> None:
    """Arithmetic on channels before what cannot take it in, or on both sides of a transposed convolution."""
    x = image(w)
    channels = known(x, 1)
    if w.often(40):
        y = plus(w, times(w, x, 0.5), 2.0)
    else:
        y = x
        for _ in range(w.number(1, 3)):
            y = per_channel(w, y)
    form = w.choose(("average", "padded", "transposed", "activation"))
    if form == "average":
        w.make("GlobalAveragePool", y)
    elif form == "padded":
        weight = w.weight(2, channels, 3, 3)
        w.make("Conv", y, weight, attributes={"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)})
    elif form == "transposed":
        y = convolve(w, y, transposed=True)
        w.keep(normalize(w, y) if w.often(50) else per_channel(w, y))
    else:
        y = convolve(w, w.node(w.choose(("Relu", "Sigmoid")), y))
        w.keep(per_channel(w, w.node("Relu", y)))


def upsampled(w: Writer) -> None:
    """Transposed convolutions whose windows touch, with activations between and behind."""
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, 1))
    for turn in range(w.number(1, 2)):
        channels, results, kernel = known(x, 1), w.choose((1, 2)), 2
        operands = [x, w.weight(channels, results, kernel, kernel), *((w.weight(results),) if w.often(50) else ())]
        x = w.b.node("ConvTranspose", operands, {"strides": (2, 2) if w.often(92) else (1, 1)})
        if w.often(70) or not turn:
            x = w.node(w.choose(("Relu", "Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid")), x)
    w.keep(x)


def enlarged(w: Writer) -> None:
    """A convolution of an image whose pixels were repeated, alone or beside another, with many channels."""
    x = w.pick(FLOAT, least=4, most=4, test=lambda v: is_known(v, 1, 2, 3))
    channels = w.choose((32, 40))
    y = w.node("Conv", x, w.weight(channels, known(x, 1), 1, 1), attributes={"kernel_shape": (1, 1)})
    ways: dict[str, Attribute] = {"mode": w.choose(("nearest", "nearest", "linear"))}
    way = w.choose((("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("align_corners", "floor")))
    ways["coordinate_transformation_mode"], ways["nearest_mode"] = way
    scales = w.choose(((2, 2), (2, 2), (2, 1), (3, 3)))
    sizes = np.asarray([1, 1, *scales], np.float32)
    large = w.node("Resize", y, None, w.fixed(sizes), attributes=ways)
    if w.often(40):
        other = w.b.node("Relu", (w.b.node("Resize", (y, None, w.fixed(sizes)), ways),))
        large = w.node("Concat", *((other, large) if w.often(40) else (large, other)), attributes={"axis": 1})
    kernel, pad = w.choose((3, 3, 4, 5)), w.choose((1, 0, 1))
    weight = w.weight(1, known(large, 1), kernel, kernel)
    bias = (w.weight(1),) if w.often(50) else ()
    w.make("Conv", large, weight, *bias, attributes={"kernel_shape": (kernel, kernel), "pads": (pad, 0, pad, 1)})


def shuffled(w: Writer) -> None:
    """An activation behind DepthToSpace behind a convolution."""
    x = image(w)
    y = w.node("Conv", x, w.weight(w.choose((4, 8)), known(x, 1), 1, 1), attributes={"kernel_shape": (1, 1)})
    y = w.node("Relu", y) if w.often(30) else y
    y = w.node("DepthToSpace", y, attributes={"blocksize": 2, "mode": w.choose(("DCR", "CRD"))})
    w.make(w.choose(("Relu", "Sigmoid", "Tanh", "Neg")), y)


def resized(w: Writer) -> None:
    """To the size that it has, or nearly."""
    x = image(w)
    attributes: dict[str, Attribute] = {
        "mode": w.choose(("nearest", "linear", "cubic")),
        "coordinate_transformation_mode": w.choose(("asymmetric", "half_pixel", "align_corners")),
    }
    if w.often(50):
        scales = np.asarray([1, 1, 1, w.near(1)], np.float32)
        w.make("Resize", x, None, w.fixed(scales), attributes=attributes)
    else:
        w.make("Resize", x, None, None, w.node("Shape", x), attributes=attributes)


def affine_around(w: Writer) -> None:
    """A map of the channels on one side of a layer, past nodes that may let it through."""
    x = image(w)
    y = _passed(w, per_channel(w, x)) if w.often(50) else x
    y = convolve(w, y, transposed=w.often(30))
    w.keep(per_channel(w, _passed(w, y)))


def _passed(w: Writer, x: Value) -> Value:
    form = w.choose(("relu", "pool", "transpose", "pad", "concat", "nothing"))
    if form == "relu":
        return w.node(w.choose(("Relu", "LeakyRelu", "Abs")), x)
    if form == "pool":
        return w.node(w.choose(("GlobalAveragePool", "GlobalMaxPool")), x)
    if form == "transpose":
        return w.node("Transpose", x, attributes={"perm": (0, 1, 3, 2)})
    if form == "pad":
        return w.node("Pad", x, w.ints(0, 0, 1, 0, 0, 0, 0, 1))
    return swapped(w, "Max", x, x) if form == "concat" else x


IMAGES: Idioms = {
    padded: ("fuse-pad",),
    scale_and_shift: ("fuse-scale-shift", "fuse-affine-conv", "fuse-conv-affine", "fuse-conv-transpose-bn"),
    upsampled: ("lower-conv-transpose",),
    enlarged: ("lower-upsampled-conv",),
    shuffled: ("lower-conv-transpose",),
    resized: ("remove-noops",),
    affine_around: ("fuse-affine-conv", "fuse-conv-affine"),
}
