"""sparsify: which weights become zero, that nothing else does, what makes up for them, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish import ir, passes
from planish.ir import DType
from planish.ir.load_tensor import SparseTensor
from planish.passes import PipelineError
from tests.equivalence import untouched
from tests.passes.quantize.quantized import Array, Doubles, net, node, normal, quantized, results
from tests.passes.sparsify.sparse import (
    CONVS,
    PASS,
    PRODUCT,
    W,
    X,
    conv,
    product,
    sparse,
    weight_of,
)


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
        ("ratio=0", "ratio above 0"),
        ("threshold=0", "threshold above 0"),
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
