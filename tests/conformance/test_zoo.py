"""Real models mean the same after all passes, a second run finds nothing to do, and the bytes are always the same.

The yardstick for results is ONNX Runtime itself: its own optimizations reassociate sums as ours do, and so does the
kernel that it takes for a weight once that is a constant (its MatMul packs it). Results may be eight times as far apart
as the original is with and without them, and 32 steps of the last bit of the largest element beyond.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.checker import check_model  # pyright: ignore[reportUnknownVariableType]  os.PathLike of anything

from planish import ir, passes
from planish.models.zoo import ZOO, Binding, ZooModel
from planish.passes import PassRecord
from planish.runtime.providers import Target
from planish.runtime.session import Result, Session
from tests.equivalence import same_interface, unchanged_by

REAL = tuple(name for name, model in ZOO.items() if not model.is_lowered)
"""Lowering holds the others against their networks itself."""
PIPELINE = "deploy"
PLAIN, ALL = Target(threads=1, optimization="disabled"), Target(threads=1, optimization="all")
STEPS = 32

pytestmark = [pytest.mark.slow, pytest.mark.network]
Array = NDArray[np.generic]
Bring = Callable[[str], Path]


def optimized(path: Path) -> tuple[onnx.ModelProto, tuple[PassRecord, ...]]:
    graph = ir.load(path)
    records = passes.run(graph, PIPELINE)
    return ir.emit(graph), records


def feeds_for(model: ZooModel, binding: Binding, types: Mapping[str, np.dtype[np.generic]]) -> dict[str, Array]:
    """Noise of both signs, whole ranges, and the scalars that choose a branch."""
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {name: np.array(value, types[name]) for name, value in binding.fixed.items()}
    for name, shape in binding.shapes.items():
        if name in model.ranges:
            feeds[name] = rng.integers(*model.ranges[name], shape, np.int32, True).astype(types[name])
        else:
            feeds[name] = rng.normal(0, 2, shape).astype(types[name])
    return feeds


def distance(found: Result, expected: Result) -> float:
    assert isinstance(found, np.ndarray)
    assert isinstance(expected, np.ndarray)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.isfinite(expected).all()
    return float(np.max(np.abs(found.astype(np.float64) - expected.astype(np.float64)), initial=0))


def step(expected: Result) -> float:
    """One step of the last bit of the largest element."""
    assert isinstance(expected, np.ndarray)
    return float(np.finfo(np.float32).eps) * float(np.max(np.abs(expected.astype(np.float64)), initial=0))


@pytest.mark.parametrize("name", REAL)
def test_results_are_the_same(name: str, bring: Bring) -> None:
    """With ONNX Runtime's own optimizations off for both models, then on; all bindings of the dynamic dims."""
    path = bring(name)
    after, records = optimized(path)
    sources: tuple[bytes, bytes] = (path.read_bytes(), after.SerializeToString())
    sessions = [Session(source, target) for source in sources for target in (PLAIN, ALL)]
    assert len(ZOO[name].bindings) >= 3 or all(item.is_fixed(()) for item in sessions[0].inputs)
    for binding in ZOO[name].bindings:
        feeds = feeds_for(ZOO[name], binding, {item.name: item.dtype for item in sessions[0].inputs})
        results = [session.run(feeds) for session in sessions]
        for output, plain, all_, new_plain, new_all in zip(sessions[0].outputs, *results, strict=True):
            allowed = 8 * distance(all_, plain) + STEPS * step(plain)
            for found, expected in ((new_plain, plain), (new_all, all_)):
                far = distance(found, expected)
                assert far <= allowed, f"{output.name} is {far} away at {binding}, and {allowed} is allowed"
    assert sum(len(record.rewrites) for record in records) > 0


@pytest.mark.parametrize("name", REAL)
def test_a_second_run_changes_nothing(name: str, bring: Bring) -> None:
    path = bring(name)
    after, records = optimized(path)
    check_model(after, full_check=True)
    same_interface(onnx.ModelProto.FromString(path.read_bytes()), after, opset=False)
    unchanged_by(after, PIPELINE)
    assert records[-1].nodes_after <= records[0].nodes_before


SCRIPT = """
import hashlib, sys
from planish import ir, passes
for path in sys.argv[1:]:
    graph = ir.load(path)
    rewrites = [str(rewrite) for record in passes.run(graph, "deploy") for rewrite in record.rewrites]
    print(hashlib.sha256(ir.emit(graph).SerializeToString() + "".join(rewrites).encode()).hexdigest())
"""


def test_the_order_of_hashes_does_not_show(bring: Bring) -> None:
    """Bytes, and rewrites with their numbers, whatever Python's seed for hashes."""
    paths = [str(bring(name)) for name in REAL]
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, *paths],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(found) == 1
    assert len(set(found.pop().split())) == len(REAL)
