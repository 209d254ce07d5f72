"""Products on 8-bit codes: which kernels they become, how near they are, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planish import ir, passes
from planish.passes import PipelineError
from planish.passes.quantize.calibration_file import save_calibration
from planish.runtime.calibrate import calibrate
from planish.runtime.providers import Target
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

PASS = "quantize-dynamic"
ANY = f"{PASS}{{least=1}}"
W, B = normal(32, 48, scale=0.1), normal(48)
X = normal(2, 5, 32, seed=3)
BIASED = [node("MatMul", ["x", "w"], ["p"], "product"), node("Add", ["p", "b"], ["y"])]
SEQUENCE = ("N", "L", 32)


def test_the_bias_is_in_the_kernel(tmp_path: Path) -> None:
    proto = net(BIASED, {"w": W, "b": B}, x=SEQUENCE)
    after, record = quantized(proto, ANY)
    assert op_types(after.graph) == ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"]
    assert fused_kernels(after, tmp_path) == ["DynamicQuantizeMatMul"]
    assert [rewrite.rule for rewrite in record.rewrites] == ["quantize-matmul"]
    assert {name: kind for name, (kind, _) in initializers(after).items() if name.startswith("w")} == {
        "w_codes": "INT8",
        "w_scale": "FLOAT",
    }
    assert 0 < far(results(proto, X), results(after, X)) < 0.012
    assert far(results(after, X), results(after, X, Target(threads=1))) < 1e-6


def test_readers_share_the_codes_of_what_they_read(tmp_path: Path) -> None:
    weights = {f"w{i}": normal(32, 48, seed=i) for i in range(3)} | {f"b{i}": normal(48, seed=i) for i in range(3)}
    nodes = [node("Relu", ["x"], ["a"])]
    for i in range(3):
        nodes += [node("MatMul", ["a", f"w{i}"], [f"p{i}"]), node("Add", [f"b{i}", f"p{i}"], [f"y{i}"])]
    after, _ = quantized(net(nodes, weights, x=SEQUENCE, outputs=("y0", "y1", "y2")), ANY)
    assert op_types(after.graph).count("DynamicQuantizeLinear") == 1
    assert fused_kernels(after, tmp_path) == ["Relu", "DynamicQuantizeLinear", *["MatMulIntegerToFloat"] * 3]


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c", [None, B, B[:1], B[None], np.float32(2)], ids=["none", "row", "one", "matrix", "scalar"])
def test_gemm(transposed: int, c: Array | None, tmp_path: Path) -> None:
    weights = {"w": W.T if transposed else W} | ({} if c is None else {"c": np.asarray(c)})
    gemm = node("Gemm", ["x", *weights], ["y"], transB=transposed, alpha=0.5, beta=-3.0)
    proto = net([gemm], weights)
    after, _ = quantized(proto, ANY)
    assert fused_kernels(after, tmp_path) == ["DynamicQuantizeMatMul"]
    assert far(results(proto, X[0]), results(after, X[0])) < 0.012


def test_a_row_with_outliers_spoils_no_other_one() -> None:
    x = X.copy()
    x[0, 0] *= 1000
    proto = net(BIASED, {"w": W, "b": B * 0}, x=SEQUENCE)
    before = results(proto, x)
    plain, by_row = (results(quantized(proto, stage)[0], x) for stage in (ANY, f"{PASS}{{least=1,rows=product}}"))
    others = np.s_[:, 1:]
    assert far(before[others], plain[others]) > 0.5
    assert far(before[others], by_row[others]) < 0.02
    assert far(before, by_row) < 0.02


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Gelu", "Neg"])
def test_rows_whose_least_number_is_known_need_no_search_for_it(op: str) -> None:
    nodes = [node(op, ["x"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    proto = net(nodes, {"w": W}, x=SEQUENCE)
    after, _ = quantized(proto, f"{PASS}{{least=1,rows=*}}")
    assert ("ReduceMin" in op_types(after.graph)) == (op == "Neg")
    x = X.copy()
    x[1, 2] = -np.abs(x[1, 2]) * 50  # a row in which nothing is large behind a Relu or a Gelu
    x[1, 3] = 0
    assert far(results(proto, x), results(after, x)) < 0.02


def test_two_terms_are_far_nearer() -> None:
    """What is left is the rounding of the weights, which numbers of 8 bits do not have."""
    w = np.round(W * 100).astype(np.float32)
    w[0] = 127  # each column reaches 127, so that its steps are whole
    proto = net(BIASED, {"w": w, "b": B}, x=SEQUENCE)
    one, two = (results(quantized(proto, stage)[0], X) for stage in (ANY, f"{PASS}{{least=1,terms=MatMul}}"))
    before = results(proto, X)
    assert far(before, two) * 100 < far(before, one)


def channels_with_outliers(*extra: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    scale = np.ones(32, np.float32)
    scale[3] = 60
    nodes = [node("LayerNormalization", ["x", "scale", "shift"], ["a"]), node("MatMul", ["a", "w"], ["y"], "product")]
    return net([*nodes, *extra], {"scale": scale, "shift": normal(32), "w": W}, x=SEQUENCE, outputs=outputs)


def smooth(proto: onnx.ModelProto, folder: Path, options: str = "") -> onnx.ModelProto:
    model, cal = folder / "model.onnx", folder / "cal.json"
    model.write_bytes(proto.SerializeToString())
    grams = ("a",) if "gram" in options else ()
    save_calibration(calibrate(model, [{"x": normal(4, 9, 32, seed=s)} for s in range(8)], grams=grams), cal)
    return quantized(proto, f"{PASS}{{least=1,ranges={cal}{options}}}")[0]


def test_outliers_of_channels_move_into_the_weights(tmp_path: Path) -> None:
    proto = channels_with_outliers()
    before, plain, smoothed = (
        results(each, X) for each in (proto, quantized(proto, ANY)[0], smooth(proto, tmp_path, ",smooth=0.8"))
    )
    assert far(before, smoothed) * 2 < far(before, plain)


def test_a_norm_that_nothing_else_reads_divides_its_own_channels(tmp_path: Path) -> None:
    after = smooth(channels_with_outliers(), tmp_path, ",smooth=0.8")
    assert op_types(after.graph)[:2] == ["LayerNormalization", "DynamicQuantizeLinear"]
    other = channels_with_outliers(node("Neg", ["a"], ["z"]), outputs=("y", "z"))
    after = smooth(other, tmp_path, ",smooth=0.8")
    assert op_types(after.graph)[:3] == ["LayerNormalization", "Mul", "DynamicQuantizeLinear"]


def test_rounding_by_gram_matrices_is_nearer_on_such_inputs(tmp_path: Path) -> None:
    proto = channels_with_outliers()
    x = normal(40, 9, 32, seed=99)
    options = ",terms=*"  # so that weights alone are rounded
    near, nearer = (smooth(proto, tmp_path, o) for o in (options, f"{options},rounding=gram"))
    before = results(proto, x)
    assert far(before, results(nearer, x)) < 0.8 * far(before, results(near, x))


def test_what_was_not_observed_is_not_smoothed_and_said_so(tmp_path: Path) -> None:
    cal = tmp_path / "cal.json"
    cal.write_text('{"version": 1, "tensors": {}}')
    _, record = quantized(channels_with_outliers(), f"{PASS}{{least=1,ranges={cal},smooth=0.5,rounding=gram}}")
    assert len(record.rewrites) == 1
    assert any("were not observed" in note for note in record.notes)
    assert any("no Gram matrix" in note for note in record.notes)


def test_weights_of_an_if_body(tmp_path: Path) -> None:
    """Both branches and the graph around them read one weight: one set of codes, and no float copy is left."""
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
        node("MatMul", ["x", "w"], ["z"]),
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Less", ["total", "zero"], ["negative"]),
        node("If", ["negative"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    proto = net(nodes, {"w": W, "zero": np.zeros((), np.float32)}, outputs=("y", "z"))
    after, record = quantized(proto, ANY)
    assert len(record.rewrites) == 3
    assert [name for name in initializers(after) if name.startswith("w")] == ["w_codes", "w_scale"]
    for x in (np.abs(X[0]), -np.abs(X[0])):
        assert far(results(proto, x), results(after, x)) < 0.012


SPECIAL = {
    "nan": np.where(np.eye(32, 48) == 1, np.float32(np.nan), W),
    "infinity": np.where(np.eye(32, 48) == 1, np.float32(np.inf), W),
}


@pytest.mark.parametrize("w", SPECIAL.values(), ids=SPECIAL)
def test_weights_that_have_no_codes_stay(w: Array) -> None:
    untouched(net(BIASED, {"w": w, "b": B}, x=SEQUENCE), ANY)


def test_left_alone() -> None:
    untouched(net(BIASED, {"w": W[:, :4], "b": B[:4]}, x=SEQUENCE), PASS)  # few
    untouched(net(BIASED, {"w": W, "b": B}, x=SEQUENCE), f"{PASS}{{least=1,exclude=product}}")
    untouched(net(BIASED, {"w": W, "b": B}, x=SEQUENCE), f"{PASS}{{least=1,only=other}}")
    untouched(net(BIASED, {"w": W, "b": B}, x=SEQUENCE), ANY, fp="strict")
    untouched(net([node("MatMul", ["x", "w"], ["y"])], {"w": W}, x=(32,)), ANY)
    untouched(net([node("Gemm", ["x", "w"], ["y"], transA=1)], {"w": W}, x=(32, "N")), ANY)
    half = net(
        [node("MatMul", ["x", "w"], ["y"])], {"w": W.astype(np.float16)}, dtype=TensorProto.FLOAT16,
        result=TensorProto.FLOAT16,
    )  # fmt: skip
    untouched(half, ANY)


def test_a_weight_that_the_caller_may_change_stays() -> None:
    proto = net(BIASED, {"w": W, "b": B}, x=SEQUENCE)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    untouched(proto, ANY)


def test_a_bias_that_is_no_row_stays_behind(tmp_path: Path) -> None:
    proto = net(BIASED, {"w": W, "b": normal(5, 1)}, x=SEQUENCE)
    after, _ = quantized(proto, ANY)
    assert fused_kernels(after, tmp_path) == ["DynamicQuantizeMatMul", "Add"]
    assert far(results(proto, X), results(after, X)) < 0.012
    raised = net(BIASED, {"w": W, "b": np.ones((1, 1, 1, 48), np.float32)}, x=SEQUENCE, rank=4)
    after, _ = quantized(raised, ANY)
    assert results(after, X).shape == (1, 2, 5, 48)


def test_a_model_that_is_quantized_stays() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        node("DequantizeLinear", ["w", "s"], ["real"]),
        node("MatMul", ["a", "real"], ["y"]),
        node("MatMul", ["a", "v"], ["u"]),
    ]
    weights = {"s": np.float32(0.1), "z": np.uint8(128), "w": np.ones((32, 48), np.int8), "v": W}
    untouched(net(nodes, {k: np.asarray(v) for k, v in weights.items()}, outputs=("y", "u")), ANY)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 5)])
@pytest.mark.parametrize("options", ["", ",rows=*", ",terms=*"])
def test_odd_shapes(shape: tuple[int, int], options: str) -> None:
    proto = net([node("MatMul", ["x", "w"], ["y"])], {"w": normal(*shape)}, x=("N", "L", shape[0]))
    after, _ = quantized(proto, f"{PASS}{{least=1{options}}}")
    x = normal(2, 3, shape[0])
    assert far(results(proto, x), results(after, x)) < 0.03


@pytest.mark.parametrize("options", ["", ",rows=*", ",terms=*"])
def test_hostile_activations(options: str) -> None:
    after, _ = quantized(net(BIASED, {"w": W, "b": B}, x=SEQUENCE), f"{PASS}{{least=1{options}}}")
    assert results(after, np.zeros((0, 5, 32), np.float32)).shape == (0, 5, 48)
    assert np.allclose(results(after, np.zeros((1, 5, 32), np.float32)), B, atol=1e-6)
    assert np.isfinite(results(after, np.full((1, 5, 32), 1e-42, np.float32))).all()


def test_columns_of_zeros_and_of_subnormals() -> None:
    w = W.copy()
    w[:, 0], w[:, 1] = 0, 1e-41
    after, _ = quantized(net([node("MatMul", ["x", "w"], ["y"])], {"w": w}), ANY)
    found = results(after, X[0])
    assert (found[:, 0] == 0).all()
    assert np.isfinite(found).all()


def test_the_opset_rises_and_is_said(tmp_path: Path) -> None:
    proto = net(BIASED, {"w": W, "b": B}, x=SEQUENCE, opset=9)
    proto.ir_version = 4
    after, record = quantized(proto, ANY)
    assert (after.opset_import[0].version, record.opset) == (11, 11)
    graph = ir.load(proto)
    (kept,) = passes.run(graph, ANY, newest_opset=10)
    assert not kept.rewrites
    assert "DynamicQuantizeLinear needs opset 11" in kept.notes[0]
    assert op_types(ir.emit(graph).graph) == ["MatMul", "Add"]


def test_weights_outside_of_the_file(tmp_path: Path) -> None:
    large = normal(1100, 1100)
    proto = net([node("MatMul", ["x", "w"], ["y"])], {"w": large}, x=("N", 1100))
    ir.save(ir.load(proto), tmp_path / "m.onnx", external_data="always")
    graph = ir.load(tmp_path / "m.onnx")
    passes.run(graph, PASS)
    assert any(
        value.constant is not None and not value.constant.in_memory
        for n in graph.nodes
        for value in n.operands
        if value
    )
    ir.save(graph, tmp_path / "after.onnx")
    stored = onnx.load_from_string((tmp_path / "after.onnx").read_bytes())
    assert initializers(stored)["w_codes"] == ("INT8", large.shape)


def test_options() -> None:
    for text in ("smooth=1.5", "smooth=0.5", "rounding=gram"):
        with pytest.raises(PipelineError, match=r"quantize-dynamic (takes smooth|needs ranges)"):
            passes.parse(f"{PASS}{{{text}}}")


def test_limit_stops_it() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("MatMul", ["a", "v"], ["y"])]
    graph = ir.load(net(nodes, {"w": W, "v": normal(48, 8)}))
    (record,) = passes.run(graph, ANY, limit=1)
    assert len(record.rewrites) == 1
    assert [n.op for n in graph.nodes].count("MatMul") == 1
