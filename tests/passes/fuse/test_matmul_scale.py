"""Constant factors go into the weights of products; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest

from planish.ir import DType
from tests.equivalence import Terms, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-matmul-scale"
TERMS = Terms(5 + 8)
FACTORS = {"a number": (), "one": (1,), "one by one": (1, 1), "columns": (3,), "a row": (1, 3), "rank 3": (1, 1, 3)}


def weights(**others: Weights) -> dict[str, Weights]:
    return {"w": normal(5, 3), "b": normal(3, seed=1), "k": np.abs(normal(3)) + 0.5, **others}


def numbers(*shape: int) -> Weights:
    return normal(*shape) + 3


def test_text() -> None:
    text = """g (float[N,S,2] x) => (float[N,S,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] b = {3, 4},
        float[2] k = {5, -6}, float[2] j = {2, 3}, float h = {2}> {
        s = Mul(j, x)  c = MatMul(s, w)  d = Add(c, b)  e = Mul(k, d)  y = Div(e, h) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(16))
    assert found.nodes == ["c = MatMul (x, w)", "y = Add (c, b)"]
    assert sorted(found.rules[:3]) == ["scaled-operand", "scaled-product", "scaled-product"]
    expected = np.array([[2], [3]]) * np.array([[1, 2], [3, 4]]) * np.array([2.5, -3])
    np.testing.assert_array_equal(found.initializers["w"], expected.astype(np.float32))
    np.testing.assert_array_equal(found.initializers["b"], np.array([7.5, -12], np.float32))


@pytest.mark.parametrize("shape", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("form", ["Mul(c, k)", "Mul(k, c)", "Div(c, k)"])
@pytest.mark.parametrize(
    "product", ["c = MatMul(x, w)", "d = MatMul(x, w)  c = Add(d, b)", "d = MatMul(x, w)  c = Add(b, d)"]
)
def test_factors_behind_a_product(shape: tuple[int, ...], form: str, product: str) -> None:
    source = net(f"{product}  y = {form}", weights(k=numbers(*shape)), "N,S,5", "N,S,3")
    found = rewritten(source, PASS, tolerance=TERMS)
    assert found.op_types == (["MatMul", "Add"] if "Add" in product else ["MatMul"])
    assert found.rules == ["scaled-product"]


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("form", ["Mul(x, k)", "Mul(k, x)", "Div(x, k)"])
@pytest.mark.parametrize("dtype", [DType.FLOAT, DType.DOUBLE, DType.FLOAT16])
def test_factors_before_a_product(shape: tuple[int, ...], form: str, dtype: DType) -> None:
    source = net(f"c = {form}  y = MatMul(c, w)", weights(k=numbers(*shape)), "N,S,5", "N,S,3", dtype=dtype)
    found = rewritten(source, PASS, tolerance=TERMS)
    assert (found.op_types, found.rules) == (["MatMul"], ["scaled-operand"])


def test_a_weight_on_the_left() -> None:
    given = {"w": normal(3, 5), "k": numbers()}
    assert rewritten(net("c = MatMul(w, x)  y = Mul(c, k)", given, "5,N", "3,N"), PASS, tolerance=TERMS).rules
    assert rewritten(net("c = Div(x, k)  y = MatMul(w, c)", given, "5,N", "3,N"), PASS, tolerance=TERMS).rules
    untouched(net("c = MatMul(w, x)  y = Mul(c, k)", {**given, "k": numbers(3, 1)}, "5,N", "3,N"), PASS)
    untouched(net("c = Div(x, k)  y = MatMul(w, c)", {**given, "k": numbers(5, 1)}, "5,N", "3,N"), PASS)


@pytest.mark.parametrize("attributes", ["", "<alpha = -0.5, beta = 4.0>", "<transB = 1>", "<beta = 0.0>"])
@pytest.mark.parametrize("operands", ["x, w", "x, w, b"])
@pytest.mark.parametrize("shape", [(), (1, 1), (3,), (1, 3)], ids=str)
def test_factors_behind_a_gemm(attributes: str, operands: str, shape: tuple[int, ...]) -> None:
    given = weights(w=normal(3, 5) if "transB" in attributes else normal(5, 3), k=numbers(*shape))
    source = net(f"c = Gemm{attributes}({operands})  y = Div(c, k)", given, "N,5", "N,3")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


@pytest.mark.parametrize("attributes", ["", "<alpha = -0.5, beta = 4.0>", "<transA = 1>", "<transB = 1>"])
@pytest.mark.parametrize("shape", [(), (5,)], ids=str)
def test_factors_before_a_gemm(attributes: str, shape: tuple[int, ...]) -> None:
    across = "transA" in attributes
    given = weights(w=normal(3, 5) if "transB" in attributes else normal(5, 3), k=numbers(*shape))
    source = net(
        f"c = Mul(x, k)  y = Gemm{attributes}(c, w, b)", given, "5,5" if across else "N,5", "5,3" if across else "N,3"
    )
    if across and shape:
        untouched(source, PASS)
    else:
        assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


def test_rows_of_a_transposed_left_operand() -> None:
    source = net("c = Mul(x, k)  y = Gemm<transA = 1>(c, w)", weights(k=numbers(5, 1)), "5,N", "N,3")
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]


def test_a_gemm_of_computed_matrices() -> None:
    text = """g (float[N,4] x, float[4,M] w, float[M] b) => (float[N,M] y) <float k = {0.125}> {
        c = Gemm(x, w, b)  y = Mul(c, k) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(12))
    assert found.nodes == ["y = Gemm <alpha: float = 0.125, beta: float = 0.125> (x, w, b)"]


def test_sums_of_nothing() -> None:
    """ONNX Runtime forgets beta where the inner axis is empty."""
    text = """g (float[N,K] x, float[K,M] w, float[M] b) => (float[N,M] y) <float k = {0.125}> {
        c = Gemm(x, w, b)  y = Mul(c, k) }"""
    untouched(text, PASS)
    assert rewritten(text.replace(", b)", ")"), PASS, tolerance=Terms(12)).op_types == ["Gemm"]


@pytest.mark.parametrize(("number", "fused"), [(0.5, True), (0.1, False), (0.0, False), (1e-40, False)])
def test_what_alpha_can_hold_of_a_double(number: float, fused: bool) -> None:
    source = net(
        "c = Gemm(x, w)  y = Mul(c, k)", {"w": normal(5, 3), "k": np.array(number)}, "N,5", "N,3", dtype=DType.DOUBLE
    )
    if fused:
        assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Gemm"]
    else:
        untouched(source, PASS)


def test_heads_are_split_between_the_product_and_its_factor() -> None:
    """As exporters write the query: a projection, its bias, heads on an axis of their own, the scale."""
    body = "c = MatMul(x, w)  d = Add(c, b)  r = Reshape(d, s)  t = Transpose<perm = [0, 2, 1, 3]>(r)  y = Mul(t, k)"
    source = net(
        f"s = Constant<value = int64[4] {{0, 0, 2, 3}}>()  {body}",
        {"w": normal(5, 6), "b": normal(6), "k": numbers()},
        "N,S,5",
        "N,2,S,3",
    )
    found = rewritten(source, PASS, tolerance=TERMS)
    assert found.op_types == ["Constant", "MatMul", "Add", "Reshape", "Transpose"]


def test_layers_that_are_scaled_channel_by_channel() -> None:
    """As ConvNeXt writes it: a projection of the last axis, that axis moved to the front, a number for each channel."""
    body = "c = MatMul(x, w)  d = Add(c, b)  t = Transpose<perm = [0, 3, 1, 2]>(d)  y = Mul(t, k)"
    found = rewritten(net(body, weights(k=numbers(1, 3, 1, 1)), "N,H,W,5", "N,3,H,W"), PASS, tolerance=TERMS)
    assert found.op_types == ["MatMul", "Add", "Transpose"]
    for shape in ((1, 1, 1, 1), (3, 1, 1)):
        assert rewritten(net(body, weights(k=numbers(*shape)), "N,H,W,5", "N,3,H,W"), PASS, tolerance=TERMS).rules
    untouched(net(body, weights(k=numbers(3)), "N,H,3,5", "N,3,H,3"), PASS)


def test_channels_that_become_columns() -> None:
    body = "c = Mul(x, k)  t = Transpose<perm = [0, 2, 3, 1]>(c)  y = MatMul(t, w)"
    found = rewritten(net(body, weights(k=numbers(5, 1, 1)), "N,5,H,W", "N,H,W,3"), PASS, tolerance=TERMS)
    assert found.op_types == ["Transpose", "MatMul"]
    untouched(net(body, weights(k=numbers(5)), "N,5,H,5", "N,H,5,3"), PASS)


def test_one_number_each_does_not_pass_a_reshape() -> None:
    body = "c = MatMul(x, w)  r = Reshape(c, s)  y = Mul(r, k)"
    source = net(
        f"s = Constant<value = int64[3] {{0, -1, 3}}>()  {body}", {"w": normal(5, 6), "k": numbers(3)}, "N,5", "N,2,3"
    )
    untouched(source, PASS)


@pytest.mark.parametrize(
    ("body", "factor", "result"),
    [
        pytest.param("c = MatMul(x, w)  y = Mul(c, k)", (5, 1), "N,5,3", id="one for each row"),
        pytest.param("c = MatMul(x, w)  y = Mul(c, k)", (5, 3), "N,5,3", id="one for each place"),
        pytest.param("c = MatMul(x, w)  y = Mul(c, k)", (1, 1, 1, 1), "1,N,5,3", id="a rank more"),
        pytest.param("c = MatMul(x, w)  y = Mul(c, k)", (2, 1, 1), "2,5,3", id="a dim that may be one"),
        pytest.param("c = MatMul(x, w)  y = Div(k, c)", (), "N,5,3", id="a number divided"),
        pytest.param("c = MatMul(x, w)  y = Pow(c, k)", (), "N,5,3", id="a power"),
        pytest.param("r = RandomNormalLike(w)  c = MatMul(x, r)  y = Mul(c, k)", (), "N,5,3", id="a computed weight"),
        pytest.param(
            "r = RandomNormalLike(b)  d = MatMul(x, w)  c = Add(d, r)  y = Mul(c, k)", (), "N,5,3", id="a computed bias"
        ),
        pytest.param("d = MatMul(x, w)  c = Add(d, d)  y = Mul(c, k)", (), "N,5,3", id="added to itself"),
        pytest.param("d = MatMul(x, w)  c = Relu(d)  y = Mul(c, k)", (), "N,5,3", id="an activation"),
        pytest.param("c = MatMul(x, w)  d = Mul(c, k)  y = Add(c, d)", (), "N,5,3", id="a second reader"),
        pytest.param(
            "c = MatMul(x, w)  d = Mul(c, k)  e = MatMul(x, w)  y = Add(e, d)", (), "N,5,3", id="a shared weight"
        ),
        pytest.param("c = Mul(x, x)  d = Mul(c, k)  y = MatMul(d, w)", (), "N,5,3", id="the end of an activation"),
        pytest.param(
            "c = Mul(x, k)  e = MatMul(c, w)  f = ReduceSum<keepdims = 1>(c)  y = Add(e, f)",
            (),
            "N,5,3",
            id="read twice",
        ),
        pytest.param("c = Mul(x, k)  y = MatMul(c, w)", (5, 1), "N,5,3", id="rows before the product"),
        pytest.param("c = Mul(x, k)  y = MatMul(c, w)", (1, 1, 1, 1), "1,N,5,3", id="a rank more before the product"),
    ],
)
def test_what_stays(body: str, factor: tuple[int, ...], result: str) -> None:
    given = "1,5,5" if result == "2,5,3" else "N,5,5"
    untouched(net(body, weights(k=numbers(*factor)), given, result), PASS)


def test_one_column_becomes_three() -> None:
    untouched(net("c = MatMul(x, w)  y = Mul(c, k)", {"w": normal(5, 1), "k": numbers(3)}, "N,5", "N,3"), PASS)
    untouched(net("c = Mul(x, k)  y = MatMul(c, w)", {"w": normal(5, 3), "k": numbers(5)}, "N,1", "N,3"), PASS)


def test_a_bias_that_makes_the_shape() -> None:
    given = weights(b=normal(4, 3), k=numbers())
    untouched(net("c = MatMul(x, w)  d = Add(c, b)  y = Mul(d, k)", given, "1,5", "4,3"), PASS)


def test_columns_and_rows_are_not_multiplied_out() -> None:
    given = weights(b=normal(4, 1))
    untouched(net("c = MatMul(x, w)  d = Add(c, b)  y = Mul(d, k)", given, "4,5", "4,3"), PASS)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("c = MatMul(x, w)  y = Div(c, k)", 0.0),
        ("c = MatMul(x, w)  y = Mul(c, k)", np.nan),
        ("c = MatMul(x, w)  y = Mul(c, k)", np.inf),
        ("c = MatMul(x, w)  y = Mul(c, k)", 1e-42),
        ("c = MatMul(x, w)  y = Mul(c, k)", 3e38),
        ("c = Mul(x, k)  y = MatMul(c, w)", 3e38),
        ("d = MatMul(x, w)  c = Add(d, b)  y = Mul(c, k)", 3e38),
        ("c = Gemm(x, w)  y = Mul(c, k)", np.inf),
        ("c = Gemm<alpha = 1e20>(x, w)  y = Mul(c, k)", 1e20),
    ],
)
def test_numbers_that_would_not_come_through(body: str, value: float) -> None:
    given = {"w": 2 + np.abs(normal(5, 3)), "b": np.full(3, 1e-3), "k": np.full(1, value)}
    untouched(net(body, given, "N,5", "N,3"), PASS)


def test_a_bias_that_overflows() -> None:
    given = {"w": normal(5, 3), "b": np.full(3, 1e38), "k": np.full(1, 1e3)}
    untouched(net("d = MatMul(x, w)  c = Add(d, b)  y = Mul(c, k)", given, "N,5", "N,3"), PASS)


def test_zero_makes_zeros() -> None:
    assert rewritten(
        net("c = MatMul(x, w)  y = Mul(c, k)", weights(k=np.zeros(1)), "N,5", "N,3"), PASS, tolerance=TERMS
    ).rules


def test_integers_wrap_around() -> None:
    untouched(net("c = MatMul(x, w)  y = Mul(c, k)", weights(k=np.full(1, 7.0)), "N,5", "N,3", dtype=DType.INT32), PASS)


@pytest.mark.parametrize("name", ["w", "b", "k"])
def test_parameters_that_the_caller_may_choose(name: str) -> None:
    untouched(net("c = MatMul(x, w)  d = Add(c, b)  y = Mul(d, k)", weights(), "N,5", "N,3", overridable=name), PASS)


@pytest.mark.parametrize("outputs", [", float[N,3] c", ", float[N,3] d"])
def test_intermediates_that_are_outputs(outputs: str) -> None:
    source = net("c = MatMul(x, w)  d = Add(c, b)  y = Mul(d, k)", weights(), "N,5", "N,3", outputs=outputs)
    untouched(source, PASS)


def test_the_shape_of_a_constant_is_no_way_to_a_product() -> None:
    text = """g (int64[2] n) => (float[A,B] y) <int64[2,2] w = {1, 0, 0, 1}, float[4] c = {1, 2, 3, 4}, float k = {2}> {
        s = MatMul(n, w)  r = Reshape(c, s)  y = Mul(r, k) }"""
    untouched(text, PASS)


def test_an_unknown_rank() -> None:
    text = """g (float[N,4] x, int64[K] s) => (float[A,B] y) <float[4,2] w = {1,2,3,4,5,6,7,8}, float k = {2}> {
        r = Reshape(x, s)  c = MatMul(r, w)  y = Mul(c, k) }"""
    untouched(text, PASS)
