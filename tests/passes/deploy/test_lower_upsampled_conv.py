"""Convolutions of upsampled images; tolerance: the rounding of the sums behind an element."""

import itertools

import numpy as np
import onnx
import pytest

from planish.passes.deploy.lower_upsampled_conv import Window
from tests.equivalence import Inputs, Terms, model, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "lower-upsampled-conv"
CHANNELS = 64
TERMS = Terms(2 * 25 * CHANNELS + 8)
COPIES = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
IMAGES = Inputs(refusals=True)
"""ONNX Runtime's convolutions refuse an image without pixels."""
PLACED = ["Conv", "ConvTranspose"]
PLACED_APART = ["Conv", "DepthToSpace", "Slice"]
"""Of large blocks."""


def scales(*factors: float) -> Weights:
    return np.array([1, 1, *factors])


def weights(
    kernel: tuple[int, int] = (3, 3), factors: tuple[float, ...] = (2, 2), **others: Weights
) -> dict[str, Weights]:
    return {"w": normal(2, CHANNELS, *kernel), "b": normal(2), "k": scales(*factors), **others}


def upsampled(
    conv: str = "pads = [1, 1, 1, 1]", resize: str = COPIES, given: dict[str, Weights] | None = None, bias: str = ", b"
) -> onnx.ModelProto:
    body = f"u = Resize<{resize}>(x, , k)  y = Conv<{conv}>(u, w{bias})"
    return net(body, weights() if given is None else given, f"N,{CHANNELS},H,W", "N,2,A,B", single=("k",))


