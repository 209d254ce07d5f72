"""Transposed convolutions of touching windows; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "lower-conv-transpose"
TERMS = Terms(3 * 9 + 8)
ONE = "y = ConvTranspose<strides = [2, 2]>(x, w, b)"


def weights(results: int = 2, kernel: int = 2, **others: Weights) -> dict[str, Weights]:
    return {"w": normal(3, results, kernel, kernel), "b": normal(results), **others}


def test_text() -> None:
    text = """g (float[N,1,1,2] x) => (float[N,1,2,4] y) <float[1,1,2,2] w = {1, 2, 3, 4}, float[1] b = {5}>
        { c = ConvTranspose<strides = [2, 2]>(x, w, b)  y = Relu(c) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=TERMS)
    assert found.op_types == ["Conv", "Relu", "DepthToSpace"]
    assert found.nodes[-1].startswith("y = DepthToSpace <blocksize: int = 2>")
    np.testing.assert_array_equal(found.initializers["w"].ravel(), np.array([1, 2, 3, 4], np.float32))
    np.testing.assert_array_equal(found.initializers["b"], np.array([5, 5, 5, 5], np.float32))


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("bias", [", b", ""])
@pytest.mark.parametrize("extra", ["", ", pads = [0, 0, 0, 0]", ', auto_pad = "VALID"', ", dilations = [1, 1]"])
def test_one(kernel: int, bias: str, extra: str) -> None:
    body = f"y = ConvTranspose<strides = [{kernel}, {kernel}]{extra}>(x, w{bias})"
    source = net(body, weights(kernel=kernel), "N,3,4,5", "N,2,A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv", "DepthToSpace"]


@pytest.mark.parametrize("between", ["", "Relu", "LeakyRelu"])
def test_two_in_a_row(between: str) -> None:
    body = f"""c = ConvTranspose<strides = [2, 2]>(x, w, b)  r = {between or "Identity"}(c)
        d = ConvTranspose<strides = [2, 2]>(r, u, a)  y = Relu(d)"""
    source = net(body, weights(u=normal(2, 1, 2, 2), a=normal(1)), "N,3,4,5", "N,1,A,B")
    found = rewritten(source, f"remove-noops,{PASS}", tolerance=Terms(80))
    assert found.op_types == ["Conv", *([between] if between else []), "Conv", "Relu", "DepthToSpace"]


def test_a_wide_second_one_stands_alone() -> None:
    body = "c = ConvTranspose<strides = [2, 2]>(x, w, b)  y = ConvTranspose<strides = [2, 2]>(c, u)"
    source = net(body, weights(u=normal(2, 3, 2, 2)), "N,3,4,5", "N,3,A,B")
    found = rewritten(source, PASS, tolerance=Terms(80))
    assert found.op_types == ["Conv", "DepthToSpace", "Conv", "DepthToSpace"]


def test_an_intermediate_result_that_others_read() -> None:
    body = "c = ConvTranspose<strides = [2, 2]>(x, w, b)  y = ConvTranspose<strides = [2, 2]>(c, u)"
    given = weights(u=normal(2, 1, 2, 2))
    source = net(body, given, "N,3,4,5", "N,1,A,B", outputs=", float[N,2,C,D] c")
    found = rewritten(source, PASS, tolerance=Terms(80))
    assert found.op_types == ["Conv", "DepthToSpace", "Conv", "DepthToSpace"]


@pytest.mark.parametrize(
    ("attributes", "given"),
    [
        ("strides = [2, 2], pads = [1, 0, 0, 0]", {}),
        ("strides = [2, 2], output_padding = [1, 0]", {}),
        ("strides = [2, 2], dilations = [2, 2]", {}),
        ("strides = [1, 1]", {}),
        ("strides = [3, 3]", {}),
        ("strides = [2, 1]", {}),
        ("strides = [2, 2], group = 3", {}),
        ("strides = [2, 2], output_shape = [7, 10]", {}),
        ('strides = [2, 2], auto_pad = "SAME_UPPER"', {"w": normal(3, 2, 2, 2)}),
        ("strides = [2, 3]", {"w": normal(3, 2, 2, 3)}),
        ("strides = [1, 1]", {"w": normal(3, 2, 1, 1)}),
    ],
)
def test_what_stays(attributes: str, given: dict[str, Weights]) -> None:
    source = net(f"y = ConvTranspose<{attributes}>(x, w)", {**weights(), **given}, "N,3,4,5", "N,A,B,C")
    untouched(source, PASS)


def test_a_computed_weight_and_one_axis() -> None:
    text = "r = RandomNormalLike(w)  y = ConvTranspose<strides = [2, 2]>(x, r)"
    untouched(net(text, weights(), "N,3,4,5", "N,2,A,B"), PASS)
    untouched(net("y = ConvTranspose<strides = [2]>(x, w)", weights(w=normal(3, 2, 2)), "N,3,4", "N,2,A"), PASS)


def test_activations_stay_behind_other_shuffles() -> None:
    untouched(net("d = DepthToSpace<blocksize = 2>(x)  y = Relu(d)", {}, "N,4,3,5", "N,1,A,B"), PASS)


@pytest.mark.parametrize(("mode", "merged"), [("CRD", True), ("DCR", False)])
def test_orders_of_channels(mode: str, merged: bool) -> None:
    body = f'd = DepthToSpace<blocksize = 2, mode = "{mode}">(x)  y = ConvTranspose<strides = [2, 2]>(d, u)'
    found = rewritten(net(body, {"u": normal(2, 1, 2, 2)}, "N,8,3,5", "N,1,A,B"), PASS, tolerance=TERMS)
    assert found.op_types == ["Conv", "DepthToSpace"] if merged else ["DepthToSpace", "Conv", "DepthToSpace"]


def test_what_only_moves_pixels() -> None:
    kernel = np.eye(4).reshape(4, 1, 2, 2)
    untouched(net("y = ConvTranspose<strides = [2, 2]>(x, u)", {"u": kernel}, "N,4,3,5", "N,1,A,B"), PASS)


def test_half_precision() -> None:
    source = net(ONE, weights(), "N,3,4,5", "N,2,A,B", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv", "DepthToSpace"]


def test_a_weight_of_two_is_kept_once() -> None:
    two = ONE.replace("y =", "c ="), ONE.replace("y =", "d =").replace("(x,", "(e,")
    body = "  e = Abs(x)  ".join(two) + "  y = Add(c, d)"
    found = rewritten(net(body, weights(), "N,3,2,3", "N,2,4,6"), "deploy", tolerance=TERMS)
    assert found.op_types.count("DepthToSpace") == 2
    assert len([name for name in found.initializers if name.startswith("w")]) == 1
