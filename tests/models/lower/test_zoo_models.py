"""Zoo models that are made of weights: fetched, lowered, verified, optimized, and what they say of real inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from planish import ir, runtime
from planish.models.fetch import sha256_of
from planish.models.zoo import ZOO
from planish.models.zoo.text import Sentences
from planish.runtime import Binding, Session

pytestmark = [pytest.mark.network, pytest.mark.lowering]

LOWERED = tuple(name for name, model in ZOO.items() if model.is_lowered)


@pytest.mark.parametrize("name", LOWERED)
def test_a_lowered_model(name: str, bring: Callable[[str], Path], tmp_path: Path) -> None:
    model, path = ZOO[name], bring(name)
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert (record["weights"], record["sha256"]) == (model.sha256, sha256_of(path))
    graph = ir.load(path)
    ir.verify(graph)
    assert [value.name for value in graph.inputs] == list(model.bindings[0].shapes)
    result = runtime.optimize(path, tmp_path / "optimized.onnx")
    assert result.nodes_after <= result.nodes_before
    bindings = [Binding(binding.shapes, binding.fixed) for binding in model.bindings[:2]]
    report = runtime.compare(path, tmp_path / "optimized.onnx", bindings=bindings, ranges=model.ranges)
    assert report.equal, report.reason
    for asset in model.assets:
        assert sha256_of(path.with_name(asset.name)) == asset.sha256


def test_sentences_that_mean_the_like_are_near(bring: Callable[[str], Path]) -> None:
    path = bring("all-MiniLM-L6-v2")
    inputs = Sentences(path.with_name("tokenizer.json"))(
        ["A man is eating food.", "Someone has a meal.", "The girl is carrying a baby." * 100]
    )
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (3, 256)
    (vectors,) = Session(path).run(dict(inputs))
    near = np.asarray(vectors, np.float64)
    near = near @ near.T
    np.testing.assert_allclose(np.diag(near), 1, atol=1e-5)
    assert near[0, 1] > 0.6
    assert near[0, 2] < 0.3
