"""Reductions with the Squeeze behind them, and two of a kind."""

import numpy as np
import pytest

from tests.equivalence import Inputs, Ulps, model, rewritten, untouched

PASS = "merge-reductions"
FORGETFUL = Inputs(refusals=True)
"""ONNX Runtime forgets to reduce an axis that is counted from the back where the tensor is empty."""


def text(shape: str, nodes: str, result: str, constants: str = "", dtype: str = "float") -> str:
    held = f"<{constants}>" if constants else ""
    return f"g ({dtype}[{shape}] x) => ({dtype}{result} y) {held} {{ {nodes} }}"


KINDS = ("ReduceMax", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare")


@pytest.mark.parametrize("op", KINDS)
@pytest.mark.parametrize(
    ("axes", "behind", "result"),
    [
        ("int64[1] s={-1}", "Squeeze(a, s)", "[N,3]"),
        ("int64[2] s={-1,1}", "Squeeze(a, t)", "[N]"),
        ("int64[1] s={1}", "Squeeze(a, s)", "[N,M]"),
        ("int64[1] s={1}", "Reshape(a, t)", "[N,M]"),
        ("int64[1] s={2}", "Flatten(a)", "[N,3]"),
    ],
)
def test_a_reduction_drops_its_axes_itself(op: str, axes: str, behind: str, result: str) -> None:
    last = "4" if "Reshape" in behind else "M"
    held = f"{axes}, int64[2] t={{{'0,4' if 'Reshape' in behind else '1,2'}}}"
    nodes = f"a = {op}<keepdims=1>(x, s)  y = {behind}"
    found = rewritten(model(text(f"N,3,{last}", nodes, result.replace("M", last), held), 18), PASS, inputs=FORGETFUL)
    assert found.op_types == [op]
    assert "keepdims: int = 0" in found.nodes[0]


@pytest.mark.parametrize("op", KINDS)
def test_a_reduction_keeps_its_axes_itself(op: str) -> None:
    nodes = f"a = {op}<keepdims=0>(x, s)  y = Unsqueeze(a, t)"
    source = model(text("N,3,M", nodes, "[N,1,M]", "int64[1] s={1}, int64[1] t={-2}"), 18)
    found = rewritten(source, PASS)
    assert found.op_types == [op]
    assert "keepdims: int = 1" in found.nodes[0]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_the_place_of_an_extreme(op: str) -> None:
    nodes = f"a = {op}<axis=-1, keepdims=1, select_last_index=1>(x)  y = Squeeze(a, t)"
    source = text("N,3,4", nodes, "[N,3]", "int64[1] t={2}").replace("(float[N,3] y)", "(int64[N,3] y)")
    found = rewritten(source, PASS, inputs=FORGETFUL)
    assert found.op_types == [op]
    assert "select_last_index: int = 1" in found.nodes[0]


def test_a_reduction_over_all() -> None:
    found = rewritten(model(text("2,3", "a = ReduceMax(x)  y = Squeeze(a, t)", "", "int64[2] t={0,1}"), 18), PASS)
    assert found.op_types == ["ReduceMax"]
    nodes = "a = ReduceSum<keepdims=0>(x)  y = Reshape(a, t)"
    assert rewritten(text("N,3", nodes, "[1,1]", "int64[2] t={1,1}"), PASS).op_types == ["ReduceSum"]


@pytest.mark.parametrize(
    ("nodes", "result", "constants"),
    [
        ("a = ReduceMax<keepdims=1>(x, s)  y = Squeeze(a, t)", "[N,4]", "int64[2] s={1,2}, int64[1] t={1}"),
        ("a = ReduceMax<keepdims=0>(x, s)  y = Unsqueeze(a, t)", "[N,4,1]", "int64[1] s={1}, int64[1] t={2}"),
        ("a = ReduceMax<keepdims=1>(x, s)  y = Reshape(a, t)", "[A,B]", "int64[1] s={1}, int64[2] t={-1,2}"),
        ("a = ReduceMax<keepdims=1>(x, s)  b = Neg(a)  y = Squeeze(b, s)", "[N,4]", "int64[1] s={1}"),
        ("a = ReduceMax<keepdims=1, noop_with_empty_axes=1>(x)  y = Unsqueeze(a, t)", "[N,1,3,4]", "int64[1] t={1}"),
    ],
)
def test_what_stays(nodes: str, result: str, constants: str) -> None:
    untouched(model(text("N,3,4", nodes, result.replace("[N,4]", "[A,B]"), constants), 18), PASS)


def test_a_squeeze_of_another_axis_that_is_one_stays() -> None:
    nodes = "a = ReduceSum(x, s)  y = Squeeze(a, t)"
    untouched(text("N,1,4", nodes, "[A,B]", "int64[1] s={2}, int64[1] t={0}"), PASS)


def test_a_reduction_that_others_read_stays() -> None:
    body = "g (float[N,3] x) => (float[N,1] a, float[N] y) <int64[1] s={1}> { a = ReduceSum(x, s)  y = Squeeze(a, s) }"
    untouched(body, PASS)


def test_axes_that_are_computed_stay() -> None:
    body = (
        "g (float[N,3] x, int64[1] s) => (float[A,B,C] y) <int64[1] t={0}> { a = ReduceSum(x, s)  y = Unsqueeze(a, t) }"
    )
    untouched(body, PASS)


def test_old_forms() -> None:
    nodes = "a = ReduceMean<axes=[-1,-2]>(x)  y = Squeeze<axes=[2,3]>(a)"
    found = rewritten(model(text("N,3,4,5", nodes, "[N,3]"), 11), PASS, inputs=FORGETFUL)
    assert found.op_types == ["ReduceMean"]


# Two of a kind


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize(
    ("keep", "axes", "result"),
    [
        ("00", "int64[1] s={3}, int64[1] t={2}", "[N,3]"),
        ("11", "int64[1] s={-1}, int64[1] t={2}", "[N,3,1,1]"),
        ("00", "int64[1] s={2}, int64[1] t={-1}", "[N,3]"),
        ("00", "int64[1] s={1}, int64[2] t={1,2}", "[N]"),
    ],
)
def test_sums_of_sums(op: str, dtype: str, keep: str, axes: str, result: str) -> None:
    nodes = f"a = {op}<keepdims={keep[0]}>(x, s)  y = {op}<keepdims={keep[1]}>(a, t)"
    source = model(text("N,3,4,5", nodes, result, axes, dtype), 18)
    positive = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32 if dtype == "float" else np.float64)
    inputs = Inputs(({},), {"x": [positive, positive[:1] + 100]})
    assert rewritten(source, PASS, inputs=inputs, tolerance=Ulps(20)).op_types == [op]
    untouched(source, PASS, fp="strict")


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_sums_of_sums_of_nothing(op: str) -> None:
    nodes = f"a = {op}<keepdims=0>(x, s)  y = {op}<keepdims=0>(a, s)"
    source = model(text("M,N,3", nodes, "[3]", "int64[1] s={0}"), 18)
    bindings = ({"M": 0, "N": 3}, {"M": 3, "N": 0}, {"M": 0, "N": 0}, {"M": 1, "N": 1})
    assert rewritten(source, PASS, inputs=Inputs(bindings), tolerance=Ulps(4)).op_types == [op]


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_extremes_of_extremes(op: str) -> None:
    nodes = f"a = {op}<keepdims=0>(x, s)  y = {op}<keepdims=0>(a, s)"
    whole = rewritten(model(text("3,4,N", nodes, "[N]", "int64[1] s={0}", "int32"), 18), PASS)
    assert whole.rules == ["extreme-of-integers"]
    source = model(text("3,4,N", nodes, "[N]", "int64[1] s={0}"), 18)
    assert rewritten(source, PASS, tolerance=Ulps(0)).rules == ["extreme-of-floats"]
    untouched(source, PASS, fp="strict")


