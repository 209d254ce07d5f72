"""Which nodes a pattern names."""

import pytest

from planish import ir
from planish.passes.quantize.selection import is_named
from tests.equivalence import model

(NODE,) = ir.load(model("g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }")).nodes


@pytest.mark.parametrize("patterns", ["*", "MatMul", "Mat*", "y", "w", "no|w", "|y"])
def test_named(patterns: str) -> None:
    assert is_named(NODE, patterns)


@pytest.mark.parametrize("patterns", ["", "|", "matmul", "X", "z*", "x y", "x"])
def test_not_named(patterns: str) -> None:
    assert not is_named(NODE, patterns)


@pytest.mark.parametrize(("patterns", "named"), [("x", True), ("w|z", True), ("y", True), ("z", False)])
def test_named_by_what_it_takes(patterns: str, named: bool) -> None:
    assert is_named(NODE, patterns, taken=True) is named
