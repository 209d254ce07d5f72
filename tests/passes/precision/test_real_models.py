"""Real models in float16: nothing overflows, and results stay near."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from planish.models.zoo import ZOO
from planish.runtime.bindings import Binding
from planish.runtime.made_up import Inputs
from planish.runtime.precision import convert_precision
from planish.runtime.session import Session
from tests.conformance.test_zoo import feeds_for
from tests.equivalence import PLAIN
from tests.passes.precision.test_convert_precision import HALF, converted, decibels
from tests.zoo_models import EVERY

DECIBELS = {"text-recognition": 25.0, "text-detection": 20.0, "silero-vad": 40.0, "efficientnet": 44.0}
"""Of results over errors, by the beginnings of names, else 50. On noise, where the last Sigmoid or Softmax is so far
from 1 that thousandths of what it reads are as much of what it gives.
"""

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.mark.parametrize("name", EVERY)
def test_real_models_do_not_overflow_and_stay_near(name: str, bring: Callable[[str], Path]) -> None:
    path = bring(name)
    found = converted(onnx.ModelProto.FromString(path.read_bytes()))
    assert found.rewrites
    watched = onnx.ModelProto()
    watched.CopyFrom(found.after)
    halves = [name for name, kind in found.types().items() if kind == HALF]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in halves)
    types = {item.name: item.dtype for item in Session(path, PLAIN).inputs}
    bar = next((least for start, least in DECIBELS.items() if name.startswith(start)), 50.0)
    for binding in ZOO[name].bindings:
        feeds = feeds_for(ZOO[name], binding, types)
        for value in Session(watched.SerializeToString(), PLAIN).run(feeds):
            assert np.isfinite(np.asarray(value)).all()
        for expected, result in zip(*found.run(feeds), strict=True):
            assert np.isfinite(result).all()
            assert decibels(expected, result) > bar


@pytest.mark.parametrize("name", ["digits-cnn", "magika", "silero-vad", "silero-vad-sequence", "text-orientation"])
def test_what_costs_too_much_is_found(name: str, tmp_path: Path, bring: Callable[[str], Path]) -> None:
    path = bring(name)
    known = tuple(Binding(binding.shapes, binding.fixed) for binding in ZOO[name].bindings)
    result = convert_precision(path, tmp_path / "half.onnx", inputs=Inputs(known, {}, ZOO[name].ranges))
    assert result.found >= 50
    assert result.on_provider >= 49
    assert result.share > 0.35
    assert not result.left_out
