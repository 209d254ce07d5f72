"""Weights that are far larger than the others are cut; the others stay, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from planish import ir, passes
from planish.passes import PipelineError
from tests.equivalence import untouched
from tests.passes.quantize.products import product

PASS = "clip-weights"
RNG = np.random.default_rng(0)
W = RNG.normal(0, 0.1, (32, 64)).astype(np.float32)
W[3, 5], W[7, 11] = 40, -70


def cut(w: NDArray[np.float32], stage: str) -> NDArray[np.float32]:
    """What is left of the weights; a second run changes nothing."""
    graph = ir.load(product(w))
    passes.run(graph, f"{stage},remove-dead-nodes")
    after = ir.emit(graph)
    untouched(after, stage)
    (tensor,) = after.graph.initializer
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize("stage", [PASS, f"{PASS}{{percentile=99.5}}", f"{PASS}{{sigma=4}}", f"{PASS}{{sigma=1}}"])
def test_outliers_are_cut_and_the_rest_stays(stage: str) -> None:
    found = cut(W, stage)
    assert np.abs(found).max() < 0.6
    changed = found != W
    assert changed[3, 5]
    assert changed[7, 11]
    assert np.abs(W[changed]).min() >= 0.9 * np.abs(found).max()
    assert np.array_equal(np.sign(found), np.sign(W))


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9])
def test_so_many_stay(percentile: float) -> None:
    found = cut(W, f"{PASS}{{percentile={percentile}}}")
    assert np.mean(found == W) >= percentile / 100


@pytest.mark.parametrize(
    ("w", "stage"),
    [
        (np.clip(W, -1, 1), f"{PASS}{{percentile=100}}"),
        (np.clip(W, -1, 1), f"{PASS}{{sigma=100}}"),
        (np.full((4, 4), 0.5, np.float32), PASS),
        (np.eye(16, dtype=np.float32), f"{PASS}{{sigma=3}}"),
        (np.where(W > 1, np.nan, W).astype(np.float32), PASS),
        (np.where(W > 1, np.inf, W).astype(np.float32), PASS),
    ],
    ids=["all", "wide", "alike", "sparse", "nan", "inf"],
)
def test_left_alone(w: NDArray[np.float32], stage: str) -> None:
    untouched(product(w), stage)


def test_strict_keeps_it_out() -> None:
    untouched(product(W), PASS, fp="strict")


@pytest.mark.parametrize(
    "option", ["percentile=0", "percentile=101", "percentile=nan", "sigma=0.5", "sigma=-1", "sigma=inf"]
)
def test_options_that_mean_nothing(option: str) -> None:
    with pytest.raises(PipelineError, match="clip-weights takes"):
        passes.parse(f"{PASS}{{{option}}}")
