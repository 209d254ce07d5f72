"""Blocks of pixels that a transposed convolution puts in their places; tolerance: none but for the signs of zeros."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Inputs, Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "lower-depth-to-space"
TERMS = Terms(1)
IMAGES = Inputs(refusals=True)


def weights(channels: int, kernel: int = 1) -> dict[str, Weights]:
    return {"w": normal(channels, 3, kernel, kernel)}


def test_text() -> None:
    body = "c = Conv(x, w)  y = DepthToSpace<blocksize = 2>(c)"
    found = rewritten(net(body, weights(4), "N,3,4,5", "N,1,8,10"), PASS, tolerance=TERMS)
    assert found.op_types == ["Conv", "ConvTranspose"]
    (kernel,) = [value for name, value in found.initializers.items() if name != "w"]
    np.testing.assert_array_equal(
        kernel[:, 0], [[[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 1]]]
    )


@pytest.mark.parametrize("between", ["", "Relu", "LeakyRelu"])
@pytest.mark.parametrize(("factor", "results"), [(2, 1), (2, 3), (3, 1), (3, 2)])
def test_blocks(factor: int, results: int, between: str) -> None:
    body = f"""c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = {between or "Identity"}(c)
        y = DepthToSpace<blocksize = {factor}, mode = "CRD">(r)"""
    given = weights(results * factor * factor, 3)
    source = net(body, given, "N,3,H,W", f"N,{results},A,B")
    found = rewritten(source, f"remove-noops,{PASS}", tolerance=TERMS, inputs=IMAGES)
    assert found.op_types == ["Conv", *([between] if between else []), "ConvTranspose"]


def test_activations_behind_it_stay() -> None:
    body = 'c = Conv(x, w)  d = DepthToSpace<blocksize = 2, mode = "CRD">(c)  y = Relu(d)'
    found = rewritten(net(body, weights(8), "N,3,4,5", "N,2,8,10"), PASS, tolerance=TERMS)
    assert found.op_types == ["Conv", "ConvTranspose", "Relu"]


def test_blocks_that_others_read() -> None:
    body = 'c = Conv(x, w)  y = DepthToSpace<blocksize = 2, mode = "CRD">(c)  z = Abs(c)'
    source = net(body, weights(8), "N,3,4,5", "N,2,8,10", outputs=", float[N,8,4,5] z, float[N,8,4,5] c")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv", "ConvTranspose", "Abs"]


def test_other_orders_stay() -> None:
    untouched(net("c = Conv(x, w)  y = DepthToSpace<blocksize = 2>(c)", weights(8), "N,3,4,5", "N,2,8,10"), PASS)


def test_large_blocks_stay() -> None:
    body = "c = Conv(x, w)  y = DepthToSpace<blocksize = 4>(c)"
    untouched(net(body, weights(16), "N,3,4,5", "N,1,16,20"), PASS)


@pytest.mark.parametrize(
    "body", ["y = DepthToSpace<blocksize = 2>(x)", "c = Relu(x)  y = DepthToSpace<blocksize = 2>(c)"]
)
def test_images_that_may_be_empty_stay(body: str) -> None:
    untouched(net(body, {}, "N,4,H,W", "N,1,A,B"), PASS)


def test_integers_stay() -> None:
    body = "c = ConvInteger(q, v)  q = Cast<to = 2>(x)  v = Cast<to = 2>(w)  y = DepthToSpace<blocksize = 2>(c)"
    parts = body.split("  ")
    ordered = "  ".join((parts[1], parts[2], parts[0], parts[3]))
    untouched(net(ordered, weights(4), "N,3,4,5", "N,1,8,10", dtype=DType.INT32), PASS)
