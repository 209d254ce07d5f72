"""Times of operators by themselves: one for each kind and shape, measured once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish.ir import DType, Node, Value
from planish.ir.build import Builder
from planish.passes.prune.operator_call import Call, Shape, call_of
from planish.runtime import operator_times
from planish.runtime.operator_times import OperatorTimes
from planish.runtime.providers import Target

TARGET = Target(threads=1)


def known(value: Value) -> Shape | None:
    shape = tuple([dim for dim in value.shape or () if isinstance(dim, int)])
    return shape if value.shape is not None and len(shape) == len(value.shape) else None


def product(columns: int = 8, b: Builder | None = None) -> Node:
    b = b or Builder("product")
    x = b.input("x", DType.FLOAT, (4, 16))
    y = b.node("MatMul", (x, b.constant(np.ones((16, columns), np.float32))))
    b.output("y", y)
    assert y.producer is not None
    return y.producer


def conv(groups: int) -> Node:
    b = Builder("conv")
    x = b.input("x", DType.FLOAT, (1, 8, 5, 5))
    w = b.constant(np.ones((8, 8 // groups, 3, 3), np.float32))
    y = b.node("Conv", (x, w), {"group": groups, "kernel_shape": (3, 3)})
    b.output("y", y)
    assert y.producer is not None
    return y.producer


def call(node: Node) -> Call:
    found = call_of(node, known)
    assert found is not None
    return found


def test_more_work_takes_longer() -> None:
    times = OperatorTimes(TARGET)
    b = Builder("large")
    x = b.input("x", DType.FLOAT, (512, 512))
    y = b.node("MatMul", (x, b.constant(np.ones((512, 512), np.float32))))
    assert y.producer is not None
    assert times.seconds(call(y.producer)) > times.seconds(call(product())) >= 0


def test_each_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = OperatorTimes(TARGET, tmp_path).seconds(call(product()))

    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(operator_times, "best_seconds", fails)
    assert OperatorTimes(TARGET, tmp_path).seconds(call(product())) == seconds


def test_shapes_attributes_and_weights_have_keys_of_their_own() -> None:
    b = Builder("activations")
    x, w = b.input("x", DType.FLOAT, (4, 16)), b.input("w", DType.FLOAT, (16, 8))
    y = b.node("MatMul", (x, w))
    assert y.producer is not None
    nodes = (product(), product(9), y.producer, conv(1), conv(2))
    assert len({call(node).key for node in nodes}) == len(nodes)
    assert call(product()).key == call(product()).key


def test_a_depthwise_convolution_stays_one() -> None:
    def half(value: Value) -> Shape:
        return (4, 1, 3, 3) if value.constant is not None else (1, 4, 5, 5)

    found = call_of(conv(8), half)
    assert found is not None
    assert dict(found.attributes)["group"] == 4
    assert OperatorTimes(TARGET).seconds(found) >= 0


def test_what_moves_no_floats_is_not_measured() -> None:
    b = Builder("others")
    x = b.input("x", DType.FLOAT, ("N", 4))
    i = b.input("i", DType.INT64, (3, 4))
    empty = b.input("e", DType.FLOAT, (0, 4))
    for y in (b.node("Relu", (x,)), b.node("Neg", (i,)), b.node("Relu", (empty,)), b.node("Shape", (x,))):
        assert y.producer is not None
        assert call_of(y.producer, known) is None


def test_what_the_runtime_refuses_takes_no_time() -> None:
    refused = Call("MatMul", 21, (), ((4, 16), (15, 8)), (False, True))
    unknown = Call("NoSuchOperator", 21, (), ((4, 16),), (False,))
    times = OperatorTimes(TARGET)
    assert (times.seconds(refused), times.seconds(unknown)) == (0.0, 0.0)