@pytest.mark.parametrize(
    ("nodes", "shape", "axes", "dtype"),
    [
        pytest.param("ReduceSum<keepdims=0> ReduceMean<keepdims=0>", "N,3,4", "{2} {1}", "float", id="two kinds"),
        pytest.param("ReduceProd<keepdims=0> ReduceProd<keepdims=0>", "N,3,4", "{2} {1}", "float", id="products"),
        pytest.param("ReduceL2<keepdims=0> ReduceL2<keepdims=0>", "N,3,4", "{2} {1}", "float", id="norms"),
        pytest.param("ReduceSum<keepdims=0> ReduceSum<keepdims=0>", "N,3,4", "{2} {1}", "int32", id="saturating"),
        pytest.param("ReduceMean<keepdims=0> ReduceMean<keepdims=0>", "N,3,4", "{2} {1}", "int32", id="rounded"),
        pytest.param("ReduceSum<keepdims=1> ReduceSum<keepdims=0>", "N,3,4", "{2} {1}", "float", id="kept, dropped"),
        pytest.param("ReduceSum<keepdims=1> ReduceSum<keepdims=1>", "N,3,4,5", "{1} {3}", "float", id="far apart"),
    ],
)
def test_reductions_that_stay_two(nodes: str, shape: str, axes: str, dtype: str) -> None:
    first, second = nodes.split(" ")
    one, two = axes.split(" ")
    kept = 4 if "5" in shape else 2 if "keepdims=1> R" in nodes and "keepdims=0" in nodes else 1
    result = f"[{','.join('ABCD'[:kept])}]"
    body = text(shape, f"a = {first}(x, s)  y = {second}(a, t)", result, f"int64[1] s={one}, int64[1] t={two}", dtype)
    untouched(model(body, 18), PASS)


