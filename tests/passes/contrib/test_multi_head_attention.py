"""Attention as ONNX Runtime's own operator; tolerance: steps of the last bit, on values of one sign."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from planish import ir, passes
from planish.ir import DType
from planish.passes.kernels import CONTRIB, kernels_for
from tests.equivalence import Inputs, Rewritten, Ulps, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-multi-head-attention"
CLEAN = f"{PASS},remove-dead-nodes"
ALLOWED = kernels_for("cpu", ("", CONTRIB))
CLOSE = Ulps(64)
TO_HEADS, TO_KEYS = "Transpose<perm = [0, 2, 1, 3]>", "Transpose<perm = [0, 2, 3, 1]>"
SHAPES = "hs = Constant<value_ints = [0, 0, 3, 4]>()  ms = Constant<value_ints = [0, 0, 12]>()"
PROJECT = "k0 = MatMul(x, wk)  a = Abs(x)  v0 = MatMul(a, wv)"
Q, K, V = (
    f"qr = Reshape(x, hs)  q = {TO_HEADS}(qr)",
    f"kr = Reshape(k0, hs)  k = {TO_KEYS}(kr)",
    f"vr = Reshape(v0, hs)  v = {TO_HEADS}(vr)",
)
SCORES = "n = MatMul(q, k)  s = Mul(n, c)"
MASKED = "n = MatMul(q, k)  e = Mul(n, c)  s = Add(e, mask)"
ATTEND = "p = Softmax<axis = -1>(s)  o = MatMul(p, v)"
MERGE = f"m = {TO_HEADS}(o)  y = Reshape(m, ms)"
WEIGHTS: dict[str, Weights] = {"wk": normal(12, 12), "wv": np.abs(normal(12, 12)), "c": np.array(0.3)}
LEAST = float(np.finfo(np.float32).min)


def model(*parts: str, weights: dict[str, Weights] | None = None, mask: str = "", **options: object) -> onnx.ModelProto:
    """x and y are [N, L, 12]; `mask` is the shape of a further input of that name."""
    body = "  ".join((SHAPES, PROJECT, *(parts or (Q, K, V, MASKED if mask else SCORES, ATTEND, MERGE))))
    dtype = DType.DOUBLE if options.get("double") else DType.FLOAT
    outputs = str(options.get("outputs", ""))
    found = net(body, {**WEIGHTS, **(weights or {})}, "N,L,12", "N,L,12", dtype=dtype, outputs=outputs)
    if mask:
        extents = [int(part) if part.isdigit() else part for part in mask.split(",")]
        found.graph.input.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, extents))
    return found


def inputs(batch: int = 2, length: int = 5, masks: tuple[int, ...] | None = None) -> Inputs:
    values = {"x": [normal(batch, length, 12).astype(np.float32)]}
    if masks is not None:
        shape = (*masks, length, length)
        rows = np.zeros(shape, np.float32)
        rows[..., :1, :] = LEAST  # a whole row, for which the standard Attention gives zeros
        values["mask"] = [normal(*shape).astype(np.float32), rows, np.full(shape, -1e4, np.float32)]
    return Inputs(values=values)


def fused(source: onnx.ModelProto, given: Inputs) -> Rewritten:
    return rewritten(source, CLEAN, tolerance=CLOSE, inputs=given, kernels=ALLOWED)


def test_text() -> None:
    found = fused(model(), inputs())
    assert found.nodes == [
        "k0 = MatMul (x, wk)",
        "a = Abs (x)",
        "v0 = MatMul (a, wv)",
        "y = com.microsoft.MultiHeadAttention <num_heads: int = 3, scale: float = 0.3> (x, k0, v0)",
    ]
    assert [(opset.domain, opset.version) for opset in found.after.opset_import] == [("", 17), (CONTRIB, 1)]


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0), (1, 1), (3, 40), (1, 600)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_size_of_the_dynamic_dims(batch: int, length: int, masked: bool) -> None:
    found = fused(model(mask="N,1,L,L" if masked else ""), inputs(batch, length, (batch, 1) if masked else None))
    assert found.op_types[-1] == "MultiHeadAttention"


@pytest.mark.parametrize(
    ("mask", "masks"), [("N,1,L,L", (2, 1)), ("1,1,L,L", (1, 1)), ("1,3,L,L", (1, 3)), ("N,3,L,L", (2, 3))]
)
def test_masks(mask: str, masks: tuple[int, ...]) -> None:
    found = fused(model(mask=mask), inputs(masks=masks))
    assert found.nodes[-1].endswith('(x, k0, v0, "", "", mask)')


@pytest.mark.parametrize("mask", ["N,1,1,L", "1,1,1,1", "N,1,L,M", "L,L", "M,1,L,L", "N,M,L,L"])
def test_masks_of_other_shapes_stay(mask: str) -> None:
    untouched(model(mask=mask), PASS, kernels=ALLOWED)


def test_three_parts_of_one() -> None:
    parts = """five = Constant<value_ints = [0, 0, 3, 3, 4]>()  w0 = MatMul(x, w)  r = Reshape(w0, five)
        t = Transpose<perm = [2, 0, 3, 1, 4]>(r)  i0 = Constant<value_int = 0>()  i1 = Constant<value_int = 1>()
        i2 = Constant<value_int = 2>()  q = Gather<axis = 0>(t, i0)  kh = Gather<axis = 0>(t, i1)
        v = Gather<axis = 0>(t, i2)  k = Transpose<perm = [0, 1, 3, 2]>(kh)"""
    source = model(parts, SCORES, ATTEND, MERGE, weights={"w": np.abs(normal(12, 36))})
    values = [np.abs(normal(2, 5, 12)).astype(np.float32)]
    found = fused(source, Inputs(values={"x": values}))
    assert [op for op in found.op_types if op not in ("Constant", "Abs")][-3:] == [
        "MatMul",
        "Split",
        "MultiHeadAttention",
    ]


def test_a_target_that_does_not_allow_it() -> None:
    untouched(model(), PASS)
    untouched(model(), PASS, kernels=kernels_for("cuda", ("", CONTRIB)))


def test_the_standard_operator_goes_first() -> None:
    """With sizes that are known it is the faster one."""
    source = net("  ".join((SHAPES, PROJECT, Q, K, V, SCORES, ATTEND, MERGE)), WEIGHTS, "2,5,12", "2,5,12", opset=23)
    graph = ir.load(source)
    passes.run(graph, "deploy", kernels=ALLOWED)
    assert [node.op for node in graph.nodes][-1] == "Attention"


def test_other_types_have_no_kernel() -> None:
    untouched(model(double=True), PASS, kernels=ALLOWED)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((Q, K, V, SCORES, "p = Softmax<axis = 2>(s)  o = MatMul(p, v)", MERGE), id="over the queries"),
        pytest.param((Q, K, V, "n = MatMul(q, k)  s = Mul(n, z)", ATTEND, MERGE), id="a scale of 0"),
        pytest.param((Q, K, V, "n = MatMul(q, k)  s = Mul(n, h)", ATTEND, MERGE), id="a scale of each head"),
        pytest.param((Q, K, V, "n = MatMul(q, k)  s = Sub(n, f)", ATTEND, MERGE), id="subtracted"),
        pytest.param((Q, K, V, SCORES, ATTEND, MERGE.replace("0, 2, 1, 3", "0, 2, 3, 1")), id="merged otherwise"),
        pytest.param((Q, K, V.replace("v =", "t =") + "  v = Mul(t, c)", SCORES, ATTEND, MERGE), id="values scaled"),
    ],
)  # fmt: skip
def test_what_stays(parts: tuple[str, ...]) -> None:
    given = {"z": np.array(0.0), "h": normal(3, 1, 1), "f": normal(1, 3, 1, 1)}
    untouched(model(*parts, weights=given), PASS, kernels=ALLOWED)


@pytest.mark.parametrize("name", ["n", "s", "p", "o", "m", "q", "k", "v"])
def test_others_read_a_part(name: str) -> None:
    shape = {"m": "N,L,3,4", "k": "N,3,4,L"}.get(name, "N,3,L,4" if name in "qvo" else "N,3,L,L")
    untouched(model(outputs=f", float[{shape}] {name}"), PASS, kernels=ALLOWED)


def test_keys_of_another_batch_stay() -> None:
    """The products broadcast them; the operator does not."""
    text = "one = Constant<value_ints = [1, 3, 5, 4]>()  kr = Reshape(w5, one)  k = Transpose<perm = [0, 1, 3, 2]>(kr)"
    source = net(
        "  ".join((SHAPES, "v0 = Abs(x)", Q, text, V, SCORES, ATTEND, MERGE)),
        {**WEIGHTS, "w5": normal(60)},
        "N,5,12",
        "N,5,12",
    )
    untouched(source, PASS, kernels=ALLOWED)
