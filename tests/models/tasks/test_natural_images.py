"""Natural images: what agreement and signal to noise are, what the views are like, and what damage costs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from planish import ir
from planish.ir.tensor import ArrayTensor
from planish.models.tasks import load
from planish.models.tasks.natural_images import NaturalImages
from planish.models.tasks.photographs import NAMES, view
from planish.models.zoo import ZooError, fetch
from planish.runtime.errors import TaskError
from planish.runtime.evaluate import evaluate


def scores(predictions: list[list[float]], labels: list[list[float]]) -> list[float]:
    task = NaturalImages()
    grades = task.grade([tuple(row) for row in predictions], [tuple(row) for row in labels])
    return list(task.score(np.asarray(grades, np.float64)))


def test_agreement_counts_images_and_noise_is_of_all_of_them() -> None:
    # The noise is 0.1 of each of 8 logits whose energy is 2 * (9 + 16): 10 log10(50 / 0.08).
    labels = [[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 4.0, 3.0]]
    found = [[3.1, 4.1, 0.1, 0.1], [0.1, 0.1, 4.1, 3.1]]
    assert scores(found, labels) == [1.0, pytest.approx(10 * np.log10(50 / 0.08))]
    assert scores([found[0], labels[1][::-1]], labels)[0] == 0.5


def test_no_noise_is_that_of_single_precision() -> None:
    labels = [[1.0, 2.0]]
    assert scores(labels, labels) == [1.0, pytest.approx(NaturalImages.metrics[1].range[1])]
    assert NaturalImages.metrics[1].range[1] == pytest.approx(144.494, abs=1e-3)
    assert scores([[-1.0, -2.0]], labels) == [0.0, pytest.approx(-10 * np.log10(4))]


def test_views_of_a_photograph_differ_and_are_squares() -> None:
    for name in NAMES:
        views = [view(np.random.default_rng(place), name) for place in range(12)]
        assert all(image.width == image.height >= 136 for image in views)
        assert len({image.tobytes() for image in views}) == 12


def test_no_photograph_is_in_both_splits() -> None:
    calibration, test = NaturalImages().samples("calibration"), NaturalImages().samples("test")
    assert (len(calibration), len(test)) == (528, 240)
    assert {sample.group for sample in calibration} | {sample.group for sample in test} == set(NAMES)
    image = test[0].feeds["image"]
    assert isinstance(image, np.ndarray)
    assert (image.shape, image.dtype) == ((1, 3, 224, 224), np.float32)
    # Ten of them from all over the split, as a limit takes them, are of all photographs.
    assert len({test[place].group for place in range(0, 240, 24)}) == 10


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("natural_images", "photographs"):
        monkeypatch.delitem(sys.modules, f"planish.models.tasks.{name}")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(TaskError, match=r"task 'natural-images' .*PIL.*pip install 'planish\[tasks\]'"):
        load("natural-images")


def test_a_reference_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> None:
        raise ZooError("no network")

    monkeypatch.setattr("planish.models.tasks.natural_images.fetch", fail)
    with pytest.raises(TaskError, match="'natural-images' is measured against zoo:efficientnet-lite0: no network"):
        NaturalImages().reference()


def rounded(model: Path, levels: int) -> ir.Graph:
    """Each convolution's weights in so many steps up and down, of one size for the whole tensor."""
    graph = ir.load(model)
    for node in graph.nodes:
        if node.op == "Conv":
            weight = node.operands[1]
            assert weight is not None
            assert weight.constant is not None
            array = weight.constant.array().astype(np.float64)
            step = np.abs(array).max() / levels
            weight.set_constant(ArrayTensor((np.rint(array / step) * step).astype(np.float32)))
    return graph


@pytest.mark.network
@pytest.mark.lowering
def test_a_damaged_model_agrees_less() -> None:
    model = fetch("efficientnet-lite0")
    whole, eight_bits, four_bits = (
        evaluate(tried, NaturalImages(), limit=60) for tried in (model, rounded(model, 127), rounded(model, 7))
    )
    assert whole.value == 1.0
    assert whole.estimates[1].value == pytest.approx(144.494, abs=1e-3)
    assert four_bits.value < eight_bits.value < 1.0
    assert four_bits.estimates[1].value < eight_bits.estimates[1].value < 40
    shuffled = evaluate(model, NaturalImages(), limit=60, shuffle_labels=1)
    assert shuffled.value < 0.2
