"""Weights as codes: in which form, how near, how small, and what is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from planish import ir, passes
from planish.passes import PipelineError
from planish.passes.kernels import kernels_for
from planish.passes.quantize.calibration_file import save_calibration
from planish.runtime.calibrate import calibrate
from tests.equivalence import op_types, untouched
from tests.passes.quantize.quantized import (
    Array,
    far,
    fused_kernels,
    initializers,
    net,
    node,
    normal,
    quantized,
    results,
)

PASS = "quantize-weights"
ANY = f"{PASS}{{least=1,bits=8,block=16}}"
ALLOWED = kernels_for("cpu", ["com.microsoft"])
W = normal(64, 40, scale=0.1)
X = normal(3, 64, seed=5)
PRODUCT = [node("MatMul", ["x", "w"], ["y"], "product")]


def product(w: Array = W, opset: int = 21) -> onnx.ModelProto:
    return net(PRODUCT, {"w": w}, x=("N", w.shape[0]), opset=opset)


@pytest.mark.parametrize(("options", "most"), [("bits=8", 0.006), ("bits=4", 0.08), ("bits=4,symmetric=true", 0.11)])
@pytest.mark.parametrize("form", ["folded", "dq", "auto"])
def test_how_near(options: str, most: float, form: str) -> None:
    proto = product()
    after, _ = quantized(proto, f"{PASS}{{{options},form={form}}}", kernels=ALLOWED)
    first = {"folded": "Cast", "dq": "DequantizeLinear", "auto": "MatMulNBits"}
    assert op_types(after.graph)[0] == first[form]
    assert 0 < far(results(proto, X), results(after, X)) < most
    size, before = len(after.SerializeToString()), len(proto.SerializeToString())
    assert size < before * (0.28 if "4" in options else 0.45)


@pytest.mark.parametrize("options", ["", ",bits=8", ",symmetric=true", ",bits=8,block=64", ",block=0", ",block=16"])
@pytest.mark.parametrize("rows", [64, 63])
@pytest.mark.parametrize("transposed", [0, 1])
def test_all_forms_say_the_same(options: str, rows: int, transposed: int) -> None:
    w = W[:rows]
    gemm = node("Gemm", ["x", "w"], ["y"], transB=transposed)
    for nodes, weight in ((PRODUCT, w), ([gemm], np.ascontiguousarray(w.T) if transposed else w)):
        proto = net(nodes, {"w": weight}, x=("N", rows))
        dq, folded, packed = (
            results(quantized(proto, f"{PASS}{{form={form}{options}}}", kernels=ALLOWED)[0], X[:, :rows])
            for form in ("dq", "folded", "auto")
        )
        assert np.array_equal(dq, folded)
        assert far(dq, packed) < 1e-6


@pytest.mark.parametrize("options", ["", ",block=16", ",block=0", ",symmetric=true"])
def test_folded_weights_are_worked_out_when_the_model_opens(options: str, tmp_path: Path) -> None:
    after, _ = quantized(product(W[:63]), f"{PASS}{{form=folded{options}}}")
    assert fused_kernels(after, tmp_path) == ["MatMul"]


def test_another_domain_only_where_it_is_allowed() -> None:
    untouched(product(), f"{PASS}{{form=matmulnbits}}")
    assert op_types(quantized(product(), PASS)[0].graph)[-1] == "MatMul"
    after, _ = quantized(product(), f"{PASS}{{accuracy=4}}", kernels=ALLOWED)
    assert {a.name: a.i for a in after.graph.node[0].attribute} == {
        "K": 64, "N": 40, "bits": 4, "block_size": 32, "accuracy_level": 4,
    }  # fmt: skip
    assert {each.domain for each in after.opset_import} == {"", "com.microsoft"}


def test_the_opset_rises_and_is_said() -> None:
    after, record = quantized(product(opset=12), f"{PASS}{{bits=8,block=0,symmetric=true,form=dq}}")
    assert (after.opset_import[0].version, record.opset) == (13, 13)
    after, record = quantized(product(opset=17), PASS)
    assert (after.opset_import[0].version, record.opset) == (21, 21)
    graph = ir.load(product(opset=17))
    (kept,) = passes.run(graph, PASS, newest_opset=17)
    assert not kept.rewrites


@pytest.mark.parametrize("shape", [(1, 1), (33, 3), (65, 1), (7, 5), (16, 2), (17, 1)])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("form", ["dq", "folded", "auto"])
def test_odd_shapes(shape: tuple[int, int], bits: int, form: str) -> None:
    """Blocks that the rows do not fill; where codes would not be smaller, nothing happens."""
    proto = product(np.abs(normal(*shape)))
    after, _ = quantized(proto, f"{PASS}{{least=1,block=16,bits={bits},form={form}}}", kernels=ALLOWED)
    x = np.abs(normal(3, shape[0]))
    assert far(results(proto, x), results(after, x)) < 0.06
    assert len(after.SerializeToString()) < len(proto.SerializeToString()) + 800


@pytest.mark.parametrize("rows", [0, 4])
def test_empty_weights_stay(rows: int) -> None:
    untouched(product(np.zeros((rows, 0), np.float32)), f"{PASS}{{least=0}}")


CONV = {
    "plain": (normal(24, 16, 3, 3), 1),
    "grouped": (normal(24, 4, 3, 3), 4),
    "depthwise": (normal(16, 1, 3, 3), 16),
    "pointwise": (normal(24, 16, 1, 1), 1),
}


@pytest.mark.parametrize(("w", "group"), CONV.values(), ids=CONV)
@pytest.mark.parametrize("rounding", ["nearest", "gram", "hqq"])
def test_convolutions_have_a_scale_for_each_channel(w: Array, group: int, rounding: str, tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w", "b"], ["y"], group=group, pads=[1] * 4 if w.shape[2] == 3 else [0] * 4)
    proto = net([conv], {"w": w, "b": normal(len(w))}, x=("N", 16, 7, 7))
    model, cal = tmp_path / "m.onnx", tmp_path / "cal.json"
    model.write_bytes(proto.SerializeToString())
    feeds = [{"x": normal(2, 16, 7, 7, seed=s)} for s in range(4)]
    save_calibration(calibrate(model, feeds, grams=("x",)), cal)
    after, record = quantized(proto, f"{PASS}{{least=1,form=dq,rounding={rounding},ranges={cal}}}")
    assert not record.notes
    assert initializers(after)["w_codes"] == ("UINT4", w.shape)
    assert initializers(after)["w_scale"] == ("FLOAT", (len(w),))
    x = feeds[0]["x"]
    assert far(results(proto, x), results(after, x)) < 0.12
    blocked, _ = quantized(proto, f"{PASS}{{least=1,block=16,form=folded,rounding={rounding},ranges={cal}}}")
    if w[0].size > 16:
        assert far(results(proto, x), results(blocked, x)) < far(results(proto, x), results(after, x))
        assert set(fused_kernels(blocked, tmp_path)) <= {"Conv", "ReorderInput", "ReorderOutput"}


def test_gram_and_hqq_are_nearer(tmp_path: Path) -> None:
    """By Gram matrices where inputs go together; by learned zero points where the distribution is lopsided."""
    mix = normal(64, 64, seed=8)
    mix[:, 8:] *= 0.1
    inputs = [{"x": normal(64, 64, seed=s) @ mix} for s in range(12)]
    proto = product(np.random.default_rng(0).standard_t(2, (64, 40)).astype(np.float32))
    model, cal = tmp_path / "m.onnx", tmp_path / "cal.json"
    model.write_bytes(proto.SerializeToString())
    save_calibration(calibrate(model, inputs[:-1], grams=("x",)), cal)
    x = inputs[-1]["x"]
    before = results(proto, x)
    found = {
        rounding: far(before, results(quantized(proto, f"{PASS}{{rounding={rounding},ranges={cal}}}")[0], x))
        for rounding in ("nearest", "gram", "hqq")
    }
    assert found["gram"] < 0.7 * found["nearest"]
    assert found["hqq"] <= 1.05 * found["nearest"]


TABLE = normal(300, 24)
LOOKUP = [node("Gather", ["table", "x"], ["y"], "lookup")]


def lookup(nodes: list[NodeProto], weights: Mapping[str, Array], outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    return net(nodes, weights, x=("N", "L"), dtype=TensorProto.INT64, outputs=outputs, rank=3)


IDS = np.array([[0, 299, -1, -300], [7, 7, 8, 9]])


@pytest.mark.parametrize("opset", [11, 21])
def test_embeddings_are_looked_up_as_codes(opset: int) -> None:
    table = TABLE.copy()
    table[7] *= 1000  # a row of its own size spoils no other one
    table[8] = 0
    proto = lookup(LOOKUP, {"table": table})
    proto.opset_import[0].version = opset
    after, record = quantized(proto, PASS)
    assert op_types(after.graph) == ["Gather", "Cast", "Gather", "Mul"]
    assert record.opset is None
    assert len(after.SerializeToString()) < 0.35 * len(proto.SerializeToString())
    error = np.abs(results(after, IDS) - results(proto, IDS))
    assert (error <= np.abs(table[IDS]).max(axis=-1, keepdims=True) / 253).all()


def test_embeddings_may_stay() -> None:
    untouched(lookup(LOOKUP, {"table": TABLE}), f"{PASS}{{embeddings=false}}")
    untouched(lookup([node("Gather", ["table", "x"], ["y"], axis=1)], {"table": TABLE}), PASS)
    untouched(lookup(LOOKUP, {"table": TABLE[:, :1]}), f"{PASS}{{least=1}}")  # a number and a scale are no gain


TIED = [*LOOKUP, node("Neg", ["y"], ["n"]), node("Reshape", ["n", "flat"], ["f"])]


@pytest.mark.parametrize("form", ["dq", "auto"])
def test_a_table_that_is_the_output_projection_too_is_stored_once(form: str) -> None:
    nodes = [*TIED, node("Gemm", ["f", "table"], ["g"], transB=1), node("Unsqueeze", ["g", "zero"], ["z"])]
    weights = {"table": TABLE, "flat": np.array([-1, 24]), "zero": np.array([0])}
    proto = lookup(nodes, weights, outputs=("z",))
    after, record = quantized(proto, f"{PASS}{{form={form}}}", kernels=ALLOWED)
    assert len(record.rewrites) == 2
    assert [name for name, (kind, _) in initializers(after).items() if kind == "INT8"] == ["table_codes"]
    assert "table" not in initializers(after)
    assert far(results(proto, IDS), results(after, IDS)) < 0.01


def test_a_table_that_something_else_reads_stays() -> None:
    nodes = [*LOOKUP, node("ReduceSum", ["table", "zero"], ["s"]), node("Add", ["y", "s"], ["z"])]
    proto = lookup(nodes, {"table": TABLE, "zero": np.array([0])}, outputs=("z",))
    untouched(proto, PASS)
    nodes = [*TIED, node("MatMul", ["f", "table"], ["g"]), node("Unsqueeze", ["g", "zero"], ["z"])]
    square = {"table": normal(24, 24), "flat": np.array([-1, 24]), "zero": np.array([0])}
    untouched(lookup(nodes, square, outputs=("z",)), f"{PASS}{{least=1}}")  # rows here, columns there


def test_a_shared_weight_is_stored_once() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"]), node("Gemm", ["r", "w"], ["y"])]
    for kernels in (None, ALLOWED):
        proto = net(nodes, {"w": normal(64, 64)}, x=("N", 64))
        after, _ = quantized(proto, PASS, kernels=kernels)
        kinds = [kind for kind, _ in initializers(after).values()]
        assert kinds.count("FLOAT") <= 2
        assert far(results(proto, X), results(after, X)) < 0.12


def test_weights_of_an_if_body() -> None:
    bodies = [
        helper.make_graph(
            [node("MatMul", ["x", "w"], [f"{name}_p"]), node(op, [f"{name}_p"], [f"{name}_y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [None, None])],
        )
        for name, op in (("then", "Neg"), ("else", "Abs"))
    ]
    nodes = [
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Less", ["total", "zero"], ["negative"]),
        node("If", ["negative"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    proto = net(nodes, {"w": W, "zero": np.zeros((), np.float32)}, x=("N", 64))
    after, record = quantized(proto, ANY)
    assert len(record.rewrites) == 2
    assert "w" not in initializers(after)
    for x in (np.abs(X), -np.abs(X)):
        assert far(results(proto, x), results(after, x)) < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_have_no_codes_stay(value: float) -> None:
    untouched(product(np.where(np.eye(64, 40) == 1, np.float32(value), W)), PASS)


def test_left_alone() -> None:
    untouched(product(W[:, :4]), PASS)  # few
    untouched(product(), f"{PASS}{{exclude=product}}")
    untouched(product(), f"{PASS}{{only=other}}")
    untouched(product(), PASS, fp="strict")
    half = net(PRODUCT, {"w": W.astype(np.float16)}, x=("N", 64), dtype=TensorProto.FLOAT16, result=TensorProto.FLOAT16)
    untouched(half, PASS)
    codes = {"codes": np.ones((64, 40), np.int8), "s": np.float32(0.1)}
    nodes = [node("DequantizeLinear", ["codes", "s"], ["w"]), *PRODUCT]
    untouched(net(nodes, {name: np.asarray(array) for name, array in codes.items()}, x=("N", 64)), PASS)


def test_a_weight_that_the_caller_may_change_stays() -> None:
    proto = product()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    untouched(proto, PASS)


def test_huge_tiny_and_equal_weights() -> None:
    w = W.copy()
    w[:, 0], w[:, 1], w[:, 2], w[:, 3] = 0, 1e-41, 3e38, -5
    w[::2, 2] *= -1
    for form in ("dq", "auto"):
        after, _ = quantized(product(w), f"{PASS}{{form={form},bits=8}}", kernels=ALLOWED)
        found = results(after, X * np.float32(1e-3))
        assert np.isfinite(found).all()
        assert (found[:, 0] == 0).all()
        assert far(X.sum(axis=1) * -5e-3, found[:, 3]) < 1e-5


def test_weights_outside_of_the_file(tmp_path: Path) -> None:
    large = normal(1100, 2100)
    ir.save(ir.load(product(large)), tmp_path / "m.onnx", external_data="always")
    graph = ir.load(tmp_path / "m.onnx")
    passes.run(graph, f"{PASS}{{bits=8}}")
    codes = graph.nodes[0].operands[0]
    assert codes is not None
    assert codes.constant is not None
    assert not codes.constant.in_memory
    ir.save(graph, tmp_path / "after.onnx")
    x = normal(2, 1100)
    assert (
        far(x.astype(np.float64) @ large, results(onnx.load_from_string(ir.emit(graph).SerializeToString()), x)) < 0.01
    )


@pytest.mark.parametrize(
    "text", ["bits=3", "block=8", "block=48", "block=-16", "rounding=gram", "rounding=hqq,symmetric=true"]
)
def test_options(text: str) -> None:
    with pytest.raises(PipelineError, match="quantize-weights"):
        passes.parse(f"{PASS}{{{text}}}")
