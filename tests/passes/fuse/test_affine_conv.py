"""Arithmetic with a constant goes into the convolutions behind it; tolerance: the rounding of the sums behind it."""

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Terms, model, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal, statistics

PASS = "fuse-affine-conv"
TERMS = Terms(6 * 4 + 8)
OPS = ("Mul(x, k)", "Mul(k, x)", "Div(x, k)", "Add(x, k)", "Add(k, x)", "Sub(x, k)", "Sub(k, x)")
SCALES = ("Mul(x, k)", "Div(x, k)")


def weights(constant: Weights, **others: Weights) -> dict[str, Weights]:
    given = {"w": normal(4, 6, 1, 2), "t": normal(6, 4, 1, 2), "b": normal(4), "k": constant, "j": constant + 1}
    return {**given, **statistics(6), **others}


def body(op: str, conv: str = "Conv(a, w)") -> str:
    return f"a = {op}  y = {conv}"


def test_text() -> None:
    text = """g (float[N,2,2,2] x) => (float[N,1,2,2] y) <float[1,2,1,1] w = {1, 2}, float[1] b = {3},
        float[2,1,1] k = {5, -6}, float h = {2}> { a = Mul(x, k)  c = Sub(h, a)  y = Conv(c, w, b) }"""
    found = rewritten(text, PASS, tolerance=Terms(6))
    assert found.nodes == ["y = Conv (x, w_1, b_1)"]
    np.testing.assert_array_equal(found.initializers["w_1"].ravel(), np.array([-5, 12], np.float32))
    np.testing.assert_array_equal(found.initializers["b_1"], np.array([3 + 2 + 4], np.float32))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("conv", ["Conv(a, w)", "Conv(a, w, b)"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1,), (), (1, 1, 1, 1)], ids=str)
