"""The time of a graph with less of its channels, from those of its operators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planish.ir import DType, Graph
from planish.ir.build import Builder
from planish.passes.prune.dependency import Group, dependencies
from planish.passes.prune.graph_times import GraphTimes
from planish.passes.prune.operator_call import Call


class Counted:
    """A time for each multiply-accumulate, and what was asked for."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def seconds(self, call: Call) -> float:
        self.calls.append(call)
        if call.op != "Conv":
            return 0.0
        x, w = call.operands[0], call.operands[1]
        assert x is not None
        assert w is not None
        return float(np.prod(w)) * x[2] * x[3]


def net() -> Graph:
    """A convolution of 64 filters with its Relu, a depthwise one, one of 10, on images of an open height."""
    b = Builder("net")

    def weight(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.ones(shape, np.float32)

    x = b.input("x", DType.FLOAT, (1, 3, "height", 8))
    y = b.node("Relu", (b.node("Conv", (x, b.constant(weight(64, 3, 1, 1))), name="first"),))
    y = b.node("Conv", (y, b.constant(weight(64, 1, 1, 1))), {"group": 64}, name="depthwise")
    b.output("y", b.node("Conv", (y, b.constant(weight(10, 64, 1, 1))), name="last"))
    return b.graph()


def measured(extents: dict[str, int]) -> tuple[GraphTimes, Counted, Mapping[str, Group]]:
    graph, times = net(), Counted()
    groups = {group.name: group for group in dependencies(graph).groups}
    return GraphTimes(graph, groups, extents, times), times, groups


def test_the_whole() -> None:
    found, times, groups = measured({"height": 4})
    assert {key: group.size for key, group in groups.items()} == {"first": 64}
    assert found({}) == found({"first": 64}) == (64 * 3 + 64 + 640) * 32
    assert {call.op for call in times.calls} == {"Conv"}  # the Relu is within the convolution


def test_less_in_blocks() -> None:
    found, times, _ = measured({"height": 4})
    assert found({"first": 32}) == (32 * 3 + 32 + 320) * 32
    assert [dict(call.attributes).get("group") for call in times.calls if call.operands[1] == (32, 1, 1, 1)] == [32]
    assert found({"first": 33}) == found({"first": 48}) == (48 * 3 + 48 + 480) * 32
    assert found({"first": 1}) == found({"first": 16})


def test_what_is_known_is_not_asked_for_again() -> None:
    found, times, _ = measured({"height": 4})
    found({"first": 32})
    count = len(times.calls)
    found({"first": 32})
    assert len(times.calls) == count


def test_open_extents_are_not_measured() -> None:
    found, times, _ = measured({})
    assert found({"first": 64}) == 0
    assert not times.calls
