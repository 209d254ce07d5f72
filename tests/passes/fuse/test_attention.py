"""Attention out of its parts; tolerance: some steps of the last bit, on values of one sign that cannot cancel."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Inputs, Ulps, agree, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-attention"
CLEAN = f"{PASS},remove-dead-nodes"
CLOSE = Ulps(64)
TO_HEADS, TO_KEYS = "Transpose<perm = [0, 2, 1, 3]>", "Transpose<perm = [0, 2, 3, 1]>"
SHAPES = """hs = Constant<value_ints = [2, 5, 3, 4]>()  vs = Constant<value_ints = [2, 5, 3, 2]>()
    ms = Constant<value_ints = [2, 5, 6]>()"""
Q = f"qr = Reshape(x, hs)  q = {TO_HEADS}(qr)"
K = f"kr = Reshape(k0, hs)  k = {TO_KEYS}(kr)"
V = f"vr = Reshape(v0, vs)  v = {TO_HEADS}(vr)"
ATTEND = "p = Softmax<axis = -1>(s)  o = MatMul(p, v)"
MERGE = f"m = {TO_HEADS}(o)  y = Reshape(m, ms)"
SCORES = "n = MatMul(q, k)  s = Mul(n, c)"
WEIGHTS: dict[str, Weights] = {
    "wk": normal(12, 12),
    "wv": np.abs(normal(12, 6)),
    "c": np.array(0.3),
    "r": np.array(0.5),
    "b": normal(1, 3, 5, 5),
}
PROJECT = "k0 = MatMul(x, wk)  a = Abs(x)  v0 = MatMul(a, wv)"


def model(
    *parts: str,
    weights: dict[str, Weights] | None = None,
    given: str = "2,5,12",
    result: str = "2,5,6",
    opset: int = 23,
) -> onnx.ModelProto:
    body = "  ".join((SHAPES, PROJECT, *parts))
    return net(body, {**WEIGHTS, **(weights or {})}, given, result, opset=opset)


def kept(found: list[str]) -> list[str]:
    return [op for op in found if op not in ("Constant", "MatMul", "Abs")]


def feeds(*shape: int) -> Inputs:
    return Inputs(values={"x": [normal(*shape, seed=seed).astype(np.float32) for seed in range(3)]})


def test_text() -> None:
    found = rewritten(model(Q, K, V, SCORES, ATTEND, MERGE), CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12))
    heads = "kv_num_heads: int = 3, q_num_heads: int = 3, scale: float = 0.3"
    assert found.nodes == [
        "k0 = MatMul (x, wk)",
        "a = Abs (x)",
        "v0 = MatMul (a, wv)",
        f"y = Attention <{heads}> (x, k0, v0)",
    ]
    assert found.rules[0] == "attention"


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        pytest.param("s = MatMul(q, k)", 1.0, id="no scale"),
        pytest.param("n = MatMul(q, k)  s = Div(n, c)", 1 / 0.3, id="divided"),
        pytest.param("n = MatMul(q, k)  s = Mul(c, n)", 0.3, id="commuted"),
        pytest.param("e = Mul(q, c)  s = MatMul(e, k)", 0.3, id="of the query"),
        pytest.param("e = Div(k, c)  s = MatMul(q, e)", 1 / 0.3, id="of the key"),
        pytest.param("e = Mul(q, r)  f = Mul(k, r)  s = MatMul(e, f)", 0.25, id="of both"),
        pytest.param("e = Mul(q, r)  f = Mul(k, c)  n = MatMul(e, f)  s = Div(n, r)", 0.3, id="of all"),
    ],
)
def test_where_the_scale_stands(scores: str, scale: float) -> None:
    found = rewritten(model(Q, K, V, scores, ATTEND, MERGE), CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12))
    assert kept(found.op_types) == ["Attention"]
    attributes = {a.name: a.f for a in found.after.graph.node[-1].attribute}
    assert attributes["scale"] == pytest.approx(scale)


def test_keys_that_are_swapped_apart() -> None:
    keys = f"kr = Reshape(k0, hs)  kh = {TO_HEADS}(kr)  ks = Mul(kh, r)  k = Transpose<perm = [0, 1, 3, 2]>(ks)"
    found = rewritten(model(Q, keys, V, SCORES, ATTEND, MERGE), CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12))
    assert kept(found.op_types) == ["Attention"]


@pytest.mark.parametrize(
    "shape", [(1, 3, 5, 5), (5, 5), (3, 5, 5), (2, 1, 5, 5), (1, 1, 1, 5), (5,), (2, 3, 5, 1)], ids=str
)
def test_masks(shape: tuple[int, ...]) -> None:
    body = ("n = MatMul(q, k)  t = Mul(n, c)  s = Add(t, b)", ATTEND, MERGE)
    mask = np.where(normal(*shape) > 1, -1e9, normal(*shape))
    source = model(Q, K, V, *body, weights={"b": mask})
    found = rewritten(source, CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12))
    assert kept(found.op_types) == ["Attention"]


def test_a_bias_that_is_picked_from_a_table() -> None:
    mask = """i = Constant<value = int64[5,5] {0,1,2,3,4,1,2,3,4,5,2,3,4,5,6,3,4,5,6,0,4,5,6,0,1}>()  g = Gather(b, i)
        h = Transpose<perm = [2, 0, 1]>(g)  u = Unsqueeze(h, z)  n = MatMul(q, k)  s = Add(u, n)"""
    source = model("z = Constant<value_ints = [0]>()", Q, K, V, mask, ATTEND, MERGE, weights={"b": normal(7, 3)})
    found = rewritten(source, CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12))
    assert kept(found.op_types) == ["Gather", "Transpose", "Unsqueeze", "Attention"]


PACKED = (
    "ps = Constant<value_ints = [2, 5, 3, 2, 4]>()  x3 = Reshape(a0, ps)  t = Transpose<perm = [2, 0, 3, 1, 4]>(x3)"
)
SQUEEZE = "z = Constant<value_ints = [0]>()  q = Squeeze(q1, z)  k1 = Squeeze(k2, z)  v = Squeeze(v1, z)"
PICKS = {
    "Split": f"q1, k2, v1 = Split<num_outputs = 3>(t)  {SQUEEZE}",
    "Slice": f"""i0 = Constant<value_ints = [0]>() i1 = Constant<value_ints = [1]>() i2 = Constant<value_ints = [2]>()
        i3 = Constant<value_ints = [3]>()  q1 = Slice(t, i0, i1, i0)
        k2 = Slice(t, i1, i2, i0)  v1 = Slice(t, i2, i3, i0)
        {SQUEEZE}""",
    "Gather": """j0 = Constant<value_int = 0>() j1 = Constant<value_int = 1>() j2 = Constant<value_int = -1>()
        q = Gather(t, j0)  k1 = Gather(t, j1)  v = Gather(t, j2)""",
}
PACKED_REST = f"k = Transpose<perm = [0, 1, 3, 2]>(k1)  {SCORES}  {ATTEND}  m = {TO_HEADS}(o)  y = Reshape(m, os)"


def packed(pick: str, rest: str = PACKED_REST) -> onnx.ModelProto:
    body = f"os = Constant<value_ints = [2, 5, 8]>()  a0 = MatMul(x, w)  {PACKED}  {pick}  {rest}"
    return net(body, {"w": np.abs(normal(12, 24)), "c": np.array(0.3)}, "2,5,12", "2,5,8", opset=23)


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
def test_query_key_and_value_from_one_product(pick: str) -> None:
    given = Inputs(values={"x": [np.abs(normal(2, 5, 12, seed=seed)).astype(np.float32) for seed in range(3)]})
    found = rewritten(packed(pick), CLEAN, tolerance=CLOSE, inputs=given)
    assert found.op_types == ["MatMul", "Split", "Attention"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("q = Gather(t, j0)", "q = Gather(t, j1)", id="the key twice"),
        pytest.param("v = Gather(t, j2)", "v = Gather(t, j0)", id="the query twice"),
    ],
)
def test_parts_that_are_not_query_key_and_value(old: str, new: str) -> None:
    untouched(packed(PICKS["Gather"].replace(old, new)), PASS)


def test_heads_in_front_of_the_parts() -> None:
    """[heads, parts] instead of [parts, heads]: no part is a stretch of the hidden axis."""
    body = packed(PICKS["Gather"]).graph
    shape = next(node for node in body.node if node.output[0] == "ps").attribute[0]
    shape.ints[:] = [2, 5, 2, 3, 4]
    order = next(node for node in body.node if node.output[0] == "t").attribute[0]
    order.ints[:] = [3, 0, 2, 1, 4]
    untouched(onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10), PASS)


@pytest.mark.parametrize(
    ("parts", "weights"),
    [
        pytest.param((Q, K, V, SCORES, "p = Softmax<axis = 2>(s)  o = MatMul(p, v)", MERGE), {}, id="over the queries"),
        pytest.param((Q, K, V, SCORES.replace("c)", "b)"), ATTEND, MERGE), {}, id="a scale for each place"),
        pytest.param((Q, K, V, SCORES, ATTEND, MERGE), {"c": np.array(-0.3)}, id="a negative scale"),
        pytest.param((Q, K, V, SCORES, ATTEND, MERGE), {"c": np.array(0.0)}, id="a scale of zero"),
        pytest.param(
            (Q, K, V, "n = MatMul(q, k)  s = Add(n, b)", ATTEND, MERGE),
            {"b": np.full((1, 1, 5, 5), -np.inf)},
            id="rows that are masked",
        ),
        pytest.param(
            (Q, K, V, "n = MatMul(q, k)  s = Add(n, b)", ATTEND, MERGE),
            {"b": np.full((5, 5), np.finfo(np.float32).min)},
            id="rows masked by the least number",
        ),
        pytest.param((Q, K, V, "n = MatMul(q, k)  e = Abs(b)  s = Add(n, e)", ATTEND, MERGE), {}, id="a computed mask"),
        pytest.param((Q, K, V, "n = MatMul(q, k)  s = Add(n, n)", ATTEND, MERGE), {}, id="twice the scores"),
        pytest.param((Q, K, V, "n = MatMul(q, k)  s = Relu(n)", ATTEND, MERGE), {}, id="something between"),
        pytest.param(
            (Q, K, V, SCORES, "p = Softmax<axis = -1>(s)  d = Relu(p)  o = MatMul(d, v)", MERGE),
            {},
            id="something behind",
        ),
        pytest.param(
            (Q, K, V, SCORES, "e = Mul(v, c)  p = Softmax<axis = -1>(s)  o = MatMul(p, e)", MERGE),
            {},
            id="scaled values",
        ),
        pytest.param(
            (Q, K, V, SCORES, ATTEND, "m = Transpose<perm = [0, 2, 3, 1]>(o)  y = Reshape(m, ms)"),
            {},
            id="another way to merge",
        ),
    ],
)
def test_what_stays(parts: tuple[str, ...], weights: dict[str, Weights]) -> None:
    untouched(model(*parts, weights=weights), PASS)


@pytest.mark.parametrize("value", ["n", "s", "p", "o", "m", "q", "k", "v", "kr"])
def test_intermediates_that_are_outputs(value: str) -> None:
    body = "  ".join((SHAPES, PROJECT, Q, K, V, SCORES, ATTEND, MERGE))
    shapes = {"q": "2,3,5,4", "k": "2,3,4,5", "v": "2,3,5,2", "o": "2,3,5,2", "m": "2,5,3,2", "kr": "2,5,3,4"}
    outputs = f", float[{shapes.get(value, '2,3,5,5')}] {value}"
    untouched(net(body, WEIGHTS, "2,5,12", "2,5,6", opset=23, outputs=outputs), PASS)


def test_dims_that_may_be_none() -> None:
    """ONNX Runtime's Attention refuses an empty batch and empty sequences."""
    shapes = SHAPES.replace("[2, 5,", "[0, 0,")
    body = "  ".join((shapes, PROJECT, Q, K, V, SCORES, ATTEND, MERGE))
    for given in ("N,5,12", "2,S,12"):
        untouched(net(body, WEIGHTS, given, given.replace("12", "6"), opset=23), PASS)


