"""Weights that stay make up for those that go: by Gram matrices, on their inputs and on others like them."""

from __future__ import annotations

import numpy as np
import pytest

from planish import ir, passes, runtime
from planish.passes.quantize.calibration import Calibration
from planish.passes.quantize.gram import Gram
from planish.passes.sparsify.sparsify import Sparsify
from tests.passes.quantize.quantized import Array, far, net, node, normal, results
from tests.passes.sparsify.inputs import correlated, gram, loss
from tests.passes.sparsify.sparse import (
    CONVS,
    W,
    asked,
    conv,
    product,
    weight_of,
    with_ranges,
)


@pytest.mark.parametrize("options", ["ratio=0.5", "pattern=2:4", "pattern=row", "pattern=block,block=4x4"])
def test_making_up_beats_norms_and_norms_beat_magnitude(options: str) -> None:
    """On the inputs of the matrix, and on others of the same kind."""
    x, unseen = correlated(2048, 64, 1), correlated(512, 64, 2)
    ranges = Calibration({}, {"x": gram(x)})
    found = {
        name: weight_of(with_ranges(product(), asked(f"{options},update={update}", given))[0])
        for name, given, update in (
            ("magnitude", None, "none"),
            ("norms", ranges, "none"),
            ("made up for", ranges, "obs"),
        )
    }
    share = {name: np.count_nonzero(w) / w.size for name, w in found.items()}
    assert share == dict.fromkeys(found, 0.5)
    for inputs in (x, unseen):
        lost = {name: loss(W, w, inputs) for name, w in found.items()}
        assert lost["made up for"] < 0.5 * lost["norms"]
        assert lost["norms"] < lost["magnitude"]


@pytest.mark.parametrize("update", ["obs", "none"])
@pytest.mark.parametrize("options", ["threshold=0.5", "threshold=2", "ratio=0.7,scope=global"])
def test_a_second_run_changes_nothing_with_ranges_either(update: str, options: str) -> None:
    x = correlated(256, 64, 1)
    wanted = asked(f"{options},update={update}", Calibration({}, {"x": gram(x)}))
    after, record = with_ranges(product(), wanted)
    assert len(record.rewrites) == 1
    assert (weight_of(after) == 0).any()


@pytest.mark.parametrize("name", CONVS)
def test_convolutions_make_up_for_zeros(name: str) -> None:
    proto = conv(name)
    feeds: list[dict[str, Array]] = [
        {"x": correlated(81, 16, seed).T.reshape(1, 16, 9, 9).astype(np.float32)} for seed in range(12)
    ]
    ranges = runtime.calibrate(ir.load(proto), feeds[:9], grams=["y"])
    errors: dict[str, float] = {}
    for update, given in (("none", None), ("obs", ranges)):
        after, record = with_ranges(proto, asked(f"update={update},least=1", given))
        assert not record.notes
        assert np.mean(weight_of(after) == 0) == 0.5
        errors[update] = sum(far(results(proto, feed["x"]), results(after, feed["x"])) for feed in feeds[9:])
    assert errors["obs"] < errors["none"]


def test_zeros_stay_zeros() -> None:
    w = np.where(normal(64, 40, seed=3) > 0, W, 0).astype(np.float32)
    x = correlated(256, 64, 1)
    found = weight_of(with_ranges(product(w), Sparsify(ratio=0.7, ranges=Calibration({}, {"x": gram(x)})))[0])
    assert (found == 0).mean() == pytest.approx(0.7, abs=1e-3)
    assert not found[w == 0].any()


@pytest.mark.parametrize("inputs", ["zeros", "one row", "huge", "tiny"])
def test_hostile_inputs(inputs: str) -> None:
    x = correlated(100, 64, 1)
    given = {"zeros": 0 * x, "one row": x[:1], "huge": 1e30 * x, "tiny": 1e-30 * x}[inputs]
    after, record = with_ranges(product(), Sparsify(ranges=Calibration({}, {"x": gram(given)})))
    assert len(record.rewrites) == 1
    found = weight_of(after)
    assert np.isfinite(found).all()
    assert np.mean(found == 0) == 0.5


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no Gram matrix was kept of it; planish calibrate --grams keeps them"),
        (
            Gram(np.eye(8)[None], np.zeros((1, 8)), 4),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
        (
            Gram(np.eye(64)[None], np.zeros((1, 64)), 0),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
        (
            Gram(np.full((1, 64, 64), np.nan), np.zeros((1, 64)), 4),
            "its Gram matrix is of other weights, or not finite; calibrate again",
        ),
    ],
    ids=["none", "other", "empty", "nan"],
)
def test_matrices_that_do_not_fit(given: Gram | None, why: str) -> None:
    graph = ir.load(product())
    (record,) = passes.run(graph, (Sparsify(ranges=Calibration({}, {} if given is None else {"x": given})),))
    assert not record.rewrites
    assert record.notes == [f"product: {why}"]


def test_a_shared_weight_is_for_the_inputs_of_all_its_readers() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["x"], ["r"]),
        node("Gemm", ["r", "w"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    proto = net(nodes, {"w": W}, x=("N", 64))
    x = correlated(256, 64, 1)
    ranges = Calibration({}, {"x": gram(x), "r": gram(np.maximum(x, 0))})
    after, record = with_ranges(proto, Sparsify(ranges=ranges))
    assert len(record.rewrites) == 2
    assert len(after.graph.initializer) == 1
    both = np.vstack([x, np.maximum(x, 0)])
    alone = weight_of(with_ranges(product(), Sparsify(ranges=Calibration({}, {"x": gram(x)})))[0])
    assert loss(W, weight_of(after), both) < loss(W, alone, both)
