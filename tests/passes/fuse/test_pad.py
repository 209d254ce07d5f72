"""Pads go into what is behind them; tolerance: the rounding of the sums."""

import numpy as np
import pytest
from onnx import numpy_helper

from tests.equivalence import Terms, Ulps, model, rewritten, untouched

PASS = "fuse-pad"
TERMS = Terms(40)
WEIGHTS = """float[2,2,2,2] w = {1, -2, 3, -4, 5, -6, 7, -8, 8, -7, 6, -5, 4, -3, 2, -1}, float[2] b = {1, 2},
    float zero = {0}, float one = {1}"""


def net(body: str, *, x: str = "N,2,3,4", pads: str = "0,0,1,0,0,0,0,2", y: str = "N,2,A,B") -> str:
    count = len(pads.split(","))
    return f"""g (float[{x}] x) => (float[{y}] y) <int64[{count}] p = {{{pads}}}, int64[2] last = {{-1, 2}}, {WEIGHTS}>
        {{ {body} }}"""


def test_text() -> None:
    body = "a = Pad(x, p)  y = Conv<pads = [1, 0, 0, 0], strides = [2, 1]>(a, w, b)"
    found = rewritten(net(body), PASS, tolerance=TERMS)
    assert [node for node in found.nodes if "Conv" in node] == [
        "y = Conv <pads: ints = [2, 0, 0, 2], strides: ints = [2, 1]> (x, w, b)"
    ]


BODIES = {
    "zeros given": "a = Pad(x, p, zero)  y = Conv(a, w, b)",
    "VALID": 'a = Pad(x, p)  y = Conv<auto_pad = "VALID">(a, w)',
    "dilations": "a = Pad(x, p)  y = Conv<dilations = [1, 2]>(a, w)",
    "average": "a = Pad(x, p)  y = AveragePool<kernel_shape = [2, 3]>(a)",
    "average that counts its own": """a = Pad(x, p)
        y = AveragePool<kernel_shape = [2, 3], pads = [0, 1, 1, 0], count_include_pad = 1>(a)""",
    "maximum of what is never negative": "r = Relu(x)  a = Pad(r, p)  y = MaxPool<kernel_shape = [2, 3]>(a)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_found(body: str) -> None:
    assert "Pad" not in rewritten(net(body), PASS, tolerance=TERMS).op_types


def test_axes() -> None:
    body = "a = Pad(x, p, zero, last)  y = Conv(a, w)"
    source = model(net(body, pads="1,0,2,3"), opset=18)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


def test_infinity_around_a_maximum() -> None:
    source = model(net("a = Pad(x, p, zero)  y = MaxPool<kernel_shape = [2, 3]>(a)"))
    (zero,) = (tensor for tensor in source.graph.initializer if tensor.name == "zero")
    zero.CopyFrom(numpy_helper.from_array(np.array(-np.inf, np.float32), "zero"))
    assert rewritten(source, PASS, tolerance=Ulps(0)).op_types == ["MaxPool"]


STAYS = {
    "zeros before a maximum of any numbers": net("a = Pad(x, p)  y = MaxPool<kernel_shape = [2, 3]>(a)"),
    "ones": net("a = Pad(x, p, one)  y = Conv(a, w)"),
    "reflect": net('a = Pad<mode = "reflect">(x, p)  y = Conv(a, w)'),
    "edge": net('a = Pad<mode = "edge">(x, p)  y = Conv(a, w)'),
    "the batch": net("a = Pad(x, p)  y = Conv(a, w)", pads="1,0,0,0,0,0,0,0", y="M,2,A,B"),
    "the channels": net("a = Pad(x, p)  y = Conv(a, w)", x="N,1,3,4", pads="0,0,0,0,0,1,0,0"),
    "cropping": net("a = Pad(x, p)  y = Conv(a, w)", pads="0,0,-1,0,0,0,0,0"),
    "pads that SAME works out": net('a = Pad(x, p)  y = Conv<auto_pad = "SAME_UPPER">(a, w)'),
    "a window that may end outside": net("a = Pad(x, p)  y = AveragePool<kernel_shape = [2, 3], ceil_mode = 1>(a)"),
    "own pads that do not count": net("a = Pad(x, p)  y = AveragePool<kernel_shape = [2, 3], pads = [1, 0, 0, 0]>(a)"),
    "pads as wide as the window": net("a = Pad(x, p)  y = AveragePool<kernel_shape = [2, 2]>(a)"),
    "a second reader": net("a = Pad(x, p)  c = Conv(a, w)  d = ReduceSum<keepdims = 0>(a)  y = Add(c, d)"),
}


@pytest.mark.parametrize("source", STAYS.values(), ids=STAYS)
def test_what_stays(source: str) -> None:
    untouched(source, PASS)


def test_an_image_that_may_be_empty() -> None:
    """Padding makes something of nothing, and a convolution refuses nothing."""
    untouched(net("a = Pad(x, p)  y = Conv(a, w)", x="N,2,H,4"), PASS)


def test_indices_count_the_padding() -> None:
    text = """g (float[N,2,3,4] x) => (float[N,2,A,B] y, int64[N,2,A,B] i) <int64[8] p = {0,0,1,0,0,0,0,2}>
        { r = Relu(x)  a = Pad(r, p)  y, i = MaxPool<kernel_shape = [2, 3]>(a) }"""
    untouched(text, PASS)


@pytest.mark.parametrize("before", ["r = Relu(x)  a = Pad(r, p)", "a = Pad(x, p, low)"])
def test_a_window_with_gaps_may_miss_all_but_the_padding(before: str) -> None:
    """Of one pixel, a kernel of two at a distance of two takes the padding on both sides."""
    text = f"""g (float[1,1,1,1] x) => (float[1,1,1,1] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}, float low = {{-inf}}>
        {{ {before}  y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(a) }}"""
    untouched(text, PASS)


def test_the_least_integer_is_its_own_magnitude() -> None:
    text = """g (int8[1,1,3,3] x) => (int8[1,1,4,4] y) <int64[8] p = {0,0,1,1,0,0,1,1}>
        { r = Abs(x)  a = Pad(r, p)  y = MaxPool<kernel_shape = [2, 2]>(a) }"""
    untouched(text, PASS)
