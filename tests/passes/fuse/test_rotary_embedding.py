"""RotaryEmbedding out of its parts; tolerance: the rounding of two products, on values that cannot cancel to much."""

import numpy as np
import onnx
import pytest

from planish import ir, passes
from planish.ir import DType
from tests.equivalence import Inputs, Ulps, agree, rewritten, untouched
from tests.passes.fuse.nets import Weights, net, normal

PASS = "fuse-rotary-embedding"
CLEAN = f"{PASS},merge-common-subexpressions,remove-dead-nodes"
CLOSE = Ulps(4096)
CONSTANTS = """z = Constant<value_ints = [0]>() h = Constant<value_ints = [3]>() n = Constant<value_ints = [-3]>()
    e = Constant<value_ints = [9223372036854775807]>() a = Constant<value_ints = [3]>()
    l = Constant<value_ints = [-1]>() one = Constant<value_ints = [1]>()"""
ANGLES = "f = ReduceMean<axes = [1], keepdims = 0>(x)  g = Slice(f, z, h, l)"
DOUBLE = "w = Concat<axis = -1>(g, g)  c0 = Cos(w)  s0 = Sin(w)  c = Unsqueeze(c0, one)  s = Unsqueeze(s0, one)"
HALVES = "x1 = Slice(x, z, h, a)  x2 = Slice(x, h, e, a)"
CROSS = "m = Neg(x2)  r = Concat<axis = -1>(m, x1)"
SUM = "p = Mul(x, c)  q = Mul(r, s)  y = Add(p, q)"


def model(
    *parts: str, shape: str = "B,2,S,6", weights: dict[str, Weights] | None = None, opset: int = 23
) -> onnx.ModelProto:
    body = "  ".join((CONSTANTS.replace("\n", " "), *parts))
    if opset >= 18:
        body = body.replace("ReduceMean<axes = [1], keepdims = 0>(x)", "ReduceMean<keepdims = 0>(x, one)")
    return net(body, weights or {}, shape, shape, opset=opset)


def whole(**replaced: str) -> onnx.ModelProto:
    parts = {"angles": ANGLES, "double": DOUBLE, "halves": HALVES, "cross": CROSS, "sum": SUM} | replaced
    return model(*parts.values())


def test_text() -> None:
    found = rewritten(whole(), CLEAN, tolerance=CLOSE)
    assert found.nodes[-3:] == ["Cos_out = Cos (g)", "Sin_out = Sin (g)", "y = RotaryEmbedding (x, Cos_out, Sin_out)"]
    assert found.rules[0] == "rotary-embedding"


@pytest.mark.parametrize(
    "replaced",
    [
        pytest.param({"sum": "p = Mul(c, x)  q = Mul(s, r)  y = Add(q, p)"}, id="commuted"),
        pytest.param({"halves": "x1, x2 = Split<axis = -1, num_outputs = 2>(x)"}, id="split"),
        pytest.param({"halves": "x1 = Slice(x, z, n, l)  x2 = Slice(x, n, e, a)"}, id="counted from the back"),
        pytest.param(
            {
                "double": DOUBLE.replace("(c0, one)", "(c9, one)").replace(
                    "s0 =", "k = Constant<value_float = 0.5>()  c9 = Mul(c0, k)  s0 ="
                )
            },
            id="a scale",
        ),
    ],
)
def test_spellings(replaced: dict[str, str]) -> None:
    found = rewritten(whole(**replaced), CLEAN, tolerance=CLOSE)
    assert "RotaryEmbedding" in found.op_types
    assert "Neg" not in found.op_types


def test_query_and_key_share_their_angles() -> None:
    other = SUM.replace("x,", "k,").replace("y =", "v =").replace("p", "p2").replace("q", "q2").replace("(r,", "(r2,")
    keys = "k = Relu(x)  k1 = Slice(k, z, h, a)  k2 = Slice(k, h, e, a)  m2 = Neg(k2)  r2 = Concat<axis = 3>(m2, k1)"
    body = SUM.replace("y =", "u =")
    found = rewritten(whole(sum=f"{body}  {keys}  {other}  y = Add(u, v)"), CLEAN, tolerance=CLOSE)
    assert [found.op_types.count(op) for op in ("RotaryEmbedding", "Cos", "Sin", "Concat")] == [2, 1, 1, 0]


def test_rows_of_a_table() -> None:
    angles = np.concatenate([normal(7, 3)] * 2, 1)
    rows = "i = Constant<value = int64[1,4] {0, 3, 6, 1}>()  c0 = Gather(tc, i)  s0 = Gather(ts, i)"
    body = (rows, "c = Unsqueeze(c0, one)  s = Unsqueeze(s0, one)", HALVES, CROSS, SUM)
    tables = {"tc": np.cos(angles), "ts": np.sin(angles)}
    found = rewritten(model(*body, shape="1,2,4,6", weights=tables), CLEAN, tolerance=CLOSE)
    assert found.op_types == ["Constant", "Gather", "Gather", "RotaryEmbedding"]
    assert found.initializers["tc"].shape == (7, 3)
    untouched(model(*body, shape="1,2,4,6", weights=tables | {"ts": np.sin(normal(7, 6))}), PASS)


