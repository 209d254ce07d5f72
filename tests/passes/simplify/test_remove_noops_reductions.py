"""A reduction over axes of one element gives back what it got, where its kind and its type do."""

import pytest

from tests.equivalence import Ulps, model, rewritten, untouched
from tests.passes.simplify.noops import around

PASS = "remove-noops"


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("dtype", ["float", "double", "int32"])
@pytest.mark.parametrize(
    ("shape", "axes", "result"),
    [
        ("N,1,4", "int64[1] c = {1}", "[N,1,4]"),
        ("1,N,1", "int64[2] c = {0, -1}", "[1,N,1]"),
        ("1,1", "", "[1,1]"),
        ("N,1,4", "int64[1] c = {1}", "[N,4]"),
        ("1,N,1", "int64[2] c = {2, 0}", "[N]"),
        ("1,1", "", ""),
    ],
)
def test_an_extreme_or_product_of_one(op: str, dtype: str, shape: str, axes: str, result: str) -> None:
    keep = int(result == f"[{shape}]")
    reduce = f"b = {op}<keepdims = {keep}>(a{', c' if axes else ''})"
    held = f"<{axes}>" if axes else ""
    text = f"g ({dtype}[{shape}] x) => ({dtype}{result} y) {held} {{ a = Neg(x)  {reduce}  y = Neg(b) }}"
    assert rewritten(model(text, 18), PASS).op_types == (["Neg", "Neg"] if keep else ["Neg", "Squeeze", "Neg"])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_a_sum_of_one_loses_the_sign_of_zero_alone(op: str) -> None:
    source = model(around(f"b = {op}<keepdims = 1>(a, c)", "int64[1] c = {1}", "N,1,4"), 18)
    assert rewritten(source, PASS, tolerance=Ulps(0)).rules == ["sum-of-one"]
    untouched(source, PASS, fp="strict")
    whole = model(around(f"b = {op}<keepdims = 1>(a, c)", "int64[1] c = {1}", "N,1,4", "int32"), 18)
    assert rewritten(whole, PASS).rules == ["reduce-one"]


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceProd"])
def test_long_integers_go_through_double_in_onnx_runtime(op: str) -> None:
    """So it rounds what is beyond 2**53, and leaving the node out would not; an extreme is exact."""
    untouched(model(around(f"b = {op}<keepdims = 1>(a, c)", "int64[1] c = {1}", "N,1,4", "int64"), 18), PASS)
    extreme = model(around("b = ReduceMax<keepdims = 1>(a, c)", "int64[1] c = {1}", "N,1,4", "int64"), 18)
    assert rewritten(extreme, PASS).rules == ["reduce-one"]
