"""Half precision within a budget of noise: what stays, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import DType
from planish.passes.errors import CalibrationError
from planish.runtime.errors import SessionError
from planish.runtime.made_up import Inputs
from planish.runtime.precision import convert_precision
from planish.runtime.session import Feed, Session
from tests.equivalence import PLAIN

Array = NDArray[np.generic]
HALF = onnx.TensorProto.FLOAT16


def net(folder: Path, *, cancelling: bool = True) -> Path:
    """A long product of ordinary numbers, and one whose terms of thousands nearly cancel."""
    rng = np.random.default_rng(0)
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 32))
    a = b.node("MatMul", (x, b.initializer("w0", rng.normal(0, 0.2, (32, 64)).astype(np.float32))), result="a")
    a = b.node("Tanh", (a,), result="t")
    a = b.node("MatMul", (a, b.initializer("w1", rng.normal(0, 0.2, (64, 32)).astype(np.float32))), result="c")
    if cancelling:
        one = rng.normal(0, 1, (32, 32)).astype(np.float32)
        large = b.initializer("large", np.concatenate([2000 * one, -2000 * one + 0.5 * one[::-1]]))
        twice = b.node("Concat", (a, a), {"axis": 1}, result="twice")
        a = b.node("MatMul", (twice, large), result="risky")
    b.output("y", b.node("Relu", (a,), result="y"))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def samples(count: int = 6) -> list[dict[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((4, 32)).astype(np.float32)} for _ in range(count)]


def decibels(a: Path, b: Path, feeds: Sequence[dict[str, Feed]]) -> float:
    found: list[float] = []
    for feed in feeds:
        (wanted,), (got,) = (Session(path, PLAIN).run(feed) for path in (a, b))
        one, two = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
        found.append(float(10 * np.log10(np.square(one).sum() / max(np.square(one - two).sum(), 1e-300))))
    return min(found)


def test_what_costs_too_much_stays_and_the_rest_is_half(tmp_path: Path) -> None:
    result = convert_precision(net(tmp_path), tmp_path / "half.onnx", samples(), snr=50)
    assert result.everywhere < 40
    assert result.found >= 50
    assert "risky" in result.stage.keep.split("|")
    assert 0.3 < result.share < 1
    assert 0 < result.half_nodes < result.nodes
    held = {
        tensor.name: tensor.data_type
        for tensor in onnx.ModelProto.FromString((tmp_path / "half.onnx").read_bytes()).graph.initializer
    }
    assert held["large"] == 1
    assert HALF in held.values()
    fresh: list[dict[str, Feed]] = [{**feed} for feed in samples(12)[6:]]
    assert decibels(tmp_path / "net.onnx", tmp_path / "half.onnx", fresh) > 47


def test_all_is_half_where_that_is_accurate_enough(tmp_path: Path) -> None:
    result = convert_precision(net(tmp_path, cancelling=False), tmp_path / "half.onnx", samples(), snr=50)
    assert result.found == result.everywhere
    assert result.share == 1
    assert not result.stage.keep


def test_the_stage_says_how_to_have_it_again(tmp_path: Path) -> None:
    result = convert_precision(net(tmp_path), tmp_path / "half.onnx", samples(), snr=50, pipeline="")
    graph = ir.load(tmp_path / "net.onnx")
    passes.run(graph, (result.stage,))
    assert ir.emit(graph).SerializeToString() == (tmp_path / "half.onnx").read_bytes()


def test_without_samples_inputs_are_made_up(tmp_path: Path) -> None:
    result = convert_precision(net(tmp_path), tmp_path / "half.onnx", snr=45)
    assert result.found >= 45
    assert result.runs >= 3
    ranged = convert_precision(net(tmp_path), tmp_path / "half.onnx", snr=45, inputs=Inputs(ranges={"x": (0.0, 1.0)}))
    assert ranged.found >= 45


def test_an_unreachable_bar_leaves_the_model_in_single_precision(tmp_path: Path) -> None:
    result = convert_precision(net(tmp_path, cancelling=False), tmp_path / "half.onnx", samples(), snr=100)
    assert result.found >= 100
    assert result.half_nodes == 0
    assert result.share < 0.1


def test_a_bar_above_what_single_precision_keeps_is_told(tmp_path: Path) -> None:
    b = ir.Builder("net", opset=17)
    w = b.initializer("w", np.random.default_rng(0).normal(0, 1, (32, 32)).astype(np.float32))
    product = b.node("MatMul", (b.input("x", DType.FLOAT, ("n", 32)), w))
    b.output("y", b.node("Mul", (product, b.initializer("s", np.linspace(0.3, 0.7, 32).astype(np.float32)))))
    ir.save(b.graph(), tmp_path / "net.onnx")
    with pytest.raises(SessionError, match="single precision itself"):
        convert_precision(tmp_path / "net.onnx", tmp_path / "half.onnx", samples(), snr=200)
    assert not (tmp_path / "half.onnx").exists()


def test_no_samples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        convert_precision(net(tmp_path), tmp_path / "half.onnx", [])


def test_the_source_is_never_the_target(tmp_path: Path) -> None:
    path = net(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ir.GraphError):
        convert_precision(path, path, samples())
    assert path.read_bytes() == before
