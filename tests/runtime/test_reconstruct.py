"""Reconstruction: exact where what went can be made of what stayed, never worse elsewhere, and always with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from planish import ir, passes
from planish.ir import DType, Graph, Value
from planish.passes.errors import CalibrationError
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.pruning import distributions
from planish.runtime.reconstruct import ReconstructResult, reconstruct
from planish.runtime.session import Feed, Session
from planish.runtime.task import Metric, Run, Sample, Split, Task
from tests.equivalence import PLAIN

Singles = NDArray[np.float32]
Feeds = Mapping[str, Singles]
Consumer = Callable[[ir.Builder, Value], Value]
CHANNELS = 8


def normal(*shape: int, seed: int = 0) -> Singles:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def samples(count: int, seed: int = 1) -> list[Feeds]:
    return [{"x": normal(2, 4, 9, 7, seed=seed + place)} for place in range(count)]


def dependent(seed: int = 3) -> Singles:
    """Filters of which the last three are sums of others, and smallest, so that l2 lets them go."""
    w = normal(CHANNELS, 4, 3, 3, seed=seed)
    w[5:] = 0.01 * np.einsum("ab,bcde->acde", normal(3, 5, seed=4), w[:5])
    return w


def model(folder: Path, consume: Consumer, w: Singles | None = None) -> Path:
    """x -> Conv without bias -> what is given; nothing between them is nonlinear."""
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 4, "h", "w"))
    made = b.node("Conv", (x, b.initializer("w0", dependent() if w is None else w)), {"pads": (1, 1, 1, 1)}, result="c")
    b.output("y", consume(b, made))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def conv(b: ir.Builder, x: Value) -> Value:
    operands = x, b.initializer("w1", normal(6, CHANNELS, 3, 3, seed=5)), b.initializer("b1", normal(6, seed=6))
    return b.node("Conv", operands, {"strides": (2, 1), "pads": (0, 1, 2, 1)}, result="y")


def conv_without_bias(b: ir.Builder, x: Value) -> Value:
    return b.node("Conv", (x, b.initializer("w1", normal(6, CHANNELS, 1, 1, seed=5))), result="y")


def matmul(b: ir.Builder, x: Value) -> Value:
    rows = b.node("Transpose", (x,), {"perm": (0, 2, 3, 1)})
    return b.node("MatMul", (rows, b.initializer("w1", normal(CHANNELS, 6, seed=5))), result="y")


def matmul_and_add(b: ir.Builder, x: Value) -> Value:
    return b.node("Add", (b.initializer("b1", normal(6, seed=6)), matmul_of(b, x)), result="y")


def matmul_of(b: ir.Builder, x: Value) -> Value:
    rows = b.node("Transpose", (x,), {"perm": (0, 2, 3, 1)})
    return b.node("MatMul", (rows, b.initializer("w1", normal(CHANNELS, 6, seed=5))), result="m")


def pooled(b: ir.Builder, x: Value) -> Value:
    return b.node("Flatten", (b.node("GlobalAveragePool", (x,)),), {"axis": 1})


def gemm(b: ir.Builder, x: Value) -> Value:
    operands = pooled(b, x), b.initializer("w1", normal(6, CHANNELS, seed=5)), b.initializer("b1", normal(1, 6, seed=6))
    return b.node("Gemm", operands, {"transB": 1, "alpha": 0.5, "beta": -2.0}, result="y")


def gemm_without_bias(b: ir.Builder, x: Value) -> Value:
    return b.node("Gemm", (pooled(b, x), b.initializer("w1", normal(CHANNELS, 6, seed=5))), result="y")


def pruned(path: Path, ratio: float = 0.375) -> Path:
    graph = ir.load(path)
    (record,) = passes.run(graph, (PruneChannels(ratio=ratio),))
    assert record.rewrites
    ir.save(graph, path.with_name("pruned.onnx"))
    return path.with_name("pruned.onnx")


def noise(wanted: Path, found: Path | Graph, given: Sequence[Feeds]) -> float:
    """Of samples that were not seen."""
    other = found if isinstance(found, Path) else ir.emit(found).SerializeToString()
    pairs = [
        [np.asarray(s.run(f)[0], np.float64) for s in (Session(wanted, PLAIN), Session(other, PLAIN))] for f in given
    ]
    return sum(float(np.square(a - b).sum()) for a, b in pairs) / sum(float(np.square(a).sum()) for a, _ in pairs)


def verdicts(result: ReconstructResult) -> dict[str, str]:
    return {layer.name: layer.verdict for layer in result.layers}


@pytest.mark.parametrize(
    "consume", [conv, conv_without_bias, matmul, matmul_and_add, gemm, gemm_without_bias], ids=lambda c: c.__name__
)
def test_what_went_is_made_of_what_stayed(tmp_path: Path, consume: Consumer) -> None:
    path = model(tmp_path, consume)
    small = pruned(path)
    before = path.read_bytes(), small.read_bytes()
    found = reconstruct(path, small, samples(24))
    assert noise(path, small, samples(4, 99)) > 1e-6
    assert noise(path, found.graph, samples(4, 99)) < 1e-10
    assert (path.read_bytes(), small.read_bytes()) == before
    assert list(verdicts(found).values()) == ["same", "kept"]
    assert all(layer.after is not None and layer.after < 1e-9 for layer in found.layers)


def test_in_every_group_of_its_own(tmp_path: Path) -> None:
    w = normal(CHANNELS, 4, 3, 3, seed=3)
    w[3], w[7] = 0.02 * w[0] - 0.01 * w[1], 0.03 * w[5]

    def grouped(b: ir.Builder, x: Value) -> Value:
        return b.node("Conv", (x, b.initializer("w1", normal(4, 4, 3, 3, seed=5))), {"group": 2}, result="y")

    path = model(tmp_path, grouped, w)
    small = pruned(path, 0.25)
    assert noise(path, small, samples(4, 99)) > 1e-6
    assert noise(path, reconstruct(path, small, samples(24)).graph, samples(4, 99)) < 1e-10


def deep(folder: Path) -> Path:
    """Residual and depthwise blocks with Relu."""
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 4, "h", "w"))

    def layer(name: str, value: Value, shape: tuple[int, ...], group: int = 1) -> Value:
        w = normal(*shape, seed=len(name) + shape[0]) / np.float32(np.sqrt(np.prod(shape[1:])))
        operands = value, b.initializer(f"w-{name}", w), b.initializer(f"b-{name}", normal(shape[0], seed=7) / 4)
        return b.node("Conv", operands, {"pads": (1, 1, 1, 1), "group": group}, result=name)

    skip = b.node("Relu", (layer("stem", x, (8, 4, 3, 3)),))
    inner = b.node("Relu", (layer("inner", skip, (16, 8, 3, 3)),))
    inner = b.node("Relu", (layer("depthwise", inner, (16, 1, 3, 3), 16),))
    total = b.node("Add", (layer("outer", inner, (8, 16, 3, 3)), skip), result="total")
    b.output("y", layer("y", b.node("Relu", (total,)), (5, 8, 3, 3)))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def test_residual_and_depthwise_blocks(tmp_path: Path) -> None:
    path = deep(tmp_path)
    small = pruned(path, 0.25)
    found = reconstruct(path, small, samples(24))
    assert noise(path, found.graph, samples(4, 99)) < 0.5 * noise(path, small, samples(4, 99))
    assert {layer.name.removesuffix("_pruned") for layer in found.layers} == {
        "stem", "inner", "depthwise", "outer", "y",
    }  # fmt: skip
    for layer in found.layers:
        assert layer.before is not None
        assert layer.after is not None
        assert layer.after < layer.before or layer.verdict == "same"


def test_a_branch_makes_up_for_what_the_skip_lost(tmp_path: Path) -> None:
    """The weight of the skip is shared, so it stays; the sum is exact all the same."""
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 8))
    w0 = normal(8, 8, seed=3)
    w0[:, 5:] = 0.05 * w0[:, :5] @ normal(5, 3, seed=4)
    hidden = b.node("MatMul", (x, b.initializer("w0", w0)), result="h")
    shared = b.initializer("ws", normal(8, 6, seed=5))
    skip = b.node("MatMul", (hidden, shared), result="skip")
    inner = b.node("MatMul", (hidden, b.initializer("w1", normal(8, 8, seed=6))), result="inner")
    outer = b.node("MatMul", (inner, b.initializer("w2", normal(8, 6, seed=7))), result="outer")
    b.output("y", b.node("Add", (skip, outer), result="y"))
    b.output("z", b.node("Relu", (b.node("MatMul", (hidden, shared), result="other"),), result="z"))
    path = tmp_path / "net.onnx"
    ir.save(b.graph(), path)
    small = pruned(path)
    found = reconstruct(path, small, [{"x": normal(16, 8, seed=place)} for place in range(12)])
    assert verdicts(found) | {"skip": "left", "other": "left"} == verdicts(found)
    given = [{"x": normal(16, 8, seed=99)}]
    assert noise(path, small, given) > 1e-6
    assert noise(path, found.graph, given) < 1e-9


def test_logits_are_fitted_to_what_the_softmax_gives(tmp_path: Path) -> None:
    """Two of eight inputs go: least squares weigh all 30 classes alike, and distributions tell them better."""

    def classes(b: ir.Builder, x: Value) -> Value:
        rows = b.node("Relu", (b.node("Flatten", (b.node("GlobalAveragePool", (x,)),)),))
        w = 40 * normal(CHANNELS, 30, seed=5)
        logits = b.node("Gemm", (rows, b.initializer("w1", w), b.initializer("b1", normal(30, seed=6))), result="z")
        return b.node("Softmax", (logits,), result="y")

    def entropy(found: Path | Graph) -> float:
        other = found if isinstance(found, Path) else ir.emit(found).SerializeToString()
        sessions = Session(path, PLAIN), Session(other, PLAIN)
        pairs = [[np.asarray(s.run(f)[0], np.float64) for s in sessions] for f in samples(40, 99)]
        return -float(np.mean([(p * np.log(np.maximum(q, 1e-30))).sum(axis=1).mean() for p, q in pairs]))

    path = model(tmp_path, classes, normal(CHANNELS, 4, 3, 3, seed=3))
    small = pruned(path, 0.25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributions, "_STEPS", 0)
        squares = reconstruct(path, small, samples(90))
    found = reconstruct(path, small, samples(90))
    assert verdicts(found)["z"] == "kept"
    assert entropy(path) < entropy(found.graph) < entropy(squares.graph) < entropy(small)


def test_the_result_is_the_same_each_time_and_written(tmp_path: Path) -> None:
    path = deep(tmp_path)
    small = pruned(path)
    first = reconstruct(path, small, samples(6), output=tmp_path / "out.onnx")
    assert ir.emit(first.graph).SerializeToString() == ir.emit(ir.load(tmp_path / "out.onnx")).SerializeToString()
    again = reconstruct(ir.load(path), ir.load(small), samples(6))
    assert again.as_dict() == first.as_dict()
    assert noise(tmp_path / "out.onnx", again.graph, samples(2, 99)) == 0


def test_nothing_is_done_where_nothing_is_lacking(tmp_path: Path) -> None:
    path = deep(tmp_path)
    found = reconstruct(path, path, samples(6))
    assert set(verdicts(found).values()) == {"same"}
    assert noise(path, found.graph, samples(2, 99)) == 0


def test_weights_stay_where_held_out_samples_would_lose(tmp_path: Path) -> None:
    """What goes is like another channel in the samples that are fitted to, and its negative in those that judge."""
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 4))
    made = b.node("MatMul", (x, b.initializer("w0", np.diag([1, 1, 1, 0.3]).astype(np.float32))), result="c")
    w1 = np.ones((4, 2), np.float32)
    w1[3] = 0.3
    b.output("y", b.node("MatMul", (made, b.initializer("w1", w1)), result="y"))
    path = tmp_path / "net.onnx"
    ir.save(b.graph(), path)
    small = pruned(path, 0.25)
    given = [{"x": normal(16, 4, seed=place)} for place in range(9)]
    for place, feeds in enumerate(given):
        feeds["x"][:, 3] = feeds["x"][:, 0] * (-1 if place % 3 == 1 else 1)
    found = reconstruct(path, small, given)
    assert verdicts(found) == {"c_pruned": "same", "y": "rejected"}
    last = found.layers[-1]
    assert last.before is not None
    assert last.after is not None
    assert last.after > last.before
    assert noise(small, found.graph, given) == 0


def test_one_sample_cannot_tell(tmp_path: Path) -> None:
    path = deep(tmp_path)
    small = pruned(path)
    found = reconstruct(path, small, samples(1))
    assert set(verdicts(found).values()) == {"left"}
    assert all("two samples" in layer.reason for layer in found.layers)
    assert noise(small, found.graph, samples(2, 99)) == 0


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, np.inf, 1e-42, 3e38])
def test_samples_that_tell_little(tmp_path: Path, value: float) -> None:
    """Constant, broken and huge inputs leave a model that runs, and does no worse on others than one that overflows."""
    path = deep(tmp_path)
    small = pruned(path)
    found = reconstruct(path, small, [{"x": np.full((1, 4, 6, 6), value, np.float32)} for _ in range(6)])
    weights = [o.constant.array() for n in found.graph.nodes for o in n.operands if o is not None and o.constant]
    assert all(np.isfinite(array).all() for array in weights)


class Recurrent(Task[object, object]):
    """Three runs a sample, of which each takes the state that the one before it gave."""

    name, model, metrics = "recurrent", "", (Metric("nothing"),)

    def samples(self, split: Split) -> Sequence[Sample[object]]:
        return [Sample({"x": normal(2, 4, seed=place)}, 0.0) for place in range(12)]

    def predict(self, run: Run, feeds: Mapping[str, Feed]) -> float:
        state: Feed = np.zeros((2, 3), np.float32)
        for _ in range(3):
            state = run({**feeds, "state": state}).tensor("next")
        return float(np.asarray(state)[0, 0])

    def grade(self, predictions: Sequence[object], labels: Sequence[object]) -> ArrayLike:
        return [0.0 for _ in predictions]


def test_a_task_that_feeds_back_what_the_model_gave(tmp_path: Path) -> None:
    b = ir.Builder("net", opset=17)
    x, state = b.input("x", DType.FLOAT, ("n", 4)), b.input("state", DType.FLOAT, ("n", 3))
    w0 = normal(4, 8, seed=3)
    w0[:, 5:] = 0.05 * w0[:, :5] @ normal(5, 3, seed=4)
    hidden = b.node("MatMul", (x, b.initializer("w0", w0)), result="h")
    inner = b.node("MatMul", (hidden, b.initializer("w1", normal(8, 3, seed=5))), result="i")
    b.output("next", b.node("Tanh", (b.node("Add", (inner, state), result="s"),), result="next"))
    path = tmp_path / "net.onnx"
    ir.save(b.graph(), path)
    found = reconstruct(path, pruned(path), Recurrent())
    assert verdicts(found) == {"h_pruned": "same", "i": "kept"}
    given = [{"x": normal(9, 4, seed=99), "state": normal(9, 3, seed=98)}]
    assert noise(path, tmp_path / "pruned.onnx", given) > 1e-6
    assert noise(path, found.graph, given) < 1e-9


def test_a_weight_that_others_read_stays(tmp_path: Path) -> None:
    def twice(b: ir.Builder, x: Value) -> Value:
        w = b.initializer("w1", normal(6, CHANNELS, 1, 1, seed=5))
        return b.node(
            "Add", (b.node("Conv", (x, w), result="a"), b.node("Relu", (b.node("Conv", (x, w), result="d"),)))
        )

    path = model(tmp_path, twice)
    found = reconstruct(path, pruned(path), samples(6))
    assert {layer.name: layer.reason for layer in found.layers if layer.reason} == dict.fromkeys(
        ("a", "d"), "other nodes read its weight, too"
    )


def test_models_that_have_nothing_in_common(tmp_path: Path) -> None:
    path = deep(tmp_path)
    (tmp_path / "other").mkdir()
    other = model(tmp_path / "other", gemm)
    found = reconstruct(path, other, samples(6))
    assert all("counterpart" in layer.reason for layer in found.layers if layer.verdict == "left")


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    path = deep(tmp_path)
    with pytest.raises(CalibrationError, match="no such input"):
        reconstruct(path, pruned(path), [{"z": normal(1, 4, 6, 6)}] * 3)
    with pytest.raises(CalibrationError, match="no samples"):
        reconstruct(path, path, [])
