"""BatchNormalization goes into the convolution before it; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal, statistics

PASS = "fuse-conv-bn"
CONV = "c = Conv(x, w)  "
BN = "BatchNormalization(c, s, o, m, v)"
BODY = f"{CONV}y = {BN}"
GIVEN, RESULT = "N,4,2,3", "N,6,2,3"
TERMS = Terms(4 + 8)


def weights(**others: Weights) -> dict[str, Weights]:
    """Of a pointwise convolution of 4 channels to 6, and of what normalizes them."""
    return {"w": normal(6, 4, 1, 1), **statistics(6), **others}


def test_text() -> None:
    text = """g (float[N,1,2,2] x) => (float[N,2,2,2] y) <
        float[2,1,1,1] w = {1, 2}, float[2] s = {3, -4}, float[2] o = {5, 6}, float[2] m = {7, 8}, float[2] v = {3, 15}
    > { c = Conv(x, w)  y = BatchNormalization<epsilon = 1.0>(c, s, o, m, v) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(6))
    assert found.nodes == ["y = Conv (x, w, w_bias)"]
    assert found.rules[0] == "conv-bn"
    np.testing.assert_array_equal(found.initializers["w"].reshape(2), np.array([1.5, -2], np.float32))
    np.testing.assert_array_equal(found.initializers["w_bias"], np.array([5 - 10.5, 6 + 8], np.float32))


@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_groups_and_bias(group: int, bias: str) -> None:
    body = f"c = Conv<group = {group}, dilations = [2, 1], strides = [1, 2]>(x, w{bias})  y = {BN}"
    given = {"w": normal(6, 6 // group, 2, 3), **statistics(6), "b": normal(6)}
    found = rewritten(net(body, given, "N,6,5,6", "N,6,3,2"), PASS, tolerance=Terms(36 + 5))
    assert found.op_types == ["Conv"]
    untouched(found.before, PASS, fp="strict")


@pytest.mark.parametrize(
    ("given", "result", "kernel"), [("N,4,9", "N,6,7", (3,)), ("N,4,5,4,3", "N,6,4,3,3", (2, 2, 1))]
)
def test_one_and_three_spatial_dims(given: str, result: str, kernel: tuple[int, ...]) -> None:
    source = net(BODY, weights(w=normal(6, 4, *kernel)), given, result)
    assert rewritten(source, PASS, tolerance=Terms(4 * 4 + 5)).op_types == ["Conv"]


@pytest.mark.parametrize("padding", ["pads = [1, 0, 2, 1]", 'auto_pad = "SAME_UPPER"', 'auto_pad = "VALID"'])
def test_padding_stays(padding: str) -> None:
    """It stands before the convolution, so that an offset reaches the border as well."""
    source = net(f"c = Conv<{padding}>(x, w)  y = {BN}", weights(w=normal(6, 4, 3, 2)), "N,4,5,6", "N,6,A,B")
    assert rewritten(source, PASS, tolerance=Terms(4 * 6 + 5)).op_types == ["Conv"]


@pytest.mark.parametrize("single", ["", "sovm"])
def test_half_precision(single: str) -> None:
    source = net(BODY, weights(), GIVEN, RESULT, dtype=DType.FLOAT16, single=single)
    found = rewritten(source, PASS, tolerance=TERMS)
    assert found.op_types == ["Conv"]
    assert {array.dtype.name for name, array in found.initializers.items() if name.startswith("w")} == {"float16"}


FULL = np.ones(6)
ODD = np.array([1, 1, np.nan, 1, 1, 1])


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"v": -FULL}, id="a negative variance"),
        pytest.param({"v": ODD}, id="a variance of NaN"),
        pytest.param({"m": ODD * np.inf}, id="an infinite mean"),
        pytest.param({"o": ODD}, id="an offset of NaN"),
        pytest.param({"s": 1e37 * FULL, "v": 1e-6 * FULL}, id="weights that overflow"),
        pytest.param({"s": 1e-42 * FULL}, id="weights that vanish"),
        pytest.param({"w": 1e-30 * normal(6, 4, 1, 1), "s": 1e-10 * FULL}, id="weights that vanish by a normal scale"),
        pytest.param({"m": 1e30 * FULL, "s": 1e10 * FULL}, id="a bias that overflows"),
    ],
)
def test_numbers_that_would_not_come_through(others: dict[str, Weights]) -> None:
    untouched(net(BODY, weights(**others), GIVEN, RESULT), PASS)


def test_half_precision_that_would_vanish() -> None:
    """The product of a weight and a scale is below what half precision holds; the sum of 64 inputs may not be."""
    given = {
        "w": np.full((1, 64, 1, 1), 1e-3),
        "s": np.full(1, 1e-5),
        "o": np.zeros(1),
        "m": np.zeros(1),
        "v": np.ones(1),
    }
    untouched(net(BODY, given, "N,64,1,1", "N,1,1,1", dtype=DType.FLOAT16), PASS)