def test_constants() -> None:
    angles = np.concatenate([normal(1, 1, 4, 3)] * 2, 3)
    tables = {"c": np.cos(angles), "s": np.sin(angles)}
    found = rewritten(model(HALVES, CROSS, SUM, shape="1,2,4,6", weights=tables), CLEAN, tolerance=CLOSE)
    assert found.op_types == ["RotaryEmbedding"]
    untouched(model(HALVES, CROSS, SUM, shape="B,2,4,6", weights=tables), PASS)
    body = "  ".join((CONSTANTS.replace("\n", " "), HALVES, CROSS, SUM))
    untouched(net(body, tables, "1,2,4,6", "1,2,4,6", opset=23, overridable="c"), PASS)


@pytest.mark.parametrize(
    "replaced",
    [
        pytest.param({"cross": "m = Neg(x1)  r = Concat<axis = -1>(m, x2)"}, id="nothing is crossed"),
        pytest.param({"cross": "m = Neg(x1)  r = Concat<axis = -1>(x2, m)"}, id="the other way round"),
        pytest.param({"cross": "m = Abs(x2)  r = Concat<axis = -1>(m, x1)"}, id="no sign"),
        pytest.param(
            {"halves": "k = Relu(x)  x1 = Slice(k, z, h, a)  x2 = Slice(k, h, e, a)"}, id="halves of something else"
        ),
        pytest.param(
            {"halves": "two = Constant<value_ints = [2]>()  x1 = Slice(x, z, two, a)  x2 = Slice(x, two, e, a)"},
            id="no halves",
        ),
        pytest.param(
            {"double": DOUBLE.replace("(g, g)", "(g, g2)").replace("w =", "g2 = Neg(g)  w =")}, id="other angles"
        ),
        pytest.param({"sum": "p = Mul(x, c)  q = Mul(r, s)  y = Sub(p, q)"}, id="a difference"),
    ],
)
def test_what_stays(replaced: dict[str, str]) -> None:
    untouched(whole(**replaced), PASS)


def test_angles_that_repeat_along_another_axis() -> None:
    angles = (
        "f = ReduceMean<axes = [1], keepdims = 0>(x)  half = Constant<value_ints = [2]>()  g = Slice(f, z, half, one)"
    )
    body = (angles, DOUBLE.replace("axis = -1", "axis = 1"), HALVES, CROSS, SUM)
    untouched(model(*body, shape="B,2,4,6"), PASS)


@pytest.mark.parametrize("value", ["p", "q", "r", "m", "x1", "x2"])
def test_intermediates_that_are_outputs(value: str) -> None:
    body = "  ".join(
        (
            CONSTANTS.replace("\n", " "),
            ANGLES.replace("<axes = [1], keepdims = 0>(x)", "<keepdims = 0>(x, one)"),
            DOUBLE,
            HALVES,
            CROSS,
            SUM,
        )
    )
    size = 3 if value in ("m", "x1", "x2") else 6
    untouched(net(body, {}, "B,2,S,6", "B,2,S,6", opset=23, outputs=f", float[B,2,S,{size}] {value}"), PASS)


def test_angles_for_another_batch() -> None:
    """ONNX Runtime broadcasts no angles over the batch."""
    both = "both = Constant<value_ints = [0, 1]>()  f = ReduceMean(x, both)  f2 = Squeeze(f, both)"
    double = DOUBLE.replace("(c0, one)", "(c0, both)").replace("(s0, one)", "(s0, both)")
    untouched(model(both, "g = Slice(f2, z, h, l)", double, HALVES, CROSS, SUM), PASS)


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.DOUBLE])
def test_other_precisions(dtype: DType) -> None:
    angles = np.concatenate([normal(1, 1, 4, 3)] * 2, 3)
    body = "  ".join((CONSTANTS.replace("\n", " "), HALVES, CROSS, SUM))
    untouched(net(body, {"c": angles, "s": angles}, "1,2,4,6", "1,2,4,6", opset=23, dtype=dtype), PASS)


@pytest.mark.parametrize("opset", [13, 17, 22])
def test_old_opsets_are_raised(opset: int) -> None:
    before = model(ANGLES, DOUBLE, HALVES, CROSS, SUM, opset=opset)
    graph = ir.load(before)
    passes.run(graph, PASS)
    after = ir.emit(graph)
    assert after.opset_import[0].version == 23
    assert agree(before, after, Inputs(), CLOSE)