def test_a_number_or_one_a_channel(op: str, conv: str, shape: tuple[int, ...]) -> None:
    source = net(body(op, conv), weights(normal(*shape) + 0.25), "N,6,3,5", "N,4,A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


@pytest.mark.parametrize("group", [2, 3, 6])
def test_groups(group: int) -> None:
    given = weights(normal(6, 1, 1), w=normal(12, 6 // group, 2, 2), b=normal(12))
    for op in OPS:
        source = net(body(op, f"Conv<group = {group}>(a, w, b)"), given, "N,6,3,5", "N,12,A,B")
        assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("op", SCALES)
def test_transposed_convolutions_take_a_scale(op: str, group: int) -> None:
    conv = f"ConvTranspose<group = {group}, strides = [2, 2], pads = [1, 0, 0, 1]>(a, t)"
    given = weights(normal(6, 1, 1) + 3, t=normal(6, 4, 3, 2))
    source = net(body(op, conv), given, "N,6,3,5", f"N,{4 * group},A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["ConvTranspose"]
    untouched(net(body("Add(x, k)", conv), given, "N,6,3,5", f"N,{4 * group},A,B"), PASS)


PADDED = ("pads = [0, 1, 0, 0]", 'auto_pad = "SAME_UPPER"', 'auto_pad = "SAME_LOWER"')


@pytest.mark.parametrize("padding", PADDED)
def test_zeros_around_take_a_scale_and_no_shift(padding: str) -> None:
    conv = f"Conv<{padding}>(a, w)"
    for op in SCALES:
        source = net(body(op, conv), weights(normal(6, 1, 1)), "N,6,3,5", "N,4,A,B")
        assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]
    for op in ("Add(x, k)", "Sub(x, k)", "Sub(k, x)", "BatchNormalization(x, s, o, m, v)"):
        untouched(net(body(op, conv), weights(normal(6, 1, 1)), "N,6,3,5", "N,4,A,B"), PASS)


def test_batch_normalization() -> None:
    source = net(body("BatchNormalization(x, s, o, m, v)"), weights(normal()), "N,6,3,5", "N,4,A,B")
    assert rewritten(source, PASS, tolerance=Terms(200)).op_types == ["Conv"]


PATHS = {
    "r = Relu(a)": "positive",
    "r = LeakyRelu(a)": "positive",
    "r = Abs(a)": "positive",
    "r = MaxPool<kernel_shape = [2, 2], pads = [0, 1, 0, 0]>(a)": "positive",
    "r = AveragePool<kernel_shape = [2, 2]>(a)": "affine",
    "r = AveragePool<kernel_shape = [2, 2], pads = [0, 1, 0, 1]>(a)": "scale",
    "r = AveragePool<kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>(a)": "scale",
    "r = AveragePool<kernel_shape = [2, 2], pads = [0, 1, 0, 1], count_include_pad = 1>(a)": "scale",
    "r = GlobalAveragePool(a)": "affine",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("op", ["Mul(x, k)", "Add(x, k)", "Mul(x, p)", "Mul(x, q)"])
def test_what_stands_between(path: str, op: str) -> None:
    """`k` has both signs, `p` is one positive number, `q` one for each channel."""
    given = weights(normal(6, 1, 1), p=np.full((), 1.5), q=0.5 + np.abs(normal(6, 1, 1)), w=normal(4, 6, 1, 1))
    lets = PATHS[path]
    passes = lets == "affine" or (op != "Add(x, k)" and lets == "scale") or (lets == "positive" and op[7] in "pq")
    source = net(f"a = {op}  {path}  y = Conv(r, w)", given, "N,6,3,5", "N,4,A,B")
    if passes:
        assert len(rewritten(source, PASS, tolerance=TERMS).op_types) == 2
    else:
        untouched(source, PASS)


def test_input_normalisation_in_another_layout() -> None:
    """Channels last, minus means, over deviations, then channels first."""
    given = weights(normal(6) + 3, w=normal(4, 6, 1, 1))
    chain = "a = Sub(x, j)  c = Div(a, k)  r = Transpose<perm = [0, 3, 1, 2]>(c)  y = Conv(r, w)"
    found = rewritten(net(chain, given, "N,3,2,6", "N,4,3,2"), PASS, tolerance=Terms(100))
    assert found.op_types == ["Transpose", "Conv"]
    wrong = "a = Sub(x, j)  r = Transpose<perm = [0, 2, 3, 1]>(a)  y = Conv(r, w)"
    untouched(net(wrong, given, "N,6,W,6", "N,4,6,W"), PASS)


def test_a_reshape_lets_one_number_through_and_what_varies_along_an_axis_that_it_keeps() -> None:
    chain = "a = Add(x, k)  r = Reshape(a, z)  y = Conv(r, w)"
    text = f"""g (float[N,3,4] x) => (float[N,2,A,B] y) <int64[4] z = {{0, 3, 2, 2}}, float[1] k = {{2}},
        float[2,3,1,1] w = {{1, 2, 3, 4, 5, 6}}> {{ {chain} }}"""
    assert rewritten(text, PASS, tolerance=TERMS).op_types == ["Reshape", "Conv"]
    channels = text.replace("float[1] k = {2}", "float[3,1] k = {1, 2, 3}")
    assert rewritten(channels, PASS, tolerance=TERMS).op_types == ["Reshape", "Conv"]
    untouched(text.replace("float[1] k = {2}", "float[4] k = {1, 2, 3, 4}"), PASS)


def test_several_convolutions_that_all_take_it() -> None:
    chain = "a = Mul(x, k)  c = Conv(a, w)  d = Conv<pads = [0, 0, 0, 0]>(a, u)  y = Add(c, d)"
    source = net(chain, weights(normal(6, 1, 1), u=normal(4, 6, 1, 2)), "N,6,3,5", "N,4,A,B")
    assert rewritten(source, PASS, tolerance=Terms(100)).op_types == ["Conv", "Conv", "Add"]


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        pytest.param("a = Mul(x, k)  y = Conv(a, w)", ", float[N,6,3,5] a", id="an output"),
        pytest.param("a = Mul(x, k)  y = Conv(a, w)  z = Relu(a)", ", float[N,6,3,5] z", id="a second reader"),
        pytest.param(
            "a = Add(x, k)  y = Conv(a, w)  z = Conv<pads = [0, 1, 0, 0]>(a, w)", ", float[N,4,A,B] z", id="one pads"
        ),
        pytest.param(
            "r = RandomNormalLike(w)  a = Mul(x, k)  y = Conv(a, w)  z = Conv(a, r)",
            ", float[N,4,A,B] z",
            id="one weight is computed",
        ),
        pytest.param("a = Div(k, x)  y = Conv(a, w)", "", id="a constant divided by it"),
        pytest.param("r = RandomNormalLike(w)  a = Mul(x, k)  y = Conv(a, r)", "", id="a computed weight"),
        pytest.param("r = RandomNormalLike(b)  a = Mul(x, k)  y = Conv(a, w, r)", "", id="a computed bias"),
        pytest.param("a = Mul(x, k)  r = Sigmoid(a)  y = Conv(r, w)", "", id="no way through"),
        pytest.param("a = Mul(x, k)  r = Relu(a)  y = Conv(r, w)", ", float[N,6,3,5] r", id="an output on the way"),
    ],
)
def test_what_stays(text: str, outputs: str) -> None:
    untouched(net(text, weights(0.5 + np.abs(normal(6, 1, 1))), "N,6,3,5", "N,4,3,4", outputs=outputs), PASS)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        pytest.param((6, 1, 1), "N,1,3,5", id="a constant that makes the channels"),
        pytest.param((5,), "N,6,3,5", id="the last axis"),
        pytest.param((6, 3, 5), "N,6,3,5", id="every place"),
        pytest.param((2, 1, 1, 1), "2,6,3,5", id="every image"),
        pytest.param((2, 6, 1, 1), "2,6,3,5", id="image and channel"),
        pytest.param((6, 1), "N,6,6,5", id="an axis of as many places as channels"),
        pytest.param((6,), "N,6,3,6", id="the last axis, of as many places as channels"),
    ],
)
def test_axes_that_only_look_like_channels(shape: tuple[int, ...], given: str) -> None:
    for op in OPS:
        untouched(net(body(op), weights(normal(*shape) + 3), given, "A,4,B,C"), PASS)


