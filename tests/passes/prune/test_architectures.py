"""Nets as exporters write them, without half of their channels, give what they give with zeros in these."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from planish import passes
from planish.ir import DType
from planish.models.architectures import ARCHITECTURES, Exporter
from tests.passes.prune.pruned import pruned

pytestmark = pytest.mark.slow
_MOST: dict[str, float] = {
    "resnet50": 0.27,
    "densenet121": 0.3,
    "mobilenet-v2": 0.36,
    "mobilenet-v3": 0.32,
    "efficientnet-b0": 0.36,
    "vit-small": 0.6,
    "bert": 0.55,
    "convnext-tiny": 0.6,
    "swin-tiny": 0.68,
}
"""What may be left of the parameters: the residual streams of transformers go through LayerNormalization, and stay."""


@pytest.mark.parametrize("exporter", get_args(Exporter))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_of_the_channels(name: str, exporter: Exporter) -> None:
    graph = ARCHITECTURES[name](exporter)
    passes.run(graph, "simplify")
    random = np.random.default_rng(0)
    values = {value.name: [random.integers(0, 2, (2, 7))] for value in graph.inputs if value.dtype is DType.INT64}
    symbols = {str(dim) for value in graph.inputs for dim in value.shape or () if not isinstance(dim, int)}
    found = pruned(graph, bindings=[dict.fromkeys(symbols, 2)], values=values, tolerance=2e-5)
    assert found.share <= _MOST[name]
