"""BatchNormalization goes into the transposed convolution before it; tolerance: the rounding of the sums behind it."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal, statistics

PASS = "fuse-conv-transpose-bn"
BN = "BatchNormalization(c, s, o, m, v)"
BODY = f"c = ConvTranspose(x, w)  y = {BN}"
TERMS = Terms(4 * 6 + 8)


def test_text() -> None:
    text = """g (float[N,2,1,1] x) => (float[N,2,1,1] y) <
        float[2,2,1,1] w = {1, 2, 3, 4}, float[2] s = {2, -4}, float[2] o = {5, 6}, float[2] m = {7, 8},
        float[2] v = {3, 15}
    > { c = ConvTranspose(x, w)  y = BatchNormalization<epsilon = 1.0>(c, s, o, m, v) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(8))
    assert found.nodes == ["y = ConvTranspose (x, w, w_bias)"]
    np.testing.assert_array_equal(found.initializers["w"].ravel(), np.array([1, -2, 3, -4], np.float32))
    np.testing.assert_array_equal(found.initializers["w_bias"], np.array([5 - 7, 6 + 8], np.float32))


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize(
    "attributes",
    ["strides = [2, 1]", "pads = [1, 0, 0, 1], output_padding = [1, 0], strides = [2, 1]", "dilations = [1, 2]"],
)
def test_groups_and_bias(group: int, bias: str, attributes: str) -> None:
    """Its weight is [inputs, outputs of a group, kernel]: each group of rows has scales of its own."""
    body = f"c = ConvTranspose<group = {group}, {attributes}>(x, w{bias})  y = {BN}"
    given = {"w": normal(4, 8 // group, 2, 3), **statistics(8), "b": normal(8)}
    found = rewritten(net(body, given, "N,4,3,4", "N,8,A,B"), PASS, tolerance=TERMS)
    assert found.op_types == ["ConvTranspose"]
    untouched(found.before, PASS, fp="strict")


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad_stays(auto_pad: str) -> None:
    body = f'c = ConvTranspose<auto_pad = "{auto_pad}", strides = [2, 2]>(x, w)  y = {BN}'
    source = net(body, {"w": normal(4, 6, 3, 2), **statistics(6)}, "N,4,3,4", "N,6,A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["ConvTranspose"]


def test_half_precision() -> None:
    source = net(BODY, {"w": normal(4, 6, 1, 2), **statistics(6)}, "N,4,3,4", "N,6,3,5", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["ConvTranspose"]


FULL = np.ones(6)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"v": -FULL}, id="a negative variance"),
        pytest.param({"s": FULL * np.array([1, 1, np.inf, 1, 1, 1])}, id="an infinite scale"),
        pytest.param({"s": 1e37 * FULL, "v": 1e-6 * FULL}, id="weights that overflow"),
        pytest.param({"s": 1e-42 * FULL}, id="weights that vanish"),
    ],
)
def test_numbers_that_would_not_come_through(others: dict[str, Weights]) -> None:
    untouched(net(BODY, {"w": normal(4, 6, 1, 1), **statistics(6), **others}, "N,4,2,2", "N,6,2,2"), PASS)


def test_a_group_whose_weights_vanish() -> None:
    """Each output channel counts for itself, and no other one makes up for it."""
    small = normal(4, 2, 1, 1) * np.array([1, 1, 1e-30, 1e-30]).reshape(4, 1, 1, 1)
    given = {"w": small, **statistics(4), "s": np.array([1, 1, 1e-10, 1e-10])}
    untouched(net(BODY.replace("(x", "<group = 2>(x"), given, "N,4,2,2", "N,4,2,2"), PASS)
    apart = {**given, "s": np.array([1e-10, 1e-10, 1, 1])}
    source = net(BODY.replace("(x", "<group = 2>(x"), apart, "N,4,2,2", "N,4,2,2")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["ConvTranspose"]


def test_rows_of_one_channel_that_are_small_are_no_harm() -> None:
    small = normal(4, 6, 1, 1) * np.array([1, 1, 1e-38, 1]).reshape(4, 1, 1, 1)
    source = net(BODY, {"w": small, **statistics(6)}, "N,4,2,2", "N,6,2,2")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param(BODY, ", float[N,6,2,2] c", id="an output"),
        pytest.param(f"{BODY}  z = Relu(c)", ", float[N,6,2,2] z", id="a second reader"),
        pytest.param(
            "c = ConvTranspose(x, w)  y, p, q = BatchNormalization<training_mode = 1>(c, s, o, m, v)", "", id="training"
        ),
        pytest.param(f"c = Conv(x, k)  y = {BN}", "", id="another convolution"),
    ],
)
def test_what_stays(body: str, outputs: str) -> None:
    given = {"w": normal(4, 6, 1, 1), "k": normal(6, 4, 1, 1), **statistics(6)}
    untouched(net(body, given, "N,4,2,2", "N,6,2,2", outputs=outputs), PASS)
