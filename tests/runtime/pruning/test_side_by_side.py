"""Two models on the same runs, step by step: what the pruned one lacks, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from planish import ir
from planish.ir import Graph
from planish.passes.errors import CalibrationError
from planish.passes.quantize.gram import Window
from planish.runtime.patches import Rows
from planish.runtime.pruning.kept_tensors import KeptTensors
from planish.runtime.pruning.side_by_side import Layer, SideBySide, Stepped
from planish.runtime.pruning.steps import Steps
from tests.equivalence import PLAIN

Singles = NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Singles:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stepped(
    folder: Path, name: str, graph: Graph, wanted: Sequence[tuple[str, int]], runs: Sequence[Singles]
) -> Stepped:
    ir.save(graph, folder / f"{name}.onnx")
    path = folder / f"{name}.onnx"
    found = Stepped(path, Steps.of(ir.load(path), wanted), KeptTensors(path.with_suffix(".kept"), 0), PLAIN)
    for run, x in enumerate(runs):
        found.take(run, {"x": x, "fed to no model": x})
    return found


def side_by_side(folder: Path, graphs: Sequence[Graph], layers: Sequence[Layer], runs: Sequence[Singles]) -> SideBySide:
    steps = [(layer.wanted, step) for step, layer in enumerate(layers, 1)]
    original = stepped(
        folder,
        "original",
        graphs[0],
        [(layer.original, step) for layer, (_, step) in zip(layers, steps, strict=True)],
        runs,
    )
    return SideBySide(
        original, stepped(folder, "pruned", graphs[1], steps, runs), [run % 3 == 1 for run in range(len(runs))]
    )


def graph(one: Mapping[tuple[int, int], float], columns: int = 3) -> Graph:
    b = ir.Builder("net", opset=17)
    w = np.eye(3, dtype=np.float32)[:, :columns]
    for place, number in one.items():
        w[place] = number
    made = b.node("MatMul", (b.input("x", ir.DType.FLOAT, ("n", 3)), b.initializer("w", w)), result="h")
    second = b.node("MatMul", (b.node("Relu", (made,), result="r"), b.initializer("v", w[:columns])), result="y")
    b.output("y", second)
    return b.graph()


LAYERS = (Layer("x", "h", "h", np.arange(3), Rows(), 1, -1), Layer("r", "y", "y", np.arange(3), Rows(), 1, -1))


def test_a_step_goes_on_from_what_the_layers_before_it_became(tmp_path: Path) -> None:
    runs = [normal(8, 3, seed=seed) for seed in range(6)]
    broken = {(0, 0): 0.5, (1, 1): 2.0}
    sides = side_by_side(tmp_path, (graph({}), graph(broken)), LAYERS, runs)
    (first,) = sides.look(1, LAYERS[:1])
    assert (first.fitted.count, first.held_out.count) == (32, 16)
    wanted = np.concatenate([runs[1], runs[4]])
    lacking = wanted @ (np.eye(3) - np.diag([0.5, 2, 1]))
    power = np.square(wanted - wanted.mean(axis=0)).sum()
    assert first.held_out.error() == pytest.approx(np.square(lacking).sum() / power, rel=1e-5)

    now = graph(broken)
    (node,) = [node for node in now.nodes if node.result.name == "h"]
    now.set_operand(node, 1, ir.constant(np.eye(3, dtype=np.float32)))
    sides.go_on(1, now)
    (second,) = sides.look(2, LAYERS[1:])
    rectified = np.maximum(wanted, 0)
    power = np.square(rectified - rectified.mean(axis=0)).sum()
    lacking = rectified @ (np.eye(3) - np.diag([0.5, 2, 1]))
    assert second.held_out.error() == pytest.approx(np.square(lacking).sum() / power, rel=1e-5)
    sides.go_on(2, now)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("tensor")]


def image_net(w: Singles) -> Graph:
    b = ir.Builder("net", opset=17)
    x = b.input("x", ir.DType.FLOAT, (1, 3, "h", "w"))
    b.output("y", b.node("Conv", (x, b.initializer("w", w)), {"pads": (1, 1, 1, 1)}, result="y"))
    return b.graph()


def test_windows_and_results_of_large_images_are_of_the_same_places(tmp_path: Path) -> None:
    """What lacks is a product of the windows, of which a few are taken: so the fit is exact."""
    w, change = normal(4, 3, 3, 3), normal(4, 3, 3, 3, seed=1)
    runs = [normal(1, 3, 200, 301, seed=seed) for seed in range(3)]
    window = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, "NOTSET")
    layer = Layer("x", "y", "y", np.arange(4), Rows(window=window), 1, 1)
    sides = side_by_side(tmp_path, (image_net(w + change), image_net(w)), [layer], runs)
    (seen,) = sides.look(1, [layer])
    assert seen.fitted.count + seen.held_out.count <= 1 << 16
    fit = seen.fitted.fit(1e-9, with_bias=False)
    assert fit is not None
    np.testing.assert_allclose(fit.weight[0].T, change.reshape(4, -1), atol=1e-4)


def test_results_of_other_shapes(tmp_path: Path) -> None:
    sides = side_by_side(tmp_path, (graph({}), graph({}, 2)), LAYERS, [normal(2, 3)])
    with pytest.raises(CalibrationError, match="not one model before and after pruning"):
        sides.look(1, LAYERS[:1])
