"""Models are compared over one interface, on shapes that they accept, and what limits the proof is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from planish import ir, passes, runtime
from planish.ir import Builder, DType, Graph, GraphError, SequenceType, TensorType
from planish.models.builders import residual_convnet
from planish.runtime.agreement import CompareReport, OutputReport
from planish.runtime.bindings import Binding
from planish.runtime.errors import SessionError
from planish.runtime.providers import Target

ONE_THREAD = Target(threads=1)


def agreement(a: Graph, b: Graph, *, exact: bool = False) -> CompareReport:
    return runtime.compare(a, b, target=ONE_THREAD, exact=exact)


def test_bindings_differ_in_every_symbol_and_hold_one_and_none() -> None:
    report = agreement(residual_convnet(), residual_convnet())
    shapes = [binding.shapes["image"] for binding in report.bindings]
    assert len(shapes) == 4
    for axis in (0, 2, 3):
        assert len({shape[axis] for shape in shapes[:3]}) == 3
        assert 1 in {shape[axis] for shape in shapes[:3]}
    assert 0 in shapes[3]


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
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", 8))
    b.output("y", b.node("Add", (x, b.node("RandomUniformLike", (x,)))))
    report = agreement(b.graph(), b.graph())
    assert report.equal
    assert any("A gives other values each time" in note for note in report.notes)


def test_outputs_that_never_change_are_pointed_out() -> None:
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


def test_a_report_repeats() -> None:
    def outputs() -> tuple[OutputReport, ...]:
        folded = residual_convnet()
        passes.run(folded, "fuse")
        return runtime.compare(residual_convnet(), folded, target=ONE_THREAD, seed=1).outputs

    assert outputs() == outputs()


def test_latency_stands_beside_the_verdict(tmp_path: Path) -> None:
    ir.save(residual_convnet(), tmp_path / "a.onnx")
    report = runtime.compare(tmp_path / "a.onnx", residual_convnet(), target=ONE_THREAD, latency_seconds=0.5)
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


def test_a_model_that_is_repaired_at_load(tmp_path: Path) -> None:
    """ONNX Runtime refuses a name that two nodes define; what it was taken for is compared, and the report says so."""
    text = "g (float[2] x) => (float[2] t) { t = Neg (x) a = Exp (t) t = Add (a, t) }"
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    ir.save(ir.load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    report = runtime.compare(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert report.equal, report.reason
    assert report.notes[0].startswith("A: value 't' was defined 2 times")
