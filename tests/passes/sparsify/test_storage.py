"""Sparse constants: smaller, valid, and what ONNX Runtime makes dense again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from planish import ir, passes
from tests.passes.quantize.quantized import net, node, normal, quantized, results
from tests.passes.sparsify.sparse import (
    PASS,
    W,
    X,
    conv,
    product,
    sparse,
    weight_of,
)


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Conv"])
def test_sparse_storage(op: str, tmp_path: Path) -> None:
    proto = conv("plain") if op == "Conv" else net([node(op, ["x", "w"], ["y"])], {"w": W}, x=("N", 64))
    after = sparse(proto, "ratio=0.9,storage=sparse")
    assert not after.graph.initializer
    assert [node.op_type for node in after.graph.node] == ["Constant", op]
    assert len(after.SerializeToString()) < 0.4 * len(proto.SerializeToString())
    dense = sparse(proto, "ratio=0.9")
    x = normal(2, 16, 9, 9) if op == "Conv" else X
    assert np.array_equal(results(after, x), results(dense, x))
    ir.save(ir.load(after), tmp_path / "out.onnx")
    assert np.array_equal(results(onnx.load_from_string((tmp_path / "out.onnx").read_bytes()), x), results(dense, x))
    again, record = quantized(dense, f"{PASS}{{ratio=0.9,storage=sparse,least=1}}")
    assert len(record.rewrites) == 1
    assert np.array_equal(weight_of(again), weight_of(dense))


def test_sparse_storage_only_where_it_is_smaller() -> None:
    assert sparse(product(), "ratio=0.6,storage=sparse").graph.initializer
    assert not sparse(product(), "ratio=0.7,storage=sparse").graph.initializer


def test_an_old_model_stays_dense() -> None:
    """Constant's sparse_value came with opset 11."""
    proto = product()
    proto.ir_version, proto.opset_import[0].version = 4, 10
    assert sparse(proto, "ratio=0.9,storage=sparse").graph.initializer


def test_sparse_storage_stays_through_other_passes() -> None:
    graph = ir.load(product())
    passes.run(graph, f"{PASS}{{ratio=0.9,storage=sparse}},deploy")
    after = ir.emit(graph)
    assert not after.graph.initializer
    np.testing.assert_allclose(results(after, X), X @ weight_of(after), rtol=1e-4, atol=1e-5)
    old = ir.emit(graph, opset=10)
    assert old.graph.sparse_initializer
    assert np.array_equal(results(old, X), results(after, X))


def test_all_zeros_are_stored_as_none() -> None:
    after = sparse(product(), "ratio=1,storage=sparse")
    assert not results(after, X).any()
