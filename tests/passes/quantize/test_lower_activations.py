"""HardSwish and Swish become products with a gate, in single precision, and nothing else does."""

import numpy as np
import pytest

from planish import ir, passes
from planish.ir import Builder, DType
from planish.runtime.session import Session
from tests.equivalence import PLAIN, Inputs, Ulps, rewritten, untouched

PASS = "lower-activations"


def net(op: str, dtype: str = "float", attributes: str = "") -> str:
    return f"g ({dtype}[N, 4] x) => ({dtype}[N, 4] y) {{ y = {op}{attributes}(x) }}"


def test_hard_swish() -> None:
    found = rewritten(net("HardSwish"), PASS, tolerance=Ulps(8))
    assert found.op_types == ["HardSigmoid", "Mul"]
    assert found.nodes[1].startswith("y = Mul (x, ")
    assert found.rules == ["hard-swish"]
    assert found.rewrites[0].sources == ("y",)


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, 1e38, -1e38, 3.0, -3.0, 0.0, 1e-40])
def test_special_values(special: float) -> None:
    """minus infinity times a shut gate is NaN in both."""
    b = Builder("g", opset=17)
    b.output("y", b.node("HardSwish", (b.input("x", DType.FLOAT, (1,)),)))
    feed = {"x": np.array([special], np.float32)}
    before = Session(ir.emit(b.graph()).SerializeToString(), PLAIN).run(feed)[0]
    graph = b.graph()
    passes.run(graph, PASS)
    after = Session(ir.emit(graph).SerializeToString(), PLAIN).run(feed)[0]
    np.testing.assert_allclose(np.asarray(after), np.asarray(before), rtol=1e-6, equal_nan=True)


def test_swish() -> None:
    """Of opset 24, for which ONNX Runtime has no kernel of its own yet."""
    b = Builder("g", opset=24)
    b.output("y", b.node("Swish", (b.input("x", DType.FLOAT, ("N", 4)),)))
    graph = b.graph()
    (record,) = passes.run(graph, PASS)
    assert [node.op for node in graph.nodes] == ["Sigmoid", "Mul"]
    assert [rewrite.rule for rewrite in record.rewrites] == ["swish"]


def test_swish_of_a_multiple_is_left() -> None:
    b = Builder("g", opset=24)
    b.output("y", b.node("Swish", (b.input("x", DType.FLOAT, ("N", 4)),), {"alpha": 1.5}))
    graph = b.graph()
    (record,) = passes.run(graph, PASS)
    assert not record.rewrites


@pytest.mark.parametrize("dtype", ["double", "float16"])
def test_other_types_are_left(dtype: str) -> None:
    untouched(net("HardSwish", dtype), PASS)


@pytest.mark.parametrize("op", ["HardSigmoid", "Relu", "Sigmoid"])
def test_other_activations_are_left(op: str) -> None:
    untouched(net(op), PASS)


def test_two_in_a_row_and_no_elements() -> None:
    text = "g (float[N] x) => (float[N] y) { h = HardSwish(x)  y = HardSwish(h) }"
    found = rewritten(text, PASS, tolerance=Ulps(64), inputs=Inputs(bindings=[{"N": 0}, {"N": 1}, {"N": 9}]))
    assert found.op_types == ["HardSigmoid", "Mul", "HardSigmoid", "Mul"]


def test_an_output_that_is_read_inside() -> None:
    text = "g (float[N] x) => (float[N] h, float[N] y) { h = HardSwish(x)  y = Neg(h) }"
    assert rewritten(text, PASS, tolerance=Ulps(8)).op_types == ["HardSigmoid", "Mul", "Neg"]


def test_a_limit() -> None:
    text = "g (float[N] x) => (float[N] y) { h = HardSwish(x)  y = HardSwish(h) }"
    assert rewritten(text, PASS, tolerance=Ulps(64), limit=1).op_types == ["HardSigmoid", "Mul", "HardSwish"]
