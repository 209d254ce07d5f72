"""Readers of a group that are fitted anew, against least squares by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import DType
from planish.passes.prune.importance.unit_scores import UnitScores
from planish.passes.prune.prune_channels import PruneChannels
from planish.passes.quantize.gram import Gram
from planish.runtime.fidelity import record
from planish.runtime.progress import silent
from planish.runtime.providers import Target
from planish.runtime.pruning.group_plan import GroupPlan
from planish.runtime.pruning.seen_units import see
from planish.runtime.pruning.sensitivity import Sensitivity
from planish.runtime.samples import Parts, parts_of

TARGET = Target(threads=1)
UNITS = 8
Singles = NDArray[np.float32]


def plan(folder: Path, samples: list[dict[str, Singles]], op: str) -> GroupPlan:
    """y = Relu(x A + a) B + b; of units that are gone, a large bias stays behind."""
    rng = np.random.default_rng(0)
    b = ir.Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 5))
    tensors = [rng.standard_normal(shape).astype(np.float32) for shape in ((5, UNITS), (UNITS, 3), (3,))]
    shift = b.initializer("a", np.full(UNITS, 3, np.float32))
    hidden = b.node("Relu", (b.node("Gemm", (x, b.initializer("A", tensors[0]), shift), result="hidden"),))
    if op == "Gemm":
        y = b.node("Gemm", (hidden, b.initializer("B", tensors[1]), b.initializer("b", tensors[2])), result="y")
    else:
        product = b.node("MatMul", (hidden, b.initializer("B", tensors[1])), result="product")
        y = product if op == "MatMul" else b.node("Add", (product, b.initializer("b", tensors[2])), result="y")
    b.output("y", y)
    ir.save(b.graph(), folder / "net.onnx")
    given = parts_of(samples, None)
    parts: Parts[object] = Parts(given.runner, [list(part) for part in given.parts], given.first, 1)
    scores = UnitScores({"hidden": {"zeros": np.arange(UNITS, dtype=np.float64)}})
    pruning = PruneChannels(importance="zeros", scores=scores)
    return GroupPlan(folder / "net.onnx", pruning, parts, {"x": (20, 5)}, TARGET, folder, silent)


@pytest.mark.parametrize("op", ["Gemm", "MatMul", "Add"])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_noise_is_that_of_least_squares(op: str, count: int, tmp_path: Path) -> None:
    """With a bias where there is one, and without: what a unit holds on the average is counted once."""
    rng = np.random.default_rng(1)
    samples = [{"x": rng.standard_normal((20, 5)).astype(np.float32)} for _ in range(8)]
    found = plan(tmp_path, samples, op)
    values = {
        value.name: value.constant.array().astype(np.float64)
        for value in ir.load(found.form).initializers
        if value.constant
    }
    hidden = np.concatenate([np.maximum(each["x"] @ values["A"] + values["a"], 0) for each in samples])
    y = hidden @ values["B"] + (0 if op == "MatMul" else values["b"])
    gone = np.arange(UNITS) < count
    columns = [hidden[:, ~gone]] if op == "MatMul" else [hidden[:, ~gone], np.ones((len(hidden), 1))]
    x = np.concatenate(columns, axis=1)
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    wanted = np.mean(
        [np.square(a).sum() / np.square(b).sum() for a, b in zip(np.split(left, 8), np.split(y, 8), strict=True)]
    )
    grams = see(found.form, found.groups, found.samples, TARGET, silent, grams=True).grams
    references = record(found.form, found.samples, TARGET, len(samples))
    one = Sensitivity(found.form, found.measured, grams, grams, references, TARGET, tmp_path)
    assert one.noise("hidden", found.by_key["hidden"], gone) == pytest.approx(wanted, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("rows", [4, 200])
def test_what_few_samples_tell_is_not_trusted(rows: int, tmp_path: Path) -> None:
    """Of 4 rows a fit with the least ridge leaves much more than with a larger one; of 200 no more."""
    rng = np.random.default_rng(2)
    samples = [{"x": rng.standard_normal((rows, 5)).astype(np.float32)}]
    found = plan(tmp_path, samples, "Gemm")
    others = [{"x": rng.standard_normal((200, 5)).astype(np.float32)}]
    references = record(found.form, parts_of(others, None), TARGET, 1)
    seen, judging = (
        see(found.form, found.groups, part, TARGET, silent, grams=True).grams
        for part in (found.samples, parts_of(others, None))
    )
    gone, nothing = np.arange(UNITS) < 5, dict[str, Gram]()
    noises = {
        name: Sensitivity(found.form, found.measured, grams, judges, references, TARGET, tmp_path).noise(
            "hidden", found.by_key["hidden"], gone
        )
        for name, grams, judges in (("none", nothing, nothing), ("bold", seen, nothing), ("chosen", seen, judging))
    }
    assert noises["chosen"] < 0.2 * noises["none"]
    assert (noises["bold"] > 2 * noises["chosen"]) == (rows == 4)
