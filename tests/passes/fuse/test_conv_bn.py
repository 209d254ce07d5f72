"""BatchNormalization goes into the convolution before it; tolerance: the rounding of the sums behind an element."""

import numpy as np
import pytest
from onnx import numpy_helper

from tests.equivalence import Terms, model, rewritten, untouched
from tests.passes.fuse.nets import Array, net, normal, statistics

PASS = "fuse-conv-bn"
BODY = "c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = BatchNormalization(c, s, o, m, v)"
SHAPES = {"given": "N,4,5,6", "result": "N,6,5,6"}
TERMS = Terms(4 * 9 + 5)


def weights(**others: Array) -> dict[str, Array]:
    return {"w": normal(6, 4, 3, 3), **statistics(6), **others}


def test_text() -> None:
    text = """g (float[N,1,2,2] x) => (float[N,2,2,2] y) <float[2,1,1,1] w = {1, 2}, float[2] s = {3, -4}, float[2] o = {5, 6},
        float[2] m = {7, 8}, float[2] v = {3, 15}> { c = Conv(x, w)  y = BatchNormalization<epsilon = 1.0>(c, s, o, m, v) }"""
    found = rewritten(text, f"{PASS},remove-dead-nodes", tolerance=Terms(6))
    assert found.nodes == ["y = Conv (x, w, w_bias)"]
    assert found.rules[0] == "conv-bn"
    np.testing.assert_array_equal(found.initializers["w"].reshape(2), np.array([1.5, -2], np.float32))
    np.testing.assert_array_equal(found.initializers["w_bias"], np.array([5 - 10.5, 6 + 8], np.float32))


@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", [False, True])
def test_groups_and_bias(group: int, bias: bool) -> None:
    attributes = f"Conv<group = {group}, dilations = [2, 1], strides = [1, 2]>"
    body = f"c = {attributes}({'x, w, b' if bias else 'x, w'})  y = BatchNormalization(c, s, o, m, v)"
    given = {"w": normal(6, 6 // group, 2, 3), **statistics(6)} | ({"b": normal(6)} if bias else {})
    found = rewritten(net(body, given, given="N,6,5,6", result="N,6,3,2"), PASS, tolerance=Terms(36 + 5))
    assert found.op_types == ["Conv"]
    untouched(found.before, PASS, fp="strict")


@pytest.mark.parametrize(("given", "kernel"), [("N,4,9", (3,)), ("N,4,5,4,3", (2, 2, 1))])
def test_one_and_three_spatial_dims(given: str, kernel: tuple[int, ...]) -> None:
    result = ",".join(["N", "6", *"ABC"[: len(kernel)]])
    source = net(
        "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)",
        weights(w=normal(6, 4, *kernel)),
        given=given,
        result=result,
    )
    assert rewritten(source, PASS, tolerance=TERMS).op_types == ["Conv"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_half_precision(dtype: str) -> None:
    given = {"w": normal(6, 4, 1, 1, dtype=dtype), **statistics(6, dtype)}
    name = {"float16": "float16", "float32": "float"}[dtype]
    source = net(
        "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)", given, given="N,4,2,2", result="N,6,2,2", dtype=name
    )
    assert rewritten(source, PASS, tolerance=Terms(4 + 8)).op_types == ["Conv"]


def test_statistics_of_another_precision() -> None:
    given = {"w": normal(6, 4, 1, 1, dtype="float16"), **statistics(6)}
    source = net(
        "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)",
        given,
        given="N,4,2,2",
        result="N,6,2,2",
        dtype="float16",
    )
    found = rewritten(source, PASS, tolerance=Terms(4 + 8))
    assert {array.dtype.name for name, array in found.initializers.items() if name.startswith("w")} == {"float16"}


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"v": np.full(6, -1, np.float32)}, id="a negative variance"),
        pytest.param({"v": np.array([1, 1, np.nan, 1, 1, 1], np.float32)}, id="a variance of NaN"),
        pytest.param({"m": np.array([1, 1, np.inf, 1, 1, 1], np.float32)}, id="an infinite mean"),
        pytest.param({"o": np.array([1, 1, np.nan, 1, 1, 1], np.float32)}, id="an offset of NaN"),
        pytest.param({"s": np.full(6, 1e37, np.float32), "v": np.full(6, 1e-6, np.float32)}, id="weights overflow"),
        pytest.param({"s": np.full(6, 1e-42, np.float32)}, id="weights vanish"),
        pytest.param({"m": np.full(6, 1e30, np.float32), "s": np.full(6, 1e10, np.float32)}, id="the bias overflows"),
    ],
)
def test_numbers_that_would_not_come_through(others: dict[str, Array]) -> None:
    untouched(net(BODY, weights(**others), **SHAPES), PASS)


def test_half_precision_that_would_vanish() -> None:
    """The product of a weight and a scale is below what half precision holds; the sum of many is not."""
    small = {"w": np.full((1, 64, 1, 1), 1e-3, np.float16), "s": np.full(1, 1e-5, np.float16)}
    rest = {name: np.full(1, value, np.float16) for name, value in (("o", 0), ("m", 0), ("v", 1))}
    body = "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)"
    untouched(net(body, small | rest, given="N,64,1,1", result="N,1,1,1", dtype="float16"), PASS)


def test_half_precision_of_a_small_scale() -> None:
    """A scale of 1e-6 has two digits in half precision, the weight of 1000 times that has all of them."""
    given = {"w": normal(6, 4, 1, 1, dtype="float16") * np.float16(1000), **statistics(6, "float16")}
    given |= {
        "s": np.full(6, 1e-6, np.float32),
        "m": np.zeros(6, np.float32),
        "o": np.zeros(6, np.float32),
        "v": np.ones(6, np.float32),
    }
    source = net(
        "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)",
        given,
        given="N,4,2,2",
        result="N,6,2,2",
        dtype="float16",
    )
    assert rewritten(source, PASS, tolerance=Terms(4 + 8)).op_types == ["Conv"]


