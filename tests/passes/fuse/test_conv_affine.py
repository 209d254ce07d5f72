"""Arithmetic with a constant goes into the convolution before it; tolerance: the rounding of the sums behind it."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-conv-affine"
TERMS = Terms(4 * 2 + 6)
OPS = ("Mul(c, k)", "Mul(k, c)", "Div(c, k)", "Add(c, k)", "Add(k, c)", "Sub(c, k)", "Sub(k, c)")


def body(op: str, conv: str = "Conv(x, w)") -> str:
    return f"c = {conv}  y = {op}"


def weights(constant: Weights, **others: Weights) -> dict[str, Weights]:
    return {"w": normal(6, 4, 1, 2), "t": normal(4, 6, 1, 2), "b": normal(6), "k": constant, **others}


def test_text() -> None:
    text = """g (float[N,1,2,2] x) => (float[N,2,2,2] y) <float[2,1,1,1] w = {1, 2}, float[2] b = {3, 4},
        float[2,1,1] k = {5, -6}, float h = {2}> { c = Conv(x, w, b)  d = Mul(c, k)  y = Sub(h, d) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(6))
    assert found.nodes == ["y = Conv (x, w, b)"]
    assert found.rules[:2] == ["conv-affine", "conv-affine"]
    np.testing.assert_array_equal(found.initializers["w"].ravel(), np.array([-5, 12], np.float32))
    np.testing.assert_array_equal(found.initializers["b"], np.array([2 - 15, 2 + 24], np.float32))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("conv", ["Conv(x, w)", "Conv(x, w, b)", "ConvTranspose(x, t)", "ConvTranspose(x, t, b)"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), (), (1, 1, 1, 1)], ids=str)
def test_a_number_or_one_a_channel(op: str, conv: str, shape: tuple[int, ...]) -> None:
    constant = normal(*shape) + 0.25
    source = net(body(op, conv), weights(constant), "N,4,3,5", "N,6,A,B")
    found = rewritten(source, PASS, tolerance=TERMS)
    assert found.op_types == [conv.partition("(")[0]]
    assert found.rules == ["conv-affine"]


@pytest.mark.parametrize("group", [2, 4])
def test_groups(group: int) -> None:
    given = weights(normal(8, 1, 1), w=normal(8, 4 // group, 1, 2), t=normal(4, 8 // group, 1, 2))
    for conv in (f"Conv<group = {group}>(x, w)", f"ConvTranspose<group = {group}>(x, t)"):
        for op in ("Mul(c, k)", "Sub(k, c)"):
            source = net(body(op, conv), given, "N,4,3,5", "N,8,A,B")
            assert len(rewritten(source, PASS, tolerance=TERMS).op_types) == 1


@pytest.mark.parametrize(
    ("shape", "result"),
    [
        pytest.param((6,), "N,6,3,6", id="the last axis, which has as many elements as there are channels"),
        pytest.param((1, 6), "N,6,3,6", id="the last axis, in two dims"),
        pytest.param((6, 1), "N,6,6,6", id="the axis before it"),
        pytest.param((6, 3, 6), "N,6,3,6", id="one for each place"),
        pytest.param((2, 1, 1, 1), "2,6,3,6", id="one for each image"),
        pytest.param((2, 6, 1, 1), "2,6,3,6", id="one for each image and channel"),
        pytest.param((1, 1, 1, 1, 1), "1,N,6,3,6", id="an axis more"),
        pytest.param((1, 1, 6, 1, 1), "1,N,6,3,6", id="an axis more, and one for each channel"),
    ],
)
def test_axes_that_only_look_like_channels(shape: tuple[int, ...], result: str) -> None:
    given = {"w": normal(6, 4, 1, 1), "k": normal(*shape)}
    size = result.replace("1,N,", "N,", 1).replace(",6,", ",4,", 1)
    for op in OPS:
        untouched(net(body(op), given, size, result), PASS)


def test_an_image_that_a_constant_multiplies() -> None:
    """One image becomes two: the dim of 1 is broadcast up."""
    given = {"w": normal(6, 4, 1, 1), "k": normal(2, 6, 1, 1)}
    untouched(net(body("Add(c, k)"), given, "1,4,3,6", "2,6,3,6"), PASS)


def test_one_channel() -> None:
    """A constant of one element for the one channel that there is, and one that makes three channels of it."""
    given = {"w": normal(1, 4, 1, 1), "k": normal(1, 1, 1)}
    assert rewritten(net(body("Mul(c, k)"), given, "N,4,3,6", "N,1,3,6"), PASS, tolerance=TERMS).op_types == ["Conv"]
    untouched(net(body("Mul(c, k)"), {**given, "k": normal(3, 1, 1)}, "N,4,3,6", "N,3,3,6"), PASS)


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("Div(c, k)", 0.0),
        ("Mul(c, k)", np.nan),
        ("Mul(c, k)", np.inf),
        ("Add(c, k)", np.inf),
        ("Sub(c, k)", np.nan),
        ("Mul(c, k)", 1e-42),
        ("Div(c, k)", 3e38),
        ("Mul(c, k)", 3e38),
    ],
)
def test_numbers_that_would_not_come_through(op: str, value: float) -> None:
    untouched(net(body(op), {"w": 2 + np.abs(normal(6, 4, 1, 1)), "k": np.full(1, value)}, "N,4,3,6", "N,6,3,6"), PASS)


