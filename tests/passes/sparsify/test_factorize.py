"""factorize: two thin products for one, near it, for fewer multiply-accumulates, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from planish import ir, passes, runtime
from planish.ir.ops.cost import macs
from planish.passes import PassRecord, PipelineError
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import Gram
from planish.passes.sparsify.factorize import Factorize
from tests.equivalence import op_types, untouched
from tests.passes.quantize.quantized import Array, Doubles, far, net, node, normal, quantized, results
from tests.passes.sparsify.inputs import correlated, gram

PASS = "factorize"
X = normal(3, 64, seed=5)
IMAGES = normal(2, 16, 9, 9, seed=3)
MATMUL = [node("MatMul", ["x", "w"], ["y"], "product")]


def low(rows: int, columns: int, rank: int, noise: float = 0.0) -> NDArray[np.float32]:
    made = normal(rows, rank) @ normal(rank, columns, seed=1) + noise * normal(rows, columns, seed=2)
    return made.astype(np.float32)


W = low(64, 48, 8)
CONV = low(16 * 9, 24, 8).T.reshape(24, 16, 3, 3).copy()
SPATIAL = np.einsum("rci,rnj->ncij", normal(6, 16, 3), normal(6, 24, 3, seed=1)).astype(np.float32)
B = normal(24, seed=9)


def product(w: Array = W) -> onnx.ModelProto:
    return net(MATMUL, {"w": w}, x=("N", w.shape[0]))


def conv(w: Array, *, bias: bool = False, **attributes: int | list[int] | str) -> onnx.ModelProto:
    made = node("Conv", ["x", "w", *(["b"] if bias else [])], ["y"], "conv")
    made.attribute.extend([helper.make_attribute(key, value) for key, value in attributes.items()])
    return net([made], {"w": w, **({"b": B} if bias else {})}, x=("N", 16, 9, 9))


def factorized(proto: onnx.ModelProto, options: str, ranges: Calibration | None = None) -> onnx.ModelProto:
    """Fewer numbers, fewer multiply-accumulates, one rewrite, and none in a second run."""
    if ranges is None:
        after, record = quantized(proto, f"{PASS}{{least=1,{options}}}")
    else:
        (plain,) = passes.parse(f"{PASS}{{least=1,{options}}}")
        assert isinstance(plain, Factorize)
        after, record = with_ranges(proto, replace(plain, ranges=ranges))
    assert [rewrite.rule for rewrite in record.rewrites] == ["factors"]
    assert cost(after) < cost(proto)
    assert numbers(after) < numbers(proto)
    return after


def with_ranges(proto: onnx.ModelProto, wanted: Factorize) -> tuple[onnx.ModelProto, PassRecord]:
    graph = ir.load(proto)
    (record,) = passes.run(graph, (wanted,))
    after = ir.emit(graph)
    assert not passes.run(ir.load(after), (wanted,))[0].rewrites
    return after, record


def cost(proto: onnx.ModelProto) -> int:
    """Of one row, or picture."""
    found = 0
    for each in ir.load(proto).nodes:
        dim = macs(each)
        assert dim is not None
        one = dim if isinstance(dim, int) else dim.substitute({"N": 1, "N0": 1, "N1": 1})
        assert isinstance(one, int)
        found += one
    return found


def numbers(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(tensor).size for tensor in proto.graph.initializer)


# Exactly, where the weight has such a rank


@pytest.mark.parametrize("options", ["rank=0.17", "error=0.001"])
def test_a_matrix_of_low_rank(options: str) -> None:
    after = factorized(product(), options)
    assert op_types(after.graph) == ["MatMul", "MatMul"]
    assert {t.name: tuple(t.dims) for t in after.graph.initializer} == {"w_left": (64, 8), "w_right": (8, 48)}
    assert far(results(product(), X), results(after, X)) < 1e-5


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(), (48,), (1, 48), (1,), (3, 1), (3, 48)])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, -2.0)])
def test_gemm(transposed: int, bias: tuple[int, ...], scales: tuple[float, float]) -> None:
    w = np.ascontiguousarray(W.T) if transposed else W
    gemm = node("Gemm", ["x", "w", "c"], ["y"], transB=transposed, alpha=scales[0], beta=scales[1])
    proto = net([gemm], {"w": w, "c": normal(*bias)}, x=(3, 64))
    after = factorized(proto, "rank=0.17")
    assert far(results(proto, X), results(after, X)) < 1e-5
    assert list(after.graph.node[1].input)[2] == "c"


def test_gemm_of_a_transposed_input_without_bias() -> None:
    proto = net([node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": W}, x=(64, 3))
    after = factorized(proto, "rank=0.17")
    assert far(results(proto, X.T.copy()), results(after, X.T.copy())) < 1e-5


@pytest.mark.parametrize("shape", [(64,), (2, 3, 64), (0, 64)])
def test_inputs_of_any_rank(shape: tuple[int, ...]) -> None:
    proto = net(MATMUL, {"w": W}, x=[f"N{i}" for i in range(len(shape) - 1)] + [64])
    x = normal(*shape)
    assert far(results(proto, x), results(factorized(proto, "rank=0.17"), x)) < 1e-5


GEOMETRIES: dict[str, dict[str, int | list[int] | str]] = {
    "plain": {},
    "padded": {"pads": [1, 1, 1, 1]},
    "uneven": {"pads": [0, 1, 2, 2], "strides": [2, 1]},
    "strides": {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
    "valid": {"auto_pad": "VALID"},
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", [*GEOMETRIES, "dilated"])
def test_channels(name: str, bias: bool) -> None:
    proto = conv(CONV, bias=bias, **(GEOMETRIES | {"dilated": {"dilations": [2, 3], "pads": [2, 3, 2, 3]}})[name])
    after = factorized(proto, "rank=0.34")
    assert {t.name: list(t.dims) for t in after.graph.initializer if t.name != "b"} == {
        "w_left": [8, 16, 3, 3],
        "w_right": [24, 8, 1, 1],
    }
    assert far(results(proto, IMAGES), results(after, IMAGES)) < 1e-5


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("options", ["rank=0.125", "error=0.001"])
def test_spatial(name: str, bias: bool, options: str) -> None:
    proto = conv(SPATIAL, bias=bias, **GEOMETRIES[name])
    after = factorized(proto, f"{options},conv=spatial")
    assert {t.name: list(t.dims) for t in after.graph.initializer if t.name != "b"} == {
        "w_left": [6, 16, 3, 1],
        "w_right": [24, 6, 1, 3],
    }
    assert far(results(proto, IMAGES), results(after, IMAGES)) < 1e-5


def test_other_numbers_of_axes() -> None:
    line = net([node("Conv", ["x", "w"], ["y"])], {"w": CONV[:, :, 0]}, x=("N", 16, 9))
    assert far(results(line, IMAGES[:, :, 0]), results(factorized(line, "rank=0.4"), IMAGES[:, :, 0])) < 0.5
    (record,) = passes.run(ir.load(line), f"{PASS}{{least=1,conv=spatial}}")
    assert record.notes == ["y: it has no window of two axes"]


# Nearly


@pytest.mark.parametrize("error", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_outputs_move_as_far_as_they_may(error: float, kind: str) -> None:
    """On the inputs of the matrices, bias and all."""
    w = (CONV if kind == "channel" else SPATIAL) + 0.02 * normal(24, 16, 3, 3, seed=8)
    proto = conv(w.astype(np.float32), pads=[1, 1, 1, 1])
    feeds = images(10)
    ranges = runtime.calibrate(ir.load(proto), feeds, grams=["y"])
    after = factorized(proto, f"error={error},conv={kind}", ranges)
    before, found = (np.stack([results(each, feed["x"]) for feed in feeds]) for each in (proto, after))
    assert error / 20 < far(before, found) <= error * 1.01


def images(count: int, first: int = 0) -> list[dict[str, Array]]:
    return [
        {"x": correlated(81, 16, seed).T.reshape(1, 16, 9, 9).astype(np.float32)}
        for seed in range(first, first + count)
    ]


@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_convolutions_by_their_inputs(kind: str) -> None:
    """Better on the inputs of the matrices, and on others of the same kind."""
    proto = conv(normal(24, 16, 3, 3), pads=[1, 1, 1, 1])
    ranges = runtime.calibrate(ir.load(proto), images(12), grams=["y"])
    plain = factorized(proto, f"rank=0.25,conv={kind}")
    whitened = factorized(proto, f"rank=0.25,conv={kind}", ranges)
    for feeds in (images(12), images(4, 100)):
        before = np.stack([results(proto, feed["x"]) for feed in feeds])
        a, b = (far(before, np.stack([results(each, feed["x"]) for feed in feeds])) for each in (plain, whitened))
        assert b < a


@pytest.mark.parametrize("kind", ["channel", "spatial", "Gemm"])
def test_a_bias_keeps_the_means(kind: str) -> None:
    """Of inputs that are no less than 0, as behind a Relu; the bias of a Gemm with a factor stays as it is."""
    if kind == "Gemm":
        gemm = node("Gemm", ["x", "w", "b"], ["y"])
        proto = net([gemm], {"w": normal(64, 24), "b": B}, x=("N", 64))
        feeds: list[dict[str, Array]] = [{"x": np.maximum(correlated(50, 64, 1), 0).astype(np.float32)}]
    else:
        proto = conv(normal(24, 16, 3, 3), bias=True, pads=[1, 1, 1, 1])
        feeds = [{"x": np.maximum(feed["x"].astype(np.float32), 0)} for feed in images(6)]
    ranges = runtime.calibrate(ir.load(proto), feeds, grams=["y"])
    after = factorized(proto, f"rank=0.2{'' if kind == 'Gemm' else f',conv={kind}'}", ranges)
    plain = factorized(proto, f"rank=0.2{'' if kind == 'Gemm' else f',conv={kind}'}")
    axes = (0,) if kind == "Gemm" else (0, 1, 3, 4)
    before, kept, moved = (np.stack([results(p, f["x"]) for f in feeds]) for p in (proto, after, plain))
    before, kept, moved = (each.reshape(-1, 24) if kind == "Gemm" else each for each in (before, kept, moved))
    off = [np.abs((each - before).mean(axis=axes)).max() for each in (kept, moved)]
    assert off[0] < 1e-4 * np.abs(before).max()
    assert off[1] > 10 * off[0]


def test_matrices_by_their_inputs() -> None:
    x, unseen = (correlated(rows, 64, seed) for rows, seed in ((1000, 1), (200, 2)))
    proto = product(normal(64, 48))
    plain = factorized(proto, "rank=0.25")
    whitened = factorized(proto, "rank=0.25", Calibration({}, {"x": gram(x)}))
    for inputs in (x.astype(np.float32), unseen.astype(np.float32)):
        before = results(proto, inputs)
        assert far(before, results(whitened, inputs)) < 0.6 * far(before, results(plain, inputs))


def test_a_shared_weight_has_one_pair_of_factors() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["r", "w"], ["b"]), node("Add", ["a", "b"], ["y"])]
    proto = net([node("Relu", ["x"], ["r"]), *nodes], {"w": W}, x=("N", 64))
    after, record = quantized(proto, f"{PASS}{{rank=0.17}}")
    assert len(record.rewrites) == 2
    assert len(after.graph.initializer) == 2
    assert far(results(proto, X), results(after, X)) < 1e-5


# What is left alone


@pytest.mark.parametrize(
    ("shape", "options"),
    [((64, 48), "rank=0.99"), ((64, 48), "error=0.0001"), ((1, 64), ""), ((64, 1), ""), ((2, 2), ""), ((1, 1), "")],
)
def test_where_nothing_is_saved(shape: tuple[int, int], options: str) -> None:
    proto = product(normal(*shape))
    untouched(proto, f"{PASS}{{least=1,{options}}}" if options else f"{PASS}{{least=1}}")
    (record,) = passes.run(ir.load(proto), f"{PASS}{{least=1,{options}}}" if options else f"{PASS}{{least=1}}")
    assert len(record.notes) == 1
    assert "would not save multiply-accumulates" in record.notes[0]


def test_ranks_at_both_ends() -> None:
    """The least is 1, and the largest is the last one that saves something: 27 * (64 + 48) < 64 * 48."""
    assert [t.dims[0] for t in factorized(product(), "rank=0.0001").graph.initializer][1] == 1
    assert [t.dims[0] for t in factorized(product(), f"rank={27 / 48}").graph.initializer][1] == 27
    untouched(product(), f"{PASS}{{rank={28 / 48}}}")


def test_all_zeros_have_rank_one() -> None:
    after = factorized(product(np.zeros((64, 48), np.float32)), "error=0.1")
    assert numbers(after) == 64 + 48
    assert not results(after, X).any()


@pytest.mark.parametrize("w", [np.zeros((0, 4)), np.zeros((4, 0)), np.zeros((0, 0))])
def test_empty_weights(w: Doubles) -> None:
    untouched(product(w.astype(np.float32)), f"{PASS}{{least=0}}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    w = W.copy()
    w[1, 2] = value
    untouched(product(w), PASS)
    (record,) = passes.run(ir.load(product(w)), PASS)
    assert record.notes == ["product: not all weights are finite"]


@pytest.mark.parametrize("size", [3e38, 1e-45])
@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_weights_whose_factors_would_overflow_or_vanish(size: float, kind: str) -> None:
    w = (np.sign(normal(24, 16, 3, 3)) * size).astype(np.float32)
    (record,) = passes.run(ir.load(conv(w)), f"{PASS}{{conv={kind}}}")
    assert not record.rewrites
    assert record.notes == ["conv: single precision does not hold its factors"]


@pytest.mark.parametrize(
    ("proto", "options", "why"),
    [
        (conv(normal(24, 4, 3, 3), group=4), "least=1", "a grouped convolution has a matrix for each group"),
        (conv(normal(16, 1, 3, 3), group=16), "least=1", "a grouped convolution has a matrix for each group"),
        (conv(SPATIAL, dilations=[2, 2]), "conv=spatial", "a dilated convolution has no spatial factors"),
        (conv(SPATIAL), "conv=spatial,rank=0.9", "two factors of rank 43 would not save multiply-accumulates"),
    ],
    ids=["grouped", "depthwise", "dilated", "no saving"],
)
def test_convolutions_that_stay(proto: onnx.ModelProto, options: str, why: str) -> None:
    (record,) = passes.run(ir.load(proto), f"{PASS}{{{options}}}" if options else PASS)
    assert not record.rewrites
    assert record.notes == [f"conv: {why}"]


def test_a_width_that_is_not_known() -> None:
    """With a window that takes more columns than it gives, the first factor works on more than the second."""
    for pads, rewrites in (([0, 0, 0, 0], 0), ([1, 1, 1, 1], 1)):
        made = [node("Conv", ["x", "w"], ["y"], "conv", pads=pads)]
        proto = net(made, {"w": SPATIAL}, x=("N", 16, "H", "W"))
        (record,) = passes.run(ir.load(proto), f"{PASS}{{conv=spatial,rank=0.125}}")
        assert len(record.rewrites) == rewrites
        assert record.notes == ([] if rewrites else ["conv: the width of what it takes is not known"])


@pytest.mark.parametrize(
    "nodes",
    [
        [*MATMUL, node("Relu", ["w"], ["z"])],
        [node("Gather", ["w", "i"], ["z"]), *MATMUL],
        [*MATMUL, node("Gemm", ["x", "w"], ["z"], transB=1)],
        [node("Gemm", ["x", "w", "w"], ["y"]), node("Neg", ["y"], ["z"])],
    ],
    ids=["another reader", "a table", "transposed", "its own bias"],
)
def test_weights_that_something_else_reads(nodes: list[NodeProto]) -> None:
    proto = net(nodes, {"w": low(64, 64, 4), "i": np.array([1])}, x=(64, 64), outputs=("y", "z"))
    (record,) = passes.run(ir.load(proto), PASS)
    assert not record.rewrites
    assert record.notes


def test_outputs_and_inputs() -> None:
    untouched(net(MATMUL, {"w": W}, x=("N", 64), outputs=("y", "w")), PASS)
    proto = product()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    untouched(proto, PASS)


def test_two_thin_products_are_factors_already() -> None:
    nodes = [node("MatMul", ["x", "a"], ["h"], "first"), node("MatMul", ["h", "b"], ["y"], "second")]
    proto = net(nodes, {"a": normal(64, 16), "b": normal(16, 64)}, x=("N", 64))
    untouched(proto, f"{PASS}{{rank=0.25,least=1}}")
    wide = net(nodes, {"a": low(64, 96, 8), "b": low(96, 64, 8)}, x=("N", 64))
    after, record = quantized(wide, f"{PASS}{{rank=0.125,least=1}}")
    assert len(record.rewrites) == 2
    assert far(results(wide, X), results(after, X)) < 1e-4
    both = net(nodes, {"a": normal(64, 16), "b": normal(16, 64)}, x=("N", 64), outputs=("y", "h"))
    assert passes.run(ir.load(both), f"{PASS}{{rank=0.25,least=1}}")[0].rewrites


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no Gram matrix was kept of it; planish calibrate --grams keeps them"),
        (
            Gram(np.eye(8)[None], np.zeros((1, 8)), 4),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
    ],
    ids=["none", "other"],
)
def test_matrices_that_do_not_fit(given: Gram | None, why: str) -> None:
    wanted = Factorize(ranges=Calibration({}, {} if given is None else {"x": given}))
    (record,) = passes.run(ir.load(product()), (wanted,))
    assert not record.rewrites
    assert record.notes == [f"product: {why}"]


def test_only_least_strict_and_limits() -> None:
    untouched(product(), PASS, fp="strict")
    untouched(product(), f"{PASS}{{least=10000}}")
    untouched(product(), f"{PASS}{{exclude=prod*}}")
    untouched(product(), f"{PASS}{{only=Conv}}")
    assert len(quantized(product(), f"{PASS}{{only=product}}")[1].rewrites) == 1
    assert not passes.run(ir.load(product()), PASS, limit=0)[0].rewrites


@pytest.mark.parametrize(
    "option", ["rank=1", "rank=-0.1", "rank=nan", "error=1", "error=-1", "error=inf", "rank=0.5,error=0.5"]
)
def test_options_that_mean_nothing(option: str) -> None:
    with pytest.raises(PipelineError, match="factorize takes"):
        passes.parse(f"{PASS}{{{option}}}")
