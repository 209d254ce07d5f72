"""Half precision where it holds the numbers: traps first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.passes.kernels import Kernels, kernels_for
from planish.passes.precision.convert_precision import ConvertPrecision
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.runtime.session import Feed, Session
from tests.equivalence import PLAIN, model, op_types, same_interface, untouched

PASS = "convert-precision"
BFLOAT16 = f"{PASS}{{to=bfloat16}}"
CUDA = kernels_for("cuda")
HALF = onnx.TensorProto.FLOAT16
IMAGE = "g (float[N,16,8,8] x) => (float[N,16,6,6] y) { y = Conv(x, k) }"
Array = NDArray[np.generic]


@dataclass
class Converted:
    before: onnx.ModelProto
    after: onnx.ModelProto
    notes: list[str]
    rewrites: list[str]

    @property
    def ops(self) -> list[str]:
        return op_types(self.after.graph)

    def run(self, feeds: Mapping[str, Feed]) -> tuple[list[Array], list[Array]]:
        """What the model gave, and what it gives now."""
        found = [Session(proto.SerializeToString(), PLAIN).run(feeds) for proto in (self.before, self.after)]
        first, second = ([np.asarray(result) for result in results] for results in found)
        return first, second

    def types(self) -> dict[str, int]:
        """The element type of every value, nested graphs left out."""
        inferred = onnx.shape_inference.infer_shapes(self.after).graph
        return {info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.output)}


def converted(
    source: str | onnx.ModelProto, stage: str | ConvertPrecision = PASS, kernels: Kernels | None = None
) -> Converted:
    """Valid, of the same interface, and as it is after a second run."""
    before = model(source) if isinstance(source, str) else source
    graph = ir.load(before)
    (record,) = passes.run(graph, stage if isinstance(stage, str) else (stage,), kernels=kernels)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    if "interface" not in str(stage):
        same_interface(before, after, opset=False)
    again = ir.load(after)
    (second,) = passes.run(again, stage if isinstance(stage, str) else (stage,), kernels=kernels)
    assert second.rewrites == []
    assert ir.emit(again).SerializeToString() == after.SerializeToString()
    return Converted(before, after, record.notes, [str(rewrite) for rewrite in record.rewrites])


def weights(rows: int = 16, columns: int = 16, scale: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, scale, (rows, columns)).astype(np.float32)


def filled(text: str, constants: Mapping[str, Array], opset: int = 17) -> onnx.ModelProto:
    """A model from text that reads these constants."""
    kinds = {"float32": "float", "int64": "int64"}
    declared = ", ".join(f"{kinds[a.dtype.name]}{list(a.shape) or ''} {name}" for name, a in constants.items())
    proto = model(text.replace(") => (", f", {declared}) => (", 1), opset)
    left = [info for info in proto.graph.input if info.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(left)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    return proto


def net(body: str, *, inputs: str = "float[N,16] x", outputs: str = "float[N,16] y", **more: Array) -> onnx.ModelProto:
    """`w` and `v` are weights of ordinary size."""
    constants: dict[str, Array] = {"w": weights(), "v": weights(seed=1), **more}
    return filled(f"g ({inputs}) => ({outputs}) {{ {body} }}", constants)


def decibels(expected: Array, found: Array) -> float:
    wide, error = expected.astype(np.float64), expected.astype(np.float64) - found.astype(np.float64)
    return float(10 * np.log10(np.sum(wide**2) / max(float(np.sum(error**2)), 1e-300)))


X = np.random.default_rng(3).normal(0, 1, (5, 16)).astype(np.float32)


# What is converted


def test_a_region_has_one_cast_on_either_side() -> None:
    found = converted(net("a = MatMul(x, w)  b = Relu(a)  c = Add(b, x)  y = MatMul(c, v)"))
    assert found.ops == ["Cast", "MatMul", "Relu", "Add", "MatMul", "Cast"]
    assert {tensor.data_type for tensor in found.after.graph.initializer} == {HALF}
    (expected,), (result,) = found.run({"x": X})
    assert result.dtype == np.float32
    assert decibels(expected, result) > 60
    assert found.rewrites[0].startswith("#1 convert-precision/to-float16: a -> a")
    (note,) = found.notes
    assert note.startswith("cpu has no float16 kernel for MatMul (2), Relu (1), Add (1): the runtime casts around")


def test_strict_keeps_it_out_and_fast_lets_it_in() -> None:
    untouched(net("y = MatMul(x, w)"), PASS, fp="strict")
    assert all(passes.run(ir.load(net("y = MatMul(x, w)")), PASS, fp=fp)[0].rewrites for fp in ("default", "fast"))


def test_the_interface_can_be_converted() -> None:
    found = converted(net("a = MatMul(x, w)  y = Relu(a)"), f"{PASS}{{interface=convert}}")
    assert found.ops == ["MatMul", "Relu"]
    (x,), (y,) = found.after.graph.input, found.after.graph.output
    assert x.type.tensor_type.elem_type == y.type.tensor_type.elem_type == HALF


def test_an_output_that_is_read_inside_is_cast_beside() -> None:
    found = converted(net("a = MatMul(x, w)  y = MatMul(a, v)", outputs="float[N,16] a, float[N,16] y"))
    assert found.ops.count("MatMul") == 2
    assert found.ops.count("Cast") == 3
    for expected, result in zip(*found.run({"x": X}), strict=True):
        assert decibels(expected, result) > 60


def test_bfloat16_raises_the_opset_only_where_it_must() -> None:
    proto = filled(IMAGE, {"k": weights(256, 9).reshape(16, 16, 3, 3)})
    assert converted(proto, BFLOAT16, CUDA).after.opset_import[0].version == 22
    assert converted(proto).after.opset_import[0].version == 17
    assert converted(net("y = MatMul(x, w)"), BFLOAT16, CUDA).after.opset_import[0].version == 17


def test_the_lowest_number_overflows_in_bfloat16_too() -> None:
    body = (
        "k = MatMul(x, v)  low = Constant<value = float {-3.4028235e38}>()  z = Where(keep, k, low)  y = MatMul(z, w)"
    )
    found = converted(net(body, inputs="float[N,16] x, bool[N,16] keep"), BFLOAT16, CUDA)
    assert found.types()["z"] == found.types()["y"] == 1


def test_the_cpu_provider_cannot_run_bfloat16() -> None:
    found = converted(net("y = MatMul(x, w)"), BFLOAT16)
    (note,) = found.notes
    assert note.endswith("cpu has no kernel for MatMul of bfloat16, and casts around float16 alone")
    assert found.rewrites == []


def test_no_newer_opset_than_was_asked_for() -> None:
    proto = filled(IMAGE, {"k": weights(256, 9).reshape(16, 16, 3, 3)})
    (record,) = passes.run(ir.load(proto), BFLOAT16, newest_opset=17, kernels=CUDA)
    assert record.rewrites == []
    assert record.notes == ["y (Conv) stays in float32: Conv takes bfloat16 from opset 22 on alone"]


def test_no_opset_that_the_target_does_not_run() -> None:
    found = converted(net("a = MatMul(x, w)  b = Celu(a)  y = MatMul(b, v)"))
    assert found.types()["b"] == 1
    assert any("Celu takes float16 from opset" in note for note in found.notes)


@pytest.mark.parametrize("limit", range(5))
def test_each_node_is_a_rewrite(limit: int) -> None:
    proto = net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)")
    graph = ir.load(proto)
    (record,) = passes.run(graph, PASS, limit=limit)
    assert len(record.rewrites) == min(limit, 3)
    after = ir.emit(graph)
    check_model(after, full_check=True)
    result = np.asarray(Session(after.SerializeToString(), PLAIN).run({"x": X})[0])
    assert np.allclose(result, np.maximum(X @ weights(), 0) @ weights(seed=1), atol=0.01)


# What stays


@pytest.mark.parametrize(
    "text",
    [
        "g (double[N,4] x) => (double[N,4] y) { a = Mul(x, x)  y = Relu(a) }",
        "g (int64[N,4] x) => (int64[N,4] y) { a = Mul(x, x)  y = Abs(a) }",
        "g (float[N,4] x, int64[1] k) => (float[A,B] v, int64[C,D] y) { v, y = TopK(x, k) }",
        "g (float[N] x, float s) => (float[N] y) { q = QuantizeLinear(x, s)  y = DequantizeLinear(q, s) }",
    ],
)
def test_left_alone(text: str) -> None:
    untouched(model(text), PASS)


def test_a_weight_beyond_the_finite_numbers() -> None:
    """Its node, and what follows, until a Softmax holds it down."""
    proto = net(
        "a = MatMul(x, big)  b = Relu(a)  c = Softmax(b)  d = MatMul(c, w)  y = Relu(d)",
        inputs="float[N,16] x",
        big=weights() * np.float32(1e6),
    )
    found = converted(proto)
    assert {name: found.types()[name] for name in ("a", "b", "c")} == {"a": 1, "b": 1, "c": 1}
    assert any(
        "what it reads may be beyond the finite numbers of float16, because of %big" in note for note in found.notes
    )
    (expected,), (result,) = found.run({"x": X})
    assert decibels(expected, result) > 55


def test_a_weight_that_would_vanish() -> None:
    proto = net(
        "a = MatMul(x, tiny)  b = Mul(a, up)  y = MatMul(b, w)",
        tiny=weights() * np.float32(1e-7),
        up=np.array(1e7, np.float32),
    )
    found = converted(proto)
    (expected,), (result,) = found.run({"x": X})
    assert decibels(expected, result) > 60


@pytest.mark.parametrize("epsilon", ["1e-12", "1e-8", "1e-5"])
def test_an_epsilon_that_divides(epsilon: str) -> None:
    """A spelled-out normalization of rows that do not vary."""
    proto = net(
        "m = ReduceMean<axes = [1]>(x)  d = Sub(x, m)  q = Mul(d, d)  v2 = ReduceMean<axes = [1]>(q)"
        f" e = Constant<value = float {{{epsilon}}}>()  s = Add(v2, e)  r = Sqrt(s)  n = Div(d, r)  y = MatMul(n, w)"
    )
    found = converted(proto)
    for x in (X, np.full((2, 16), 0.25, np.float32), X * np.float32(300)):
        (expected,), (result,) = found.run({"x": x})
        assert np.isfinite(result).all()
        assert np.allclose(result, expected, atol=0.02)


@pytest.mark.parametrize(("epsilon", "kept"), [("1e-8", True), ("1e-5", False)])
def test_an_epsilon_that_is_zero_in_half_precision(epsilon: str, kept: bool) -> None:
    text = (
        "g (float[N,2,8,8] x) => (float[N,2,8,8] y) <float[2] s = {1, 2}, float[2] o = {0, 1}>"
        f" {{ a = InstanceNormalization<epsilon = {epsilon}>(x, s, o)  b = Relu(a)  c = Neg(b)  y = Abs(c) }}"
    )
    found = converted(text)
    assert any("epsilon" in note for note in found.notes) is kept


def test_a_layer_normalization_works_in_single_precision_inside() -> None:
    text = net(
        "a = MatMul(x, w)  n = LayerNormalization<epsilon = 1e-12>(a, s)  y = MatMul(n, v)", s=np.ones(16, np.float32)
    )
    found = converted(text)
    assert found.ops == ["Cast", "MatMul", "LayerNormalization", "MatMul", "Cast"]


@pytest.mark.parametrize("mask", ["-3.4e38", "-1e9", "-65504", "-1e4"])
def test_attention_masks(mask: str) -> None:
    """A row that is masked all over has no -inf - -inf, though scores are far below zero."""
    body = (
        "q = MatMul(x, w)  k = MatMul(x, v)  t = Transpose(k)  s = MatMul(q, t)"
        f" one = Constant<value = float {{1.0}}>()  low = Constant<value = float {{{mask}}}>()"
        " m = Cast<to = 1>(keep)  i = Sub(one, m)  h = Mul(i, low)  z = Add(s, h)  p = Softmax(z)  y = MatMul(p, k)"
    )
    found = converted(net(body, inputs="float[N,16] x, int64[N,N] keep"))
    keep = np.tril(np.ones((5, 5), np.int64))
    keep[3] = 0
    for scale in (1, 20):
        (expected,), (result,) = found.run({"x": X * np.float32(scale), "keep": keep})
        assert np.isfinite(result).all()
        assert decibels(expected, result) > 35


def test_a_mask_that_is_put_in_place() -> None:
    body = (
        "k = MatMul(x, v)  t = Transpose(k)  s = MatMul(x, t)  low = Constant<value = float {-3.4028235e38}>()"
        " z = Where(keep, s, low)  p = Softmax(z)  y = MatMul(p, k)"
    )
    for stage in (PASS, BFLOAT16):
        found = converted(net(body, inputs="float[N,16] x, bool[N,N] keep"), stage)
        (expected,), (result,) = found.run({"x": X, "keep": np.zeros((5, 5), np.bool_)})
        assert np.allclose(result, expected, atol=0.02)


@pytest.mark.parametrize(("low", "high"), [("-3.4e38", "3.4e38"), ("0", "3.4e38"), ("-1e9", "6")])
def test_bounds_that_never_bind(low: str, high: str) -> None:
    body = (
        f"a = MatMul(x, w)  l = Constant<value = float {{{low}}}>()  h = Constant<value = float {{{high}}}>()"
        "  b = Clip(a, l, h)  y = MatMul(b, v)"
    )
    found = converted(net(body))
    assert found.ops.count("Cast") == 2
    (expected,), (result,) = found.run({"x": X})
    assert decibels(expected, result) > 60


def test_a_bound_that_binds_beyond_is_kept() -> None:
    body = "a = MatMul(x, w)  l = Constant<value = float {1e5}>()  b = Max(a, l)  c = MatMul(b, v)  y = Softmax(c)"
    (expected,), (result,) = converted(net(body)).run({"x": X})
    assert np.allclose(result, expected, atol=0.01)


def test_sums_and_powers_need_measured_ranges() -> None:
    proto = net(
        "a = MatMul(x, w)  q = Mul(a, a)  s = ReduceSum<keepdims = 1>(q)  y = MatMul(a, v)",
        outputs="float[N,16] y, float[A,B] s",
    )
    found = converted(proto)
    assert any("its sums or powers may overflow; measured ranges would tell" in note for note in found.notes)
    (_, expected), (_, result) = found.run({"x": X * np.float32(1000)})
    assert np.isfinite(result).all()
    assert np.allclose(result, expected, rtol=0.01)


def test_a_cube_overflows_where_its_square_does_not() -> None:
    """As in the spelling of Gelu by tanh, for 100 ** 3."""
    body = "a = MatMul(x, w)  q = Mul(a, a)  c = Mul(q, a)  d = Add(c, a)  t = Tanh(d)  y = MatMul(t, v)"
    found = converted(net(body))
    assert {found.types()[name] for name in ("q", "c", "d")} == {1}
    (expected,), (result,) = found.run({"x": X * np.float32(300)})
    assert np.allclose(result, expected, atol=0.1)


def test_counts_stay_exact() -> None:
    """2049 is no number of float16, and 70000 overflows."""
    body = "c = Cast<to = 1>(n)  h = Mul(c, c2)  z = Add(h, c)  a = MatMul(x, w)  b = Mul(a, z)  y = MatMul(b, v)"
    proto = net(body, inputs="float[N,16] x, int64[1] n", c2=np.array([0.5], np.float32))
    found = converted(proto)
    assert found.types()["h"] == found.types()["z"] == 1
    assert any("it works on numbers that count" in note for note in found.notes)


def test_exact_sources_are_made_in_half_precision() -> None:
    body = "m = Cast<to = 1>(keep)  a = MatMul(x, w)  b = Mul(a, m)  y = MatMul(b, v)"
    found = converted(net(body, inputs="float[N,16] x, bool[N,16] keep"))
    assert found.ops == ["Cast", "Cast", "MatMul", "Mul", "MatMul", "Cast"]
    assert found.types()["m"] == HALF


def test_a_constant_that_both_read_is_there_twice_only_then() -> None:
    body = "a = MatMul(x, w)  b = MatMul(a, v)  c, i = TopK<axis = 1>(w, k)  y = Add(b, b)"
    proto = net(body, outputs="float[N,16] y, float[A,B] c, int64[A,B] i", k=np.array([2], np.int64))
    held = [(tensor.name, tensor.data_type) for tensor in converted(proto).after.graph.initializer]
    assert sorted(kind for name, kind in held if name.startswith("w")) == [1, HALF]


def test_keep_names_what_stays() -> None:
    found = converted(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)"), f"{PASS}{{keep=Softmax|y}}")
    assert found.types()["y"] == 1
    assert any("keep names it" in note for note in found.notes)


# Nested graphs


def test_the_state_of_a_loop_stays_and_its_body_is_converted() -> None:
    body = (
        "y = Loop(trips, go, x) <body = step (int64 i, bool c, float[N,16] s) => (bool c2, float[N,16] t)"
        " { c2 = Identity(c)  a = MatMul(s, w)  b = Relu(a)  t = MatMul(b, v) }>"
    )
    found = converted(net(body, inputs="float[N,16] x, int64 trips, bool go"))
    assert found.ops == ["Loop", "Cast", "Identity", "MatMul", "Relu", "MatMul", "Cast"]
    (expected,), (result,) = found.run({"x": X, "trips": np.array(4), "go": np.array(True)})
    assert decibels(expected, result) > 50


def test_branches_and_what_they_capture() -> None:
    body = (
        "a = MatMul(x, w)  d = Relu(a)  y = If(go) <then_branch = p () => (float[N,16] r)"
        " { e = MatMul(d, v)  r = Relu(e) }, else_branch = o () => (float[N,16] u) { u = Identity(a) }>"
    )
    found = converted(net(body, inputs="float[N,16] x, bool go"))
    for go in (True, False):
        (expected,), (result,) = found.run({"x": X, "go": np.array(go)})
        assert decibels(expected, result) > 60


# Measured ranges


def seen(low: float, high: float, mean: float | None = None, variance: float | None = None) -> TensorStatistics:
    return TensorStatistics(low, high, mean=mean, variance=variance)


def test_measured_ranges_refuse_what_overflows_and_what_vanishes() -> None:
    proto = net("a = MatMul(x, w)  b = Relu(a)  c = MatMul(b, v)  y = Relu(c)")
    table = Calibration({"a": seen(-4e4, 1.0), "c": seen(-1e-5, 1e-5, 0.0, 1e-12), "b": seen(0.0, 1.0, 0.0, 0.1)})
    found = converted(proto, ConvertPrecision(ranges=table))
    assert found.rewrites == []
    assert any("%a reaches 4e+04, and float16 ends at 65504" in note for note in found.notes)
    assert any("%c is about 1e-06, too small for float16" in note for note in found.notes)


def test_measured_ranges_free_what_fits() -> None:
    proto = net("a = MatMul(x, w)  q = Exp(a)  y = MatMul(q, v)")
    assert "Cast" in converted(proto).ops[2:-1]
    fits = Calibration({"a": seen(-2.0, 2.0), "q": seen(0.1, 8.0)})
    assert converted(proto, ConvertPrecision(ranges=fits)).ops == ["Cast", "MatMul", "Exp", "MatMul", "Cast"]
    beyond = Calibration({"a": seen(-2.0, 12.0), "q": seen(0.1, 1.6e5)})
    assert converted(proto, ConvertPrecision(ranges=beyond)).types()["q"] == 1
