"""Transposed convolutions of touching windows; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from tests.equivalence import Terms, rewritten
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
    two = ONE.replace("y =", "c ="), ONE.replace("y =", "d =").replace("(x,", "(e,")
    body = "  e = Neg(x)  ".join(two) + "  y = Add(c, d)"
    text = net(body, weights(), "N,3,2,3", "N,2,4,6")
    found = rewritten(text, "deploy", tolerance=TERMS)
    assert found.op_types.count("DepthToSpace") == 2
    assert len([name for name in found.initializers if name.startswith("w")]) == 1
