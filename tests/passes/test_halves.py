"""On a target that works out half precision in single, --fp strict moves no place at which it rounds to half."""

import numpy as np
import onnx
import pytest

from planish.ir import DType
from tests.equivalence import rewritten, untouched
from tests.passes.fuse.nets import net

LARGE = {"k": np.array([60000]), "m": np.array([1000, 2049]), "l": np.array([1000, 2.0**-10])}
OTHERWISE = (
    "c = Constant<value = bool {1}>()  b = If(c)<then_branch = t () => (float16[N] d) { d = Identity(a) },"
    " else_branch = e () => (float16[N] f) { f = Neg(a) }>"
)
BETWEEN = {
    "two Transposes": ("N,2", "t = Transpose(a)  b = Transpose(t)"),
    "two Reshapes": ("N", "l = Constant<value_ints = [-1]>()  t = Reshape(a, l)  b = Reshape(t, l)"),
    "an Identity": ("N", "b = Identity(a)"),
    "a constant If": ("N", OTHERWISE),
}


def half(body: str, dims: str = "2", *constants: str) -> onnx.ModelProto:
    weights = {name: LARGE[name] for name in constants}
    return net(body, weights, dims, dims, dtype=DType.FLOAT16)


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_rounds(name: str) -> None:
    """The product overflows only where it is put into half precision before it is divided again."""
    dims, between = BETWEEN[name]
    rewritten(half(f"a = Mul(x, k)  {between}  y = Div(b, k)", dims, "k"), "simplify", fp="strict")


def test_what_has_kernels_goes() -> None:
    found = rewritten(
        half("a = Transpose(x)  b = Transpose(a)  y = Transpose(b)", "2,2"), "merge-transposes", fp="strict"
    )
    assert found.op_types == ["Transpose"]


CAST = "f = Constant<value_floats = [1e6, 2049.0]>()  w = Cast<to = 10>(f)  d = Mul(w, l)  y = Add(x, d)"


def test_constants_are_not_rounded_sooner() -> None:
    """What overflows in half precision, or loses digits, is finite and exact where it stays in single."""
    untouched(half("c = Mul(m, l)  d = Div(c, l)  y = Add(x, d)", "2", "m", "l"), "fold-constants", fp="strict")
    untouched(half(CAST, "2", "l"), "fold-constants", fp="strict")
    rewritten(half(CAST, "2", "l"), "simplify", fp="strict")


def test_an_overflow_is_not_folded() -> None:
    untouched(half("c = Mul(m, l)  d = Div(c, l)  y = Add(x, d)", "2", "m", "l"), "fold-constants")
    untouched(half(CAST, "2", "l"), "fold-constants")


def test_what_half_precision_holds_is_folded() -> None:
    found = rewritten(half("c = Neg(m)  d = Abs(c)  y = Add(x, d)", "2", "m"), "fold-constants", fp="strict")
    assert found.op_types == ["Add"]
