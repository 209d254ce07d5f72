"""What is measured of units, on nets where it is plain, and on inputs that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir, passes
from planish.ir import DType, Value
from planish.passes.errors import CalibrationError, PassError, PipelineError
from planish.passes.prune.importance import MEASURED, Importance
from planish.passes.prune.importance.unit_scores import save_unit_scores
from planish.passes.prune.prune_channels import PruneChannels
from planish.runtime.importance import importance
from tests.passes.prune.topologies import TOPOLOGIES

Singles = NDArray[np.float32]
RNG = np.random.default_rng(0)
UNITS = 6


def net(folder: Path, first: Singles | None = None, second: Singles | None = None) -> Path:
    """y = Relu(x A) B with six hidden units."""
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 4))
    a = RNG.standard_normal((4, UNITS)).astype(np.float32) if first is None else first
    c = RNG.standard_normal((UNITS, 3)).astype(np.float32) if second is None else second
    hidden = b.node("Relu", (b.node("MatMul", (x, b.initializer("a", a)), result="hidden"),))
    b.output("y", b.node("MatMul", (hidden, b.initializer("b", c)), result="y"))
    ir.save(b.graph(), folder / "net.onnx")
    return folder / "net.onnx"


def feeds(count: int = 20, rows: int = 8) -> list[dict[str, Singles]]:
    return [{"x": RNG.standard_normal((rows, 4)).astype(np.float32)} for _ in range(count)]


def scores(path: Path, given: list[dict[str, Singles]], criterion: Importance) -> NDArray[np.float64]:
    return importance(path, given, (criterion,)).of("hidden", criterion, UNITS)


def hidden(path: Path, given: list[dict[str, Singles]]) -> NDArray[np.float64]:
    """[samples, rows, units], by numpy."""
    weight = next(value for value in ir.load(path).initializers if value.name == "a").constant
    assert weight is not None
    a = weight.array().astype(np.float64)
    return np.stack([np.maximum(each["x"].astype(np.float64) @ a, 0) for each in given])


def test_statistics_are_those_of_all_elements(tmp_path: Path) -> None:
    path, given = net(tmp_path), feeds()
    seen = hidden(path, given)
    rows = seen.reshape(-1, UNITS)
    np.testing.assert_allclose(scores(path, given, "variance"), rows.var(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scores(path, given, "mean-activation"), rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scores(path, given, "zeros"), (rows != 0).mean(axis=0), atol=1e-9)
    counts = [np.histogram(column, 16)[0] / len(given) for column in seen.mean(axis=1).T]
    wanted = [-sum(p * np.log(p) for p in parts if p) for parts in counts]
    np.testing.assert_allclose(scores(path, given, "entropy"), wanted, atol=0.2)


@pytest.mark.parametrize("criterion", MEASURED)
def test_a_dead_unit_matters_least(criterion: Importance, tmp_path: Path) -> None:
    """It is 0 for all inputs."""
    a = RNG.standard_normal((4, UNITS)).astype(np.float32)
    a[:, 2] = 0
    found = scores(net(tmp_path, a), feeds(), criterion)
    assert np.isfinite(found).all()
    if criterion != "similarity":
        assert found.argmin() == 2
        assert found[2] == pytest.approx(0, abs=1e-4)


def test_units_that_are_alike_matter_less(tmp_path: Path) -> None:
    a = RNG.standard_normal((4, UNITS)).astype(np.float32)
    a[:, [1, 3, 4, 5]] = a[:, [1]]
    path, given = net(tmp_path, a), feeds()
    assert set(np.argsort(scores(path, given, "similarity"))[:4]) == {1, 3, 4, 5}
    found = np.sort(scores(path, given, "obs"))
    assert found[2] < 1e-3
    assert found[3] > 1e-2


def test_the_hessian_is_what_is_lost_without_making_up_for_it(tmp_path: Path) -> None:
    path, given = net(tmp_path), feeds()
    rows = hidden(path, given).reshape(-1, UNITS)
    weight = next(value for value in ir.load(path).initializers if value.name == "b").constant
    assert weight is not None
    w = weight.array().astype(np.float64)
    lost = [np.square(np.outer(rows[:, unit], w[unit])).sum() for unit in range(UNITS)]
    np.testing.assert_allclose(scores(path, given, "hessian"), lost / np.square(rows @ w).sum(), rtol=1e-4)


def test_taylor_is_the_derivative_of_the_outputs(tmp_path: Path) -> None:
    """Which is that of a unit's own part here, as nothing lies behind it."""
    path, given = net(tmp_path), feeds(4)
    weight = next(value for value in ir.load(path).initializers if value.name == "b").constant
    assert weight is not None
    w = weight.array().astype(np.float64)
    parts = [
        [np.square(np.outer(rows[:, unit], w[unit])).sum() / np.square(rows @ w).sum() for unit in range(UNITS)]
        for rows in hidden(path, given)
    ]
    np.testing.assert_allclose(scores(path, given, "taylor"), np.mean(parts, axis=0), rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_left_out(bad: float, tmp_path: Path) -> None:
    path, given = net(tmp_path), feeds()
    broken = [*given, {"x": np.full((8, 4), bad, np.float32)}]
    for criterion in MEASURED:
        found = scores(path, broken, criterion)
        assert np.isfinite(found).all()
        if criterion in ("obs", "hessian", "variance"):
            np.testing.assert_allclose(found, scores(path, given, criterion), rtol=0.35)


def test_nothing_but_nan_is_no_opinion(tmp_path: Path) -> None:
    path = net(tmp_path)
    for criterion in ("variance", "zeros", "obs"):
        assert np.isinf(scores(path, [{"x": np.full((2, 4), np.nan, np.float32)}], criterion)).all()


@pytest.mark.parametrize("criterion", MEASURED)
@pytest.mark.parametrize("rows", [1, 0])
def test_one_sample_or_an_empty_one(criterion: Importance, rows: int, tmp_path: Path) -> None:
    """Nothing is divided by zero."""
    found = scores(net(tmp_path), feeds(1, rows), criterion)
    assert not np.isnan(found).any()
    assert np.isfinite(found).all() == (rows == 1) or criterion == "similarity"


@pytest.mark.parametrize("criterion", MEASURED)
def test_all_units_alike(criterion: Importance, tmp_path: Path) -> None:
    alike = np.ones((4, UNITS), np.float32), np.ones((UNITS, 3), np.float32)
    found = scores(net(tmp_path, *alike), feeds(), criterion)
    assert np.isfinite(found).all()
    if criterion != "obs":  # which says in what order they go
        np.testing.assert_allclose(found, found[0], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["grouped", "split-concat", "inverted-residual", "flatten-gemm", "attention"])
def test_topologies(name: str, tmp_path: Path) -> None:
    """Every group is told of, by `obs` where a product reads it, and the pass takes the scores from a file."""
    path = tmp_path / "net.onnx"
    ir.save(TOPOLOGIES[name](), path)
    graph = ir.load(path)
    shape = [dim if isinstance(dim, int) else 2 for dim in graph.inputs[0].shape or ()]
    given = [{"x": RNG.standard_normal(shape).astype(np.float32)} for _ in range(4)]
    found = importance(path, given, ("obs", "variance"))
    assert all("variance" in groups for groups in found.groups.values())
    assert name == "attention" or all("obs" in groups for groups in found.groups.values())
    save_unit_scores(found, tmp_path / "scores.json")
    for criterion in ("obs", "variance"):
        pruned = ir.load(path)
        (record,) = passes.run(
            pruned, f'prune-channels{{importance={criterion},ratio=0.25,scores="{tmp_path / "scores.json"}"}}'
        )
        assert record.rewrites


def test_a_group_that_no_product_reads_has_statistics_alone(tmp_path: Path) -> None:
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("s", "n", 4))
    weights: list[Value] = [
        b.constant(RNG.standard_normal(shape).astype(np.float32)) for shape in ((1, 24, 4), (1, 24, 6), (2, 6, 5))
    ]
    y = b.nodes("LSTM", (x, weights[0], weights[1]), {"hidden_size": 6}, results=1)[0]
    pooled = b.node("ReduceMax", (y, b.constant(np.array([0, 1], np.int64))), {"keepdims": 0}, result="pooled")
    b.output("y", b.node("MatMul", (pooled, weights[2]), {}))
    ir.save(b.graph(), tmp_path / "lstm.onnx")
    given = [{"x": RNG.standard_normal((3, 2, 4)).astype(np.float32)} for _ in range(4)]
    (found,) = importance(tmp_path / "lstm.onnx", given, ("obs", "variance")).groups.values()
    assert "obs" not in found
    assert found["variance"].shape == (6,)


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    path = net(tmp_path)
    with pytest.raises(PipelineError, match="there is no 'l2'"):
        importance(path, feeds(), ("l2",))
    with pytest.raises(CalibrationError, match="no samples"):
        importance(path, [])
    with pytest.raises(CalibrationError, match="feeds 'z'"):
        importance(path, [{"z": np.zeros((1, 4), np.float32)}])


def test_scores_must_be_there_and_fit(tmp_path: Path) -> None:
    path = net(tmp_path)
    with pytest.raises(PassError, match="takes scores"):
        passes.run(ir.load(path), "prune-channels{importance=obs}")
    found = importance(path, feeds())
    (tmp_path / "other").mkdir()
    graph = ir.load(net(tmp_path / "other", np.ones((4, 5), np.float32), np.ones((5, 3), np.float32)))
    with pytest.raises(PassError, match="has 5 units in this model, and 6 in that of the scores"):
        passes.run(graph, (PruneChannels(importance="obs", scores=found),))
