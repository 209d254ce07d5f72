"""Derivatives of outputs by masks, where they can be told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish.ir import Builder, DType, Graph
from planish.passes.prune.dependency import Member
from planish.runtime.providers import Target
from planish.runtime.pruning.masks import derivatives

TARGET = Target(threads=1)
COLUMNS = np.array([[1, 0], [0, 2], [0, 0]], np.float32)


def net() -> tuple[Graph, Member]:
    """y = x W: the derivative by the mask of x_i is x_i W_i."""
    b = Builder("net", opset=17)
    x = b.input("x", DType.FLOAT, ("n", 3))
    hidden = b.node("Identity", (x,), result="hidden")
    b.output("y", b.node("MatMul", (hidden, b.constant(COLUMNS)), result="y"))
    return b.graph(), Member(hidden, 1, np.arange(3))


def test_by_hand(tmp_path: Path) -> None:
    graph, member = net()
    feeds = [{"x": np.array([[1, 1, 1]], np.float32)}, {"x": np.array([[2, 0, 9]], np.float32)}]
    found = derivatives(graph, {"g": (member, 3)}, feeds, tmp_path / "masked.onnx", TARGET)["g"]
    np.testing.assert_allclose(found, [(1 / 5 + 1) / 2, (4 / 5 + 0) / 2, 0], rtol=1e-5)


def test_several_indices_of_a_unit(tmp_path: Path) -> None:
    graph, member = net()
    member = Member(member.value, 1, np.array([0, 0, -1]))
    feeds = [{"x": np.array([[1, 1, 1]], np.float32)}]
    found = derivatives(graph, {"g": (member, 1)}, feeds, tmp_path / "masked.onnx", TARGET)["g"]
    np.testing.assert_allclose(found, [1], rtol=1e-5)


@pytest.mark.parametrize("x", [[[np.nan, 1, 1]], [[0, 0, 5]], np.zeros((0, 3))])
def test_feeds_that_tell_nothing(x: list[list[float]], tmp_path: Path) -> None:
    """Outputs that are not finite, 0 or empty."""
    graph, member = net()
    bad, good = {"x": np.array(x, np.float32)}, {"x": np.array([[1, 1, 1]], np.float32)}
    alone = derivatives(graph, {"g": (member, 3)}, [bad], tmp_path / "masked.onnx", TARGET)["g"]
    assert np.isinf(alone).all()
    graph, member = net()
    both = derivatives(graph, {"g": (member, 3)}, [bad, good], tmp_path / "both.onnx", TARGET)["g"]
    np.testing.assert_allclose(both, [1 / 5, 4 / 5, 0], rtol=1e-5)
