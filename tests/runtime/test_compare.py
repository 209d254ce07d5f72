"""Right rewrites pass and wrong ones are caught, each kind by the inputs that are there for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from planish import ir, passes, runtime
from planish.ir import Builder, DType, Graph, GraphError, SequenceType, TensorType, Value
from planish.runtime.agreement import CompareReport
from planish.runtime.bindings import Binding
from planish.runtime.errors import SessionError
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


def test_bindings_differ_in_every_symbol_and_hold_one_and_none() -> None:
    report = agreement(Net().graph(), Net().graph())
    shapes = [binding.shapes["x"] for binding in report.bindings]
    assert len(shapes) == 4
    for axis in (0, 2, 3):
        assert len({shape[axis] for shape in shapes[:3]}) == 3
        assert 1 in {shape[axis] for shape in shapes[:3]}
    assert 0 in shapes[3]


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


def gathering(wrong: bool) -> Graph:
    b = Builder()
    ids = b.input("ids", DType.INT64, ("batch", "sequence"))
    table = b.initializer("table", np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32))
    b.output("y", b.node("Gather", (table, b.node("Abs", (ids,)) if wrong else ids)))
    return b.graph()


def test_indices_stay_in_range_and_count_from_the_end_too() -> None:
    report = agreement(gathering(wrong=False), gathering(wrong=False), exact=True)
    assert report.equal
    assert all(run.verdict == "equal" for run in report.runs)
    assert not agreement(gathering(wrong=False), gathering(wrong=True)).equal


def flattening(target: tuple[int, ...]) -> Graph:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", 2, 3))
    b.output("y", b.node("Reshape", (x, b.constant(np.asarray(target, np.int64)))), TensorType(DType.FLOAT, None))
    return b.graph()


def test_a_model_that_runs_at_one_binding_alone_differs() -> None:
    report = agreement(flattening((-1, 6)), flattening((1, 6)))
    assert not report.equal
    assert "only B fails" in report.reason
    assert {run.verdict for run in report.runs} == {"equal", "failed"}


def test_what_a_refuses_is_no_difference() -> None:
    report = agreement(flattening((3, -1)), flattening((3, -1)))  # batch 0 leaves nothing to divide
    assert report.equal
    narrow = flattening((1, 6))
    report = runtime.compare(
        narrow, flattening((-1, 6)), bindings=[Binding({"x": (1, 2, 3)}), Binding({"x": (4, 2, 3)})]
    )
    assert report.equal
    assert {run.verdict for run in report.runs} == {"equal", "refused"}


def test_inputs_that_a_never_accepts_are_an_error() -> None:
    with pytest.raises(SessionError, match="accepts none of the inputs"):
        runtime.compare(flattening((1, 6)), flattening((1, 6)), bindings=[Binding({"x": (4, 2, 3)})])


def scaling(ignores: bool) -> Graph:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", 4))
    scale = b.input("scale", DType.FLOAT, (4,), default=np.full(4, 2, np.float32))
    constant = b.constant(np.full(4, 2, np.float32))
    b.output("y", b.node("Mul", (x, constant if ignores else scale)))
    return b.graph()


def test_overridable_initializers_are_overridden() -> None:
    assert agreement(scaling(ignores=False), scaling(ignores=False), exact=True).equal
    report = agreement(scaling(ignores=False), scaling(ignores=True))
    assert {run.inputs for run in report.runs if run.verdict == "differs"} == {"overridden"}


def interface(
    inputs: tuple[str, ...] = ("a", "b"), output: str = "y", dtype: DType = DType.FLOAT, rank: int = 2
) -> Graph:
    b = Builder()
    values = {name: b.input(name, dtype, ("n",) * rank) for name in inputs}
    b.output(output, b.node("Add", tuple(values.values())))
    return b.graph()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (interface(("b", "a")), "the inputs are a, b in A and b, a in B"),
        (interface(output="z"), "the outputs are y in A and z in B"),
        (interface(dtype=DType.DOUBLE), "a of the inputs is float[n, n] in A and double[n, n] in B"),
        (interface(rank=3), "a of the inputs is float[n, n] in A and float[n, n, n] in B"),
    ],
)
def test_interfaces_must_agree(other: Graph, reason: str) -> None:
    report = agreement(interface(), other)
    assert report.verdict == "differs"
    assert report.reason == reason
    assert report.runs == ()


def test_one_symbol_has_one_extent() -> None:
    report = agreement(interface(), interface(), exact=True)
    assert report.equal
    assert all(len(set(binding.shapes["a"] + binding.shapes["b"])) == 1 for binding in report.bindings)


def test_random_outputs_are_compared_in_type_and_shape() -> None:
    noisy = unary(lambda b, x: b.node("Add", (x, b.node("RandomUniformLike", (x,)))))
    report = agreement(noisy, noisy)
    assert report.equal
    assert any("A gives other values each time" in note for note in report.notes)


def test_outputs_that_never_change_are_pointed_out() -> None:
    report = agreement(*[unary(lambda b, x: b.node("Mul", (b.node("Sub", (x, x)), number(b, 1.0))))] * 2)
    assert any("was the same in all runs" in note for note in report.notes) is False  # its shape varies
    b = Builder()
    b.input("x", DType.FLOAT, (4,))
    b.output("y", b.node("Identity", (b.initializer("c", np.arange(3, dtype=np.float32)),)))
    report = agreement(b.graph(), b.graph())
    assert report.notes == ("y was the same in all runs, so they show little of what makes it",)


def test_sequences_strings_and_bools() -> None:
    b = Builder()
    text = b.input("text", DType.STRING, ("n",))
    flag = b.input("flag", DType.BOOL, ("n",))
    parts = b.input("parts", SequenceType(TensorType(DType.FLOAT, (2, 3))))
    b.output("same", b.node("Identity", (text,)))
    b.output("not", b.node("Not", (flag,)))
    b.output("split", b.node("SplitToSequence", (b.node("ConcatFromSequence", (parts,), {"axis": 0}),), {"axis": 1}))
    report = agreement(b.graph(), b.graph(), exact=True)
    assert report.equal, report.reason
    assert {output.name for output in report.outputs} == {
        "same",
        "not",
        "split.length",
        "split[0]",
        "split[1]",
        "split[2]",
    }


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


def test_the_users_shapes_values_and_ranges_win() -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", "length"))
    rate = b.input("rate", DType.INT64, ())
    ids = b.input("ids", DType.INT64, ("length",))
    b.output("y", b.node("Add", (x, b.node("Cast", (b.node("Mul", (ids, rate)),), {"to": int(DType.FLOAT)}))))
    graph = b.graph()
    report = runtime.compare(
        graph, graph, bindings=[Binding({"x": (2, 5), "ids": (5,)})], fixed={"rate": 16000}, ranges={"ids": (3, 3)}
    )
    assert report.equal
    assert [str(binding) for binding in report.bindings] == ["x=2,5 rate=scalar ids=5 rate=16000"]
    with pytest.raises(GraphError, match="no input 'z'"):
        runtime.compare(graph, graph, fixed={"z": 1})
    with pytest.raises(GraphError, match="the dim 'length' would be 5 and 4"):
        runtime.compare(graph, graph, bindings=[Binding({"x": (2, 5), "ids": (4,)})])
    with pytest.raises(GraphError, match="no shape is given for the input 'x'"):
        runtime.compare(graph, graph, bindings=[Binding({"ids": (4,)})])


def test_shapes_that_a_model_accepts_are_found() -> None:
    """Halved four times and put back together: only multiples of 16 fit, and 1, which the sum repeats."""
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", 1, "height", "width"))
    y = x
    for _ in range(4):
        y = b.node("MaxPool", (y,), {"kernel_shape": (2, 2), "strides": (2, 2)})
    scales = b.constant(np.asarray([1, 1, 16, 16], np.float32))
    y = b.node("Resize", (y, None, scales), {"mode": "nearest"})
    b.output("y", b.node("Add", (x, y)), TensorType(DType.FLOAT, None))
    report = agreement(b.graph(), b.graph())
    assert report.equal
    large = [binding.shapes["x"] for binding in report.bindings if not binding.is_empty]
    assert len(large) == 3
    assert all(extent % 16 == 0 or extent == 1 for shape in large for extent in shape[2:])


def test_seeds_make_other_inputs_and_reports_repeat() -> None:
    def worst(seed: int) -> float:
        folded = Net().graph()
        passes.run(folded, "fuse")
        return runtime.compare(Net().graph(), folded, target=ONE_THREAD, seed=seed).outputs[0].worst.max_abs

    assert worst(1) == worst(1) != worst(2)


def test_latency_stands_beside_the_verdict(tmp_path: Path) -> None:
    ir.save(Net().graph(), tmp_path / "a.onnx")
    report = runtime.compare(tmp_path / "a.onnx", Net().graph(), target=ONE_THREAD, latency_seconds=0.5)
    assert report.equal
    assert report.latency is not None
    assert report.latency.ratio > 0
    assert report.a == str(tmp_path / "a.onnx")
    assert report.b == "graph B"
    assert report.as_dict()["latency"] is not None


def test_progress_goes_up_to_the_end() -> None:
    seen: list[float] = []
    runtime.compare(gathering(wrong=False), gathering(wrong=False), progress=lambda _, part: seen.append(part))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_provider_that_does_not_run_is_an_error() -> None:
    with pytest.raises(SessionError, match="provider 'qnn' was asked for"):
        runtime.compare(interface(), interface(), target=replace(ONE_THREAD, provider="qnn"))


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(GraphError, match=r"text\.onnx"):
        runtime.compare(tmp_path / "text.onnx", interface())