def test_heads_that_are_not_those_of_the_hidden_axis() -> None:
    """The batch goes into the heads, too: the same shapes, other elements."""
    body = "  ".join((SHAPES.replace("[2, 5, 6]", "[5, 2, 6]"), PROJECT, Q, K, V, SCORES, ATTEND, MERGE))
    untouched(net(body, WEIGHTS, "2,5,12", "5,2,6", opset=23), PASS)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.DOUBLE])
def test_other_precisions(dtype: DType) -> None:
    body = "  ".join((SHAPES, PROJECT, Q, K, V, SCORES, ATTEND, MERGE))
    untouched(net(body, WEIGHTS, "2,5,12", "2,5,6", opset=23, dtype=dtype), PASS)


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_old_opsets_are_raised(opset: int) -> None:
    before = model(Q, K, V, SCORES, ATTEND, MERGE, opset=opset)
    graph = ir.load(before)
    passes.run(graph, PASS)
    after = ir.emit(graph)
    assert after.opset_import[0].version == 23
    assert agree(before, after, feeds(2, 5, 12), CLOSE) == 3


def test_a_mask_that_the_caller_may_choose() -> None:
    body = "  ".join((SHAPES, PROJECT, Q, K, V, "n = MatMul(q, k)  s = Add(n, b)", ATTEND, MERGE))
    untouched(net(body, WEIGHTS, "2,5,12", "2,5,6", opset=23, overridable="b"), PASS)


def test_a_causal_mask() -> None:
    body = (Q, K, V, "n = MatMul(q, k)  s = Add(n, b)", ATTEND, MERGE)
    lower = np.where(np.tri(5) > 0, 0, -np.inf)
    source = model(*body, weights={"b": lower})
    assert kept(rewritten(source, CLEAN, tolerance=CLOSE, inputs=feeds(2, 5, 12)).op_types) == ["Attention"]
    lower[2] = -np.inf
    untouched(model(*body, weights={"b": lower}), PASS)
    untouched(model(*body, weights={"b": np.where(np.tri(5) > 0, 0, np.inf)}), PASS)