def test_a_channel_of_nothing_but_zeros() -> None:
    given = weights(w=np.concatenate([np.zeros((3, 4, 3, 3), np.float32), normal(3, 4, 3, 3)]))
    assert rewritten(net(BODY, given, **SHAPES), PASS, tolerance=TERMS).op_types == ["Conv"]


def test_some_subnormal_weights_are_no_harm() -> None:
    array = normal(6, 4, 3, 3).copy()
    array[:, 0] *= np.float32(1e-38)
    assert rewritten(net(BODY, weights(w=array), **SHAPES), PASS, tolerance=TERMS).op_types == ["Conv"]


def test_training_mode_stays() -> None:
    body = "c = Conv<pads = [1, 1, 1, 1]>(x, w)  y, mean, var = BatchNormalization<training_mode = 1>(c, s, o, m, v)"
    untouched(net(body, weights(), **SHAPES), PASS)


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_old_forms(opset: int) -> None:
    found = rewritten(net(BODY, weights(), **SHAPES, opset=opset), PASS, tolerance=TERMS)
    assert found.op_types == ["Conv"]


def test_old_forms_that_mean_something_else() -> None:
    """`spatial` 0 normalizes each pixel by numbers of its own; opset 6 trains unless `is_test` says no."""
    body = "c = Conv(x, w)  y = BatchNormalization<spatial = 0>(c, s, o, m, v)"
    pixels = {name: normal(6, 2, 2, seed=seed) ** 2 for seed, name in enumerate("somv")}
    untouched(net(body, {"w": normal(6, 4, 1, 1), **pixels}, given="N,4,2,2", result="N,6,2,2", opset=8), PASS)
    body = "c = Conv(x, w)  y = BatchNormalization<is_test = 1>(c, s, o, m, v)"
    untouched(net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2", opset=6), PASS)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param("c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)", "float[N,6,2,2] c", id="an output"),
        pytest.param(
            "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)  z = Relu(c)", "float[N,6,2,2] z", id="a reader"
        ),
    ],
)
def test_other_readers_of_the_convolution(body: str, outputs: str) -> None:
    source = net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2")
    extra = model(
        f"g (float x) => ({outputs}) {{ {outputs.split()[-1]} = Identity(x) }}".replace("Identity(x)", "Expand(x, q)")
        .replace("=> (", "=> (")
        .replace("(float x)", "(float x, int64[4] q)")
    ).graph.output[0]
    source.graph.output.append(extra)
    untouched(source, PASS)


def test_a_nested_reader_of_the_convolution() -> None:
    body = (
        "c = Conv(x, w)  b = BatchNormalization(c, s, o, m, v)  y = If(t) <then_branch = f () => (float[N,6,2,2] p) { p = Neg(c) },"
        " else_branch = e () => (float[N,6,2,2] q) { q = Neg(b) }>"
    )
    source = net(
        f"t = Constant<value = bool {{1}}>()  {body}", weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2"
    )
    untouched(source, PASS)


def test_a_shared_weight_stays_for_the_other() -> None:
    body = "c = Conv(x, w)  d = Conv(x, w)  e = BatchNormalization(c, s, o, m, v)  y = Add(d, e)"
    found = rewritten(
        net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2"), PASS, tolerance=Terms(10)
    )
    assert found.op_types == ["Conv", "Conv", "Add"]
    np.testing.assert_array_equal(found.initializers["w"], normal(6, 4, 1, 1))


@pytest.mark.parametrize("given", ["w", "s", "v", "b"])
def test_parameters_that_the_caller_may_choose(given: str) -> None:
    """An overridable initializer is also an input, and no constant."""
    body = "c = Conv(x, w, b)  y = BatchNormalization(c, s, o, m, v)"
    source = net(body, weights(w=normal(6, 4, 1, 1), b=normal(6)), given="N,4,2,2", result="N,6,2,2")
    tensor = next(tensor for tensor in source.graph.initializer if tensor.name == given)
    array = numpy_helper.to_array(tensor)
    source.graph.input.append(
        model(
            f"g (float[{','.join(map(str, array.shape))}] {given}) => (float[A] y) {{ y = Flatten({given}) }}".replace(
                "float[A] y", "float[A,B] y"
            )
        ).graph.input[0]
    )
    untouched(source, PASS)


def test_a_computed_weight_stays() -> None:
    body = "k = RandomNormalLike(w)  c = Conv(x, k)  y = BatchNormalization(c, s, o, m, v)"
    untouched(net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2"), PASS)


def test_two_normalizations_in_a_row() -> None:
    body = "c = Conv(x, w)  d = BatchNormalization(c, s, o, m, v)  y = BatchNormalization(d, s, o, m, v)"
    found = rewritten(
        net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2"), PASS, tolerance=Terms(16)
    )
    assert found.op_types == ["Conv"]
    assert [rewrite.number for rewrite in found.rewrites] == [1, 2]


def test_inside_a_branch() -> None:
    branch = "c = Conv(x, w)  p = BatchNormalization(c, s, o, m, v)"
    body = f"t = Constant<value = bool {{1}}>()  y = If(t) <then_branch = f () => (float[N,6,2,2] p) {{ {branch} }}, else_branch = e () => (float[N,6,2,2] q) {{ q = Conv(x, w) }}>"
    found = rewritten(
        net(body, weights(w=normal(6, 4, 1, 1)), given="N,4,2,2", result="N,6,2,2"),
        f"inline-constant-if,{PASS}",
        tolerance=Terms(10),
    )
    assert found.op_types == ["Constant", "Conv"]