def test_text() -> None:
    text = f"""g (float[N,{CHANNELS},H,W] x) => (float[N,1,A,B] y)
        <float[4] k = {{1, 1, 2, 2}}, float[1,{CHANNELS},3,3] w = {{{", ".join(["1"] * 9 * CHANNELS)}}}>
        {{ u = Resize<{COPIES}>(x, , k)  y = Conv<pads = [1, 1, 1, 1]>(u, w) }}"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES)
    assert found.op_types == PLACED
    phases = found.initializers["w"]
    assert phases.shape == (4, CHANNELS, 2, 2)
    expected = [[[4, 2], [2, 1]], [[2, 4], [1, 2]], [[2, 1], [4, 2]], [[1, 2], [2, 4]]]
    np.testing.assert_array_equal(phases[:, 0], expected)


@pytest.mark.parametrize(
    ("kernel", "factor", "begin", "end"),
    [c for c in itertools.product((2, 3, 4, 5, 7), (2, 3, 4, 6), range(4), range(4)) if (c[0] - 1) % c[1] == 0],
)
def test_a_window_reads_what_its_results_do(kernel: int, factor: int, begin: int, end: int) -> None:
    """By the definition: result o of the convolution reads places o - begin ... of the upsampled, padded axis."""
    window = Window.of(kernel, factor, begin, end)
    assert min(window) >= 0
    for extent in range(5):
        count = factor * extent + begin + end - kernel + 1
        windows = extent + window.begin + window.end - window.size + 1
        if count < 1:
            continue
        assert windows * factor - window.skip - window.drop == count
        for result in range(count):
            first, phase = divmod(result + window.skip, factor)
            read = [(first - window.begin) + (phase + tap) // factor for tap in range(kernel)]
            assert read == [(result - begin + tap) // factor for tap in range(kernel)]
            assert set(read) == set(range(first - window.begin, first - window.begin + window.size))


@pytest.mark.parametrize("bias", [", b", ""])
@pytest.mark.parametrize(
    "conv",
    [
        "pads = [1, 1, 1, 1]",
        "pads = [1, 2, 2, 1]",
        "pads = [3, 3, 3, 3], kernel_shape = [3, 3]",
        "strides = [1, 1], dilations = [1, 1], group = 1, pads = [1, 1, 1, 1]",
    ],
)
def test_a_whole_image(conv: str, bias: str) -> None:
    found = rewritten(upsampled(conv, bias=bias), PASS, tolerance=TERMS, inputs=IMAGES)
    assert found.op_types == PLACED


def test_without_padding() -> None:
    body = f"u = Resize<{COPIES}>(x, , k)  y = Conv(u, w, b)"
    source = net(body, weights(), f"N,{CHANNELS},4,5", "N,2,6,8", single=("k",))
    assert rewritten(source, f"{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES).op_types == PLACED


@pytest.mark.parametrize(
    ("kernel", "factors", "pads", "ops"),
    [
        ((5, 5), (2, 2), [2, 2, 2, 2], PLACED),
        ((5, 5), (2, 2), [1, 1, 1, 1], PLACED),
        ((5, 5), (4, 4), [2, 2, 2, 2], PLACED_APART),
        ((5, 5), (6, 4), [2, 2, 2, 2], ["Resize", *PLACED]),
        ((3, 3), (4, 2), [1, 1, 1, 1], ["Resize", *PLACED]),
        ((3, 5), (8, 8), [1, 2, 1, 2], ["Resize", *PLACED]),
        ((4, 4), (3, 3), [1, 1, 2, 2], PLACED),
        ((9, 1), (4, 4), [4, 0, 4, 0], PLACED_APART[:2]),
    ],
)
def test_kernels_and_factors(
    kernel: tuple[int, int], factors: tuple[int, int], pads: list[int], ops: list[str]
) -> None:
    source = upsampled(f"pads = {pads}", given=weights(kernel, factors))
    assert rewritten(source, f"{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES).op_types == ops


@pytest.mark.parametrize(
    ("mode", "nearest"),
    [
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("pytorch_half_pixel", "round_prefer_floor"),
    ],
)
@pytest.mark.parametrize("factor", [2, 4, 6])
def test_every_way_that_copies(mode: str, nearest: str, factor: int) -> None:
    way = f'mode = "nearest", coordinate_transformation_mode = "{mode}", nearest_mode = "{nearest}"'
    found = rewritten(
        upsampled(resize=way, given=weights(factors=(factor, factor))), PASS, tolerance=TERMS, inputs=IMAGES
    )
    assert "ConvTranspose" in found.op_types


def test_a_size_that_is_a_multiple() -> None:
    body = f"s = Constant<value_ints = [2, {CHANNELS}, 6, 8]>()  u = Resize<{COPIES}>(x, , , s)  y = Conv(u, w, b)"
    source = net(body, weights(), f"2,{CHANNELS},3,4", "2,2,4,6", single=("k",))
    found = rewritten(source, f"fold-constants,{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES)
    assert found.op_types == PLACED


def concatenated(
    parts: str, before: str, given: dict[str, Weights], conv: str = "pads = [1, 1, 1, 1]", axis: int = 1
) -> onnx.ModelProto:
    body = f"{before}  c = Concat<axis = {axis}>({parts})  y = Conv<{conv}>(c, w, b)"
    return net(body, given, f"N,{CHANNELS},H,W", "N,2,A,B", single=("k", "l"))


UPSAMPLED = f"u = Resize<{COPIES}>(x, , k)"


@pytest.mark.parametrize("axis", [1, -3])
@pytest.mark.parametrize(("parts", "channels"), [("u, v", 2), ("v, u", 2), ("v, u, v", 3)])
def test_some_channels(parts: str, channels: int, axis: int) -> None:
    before = f"{UPSAMPLED}  v = Abs(u0)  u0 = Resize<{COPIES}>(x, , k)".split("  ")
    ordered = "  ".join((before[0], before[2], before[1]))
    given = weights(w=normal(2, channels * CHANNELS, 3, 3))
    found = rewritten(
        concatenated(parts, ordered, given, axis=axis), f"{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES
    )
    assert sorted(found.op_types) == sorted(
        ["Resize", "Abs", *PLACED, "Conv", "Add", *(["Concat"] if channels == 3 else [])]
    )


def test_images_of_several_sizes() -> None:
    """As feature pyramids have them: what all factors have in common stays for later, the rest is done before."""
    before = f"a = Abs(x)  u = Resize<{COPIES}>(x, , k)  v = Resize<{COPIES}>(a, , l)"
    body = f"{before}  c = Concat<axis = 1>(v, u)  y = Conv<pads = [1, 1, 1, 1]>(c, w, b)"
    given = weights(factors=(4, 4), w=normal(2, 2 * CHANNELS, 3, 3), l=scales(4, 4))
    source = net(body, given, f"N,{CHANNELS},H,W", "N,2,A,B", single=("k", "l"))
    found = rewritten(source, f"{PASS},remove-dead-nodes", tolerance=TERMS, inputs=IMAGES)
    assert found.op_types == ["Abs", "Resize", "Resize", "Concat", *PLACED]


@pytest.mark.parametrize(
    ("conv", "resize", "given"),
    [
        ("pads = [1, 1, 1, 1], strides = [2, 2]", COPIES, {}),
        ("pads = [1, 1, 1, 1], strides = [1, 2]", COPIES, {}),
        ("pads = [1, 1, 1, 1], dilations = [2, 2]", COPIES, {}),
        ('auto_pad = "SAME_UPPER"', COPIES, {}),
        ("pads = [1, 1, 1, 1]", COPIES.replace("nearest", "linear", 1), {}),
        ("pads = [1, 1, 1, 1]", COPIES.replace("asymmetric", "align_corners"), {}),
        ("pads = [1, 1, 1, 1]", COPIES.replace("floor", "ceil"), {}),
        ("pads = [1, 1, 1, 1]", COPIES.replace("floor", "round_prefer_floor"), {"k": scales(4, 4)}),
        ("pads = [1, 1, 1, 1]", COPIES.replace("asymmetric", "half_pixel"), {}),
        ("pads = [1, 1, 1, 1]", COPIES, {"k": scales(2.5, 2)}),
        ("pads = [1, 1, 1, 1]", COPIES, {"k": scales(2, 1)}),
        ("pads = [1, 1, 1, 1]", COPIES, {"k": scales(3, 3)}),
        ("pads = [1, 1, 1, 1]", COPIES, {"k": scales(0.5, 2)}),
        ("pads = [1, 1, 1, 1]", COPIES, {"k": np.array([2.0, 1, 2, 2])}),
        ("pads = [1, 1, 1, 1]", COPIES, {"w": normal(2, CHANNELS, 2, 2)}),
        ("pads = [0, 0, 0, 0]", COPIES, {"w": normal(2, CHANNELS, 1, 1)}),
        ("pads = [1, 1, 1, 1]", COPIES, {"w": normal(2, CHANNELS, 3, 4)}),
        ("pads = [1, 1, 1, 1], group = 2", COPIES, {"w": normal(2, CHANNELS // 2, 3, 3)}),
        (f"pads = [1, 1, 1, 1], group = {CHANNELS}", COPIES, {"w": normal(CHANNELS, 1, 3, 3), "b": normal(CHANNELS)}),
    ],
)
def test_what_stays(conv: str, resize: str, given: dict[str, Weights]) -> None:
    body = f"u = Resize<{resize}>(x, , k)  y = Conv<{conv}>(u, w, b)"
    untouched(net(body, {**weights(), **given}, f"N,{CHANNELS},4,6", "A,B,C,D", single=("k",)), PASS)


def test_few_channels_are_not_worth_it() -> None:
    given = {"w": normal(2, 16, 3, 3), "b": normal(2), "k": scales(2, 2)}
    body = f"{UPSAMPLED}  y = Conv<pads = [1, 1, 1, 1]>(u, w, b)"
    untouched(net(body, given, "N,16,H,W", "N,2,A,B", single=("k",)), PASS)


@pytest.mark.parametrize("outputs", [f", float[N,{CHANNELS},C,D] u", f", float[N,{CHANNELS},C,D] z"])
def test_an_image_that_others_read(outputs: str) -> None:
    body = f"{UPSAMPLED}  z = Abs(u)  y = Conv<pads = [1, 1, 1, 1]>(u, w, b)"
    untouched(net(body, weights(), f"N,{CHANNELS},H,W", "N,2,A,B", single=("k",), outputs=outputs), PASS)


def test_a_concat_that_others_read() -> None:
    body = f"{UPSAMPLED}  c = Concat<axis = 1>(u, u)  z = Abs(c)  y = Conv<pads = [1, 1, 1, 1]>(c, w, b)"
    given = weights(w=normal(2, 2 * CHANNELS, 3, 3))
    outputs = f", float[N,{2 * CHANNELS},C,D] z"
    untouched(net(body, given, f"N,{CHANNELS},H,W", "N,2,A,B", single=("k",), outputs=outputs), PASS)


def test_images_beside_each_other() -> None:
    """Concat along another axis than the channels'."""
    body = (
        f"{UPSAMPLED}  v = Resize<{COPIES}>(x, , k)  c = Concat<axis = 3>(u, v)  y = Conv<pads = [1, 1, 1, 1]>(c, w, b)"
    )
    untouched(net(body, weights(), f"N,{CHANNELS},H,W", "N,2,A,B", single=("k",)), PASS)