@pytest.mark.parametrize(
    ("op", "value"),
    [("Div(x, k)", 0.0), ("Mul(x, k)", np.nan), ("Add(x, k)", np.inf), ("Mul(x, k)", 1e-42), ("Mul(x, k)", 3e38)],
)
def test_numbers_that_would_not_come_through(op: str, value: float) -> None:
    given = weights(np.full(1, value), w=2 + np.abs(normal(4, 6, 1, 1)))
    untouched(net(body(op), given, "N,6,3,5", "N,4,3,5"), PASS)


@pytest.mark.parametrize("name", ["w", "b", "k"])
def test_parameters_that_the_caller_may_choose(name: str) -> None:
    source = net(body("Mul(x, k)", "Conv(a, w, b)"), weights(normal(6, 1, 1)), "N,6,3,5", "N,4,3,4", overridable=name)
    untouched(source, PASS)


def test_half_precision() -> None:
    source = net(body("Mul(x, k)"), weights(normal(6, 1, 1)), "N,6,3,5", "N,4,3,4", dtype=DType.FLOAT16)
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


def test_a_rank_that_is_not_known_stays() -> None:
    text = """g (float[N,6,3,5] x, int64[r] z) => (float[A,B,C,D] y) <float[2,6,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12},
        float k = {2}> { a = Reshape(x, z)  c = Mul(a, k)  y = Conv(c, w) }"""
    (record,) = passes.run(ir.load(model(text)), PASS)
    assert not record.rewrites


@pytest.mark.parametrize("pads", ["", "<pads = [1, 1, 1, 1]>"])
def test_a_sign(pads: str) -> None:
    given = {"w": normal(4, 6, 2, 2), "b": normal(4)}
    source = net(f"n = Neg(x)  y = Conv{pads}(n, w, b)", given, "N,6,3,5", "N,4,A,B")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]
