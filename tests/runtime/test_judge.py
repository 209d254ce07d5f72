"""Right rewrites pass and wrong ones are caught, each kind by the inputs that are there for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from planish import passes, runtime
from planish.ir import Builder, DType, Graph, Value
from planish.runtime.agreement import CompareReport
from planish.runtime.providers import Target

ONE_THREAD = Target(threads=1)


def agreement(a: Graph, b: Graph, *, exact: bool = False) -> CompareReport:
    return runtime.compare(a, b, target=ONE_THREAD, exact=exact)


def unary(make: Callable[[Builder, Value], Value], dtype: DType = DType.FLOAT) -> Graph:
    """x [batch, 8] -> y"""
    b = Builder()
    b.output("y", make(b, b.input("x", dtype, ("batch", 8))))
    return b.graph()


def number(b: Builder, value: float) -> Value:
    return b.constant(np.asarray(value, np.float32))


@dataclass(frozen=True)
class Net:
    """What a wrong rewrite might get wrong in Conv, BatchNormalization, Clip, pooling and Gemm."""

    conv_bias: float = 1.0
    epsilon: float = 1e-5
    low: float = 0.0
    high: float = 6.0
    weight: float = 1.0
    pads: tuple[int, ...] = (1, 1, 1, 1)
    gemm_bias: bool = True
    count_include_pad: int = 0

    def graph(self) -> Graph:
        random = np.random.default_rng(7)
        b = Builder(opset=20)
        x = b.input("x", DType.FLOAT, ("batch", 3, "height", "width"))
        w, bias = random.standard_normal((8, 3, 3, 3)).astype(np.float32), random.standard_normal(8).astype(np.float32)
        w[5, 1, 2, 0] *= self.weight
        bias[3] *= self.conv_bias
        y = b.node("Conv", (x, b.initializer("w", w), b.initializer("b", bias)), {"pads": self.pads})
        statistics = [b.initializer(n, random.uniform(0.5, 1.5, 8).astype(np.float32)) for n in ("g", "be", "m", "v")]
        y = b.node("BatchNormalization", (y, *statistics), {"epsilon": self.epsilon})
        y = b.node("Clip", (y, number(b, self.low), number(b, self.high)))
        attributes = {"kernel_shape": (3, 3), "pads": (1,) * 4, "count_include_pad": self.count_include_pad}
        y = b.node("GlobalAveragePool", (b.node("AveragePool", (y,), attributes),))
        y = b.node("Flatten", (y,))
        operands = [y, b.initializer("fc", random.standard_normal((8, 4)).astype(np.float32))]
        if self.gemm_bias:
            operands.append(b.initializer("fcb", 0.1 * random.standard_normal(4).astype(np.float32)))
        b.output("logits", b.node("Gemm", operands))
        return b.graph()


@pytest.mark.parametrize(
    "mutant",
    [
        Net(conv_bias=0.0),
        Net(epsilon=1e-3),
        Net(high=6.5),
        Net(low=-0.01),
        Net(weight=0.99),
        Net(pads=(0, 0, 2, 2)),
        Net(gemm_bias=False),
        Net(count_include_pad=1),
    ],
    ids=["bias-of-one-channel", "epsilon", "upper-bound", "lower-bound", "one-weight", "pads", "gemm-bias", "pooling"],
)
def test_a_wrong_net_differs(mutant: Net) -> None:
    report = agreement(Net().graph(), mutant.graph())
    assert report.verdict == "differs"
    assert "logits differs" in report.reason


def test_folding_into_a_convolution_is_rounding() -> None:
    folded = Net().graph()
    records = passes.run(folded, "fuse")
    assert sum(len(record.rewrites) for record in records) > 0
    report = agreement(Net().graph(), folded)
    assert report.equal, report.reason
    (logits,) = report.outputs
    assert 0 < logits.worst.max_abs < logits.allowed
    assert logits.identical < logits.runs
    assert logits.noise is not None
    assert not agreement(Net().graph(), folded, exact=True).equal


def test_a_model_is_equal_to_itself_in_every_bit() -> None:
    report = agreement(Net().graph(), Net().graph(), exact=True)
    assert report.equal
    assert all(output.identical == output.runs and output.worst.max_abs == 0 for output in report.outputs)
    assert {run.inputs for run in report.runs} >= {"nonfinite", "boundaries", "denormal", "large", "ties", "zeros"}


WRONG: dict[str, tuple[Callable[[Builder, Value], Value], Callable[[Builder, Value], Value], str]] = {
    "threshold": (
        lambda b, x: b.node("Greater", (x, number(b, 0.7))),
        lambda b, x: b.node("GreaterOrEqual", (x, number(b, 0.7))),
        "boundaries",
    ),
    "dropped-abs": (
        lambda b, x: b.node("Abs", (x,)),
        lambda b, x: b.node("Identity", (x,)),
        "normal",
    ),
    "ties-to-even": (
        lambda b, x: b.node("Round", (x,)),
        lambda b, x: b.node("Floor", (b.node("Add", (x, number(b, 0.5))),)),
        "ties",
    ),
    "overflow": (
        lambda b, x: b.node("Softmax", (x,)),
        lambda b, x: b.node("Div", (b.node("Exp", (x,)), b.node("ReduceSum", (b.node("Exp", (x,)), axis(b))))),
        "large",
    ),
    "flush-to-zero": (
        lambda b, x: b.node("Identity", (x,)),
        lambda b, x: b.node("Where", (b.node("Less", (b.node("Abs", (x,)), number(b, 1e-37))), number(b, 0), x)),
        "denormal",
    ),
    "saturated-argmax": (
        lambda b, x: b.node("ArgMax", (x,), {"axis": 1}),
        lambda b, x: b.node("ArgMax", (b.node("Softmax", (x,)),), {"axis": 1}),
        "denormal",
    ),
    "last-of-ties": (
        lambda b, x: b.node("ArgMax", (x,), {"axis": 1}),
        lambda b, x: b.node("ArgMax", (x,), {"axis": 1, "select_last_index": 1}),
        "ties",
    ),
}


def axis(b: Builder) -> Value:
    return b.constant(np.asarray([-1], np.int64))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_rewrite_is_caught_by_the_inputs_made_for_it(case: str) -> None:
    right, wrong, inputs = WRONG[case]
    report = agreement(unary(right), unary(wrong))
    assert not report.equal
    assert inputs in {run.inputs for run in report.runs if run.verdict == "differs"}


def test_the_sign_of_zero_and_infinities_matter_to_bits_alone() -> None:
    plain = unary(lambda b, x: b.node("Relu", (x,)))
    same = unary(lambda b, x: b.node("Relu", (b.node("Add", (x, number(b, 0.0))),)))
    signed = unary(lambda b, x: b.node("Identity", (x,)))
    unsigned = unary(lambda b, x: b.node("Add", (x, number(b, 0.0))))
    assert agreement(plain, same).equal
    assert agreement(signed, unsigned).equal
    report = agreement(signed, unsigned, exact=True)
    assert {run.inputs for run in report.runs if run.verdict == "differs"} >= {"zeros"}
    vanishing = unary(lambda b, x: b.node("Mul", (x, number(b, 0.0))))
    zero = unary(lambda b, x: b.node("Expand", (number(b, 0.0), b.node("Shape", (x,)))))
    assert agreement(vanishing, zero).equal
    report = agreement(vanishing, zero, exact=True)
    assert "nonfinite" in {run.inputs for run in report.runs if run.verdict == "differs"}


def test_half_precision_allows_what_it_rounds() -> None:
    halves = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float16)

    def dense(error: float) -> Graph:
        def make(b: Builder, x: Value) -> Value:
            w = halves.copy()
            w[0, 0] += np.float16(error)
            return b.node("MatMul", (x, b.constant(w)))

        return unary(make, DType.FLOAT16)

    assert agreement(dense(0), dense(0)).equal
    assert not agreement(dense(0), dense(0.25)).equal