def test_zero_makes_zeros() -> None:
    given = {"w": normal(6, 4, 1, 1), "k": np.zeros(1)}
    assert rewritten(net(body("Mul(c, k)"), given, "N,4,3,6", "N,6,3,6"), PASS, tolerance=TERMS).op_types == ["Conv"]


@pytest.mark.parametrize(
    ("between", "constant", "size", "result"),
    [
        pytest.param("Squeeze(c, z)", (6, 1), "N,4,1,5", "N,6,4", id="a Squeeze behind it"),
        pytest.param("Squeeze(c, l)", (6, 1), "N,4,5,2", "N,6,5", id="a Squeeze of the last axis"),
        pytest.param("Squeeze(c, o)", (6, 1, 1), "1,4,3,5", "6,3,4", id="a Squeeze before it"),
        pytest.param("Unsqueeze(c, l)", (6, 1, 1, 1), "N,4,3,5", "N,6,3,4,1", id="an Unsqueeze"),
        pytest.param("Flatten<axis = 2>(c)", (6, 1), "1,4,3,5", "6,12", id="a Flatten that joins the axes behind"),
        pytest.param("Reshape(c, r)", (1, 6, 1), "N,4,3,5", "N,6,12", id="a Reshape that joins the axes behind"),
        pytest.param("Reshape(c, q)", (6, 1, 1, 1), "N,4,3,5", "N,6,3,2,2", id="a Reshape that cuts an axis behind"),
    ],
)
@pytest.mark.parametrize("op", ["Add(s, k)", "Mul(k, s)", "Sub(k, s)"])
def test_past_a_reshape_that_keeps_the_channels(
    between: str, constant: tuple[int, ...], size: str, result: str, op: str
) -> None:
    targets = {"z": [2], "l": [-1], "o": [0], "r": [0, 6, 12], "q": [0, 6, 3, 2, 2]}
    target = next(name for name in targets if f", {name})" in between or name == "q")
    held = f"{target} = Constant<value_ints = {targets[target]}>()"
    given = {"w": normal(6, 4, 1, 2), "k": normal(*constant)}
    source = net(f"{held}  c = Conv(x, w)  s = {between}  y = {op}", given, size, result)
    found = rewritten(source, PASS, tolerance=TERMS)
    assert [op for op in found.op_types if op != "Constant"] == ["Conv", between.partition("(")[0].partition("<")[0]]