def test_half_precision_of_a_small_scale() -> None:
    """1e-6 has two digits in half precision; a weight a thousand times as large has all of them after the product."""
    given = weights(w=1000 * normal(6, 4, 1, 1), s=1e-6 * FULL, m=0 * FULL, o=0 * FULL, v=FULL)
    source = net(BODY, given, GIVEN, RESULT, dtype=DType.FLOAT16, single="sovm")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


def test_a_channel_of_nothing_but_zeros() -> None:
    given = weights(w=np.concatenate([np.zeros((3, 4, 1, 1)), normal(3, 4, 1, 1)]))
    assert rewritten(net(BODY, given, GIVEN, RESULT), PASS, tolerance=TERMS).op_types == ["Conv"]


def test_some_subnormal_weights_are_no_harm() -> None:
    given = weights(w=normal(6, 4, 1, 1) * np.array([1e-39, 1, 1, 1]).reshape(1, 4, 1, 1))
    assert rewritten(net(BODY, given, GIVEN, RESULT), PASS, tolerance=TERMS).op_types == ["Conv"]


def test_training_mode_stays() -> None:
    body = f"{CONV}y, mean, var = BatchNormalization<training_mode = 1>(c, s, o, m, v)"
    untouched(net(body, weights(), GIVEN, RESULT), PASS)


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_old_forms(opset: int) -> None:
    assert rewritten(net(BODY, weights(), GIVEN, RESULT, opset=opset), PASS, tolerance=TERMS).op_types == ["Conv"]


def test_old_forms_that_mean_something_else() -> None:
    """`spatial` 0 normalizes each pixel by numbers of its own; opset 6 trains unless `is_test` says no."""
    body = f"{CONV}y = BatchNormalization<spatial = 0>(c, s, o, m, v)"
    pixels = {name: np.abs(normal(6, 2, 3, seed=seed)) for seed, name in enumerate("somv")}
    untouched(net(body, {"w": normal(6, 4, 1, 1), **pixels}, GIVEN, RESULT, opset=8), PASS)
    body = f"{CONV}y = BatchNormalization<is_test = 1>(c, s, o, m, v)"
    untouched(net(body, weights(), GIVEN, RESULT, opset=6), PASS)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param(BODY, ", float[N,6,2,3] c", id="an output"),
        pytest.param(f"{BODY}  z = Relu(c)", ", float[N,6,2,3] z", id="a second reader"),
        pytest.param(
            f"t = Constant<value = bool {{1}}>()  {CONV}b = {BN}  y = If(t) <"
            "then_branch = f () => (float[A,B,C,D] p) { p = Neg(c) },"
            " else_branch = e () => (float[A,B,C,D] q) { q = Neg(b) }>",
            "",
            id="a reader in a nested graph",
        ),
    ],
)
def test_other_readers_of_the_convolution(body: str, outputs: str) -> None:
    untouched(net(body, weights(), GIVEN, RESULT, outputs=outputs), PASS)


def test_a_shared_weight_stays_for_the_other() -> None:
    found = rewritten(
        net(f"{CONV}d = Conv(x, w)  e = {BN}  y = Add(d, e)", weights(), GIVEN, RESULT), PASS, tolerance=TERMS
    )
    assert found.op_types == ["Conv", "Conv", "Add"]
    np.testing.assert_array_equal(found.initializers["w"], normal(6, 4, 1, 1).astype(np.float32))


@pytest.mark.parametrize("name", ["w", "b", "s", "o", "m", "v"])
def test_parameters_that_the_caller_may_choose(name: str) -> None:
    """An overridable initializer is an input, and no constant."""
    body = f"c = Conv(x, w, b)  y = {BN}"
    untouched(net(body, weights(b=normal(6)), GIVEN, RESULT, overridable=name), PASS)


def test_a_computed_weight_stays() -> None:
    untouched(net(f"k = RandomNormalLike(w)  c = Conv(x, k)  y = {BN}", weights(), GIVEN, RESULT), PASS)


def test_two_normalizations_in_a_row() -> None:
    body = f"{CONV}d = {BN}  y = BatchNormalization(d, s, o, m, v)"
    found = rewritten(net(body, weights(), GIVEN, RESULT), PASS, tolerance=Terms(16))
    assert found.op_types == ["Conv"]
    assert [rewrite.number for rewrite in found.rewrites] == [1, 2]


def test_inside_a_branch() -> None:
    body = (
        f"t = Constant<value = bool {{1}}>()  y = If(t) <then_branch = f () => (float[A,B,C,D] p) {{ {CONV}p = {BN} }},"
        " else_branch = e () => (float[A,B,C,D] q) { q = Conv(x, w) }>"
    )
    found = rewritten(net(body, weights(), GIVEN, RESULT), PASS, tolerance=TERMS)
    assert found.op_types == ["Constant", "If", "Conv", "Conv"]
    weighted = found.after.graph.node[1].attribute[0].g.node[0]
    assert weighted.input[1] != "w", "the other branch keeps the weight as it was"