def stacked(reduce: str, *, axis: int = 2, parts: str = "a, b, c", third: str = "Neg(x)", dtype: str = "float") -> str:
    return (
        f"g ({dtype}[N,3] x) => ({dtype}[A,B] y) <int64[1] k = {{{axis}}}, int64[1] o = {{1}}> {{"
        f" q = Abs(x)  r = {third}  a = Unsqueeze(x, k)  b = Unsqueeze(q, k)  c = Unsqueeze(r, k)"
        f" s = Concat<axis={axis}>({parts})  y = {reduce} }}"
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean"])
def test_a_stack_that_is_only_reduced(op: str, axis: int) -> None:
    reduce = f"{op}<keepdims=0>(s, k)" if op == "ReduceSum" else f"{op}<axes=[{axis}], keepdims=0>(s)"
    found = rewritten(stacked(reduce, axis=axis), f"{PASS},remove-dead-nodes", tolerance=Ulps(2))
    assert found.op_types == ["Abs", "Neg", op.removeprefix("Reduce")]


def test_a_stack_whose_axis_stays() -> None:
    source = stacked("ReduceMax<axes=[2], keepdims=1>(s)").replace("[A,B] y", "[A,B,C] y")
    found = rewritten(source, f"{PASS},remove-dead-nodes", tolerance=Ulps(0))
    assert found.op_types == ["Abs", "Neg", "Max", "Unsqueeze"]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(stacked("ReduceMax<axes=[1], keepdims=0>(s)"), id="another axis"),
        pytest.param(stacked("ReduceMax<keepdims=0>(s)").replace("[A,B] y", " y"), id="all axes"),
        pytest.param(
            stacked("ReduceMax<axes=[2], keepdims=0>(s)", parts="a, s1, c").replace(
                " s = C", " s1 = Concat<axis=2>(b, b)  s = C"
            ),
            id="two in one",
        ),
        pytest.param(stacked("ReduceSum<keepdims=0>(s, k)", dtype="int32"), id="sums of integers"),
        pytest.param(stacked("ReduceL2<axes=[2], keepdims=0>(s)"), id="another reduction"),
        pytest.param(
            stacked("ReduceMax<axes=[2], keepdims=0>(s)").replace("[A,B] y", "[A,B] y, float[C,D,3] s"), id="an output"
        ),
    ],
)
def test_stacks_that_stay(source: str) -> None:
    untouched(source, PASS)
