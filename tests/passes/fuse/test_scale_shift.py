"""A scale and a shift before a convolution become one BatchNormalization; tolerance: rounding of four operations."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-scale-shift"
TERMS = Terms(6 * 9 + 12)
CONV = "y = Conv<pads = [1, 1, 1, 1]>(r, w)"


def weights(shape: tuple[int, ...], **others: Weights) -> dict[str, Weights]:
    return {"k": normal(*shape) + 0.1, "j": normal(*shape, seed=1) + 3, "w": normal(4, 6, 3, 3), **others}


def test_text() -> None:
    text = """g (float[N,2,2,2] x) => (float[N,1,2,2] y) <float[1,2,3,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9},
        float[1] k = {5}, float[2,1,1] h = {2, 3}>
        { a = Mul(k, x)  c = Add(a, h)  y = Conv<pads = [1, 1, 1, 1]>(c, w) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(30))
    assert (
        found.nodes[0]
        == "c = BatchNormalization <epsilon: float = 0.00390625> (x, c_scale, c_shift, c_mean, c_variance)"
    )
    np.testing.assert_array_equal(found.initializers["c_scale"], np.array([5, 5], np.float32))
    np.testing.assert_array_equal(found.initializers["c_shift"], np.array([2, 3], np.float32))


@pytest.mark.parametrize(
    "chain",
    [
        "a = Mul(x, k)  r = Add(a, j)",
        "a = Div(x, j)  r = Sub(k, a)",
        "a = Add(x, j)  r = Mul(a, k)",
        "a = Sub(j, x)  b = Div(a, j)  c = Mul(k, b)  r = Add(j, c)",
        "r = Add(x, k)",
        "r = Sub(k, x)",
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1)], ids=str)
def test_chains(chain: str, shape: tuple[int, ...]) -> None:
    found = rewritten(net(f"{chain}  {CONV}", weights(shape), "N,6,3,5", "N,4,A,B"), PASS, tolerance=TERMS)
    assert found.op_types == ["BatchNormalization", "Conv"]


def test_two_readers() -> None:
    chain = "a = Mul(x, k)  r = Add(a, j)  p = GlobalAveragePool(r)  y = Mul(p, r)"
    found = rewritten(net(chain, weights((1,)), "N,6,3,5", "N,6,A,B"), PASS, tolerance=Terms(80))
    assert found.op_types == ["BatchNormalization", "GlobalAveragePool", "Mul"]


@pytest.mark.parametrize(
    ("chain", "outputs"),
    [
        pytest.param("r = Mul(x, k)", "", id="a scale alone"),
        pytest.param("a = Mul(x, k)  r = Add(a, q)", "", id="a shift of another axis"),
        pytest.param("a = Mul(x, k)  r = Add(a, i)", "", id="a shift of one image each"),
        pytest.param("a = Mul(x, k)  b = Add(a, j)  r = Sigmoid(b)", "", id="no convolution behind it"),
    ],
)
def test_what_stays(chain: str, outputs: str) -> None:
    given = weights((6, 1, 1), q=normal(5), i=normal(2, 1, 1, 1))
    untouched(net(f"{chain}  {CONV}", given, "2,6,3,5", "2,4,A,B", outputs=outputs), PASS)


def test_an_inner_result_that_others_read() -> None:
    """The scale stays for its other reader; the shift is still worth a node of the convolutions' layout."""
    chain = f"a = Mul(x, k)  r = Add(a, j)  {CONV}"
    source = net(chain, weights((6, 1, 1)), "N,6,3,5", "N,4,A,B", outputs=", float[N,6,3,5] a")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Mul", "BatchNormalization", "Conv"]


def test_channels_that_are_not_known() -> None:
    text = """g (float[N,C,2,2] x) => (float[N,1,2,2] y) <float[1,2,1,1] w = {1,2}, float k = {5}, float h = {2}>
        { a = Mul(k, x)  c = Add(a, h)  y = Conv(c, w) }"""
    untouched(text, PASS)


def test_other_ranks() -> None:
    untouched(
        net("a = Mul(x, k)  r = Add(a, j)  y = Conv(r, w)", weights((), w=normal(4, 6, 3)), "N,6,5", "N,4,3"), PASS
    )


def test_numbers_that_overflow() -> None:
    given = weights((), k=np.full((), 3e30), j=np.full((), 1e-30))
    untouched(net(f"a = Mul(x, k)  r = Div(a, j)  {CONV}", given, "N,6,3,5", "N,4,A,B"), PASS)
    given = weights((), k=np.full((), np.inf))
    untouched(net(f"r = Add(x, k)  {CONV}", given, "N,6,3,5", "N,4,A,B"), PASS)


def test_half_precision() -> None:
    source = net(f"a = Mul(x, k)  r = Add(a, j)  {CONV}", weights((6, 1, 1)), "N,6,3,5", "N,4,A,B", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["BatchNormalization", "Conv"]
