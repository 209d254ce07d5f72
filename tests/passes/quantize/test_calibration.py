"""The table of what was observed: what it hands out, and when two are the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from planish import ir
from planish.ir import DType
from planish.passes.errors import CalibrationError, PipelineError
from planish.passes.manager import RulePass
from planish.passes.pipelines import format_pipeline, parse
from planish.passes.quantize.calibration import Calibration, TensorStatistics
from planish.passes.quantize.calibration_file import save_calibration
from planish.passes.quantize.gram import Gram
from planish.passes.quantize.histogram import Histogram


def statistics(numbers: list[float]) -> TensorStatistics:
    array = np.asarray(numbers)
    return TensorStatistics(min(numbers), max(numbers), count=len(numbers), histogram=Histogram.of(array))


@dataclass(frozen=True)
class Quantize(RulePass):
    """A pass that takes a calibration."""

    name: ClassVar[str] = "quantize"
    ranges: Calibration | None = None


def test_a_wish_goes_before_what_was_observed() -> None:
    found = Calibration({"x": statistics([-1.0, 4.0])})
    assert found.tensors["x"].range == (-1.0, 4.0)
    wished = found.with_range("x", -0.5, 2.0).with_range("y", 0.0, 1.0)
    assert wished.tensors["x"].range == (-0.5, 2.0)
    assert wished.tensors["x"].observed == (-1.0, 4.0)
    assert wished.tensors["y"].range == (0.0, 1.0)
    assert TensorStatistics().range is None


@pytest.mark.parametrize(
    "ends",
    [{"low": 1.0}, {"low": 2.0, "high": 1.0}, {"min": 0.0, "max": float("inf")}, {"low": float("nan"), "high": 1.0}],
)
def test_what_is_no_range_is_refused(ends: dict[str, float]) -> None:
    with pytest.raises(CalibrationError):
        replace(TensorStatistics(), **ends)


def test_values_are_found_by_name_and_products_by_what_they_take() -> None:
    b = ir.Builder()
    x = b.input("x", DType.FLOAT, (2, 3))
    y = b.node("MatMul", (x, b.initializer("w", np.ones((3, 4), np.float32))), result="y")
    b.output("y", y)
    graph = b.graph()
    gram = Gram(np.eye(3)[None], np.zeros((1, 3)), 7)
    found = Calibration({"x": statistics([1.0])}, {"x": gram})
    assert found.of(graph.inputs[0]) is found.tensors["x"]
    assert found.of(graph.outputs[0]) is None
    assert found.of(None) is None
    assert found.gram(graph.nodes[0]) is gram


def test_equal_calibrations_have_equal_hashes_and_any_bit_counts() -> None:
    one = Calibration({"x": statistics([0.0, 1.0, 2.0])}, model="m", samples=3)
    assert one == Calibration({"x": statistics([0.0, 1.0, 2.0])}, model="m", samples=3)
    assert hash(one) == hash(Calibration({"x": statistics([2.0, 1.0, 0.0])}, model="m", samples=3))
    assert one != Calibration({"x": statistics([0.0, 1.5, 2.0])}, model="m", samples=3)
    assert one != one.with_range("x", 0.0, 1.0)
    assert one != replace(one, samples=4)
    seen = one.tensors["x"]
    first, second = (replace(seen, channels={1: np.asarray(ends)}) for ends in ([1.0, 2.0], [1.0, np.nextafter(2, 3)]))
    assert Calibration({"x": first}) != Calibration({"x": second})


def test_outliers_are_told_from_the_bulk() -> None:
    bulk = np.random.default_rng(0).uniform(-1, 1, 100_000).tolist()
    assert statistics(bulk).outlier_ratio == pytest.approx(1, abs=0.01)
    assert statistics([*bulk, -50.0]).outlier_ratio == pytest.approx(50, rel=0.1)
    assert statistics([0.0, 0.0]).outlier_ratio == 1
    assert TensorStatistics(-1.0, 1.0).outlier_ratio == 1


def test_a_pass_takes_it_by_its_file_and_the_text_reads_back(tmp_path: str) -> None:
    path = f"{tmp_path}/cal.json"
    saved = Calibration({"x": statistics([0.0, 6.0])})
    save_calibration(saved, path)
    (stage,) = parse(f"quantize{{ranges={path}}}", {"quantize": Quantize}, {})
    assert isinstance(stage, Quantize)
    assert stage.ranges == saved
    assert parse(format_pipeline((stage,)), {"quantize": Quantize}, {}) == (stage,)
    with pytest.raises(PipelineError, match=r"quantize takes ranges as a file: .*nowhere"):
        parse("quantize{ranges=nowhere.json}", {"quantize": Quantize}, {})
