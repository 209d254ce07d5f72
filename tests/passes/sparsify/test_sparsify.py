"""sparsify: which weights become zero, that nothing else does, what makes up for them, and what is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes, runtime
from planish.ir import DType
from planish.ir.load_tensor import SparseTensor
from planish.passes import PassRecord, PipelineError
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import Gram
from planish.passes.sparsify.sparsify import Sparsify
from tests.equivalence import untouched
from tests.passes.quantize.quantized import Array, Doubles, far, net, node, normal, quantized, results
from tests.passes.sparsify.inputs import correlated, gram, loss

PASS = "sparsify"
W = normal(64, 40)
X = normal(3, 64, seed=5)
PRODUCT = [node("MatMul", ["x", "w"], ["y"], "product")]


def product(w: Array = W) -> onnx.ModelProto:
    return net(PRODUCT, {"w": w}, x=("N", w.shape[0]))


def weight_of(proto: onnx.ModelProto, name: str = "w") -> NDArray[np.float32]:
    (found,) = {
        value.constant for node in ir.load(proto).nodes for value in node.operands if value and value.name == name
    }
    assert found is not None
    return np.asarray(found.array(), np.float32)


def sparse(proto: onnx.ModelProto, options: str) -> onnx.ModelProto:
    after, record = quantized(proto, f"{PASS}{{least=1,{options}}}")
    assert [rewrite.rule for rewrite in record.rewrites] == ["zeros"]
    return after


def with_ranges(proto: onnx.ModelProto, wanted: Sparsify) -> tuple[onnx.ModelProto, PassRecord]:
    """A second run changes nothing."""
    graph = ir.load(proto)
    (record,) = passes.run(graph, (wanted,))
    after = ir.emit(graph)
    assert not passes.run(ir.load(after), (wanted,))[0].rewrites
    return after, record


def asked(options: str, ranges: Calibration | None = None) -> Sparsify:
    (plain,) = passes.parse(f"{PASS}{{{options}}}")
    assert isinstance(plain, Sparsify)
    return replace(plain, ranges=ranges)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.9])
def test_so_many_of_the_least_become_zero_and_the_others_stay(ratio: float) -> None:
    after = sparse(product(), f"ratio={ratio}")
    found = weight_of(after)
    gone = found == 0
    assert gone.sum() == round(ratio * W.size)
    assert np.array_equal(found[~gone], W[~gone])
    assert np.abs(W[gone]).max() < np.abs(W[~gone]).min()
    np.testing.assert_allclose(results(after, X), X @ np.where(gone, 0, W), rtol=1e-4, atol=1e-5)


def test_half_by_default_and_all_of_it() -> None:
    assert np.mean(weight_of(quantized(product(), PASS)[0]) == 0) == 0.5
    assert not weight_of(sparse(product(), "ratio=1")).any()


def test_a_threshold() -> None:
    found = weight_of(sparse(product(), "threshold=0.7"))
    assert np.array_equal(found, np.where(np.abs(W) < 0.7, 0, W))
    untouched(product(), f"{PASS}{{threshold=1e-30}}")


@pytest.mark.parametrize(("pattern", "keep", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("3:8", 3, 8), ("1:2", 1, 2)])
def test_n_of_every_m_along_the_inputs(pattern: str, keep: int, of: int) -> None:
    found = weight_of(sparse(product(), f"pattern={pattern}"))
    counts = np.count_nonzero(found.reshape(-1, of, 40), axis=1)
    assert (counts == keep).all()
    groups, kept = np.abs(W).reshape(-1, of, 40), found.reshape(-1, of, 40) != 0
    assert (np.where(kept, groups, np.inf).min(axis=1) >= np.where(kept, 0, groups).max(axis=1)).all()


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize(
    ("options", "axis"), [("pattern=row", 1), ("pattern=column", 0), ("pattern=block,block=1x40", 1)]
)
def test_rows_and_columns(options: str, axis: int, transposed: int) -> None:
    """Of the matrix by which inputs are multiplied, however it is stored."""
    stored = np.ascontiguousarray(W.T) if transposed else W
    gemm = net([node("Gemm", ["x", "w"], ["y"], transB=transposed)], {"w": stored}, x=("N", 64))
    after = sparse(gemm, f"ratio=0.25,{options}")
    found = weight_of(after).T if transposed else weight_of(after)
    norms, gone = np.linalg.norm(W, axis=axis), ~found.any(axis=axis)
    assert gone.sum() == len(norms) // 4
    assert norms[gone].max() < norms[~gone].min()
    np.testing.assert_allclose(results(after, X), X @ found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 40), (66, 43), (3, 5), (4, 1), (1, 4)])
def test_blocks_that_do_not_fill(shape: tuple[int, int]) -> None:
    w = normal(*shape)
    blocks = [w[i : i + 4, j : j + 3] for i in range(0, shape[0], 4) for j in range(0, shape[1], 3)]
    if w.size // 2 < max(block.size for block in blocks):
        untouched(product(w), f"{PASS}{{ratio=0.5,pattern=block,block=4x3,least=1}}")
        return
    found = weight_of(sparse(product(w), "ratio=0.5,pattern=block,block=4x3"))
    now = [found[i : i + 4, j : j + 3] for i in range(0, shape[0], 4) for j in range(0, shape[1], 3)]
    gone = [not block.any() for block in now]
    assert sum(gone) == len(blocks) // 2
    sizes = [float(np.sqrt(np.mean(block.astype(np.float64) ** 2))) for block in blocks]
    assert max(s for s, g in zip(sizes, gone, strict=True) if g) <= min(
        s for s, g in zip(sizes, gone, strict=True) if not g
    )


CONVS: Mapping[str, tuple[NDArray[np.float32], Mapping[str, int | list[int]]]] = {
    "plain": (normal(24, 16, 3, 3), {}),
    "grouped": (normal(24, 4, 3, 3), {"group": 4}),
    "dilated": (normal(24, 16, 3, 3), {"dilations": [2, 2]}),
    "depthwise": (normal(16, 1, 3, 3), {"group": 16}),
    "pointwise": (normal(24, 16, 1, 1), {}),
}


def conv(name: str, w: Array | None = None) -> onnx.ModelProto:
    made = node("Conv", ["x", "w"], ["y"], "conv")
    made.attribute.extend([helper.make_attribute(key, value) for key, value in CONVS[name][1].items()])
    return net([made], {"w": CONVS[name][0] if w is None else w}, x=("N", 16, 9, 9))


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("options", ["ratio=0.6", "ratio=0.5,pattern=row", "ratio=0.5,pattern=column", "pattern=2:4"])
def test_convolutions(name: str, options: str) -> None:
    """Rows are inputs at a place of the window, columns filters; N:M goes along the channels."""
    w = CONVS[name][0]
    if options == "pattern=2:4" and name == "depthwise":
        graph = ir.load(conv(name))
        (record,) = passes.run(graph, f"{PASS}{{{options},least=1}}")
        assert record.notes == ["conv: 2:4 does not divide its 1 input channels"]
        return
    after = sparse(conv(name), options)
    found = weight_of(after)
    assert np.array_equal(found, np.where(found == 0, 0, w))
    if options == "pattern=2:4":
        assert (np.count_nonzero(found.reshape(24, -1, 4, *w.shape[2:]), axis=2) == 2).all()
    elif "row" in options:
        assert (~found.any(axis=0)).sum() == np.prod(w.shape[1:]) // 2
    elif "column" in options:
        assert (~found.any(axis=(1, 2, 3))).sum() == len(w) // 2
    x = normal(2, 16, 9, 9, seed=3)
    assert np.array_equal(results(after, x), results(conv(name, found), x))


def two_products(a: Array, b: Array) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "a"], ["h"], "first"), node("MatMul", ["h", "b"], ["y"], "second")]
    return net(nodes, {"a": a, "b": b}, x=("N", a.shape[0]))


@pytest.mark.parametrize("pattern", ["unstructured", "row", "column", "block"])
def test_globally_the_small_ones_go_first(pattern: str) -> None:
    proto = two_products(normal(32, 32), normal(32, 64, seed=1, scale=1e-5))
    block = ",block=4x4" if pattern == "block" else ""
    after, record = quantized(proto, f"{PASS}{{ratio=0.6,scope=global,least=1,pattern={pattern}{block}}}")
    assert len(record.rewrites) == 1
    assert np.array_equal(weight_of(after, "a"), weight_of(proto, "a"))
    gone = (weight_of(after, "b") == 0).sum()
    assert 0.6 * 3 * 1024 - 64 < gone <= 0.6 * 3 * 1024


def test_globally_over_both() -> None:
    proto = two_products(normal(32, 32), normal(32, 64, seed=1, scale=0.5))
    after, record = quantized(proto, f"{PASS}{{ratio=0.5,scope=global,least=1}}")
    assert len(record.rewrites) == 2
    old, new = ([weight_of(each, name).reshape(-1) for name in "ab"] for each in (proto, after))
    before, found = np.concatenate(old), np.concatenate(new)
    assert (found == 0).sum() == before.size // 2
    assert np.abs(before[found == 0]).max() < np.abs(before[found != 0]).min()


def test_only_and_exclude() -> None:
    proto = two_products(normal(32, 32), normal(32, 64))
    for options in ("only=first", "exclude=second", "only=a"):
        after, record = quantized(proto, f"{PASS}{{{options}}}")
        assert len(record.rewrites) == 1
        assert weight_of(after, "b").all()
    assert len(quantized(proto, f"{PASS}{{least=2000}}")[1].rewrites) == 1


# With Gram matrices


@pytest.mark.parametrize("options", ["ratio=0.5", "pattern=2:4", "pattern=row", "pattern=block,block=4x4"])
def test_making_up_beats_norms_and_norms_beat_magnitude(options: str) -> None:
    """On the inputs of the matrix, and on others of the same kind."""
    x, unseen = correlated(2048, 64, 1), correlated(512, 64, 2)
    ranges = Calibration({}, {"x": gram(x)})
    found = {
        name: weight_of(with_ranges(product(), asked(f"{options},update={update}", given))[0])
        for name, given, update in (
            ("magnitude", None, "none"),
            ("norms", ranges, "none"),
            ("made up for", ranges, "obs"),
        )
    }
    share = {name: np.count_nonzero(w) / w.size for name, w in found.items()}
    assert share == dict.fromkeys(found, 0.5)
    for inputs in (x, unseen):
        lost = {name: loss(W, w, inputs) for name, w in found.items()}
        assert lost["made up for"] < 0.5 * lost["norms"]
        assert lost["norms"] < lost["magnitude"]


@pytest.mark.parametrize("update", ["obs", "none"])
@pytest.mark.parametrize("options", ["threshold=0.5", "threshold=2", "ratio=0.7,scope=global"])
def test_a_second_run_changes_nothing_with_ranges_either(update: str, options: str) -> None:
    x = correlated(256, 64, 1)
    wanted = asked(f"{options},update={update}", Calibration({}, {"x": gram(x)}))
    after, record = with_ranges(product(), wanted)
    assert len(record.rewrites) == 1
    assert (weight_of(after) == 0).any()


@pytest.mark.parametrize("name", CONVS)
def test_convolutions_make_up_for_zeros(name: str) -> None:
    proto = conv(name)
    feeds: list[dict[str, Array]] = [
        {"x": correlated(81, 16, seed).T.reshape(1, 16, 9, 9).astype(np.float32)} for seed in range(12)
    ]
    ranges = runtime.calibrate(ir.load(proto), feeds[:9], grams=["y"])
    errors: dict[str, float] = {}
    for update, given in (("none", None), ("obs", ranges)):
        after, record = with_ranges(proto, asked(f"update={update},least=1", given))
        assert not record.notes
        assert np.mean(weight_of(after) == 0) == 0.5
        errors[update] = sum(far(results(proto, feed["x"]), results(after, feed["x"])) for feed in feeds[9:])
    assert errors["obs"] < errors["none"]


def test_zeros_stay_zeros() -> None:
    w = np.where(normal(64, 40, seed=3) > 0, W, 0).astype(np.float32)
    x = correlated(256, 64, 1)
    found = weight_of(with_ranges(product(w), Sparsify(ratio=0.7, ranges=Calibration({}, {"x": gram(x)})))[0])
    assert (found == 0).mean() == pytest.approx(0.7, abs=1e-3)
    assert not found[w == 0].any()


@pytest.mark.parametrize("inputs", ["zeros", "one row", "huge", "tiny"])
def test_hostile_inputs(inputs: str) -> None:
    x = correlated(100, 64, 1)
    given = {"zeros": 0 * x, "one row": x[:1], "huge": 1e30 * x, "tiny": 1e-30 * x}[inputs]
    after, record = with_ranges(product(), Sparsify(ranges=Calibration({}, {"x": gram(given)})))
    assert len(record.rewrites) == 1
    found = weight_of(after)
    assert np.isfinite(found).all()
    assert np.mean(found == 0) == 0.5


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no Gram matrix was kept of it; planish calibrate --grams keeps them"),
        (
            Gram(np.eye(8)[None], np.zeros((1, 8)), 4),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
        (
            Gram(np.eye(64)[None], np.zeros((1, 64)), 0),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
        (
            Gram(np.full((1, 64, 64), np.nan), np.zeros((1, 64)), 4),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
    ],
    ids=["none", "other", "empty", "nan"],
)
def test_matrices_that_do_not_fit(given: Gram | None, why: str) -> None:
    graph = ir.load(product())
    (record,) = passes.run(graph, (Sparsify(ranges=Calibration({}, {} if given is None else {"x": given})),))
    assert not record.rewrites
    assert record.notes == [f"product: {why}"]


def test_a_shared_weight_is_for_the_inputs_of_all_its_readers() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["x"], ["r"]),
        node("Gemm", ["r", "w"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    proto = net(nodes, {"w": W}, x=("N", 64))
    x = correlated(256, 64, 1)
    ranges = Calibration({}, {"x": gram(x), "r": gram(np.maximum(x, 0))})
    after, record = with_ranges(proto, Sparsify(ranges=ranges))
    assert len(record.rewrites) == 2
    assert len(after.graph.initializer) == 1
    both = np.vstack([x, np.maximum(x, 0)])
    alone = weight_of(with_ranges(product(), Sparsify(ranges=Calibration({}, {"x": gram(x)})))[0])
    assert loss(W, weight_of(after), both) < loss(W, alone, both)


# What is left alone


@pytest.mark.parametrize(
    "nodes",
    [
        [*PRODUCT, node("Relu", ["w"], ["z"])],
        [node("Gather", ["w", "i"], ["z"]), *PRODUCT],
        [*PRODUCT, node("Gemm", ["x", "w"], ["q"], transB=1), node("Sub", ["q", "q"], ["z"])],
        [node("Gemm", ["x", "w", "w"], ["y"]), node("Neg", ["y"], ["z"])],
    ],
    ids=["another reader", "a table", "transposed", "its own bias"],
)
def test_weights_that_something_else_reads(nodes: list[onnx.NodeProto]) -> None:
    w = normal(16, 16)
    proto = net(nodes, {"w": w, "i": np.array([1])}, x=(16, 16), outputs=("y", "z"))
    graph = ir.load(proto)
    (record,) = passes.run(graph, f"{PASS}{{ratio=0.5,least=1}}")
    assert not record.rewrites
    assert len(record.notes) >= 1


def test_a_weight_that_is_an_output() -> None:
    proto = net(PRODUCT, {"w": W}, x=("N", 64), outputs=("y", "w"))
    untouched(proto, f"{PASS}{{ratio=0.5}}")


def test_an_overridable_weight() -> None:
    proto = product()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    untouched(proto, f"{PASS}{{ratio=0.5}}")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_weights_that_are_not_finite(bad: float, scope: str) -> None:
    w = W.copy()
    w[3, 4] = bad
    untouched(product(w), f"{PASS}{{ratio=0.5,scope={scope}}}")
    (record,) = passes.run(ir.load(product(w)), f"{PASS}{{ratio=0.5,scope={scope}}}")
    assert record.notes == ["product: not all weights are finite"]


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize(
    "w",
    [np.zeros((64, 40)), np.zeros((0, 4)), np.zeros((4, 0)), np.zeros((0, 0)), np.ones((1, 1)), -np.zeros((8, 8))],
    ids=["zeros", "no rows", "no columns", "nothing", "one", "negative zeros"],
)
def test_nothing_to_do(w: Doubles, scope: str) -> None:
    untouched(product(w.astype(np.float32)), f"{PASS}{{ratio=0.5,least=0,scope={scope}}}")


@pytest.mark.parametrize("shape", [(3, 8), (1, 8), (6, 8), (65, 3)])
def test_rows_that_n_of_m_does_not_divide(shape: tuple[int, int]) -> None:
    untouched(product(normal(*shape)), f"{PASS}{{pattern=2:4,least=1}}")
    (record,) = passes.run(ir.load(product(normal(*shape))), f"{PASS}{{pattern=2:4,least=1}}")
    assert record.notes == [f"product: 2:4 does not divide its {shape[0]} input channels"]


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_numbers(dtype: int) -> None:
    w = W.astype(np.float16 if dtype == TensorProto.FLOAT16 else np.float64)
    proto = net(PRODUCT, {"w": w}, x=("N", 64), dtype=dtype, result=dtype)
    (record,) = passes.run(ir.load(proto), PASS)
    assert not record.rewrites
    assert record.notes == ["product: its weights are not of float32"]


def test_strict_keeps_it_out_and_limits_hold() -> None:
    untouched(product(), PASS, fp="strict")
    graph = ir.load(two_products(normal(32, 32), normal(32, 64)))
    (record,) = passes.run(graph, PASS, limit=1)
    assert len(record.rewrites) == 1


@pytest.mark.parametrize("extreme", [3e38, 1e-45])
def test_extreme_weights(extreme: float) -> None:
    w = np.where(W > 0, extreme, -extreme).astype(np.float32)
    found = weight_of(sparse(product(w), "ratio=0.5"))
    assert (found == 0).sum() == w.size // 2
    assert np.array_equal(found, np.where(found == 0, 0, w))


# How it is stored


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Conv"])
def test_sparse_storage(op: str, tmp_path: Path) -> None:
    proto = conv("plain") if op == "Conv" else net([node(op, ["x", "w"], ["y"])], {"w": W}, x=("N", 64))
    after = sparse(proto, "ratio=0.9,storage=sparse")
    assert not after.graph.initializer
    assert [node.op_type for node in after.graph.node] == ["Constant", op]
    assert len(after.SerializeToString()) < 0.4 * len(proto.SerializeToString())
    dense = sparse(proto, "ratio=0.9")
    x = normal(2, 16, 9, 9) if op == "Conv" else X
    assert np.array_equal(results(after, x), results(dense, x))
    ir.save(ir.load(after), tmp_path / "out.onnx")
    assert np.array_equal(results(onnx.load_from_string((tmp_path / "out.onnx").read_bytes()), x), results(dense, x))
    again, record = quantized(dense, f"{PASS}{{ratio=0.9,storage=sparse,least=1}}")
    assert len(record.rewrites) == 1
    assert np.array_equal(weight_of(again), weight_of(dense))


def test_sparse_storage_only_where_it_is_smaller() -> None:
    assert sparse(product(), "ratio=0.6,storage=sparse").graph.initializer
    assert not sparse(product(), "ratio=0.7,storage=sparse").graph.initializer


def test_an_old_model_stays_dense() -> None:
    """Constant's sparse_value came with opset 11."""
    proto = product()
    proto.ir_version, proto.opset_import[0].version = 4, 10
    assert sparse(proto, "ratio=0.9,storage=sparse").graph.initializer