def test_computed_operands() -> None:
    computed = f"r = RandomNormalLike(w)  {UPSAMPLED}  y = Conv<pads = [1, 1, 1, 1]>(u, r)"
    untouched(net(computed, weights(), f"N,{CHANNELS},4,6", "N,2,A,B", single=("k",)), PASS)
    source = net(
        f"{UPSAMPLED}  y = Conv(u, w)", weights(), f"N,{CHANNELS},4,6", "N,2,A,B", single=("k",), overridable=("w",)
    )
    untouched(source, PASS)
    source = net(
        f"{UPSAMPLED}  y = Conv(u, w)", weights(), f"N,{CHANNELS},4,6", "N,2,A,B", single=("k",), overridable=("k",)
    )
    untouched(source, PASS)


def test_one_axis() -> None:
    given = {"w": normal(2, 4 * CHANNELS, 3), "k": np.array([1.0, 1, 2])}
    text = f"u = Resize<{COPIES}>(x, , k)  y = Conv<pads = [1, 1]>(u, w)"
    untouched(net(text, given, f"N,{4 * CHANNELS},H", "N,2,A", single=("k",)), PASS)


def test_an_activation_behind_it_still_follows() -> None:
    text = f"""g (float[N,{CHANNELS},H,W] x) => (float[N,1,A,B] y)
        <float[4] k = {{1, 1, 2, 2}}, float[1,{CHANNELS},3,3] w = {{{", ".join(["-1"] * 9 * CHANNELS)}}}>
        {{ u = Resize<{COPIES}>(x, , k)  c = Conv<pads = [1, 1, 1, 1]>(u, w)  y = Relu(c) }}"""
    assert rewritten(model(text), PASS, tolerance=TERMS, inputs=IMAGES).op_types == [*PLACED, "Relu"]
