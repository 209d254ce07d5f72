"""Nodes that stay in single precision by name, and weights that are stored in half and read by such nodes."""

from __future__ import annotations

import numpy as np

from planish import ir, passes
from planish.runtime.session import Session
from tests.equivalence import PLAIN, op_types
from tests.passes.precision.test_convert_precision import HALF, PASS, X, converted, net, weights


def test_store_keeps_the_arithmetic_and_halves_the_weights() -> None:
    found = converted(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)"), f"{PASS}{{store=a|y}}")
    assert found.ops == ["Cast", "Cast", "MatMul", "Relu", "MatMul"]
    assert {tensor.data_type for tensor in found.after.graph.initializer} == {HALF}
    assert found.types()["a"] == found.types()["y"] == 1
    assert [rewrite.split()[1] for rewrite in found.rewrites] == [f"{PASS}/store-float16:"] * 2
    rounded = net(
        "a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)",
        w=weights().astype(np.float16).astype(np.float32),
        v=weights(seed=1).astype(np.float16).astype(np.float32),
    )
    (expected,) = Session(rounded.SerializeToString(), PLAIN).run({"x": X})
    (_,), (result,) = found.run({"x": X})
    assert np.array_equal(np.asarray(expected), result)


def test_a_stored_weight_that_two_read_is_there_once() -> None:
    found = converted(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w)"), f"{PASS}{{store=MatMul}}")
    assert found.ops == ["Cast", "MatMul", "Relu", "MatMul"]
    mixed = converted(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, w)"), f"{PASS}{{store=y}}")
    assert sorted(tensor.data_type for tensor in mixed.after.graph.initializer if tensor.name.startswith("w")) == [HALF]


def test_what_half_precision_cannot_hold_is_not_stored() -> None:
    found = converted(net("y = MatMul(x, u)", u=weights() * np.float32(1e7)), f"{PASS}{{store=y}}")
    assert found.ops == ["MatMul"]
    found = converted(net("y = Mul(x, u)", u=np.array([0.3], np.float32)), f"{PASS}{{store=y}}")
    assert found.ops == ["Mul"]


def test_the_limit_counts_what_is_stored() -> None:
    graph = ir.load(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)"))
    (record,) = passes.run(graph, f"{PASS}{{store=MatMul}}", limit=1)
    assert len(record.rewrites) == 1
    assert op_types(ir.emit(graph).graph) == ["Cast", "MatMul", "Relu", "MatMul"]


def test_keep_names_results_of_nodes_without_a_name() -> None:
    found = converted(net("a = MatMul(x, w)  b = Relu(a)  y = MatMul(b, v)"), f"{PASS}{{keep=a|b|y}}")
    assert found.ops == ["MatMul", "Relu", "MatMul"]
