"""Times of kernels for the shapes of models: measured once, printed, and kept for `quantize`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir import Builder, DType, GraphError
from planish.runtime import conv_times
from planish.runtime.bindings import Binding
from planish.runtime.conv_times import ConvShape, ConvTimes, frequent_shapes
from planish.runtime.profile_target import profile_target
from planish.runtime.providers import Target

TARGET = Target(threads=1)
GIVEN = Binding({"x": (1, 16, 8, 6)})


def _weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One convolution that may pay, twice; one that is too short, one in groups, and a fused batch normalization."""
    b = Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("N", 16, "H", "W"))
    for _ in range(2):
        x = b.node("Conv", (x, b.constant(_weights(16, 16, 3, 3))), {"pads": (1, 1, 1, 1)})
    x = b.node("Conv", (x, b.constant(_weights(16, 1, 3, 3))), {"group": 16})
    x = b.node("Conv", (x, b.constant(_weights(8, 16, 1, 1))))
    b.output("y", b.node("Conv", (x, b.constant(_weights(4, 8, 5, 5))), {"strides": (2, 2)}))
    path = tmp_path / "net.onnx"
    ir.save(b.graph(), path)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measures nothing; the keys of what was to be measured."""
    asked: list[str] = []

    def measured(self: ConvTimes, shape: ConvShape) -> tuple[float, float]:
        asked.append(shape.key)
        return 1.0 / self.target.threads, 0.5

    monkeypatch.setattr(ConvTimes, "_measure", measured)
    return asked


def test_the_shapes_of_a_model_once_each(model: Path, tmp_path: Path, quick: list[str]) -> None:
    found = profile_target([(model, GIVEN)], TARGET, tmp_path / "cache")
    assert quick == ["16x16x3x3x1x1x7x7", "8x4x5x5x2x2x5x5"]
    assert (found.known, found.unknown) == (0, 0)
    assert found.file is not None
    assert str(found).splitlines()[2].split() == ["16", "16", "3x3", "1x1", "7x7", "1000.000", "500.000", "2.00"]
    again = profile_target([(model, GIVEN), (model, GIVEN)], TARGET, tmp_path / "cache")
    assert (len(quick), again.known, again.times) == (2, 2, found.times)
    profile_target([(model, GIVEN)], TARGET, tmp_path / "cache", again=True)
    assert len(quick) == 4


def test_quantize_finds_what_was_measured(model: Path, tmp_path: Path, quick: list[str]) -> None:
    profile_target([(model, GIVEN)], TARGET, tmp_path)
    del quick[:]
    assert ConvTimes(TARGET, tmp_path).prefers_shift(ConvShape.of("16x16x3x3x1x1x7x7"))
    assert not quick


def test_an_image_of_unknown_size_is_counted(model: Path, tmp_path: Path, quick: list[str]) -> None:
    found = profile_target([(model, Binding({}))], TARGET, tmp_path)
    assert (found.unknown, quick) == (3, [])
    assert "3 convolutions are of images of unknown size: give --shape" in str(found)
    with pytest.raises(GraphError, match="there is no input 'z'"):
        profile_target([(model, Binding({"z": (1,)}))], TARGET, tmp_path)


def _nothing_but_shapes() -> dict[str, object]:
    return {"shapes": ["16x16x3x3x1x1x7x7", "8x4x5x5x2x2x5x5"], "processors": {}}


def test_without_models_those_of_well_known_nets(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv_times, "_shipped", _nothing_but_shapes)
    found = profile_target(target=TARGET, cache=tmp_path)
    assert quick == [shape.key for shape in frequent_shapes()]
    assert len(found.times) == len(set(quick)) == 2
    assert found.as_dict()["known_before"] == 0


def test_a_shipped_table_is_for_one_processor(
    tmp_path: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = frequent_shapes()[0]
    machine = ConvTimes(TARGET).kept.machine
    tables = {machine: {shape.key: [2.0, 1.0]}, "another": {shape.key: [1.0, 2.0]}}
    monkeypatch.setattr(conv_times, "_shipped", partial(dict[str, object], processors=tables))
    assert ConvTimes(TARGET, tmp_path).prefers_shift(shape)
    assert not quick
    assert ConvTimes(TARGET, tmp_path).kept.seconds == {}
    ConvTimes(Target(threads=2), tmp_path).prefers_shift(shape)
    assert quick == [shape.key]
    kept = ConvTimes(TARGET, tmp_path)
    kept.measure(shape)
    assert ConvTimes(TARGET, tmp_path).known(shape) == (1.0, 0.5)  # what was measured here counts first


def test_shipped_tables_are_of_shapes_that_may_pay() -> None:
    shapes = frequent_shapes()
    assert len(set(shapes)) == len(shapes) > 50
    assert all(shape.channels * shape.kernel[0] * shape.kernel[1] >= 128 for shape in shapes)
    assert [ConvShape.of(shape.key) for shape in shapes] == list(shapes)


@pytest.mark.parametrize("key", ["", "1x2", "a", "1x1x1x1x1x1x1x0", "1x1x1x1x1x1x1x-2"])
def test_what_is_no_shape(key: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|no shape of a convolution"):
        ConvShape.of(key)