def test_sparse_storage_stays_through_other_passes() -> None:
    graph = ir.load(product())
    passes.run(graph, f"{PASS}{{ratio=0.9,storage=sparse}},deploy")
    after = ir.emit(graph)
    assert not after.graph.initializer
    np.testing.assert_allclose(results(after, X), X @ weight_of(after), rtol=1e-4, atol=1e-5)
    old = ir.emit(graph, opset=10)
    assert old.graph.sparse_initializer
    assert np.array_equal(results(old, X), results(after, X))


def test_all_zeros_are_stored_as_none() -> None:
    after = sparse(product(), "ratio=1,storage=sparse")
    assert not results(after, X).any()


def test_a_nested_graph() -> None:
    b = ir.Builder()
    x, flag = b.input("x", DType.FLOAT, ("N", 64)), b.input("c", DType.BOOL, ())
    inner, other = b.body("then"), b.body("else")
    inner.output("a", inner.node("MatMul", (x, b.initializer("w", W))))
    other.output("b", other.node("MatMul", (x, b.initializer("v", -W))))
    b.output("y", b.node("If", (flag,), {"then_branch": inner.graph(), "else_branch": other.graph()}))
    graph = b.graph()
    (record,) = passes.run(graph, f"{PASS}{{ratio=0.5}}")
    assert len(record.rewrites) == 2
    assert not any(value.constant and isinstance(value.constant, SparseTensor) for value in graph.initializers)
    assert all((numpy_helper.to_array(t) == 0).mean() == 0.5 for t in ir.emit(graph).graph.initializer)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ("ratio=-0.1", "ratio above 0 and up to 1"),
        ("ratio=1.1", "ratio above 0 and up to 1"),
        ("ratio=nan", "ratio above 0 and up to 1"),
        ("threshold=-1", "threshold above 0"),
        ("threshold=inf", "threshold above 0"),
        ("ratio=0.5,threshold=1", "not both"),
        ("ratio=0.5,pattern=2:4", "leave out ratio"),
        ("threshold=0.5,pattern=2:4", "leave out threshold"),
        ("pattern=4:4", "0 < N < M"),
        ("pattern=0:4", "0 < N < M"),
        ("pattern=rows", "pattern as unstructured"),
        ("pattern=block", "ROWSxCOLUMNS"),
        ("pattern=block,block=0x4", "ROWSxCOLUMNS"),
        ("block=4x4", "block with pattern=block"),
        ("threshold=1,scope=global", "scope=global with a ratio"),
        ("pattern=2:4,scope=global", "scope=global with a ratio"),
        ("update=all", "one of obs, none"),
    ],
)
def test_options_that_mean_nothing(option: str, match: str) -> None:
    with pytest.raises(PipelineError, match=match):
        passes.parse(f"{PASS}{{{option}}}")


def test_the_pipelines_text_reads_back() -> None:
    stages = passes.parse(f"{PASS}{{ratio=0.25,pattern=block,block=4x4,storage=sparse}},{PASS}{{pattern=2:4}}")
    assert passes.parse(passes.format_pipeline(stages)) == stages