@pytest.mark.parametrize(
    ("target", "constant", "size", "result"),
    [
        pytest.param([0, 24], (24,), "N,4,2,3", "N,24", id="channels joined with places"),
        pytest.param([0, 2, 3, 2, 2], (2, 1, 1, 1), "N,4,2,3", "N,2,3,2,2", id="channels cut in two, the outer part"),
        pytest.param([0, 2, 3, 2, 2], (3, 1, 1), "N,4,2,3", "N,2,3,2,2", id="channels cut in two, the inner part"),
        pytest.param([2, 4, 6], (6,), "2,4,1,5", "2,4,6", id="another axis of as many elements"),
        pytest.param([4, 6, 2], (6, 1), "2,4,1,5", "4,6,2", id="an axis of as many elements behind others"),
    ],
)
def test_reshapes_that_take_the_channels_apart(
    target: list[int], constant: tuple[int, ...], size: str, result: str
) -> None:
    given = {"w": normal(6, 4, 1, 2), "k": normal(*constant)}
    body = f"r = Constant<value_ints = {target}>()  c = Conv(x, w)  s = Reshape(c, r)  y = Add(s, k)"
    untouched(net(body, given, size, result), PASS)


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        pytest.param("c = Conv(x, w)  y = Mul(c, k)", ", float[N,6,3,4] c", id="an output"),
        pytest.param("c = Conv(x, w)  y = Mul(c, k)  z = Relu(c)", ", float[N,6,3,4] z", id="a second reader"),
        pytest.param("c = Conv(x, w)  y = Mul(c, c)", "", id="a square"),
        pytest.param("c = Conv(x, w)  y = Div(k, c)", "", id="a constant divided by it"),
        pytest.param("c = Conv(x, w)  y = Pow(c, k)", "", id="a power"),
        pytest.param("r = RandomNormalLike(k)  c = Conv(x, w)  y = Mul(c, r)", "", id="no constant"),
        pytest.param("r = RandomNormalLike(w)  c = Conv(x, r)  y = Mul(c, k)", "", id="a computed weight"),
        pytest.param("r = RandomNormalLike(b)  c = Conv(x, w, r)  y = Mul(c, k)", "", id="a computed bias"),
    ],
)
def test_what_stays(text: str, outputs: str) -> None:
    untouched(net(text, weights(normal(6, 1, 1)), "N,4,3,5", "N,6,3,4", outputs=outputs), PASS)


@pytest.mark.parametrize("name", ["w", "b", "k"])
def test_parameters_that_the_caller_may_choose(name: str) -> None:
    source = net(body("Add(c, k)", "Conv(x, w, b)"), weights(normal(6, 1, 1)), "N,4,3,5", "N,6,3,4", overridable=name)
    untouched(source, PASS)


def test_half_precision() -> None:
    source = net(body("Mul(c, k)"), weights(normal(6, 1, 1)), "N,4,3,5", "N,6,3,4", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


@pytest.mark.parametrize("conv", ["Conv(x, w)", "Conv(x, w, b)", "ConvTranspose(x, t, b)"])
def test_a_sign(conv: str) -> None:
    given = {"w": normal(6, 4, 1, 2), "t": normal(4, 6, 1, 2), "b": normal(6)}
    source = net(f"c = {conv}  y = Neg(c)", given, "N,4,3,5", "N,6,A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == [conv.partition("(")[0]]
    past = net(f"c = {conv}  s = Transpose<perm = [0, 2, 3, 1]>(c)  y = Neg(s)", given, "N,4,3,5", "N,A,B,6")
    assert rewritten(past, PASS, tolerance=TERMS).op_types == [conv.partition("(")[0], "Transpose"]
    untouched(net(f"c = {conv}  s = Relu(c)  y = Neg(s)", given, "N,4,3,5", "N,6,A,B"), PASS)


def test_a_shift_leaves_the_weight_alone() -> None:
    found = rewritten(net(body("Add(c, k)"), weights(normal(6, 1, 1)), "N,4,3,5", "N,6,3,4"), PASS, tolerance=TERMS)
    assert found.nodes == ["y = Conv (x, w, w_bias)"]
    np.testing.assert_array_equal(found.initializers["w"], normal(6, 4, 1, 2).astype(np.float32))


def test_a_long_chain() -> None:
    chain = "c = Conv(x, w)  d = Mul(c, k)  e = Add(d, k)  f = Div(e, k)  h = Sub(k, f)  y = Sub(h, k)"
    found = rewritten(net(chain, weights(normal(6, 1, 1) + 3), "N,4,3,5", "N,6,3,4"), PASS, tolerance=Terms(40))
    assert found.op_types == ["Conv"]
    assert len(found.rules) == 5


def test_broadcasts_of_opset_6_have_an_axis() -> None:
    """`axis` 1 means channels there, without dims of one behind them."""
    untouched(
        net(
            body("Add<broadcast = 1, axis = 1>(c, k)"),
            {"w": normal(6, 4, 1, 1), "k": normal(6)},
            "N,4,3,6",
            "N,6,3,6",
            opset=6,
        ),
        PASS,
    )
