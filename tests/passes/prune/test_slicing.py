"""What counts channels is rewritten with them: sizes, bounds, indices, groups, shapes, in every spelling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from planish import ir, passes
from planish.ir import DType, Graph
from planish.ir.text import text
from tests.equivalence import Inputs, feeds_for, model, run, same_interface
from tests.passes.prune.pruned import Pruned, parameters, pruned
from tests.passes.prune.topologies import TOPOLOGIES, Net, residual

_IMAGE = ("N", 3, 8, 8)
_BATCHES = ({"N": 1}, {"N": 3})


def images(graph: Graph) -> Pruned:
    found = pruned(graph, bindings=_BATCHES)
    assert found.share < 1
    return found


def test_text_before_and_after() -> None:
    n = Net(("N", 4))
    hidden = n.op("Relu", n.op("Gemm", n.x, n.weight(4, 6), n.weight(6)))
    graph = n.end(n.op("Gemm", hidden, n.weight(6, 3)))
    found = pruned(graph, bindings=_BATCHES)
    shapes = [tuple(tensor.dims) for tensor in found.after.graph.initializer]
    assert sorted(shapes) == [(3,), (3, 3), (4, 3)]
    assert "float[N,3]" in text(ir.load(found.after))
    same_interface(found.before, found.after)


def test_the_removed_are_gone_and_the_others_as_they_were() -> None:
    """Not only equal results: the very rows."""
    n = Net(("N", 4))
    w = n.weight(4, 6)
    graph = n.end(n.op("MatMul", n.op("Relu", n.op("MatMul", n.x, w)), n.weight(6, 3)))
    found = pruned(graph, bindings=_BATCHES)
    kept = np.flatnonzero(~found.removal.gone[0])
    assert w.constant is not None
    expected = w.constant.array()[:, kept]
    arrays = [numpy_helper.to_array(tensor) for tensor in found.after.graph.initializer]
    assert any(np.array_equal(array, expected) for array in arrays)


def test_a_split_into_equal_parts_says_their_sizes_where_they_differ_now() -> None:
    n = Net(_IMAGE)
    one, other = n.b.nodes("Split", (n.conv(n.x, (3, 16)),), {"axis": 1, "num_outputs": 2}, results=2)
    found = images(n.head(n.op("Concat", n.op("Relu", one), n.conv(other, (8, 4)), axis=1), 12))
    assert [node.attribute[0].name for node in found.after.graph.node if node.op_type == "Split"] == ["axis"]


def test_a_split_of_an_old_opset() -> None:
    n = Net(_IMAGE, opset=12)
    parts = n.b.nodes("Split", (n.conv(n.x, (3, 16)), n.ints(4, 12)), {"axis": 1}, results=2)
    images(n.head(n.op("Concat", parts[1], parts[0], axis=1), 16))


@pytest.mark.parametrize(("start", "end"), [(-12, 2**63 - 1), (3, -2), (-(2**63), 9), (0, 10**9), (20, 30), (5, 5)])
def test_bounds_beyond_the_axis_and_from_its_end(start: int, end: int) -> None:
    n = Net(_IMAGE)
    x = n.conv(n.x, (3, 16))
    part = n.op("Slice", x, n.ints(start, 1), n.ints(end, 7), n.ints(-3, 2))
    gate = n.op("ReduceSum", part, n.ints(1))
    images(n.head(n.op("Concat", n.op("Slice", x, n.ints(1), n.ints(7), n.ints(2)), gate, axis=1), 17))


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_indices_that_repeat_and_count_from_the_end(kind: type[np.signedinteger]) -> None:
    n = Net(_IMAGE)
    places = n.b.constant(np.array([-1, 3, 3, 0, -16, 7], kind))
    images(n.head(n.b.node("Gather", (n.conv(n.x, (3, 16)), places), {"axis": 1}), 6))


def test_a_shape_that_is_written_out() -> None:
    """The number of features is a constant beside a batch that is computed."""
    found = images(TOPOLOGIES["reshape-gemm"]())
    assert [node.op_type for node in found.after.graph.node].count("Reshape") == 1


@pytest.mark.parametrize("target", [(0, -1), (-1, 64), (0, 64)])
def test_targets_of_every_spelling(target: tuple[int, int]) -> None:
    n = Net(("N", 3, 2, 2))
    x = n.op("Reshape", n.conv(n.x, (3, 16)), n.ints(*target))
    images(n.end(n.op("Gemm", x, n.weight(64, 3))))


def test_a_target_with_two_computed_extents() -> None:
    """Neither can be spelled as 0 or -1; the number between them is rewritten in the Concat."""
    n = Net((2, 3, "H", "W"))
    x = n.conv(n.x, (3, 16))
    shape = n.op("Shape", x)
    turned = n.op("Transpose", x, perm=(3, 1, 2, 0))
    w, h = (n.op("Gather", shape, n.ints(axis)) for axis in (3, 2))
    y = n.op("Reshape", turned, n.op("Concat", w, n.ints(8), n.ints(2), h, n.ints(2), axis=0))
    y = n.op("ReduceSum", n.op("Mul", y, n.weight(8, 1, 1, 1)), n.ints(1, 2), keepdims=0)
    pruned(n.end(y), bindings=({"H": 2, "W": 3}, {"H": 5, "W": 1}))


def test_sizes_of_a_resize_hold_the_channels() -> None:
    n = Net(_IMAGE)
    x = n.conv(n.x, (3, 16))
    batch = n.op("Slice", n.op("Shape", x), n.ints(0), n.ints(1))
    sizes = n.op("Concat", batch, n.ints(16, 12, 12), axis=0)
    y = n.b.node("Resize", (x, None, None, sizes), {"mode": "nearest"})
    images(n.head(y, 16))


def test_weights_that_are_nodes() -> None:
    body = "g (float[N, 4] x) => (float[N, 2] y) { w = Constant <value = float[4, 4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> () v = Constant <value = float[4, 2] {1, 2, 3, 4, 5, 6, 7, 8}> () h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"  # noqa: E501
    found = pruned(model(body), bindings=_BATCHES)
    assert parameters(found.after) == parameters(found.before) // 2
    assert not found.after.graph.initializer or len(found.after.graph.node) <= len(found.before.graph.node)


def test_what_was_declared_of_a_value_that_shrank_is_forgotten() -> None:
    """Runtimes believe it."""
    before = onnx.shape_inference.infer_shapes(ir.emit(residual()))
    assert before.graph.value_info
    found = pruned(before, bindings=_BATCHES)
    assert len(found.after.graph.value_info) < len(before.graph.value_info)


def test_branches_shrink_by_themselves() -> None:
    n = Net(("N", 6))
    body: dict[str, Graph] = {}
    for name in ("then_branch", "else_branch"):
        inner = n.b.body(name)
        first, second = (
            inner.initializer(f"{name}{i}", _matrix(n, *shape)) for i, shape in enumerate(((6, 10), (10, 2)))
        )
        inner.output(
            f"{name}_y", inner.node("MatMul", (inner.node("Relu", (inner.node("MatMul", (n.x, first)),)), second))
        )
        body[name] = inner.graph()
    condition = n.op("Greater", n.op("ReduceSum", n.x, keepdims=0), n.b.constant(np.array(0, np.float32)))
    found = pruned(n.end(n.b.node("If", (condition,), body)), bindings=_BATCHES)
    assert parameters(found.after) == parameters(found.before) // 2 + 1


def test_one_constant_in_two_branches() -> None:
    n = Net(("N", 6))
    shared, body = n.b.initializer("shared", _matrix(n, 6, 10)), dict[str, Graph]()
    for name in ("then_branch", "else_branch"):
        inner = n.b.body(name)
        hidden = inner.node("Relu", (inner.node("MatMul", (n.x, shared)),))
        inner.output(f"{name}_y", inner.node("MatMul", (hidden, inner.constant(_matrix(n, 10, 2)))))
        body[name] = inner.graph()
    condition = n.op("Greater", n.op("ReduceSum", n.x, keepdims=0), n.b.constant(np.array(0, np.float32)))
    found = pruned(n.end(n.b.node("If", (condition,), body)), bindings=_BATCHES)
    assert list(found.groups.values()) == [10]


def _matrix(n: Net, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return n.random.standard_normal(shape).astype(np.float32)


def test_weights_outside_of_the_file(tmp_path: Path) -> None:
    """They are large enough to leave memory again."""
    n = Net(("N", 600))
    hidden = n.op("Relu", n.op("MatMul", n.x, n.b.initializer("w", _matrix(n, 600, 600))))
    proto = ir.emit(n.end(n.op("MatMul", hidden, n.b.initializer("v", _matrix(n, 600, 600)))))
    before = parameters(proto)
    data = b"".join(tensor.raw_data for tensor in proto.graph.initializer)
    (tmp_path / "weights.data").write_bytes(data)
    start = 0
    for tensor in proto.graph.initializer:
        set_external_data(tensor, "weights.data", start, len(tensor.raw_data))
        start += len(tensor.raw_data)
        tensor.ClearField("raw_data")
    (tmp_path / "before.onnx").write_bytes(proto.SerializeToString())
    graph = ir.load(tmp_path / "before.onnx")
    passes.run(graph, "prune-channels{ratio=0.5}")
    ir.save(graph, tmp_path / "after.onnx")
    after = ir.load(tmp_path / "after.onnx")
    assert sum(value.constant.size for value in after.initializers if value.constant is not None) == before // 2


def test_quantized_weights_shrink_with_their_scales() -> None:
    n = Net(("N", 8))
    codes = n.b.constant(n.random.integers(-127, 127, (8, 12)).astype(np.int8))
    scales, zeros = n.positive(12), n.b.constant(np.zeros(12, np.int8))
    w = n.b.node("DequantizeLinear", (codes, scales, zeros), {"axis": 1})
    hidden = n.op("Relu", n.op("MatMul", n.x, w))
    scale, zero = n.b.constant(np.array(0.05, np.float32)), n.b.constant(np.array(128, np.uint8))
    hidden = n.op("DequantizeLinear", n.op("QuantizeLinear", hidden, scale, zero), scale, zero)
    found = pruned(n.end(n.op("MatMul", hidden, n.weight(12, 3))), bindings=_BATCHES)
    assert 12 in found.groups.values()


def test_embeddings_shrink_and_their_words_stay() -> None:
    b = ir.Builder(opset=21)
    n = Net((1,))
    words = b.input("words", DType.INT64, ("N", "T"))
    tables = [b.constant(_matrix(n, *shape)) for shape in ((9, 16), (5, 16), (16, 4))]
    x = b.node("Gather", (tables[0], words))
    x = b.node("Add", (x, b.node("Gather", (tables[1], b.constant(np.array([[1], [-2]]))))))
    b.output("y", b.node("MatMul", (x, tables[2])))
    values = {"words": [np.array([[0, 8, 3], [1, 1, -2]]), np.array([[4], [5]])]}
    found = pruned(b.graph(), values=values)
    assert sorted(
        tuple(tensor.dims) for tensor in found.after.graph.initializer if len(tensor.dims) > 1 and tensor.data_type == 1
    ) == [(5, 8), (8, 4), (9, 8)]


def test_a_number_of_elements_stays_what_it_was() -> None:
    """The square root of the size of a head is worked out of a shape; that of the original is meant."""
    found = pruned(TOPOLOGIES["attention"](), bindings=({"N": 2, "T": 3},))
    assert found.share < 0.6


def test_the_source_is_never_touched() -> None:
    proto = ir.emit(residual())
    before = proto.SerializeToString()
    found = pruned(proto, bindings=_BATCHES)
    assert found.before.SerializeToString() == before


def test_results_differ_from_those_of_the_whole_model() -> None:
    """The comparison above would hold for a pass that does nothing."""
    found = images(residual())
    feeds = next(iter(feeds_for(found.before, Inputs(bindings=[{"N": 2}], kinds=("ordinary",)), ("ordinary",))))
    (old,), (new,) = run(found.before, feeds), run(found.after, feeds)
    assert not np.allclose(np.asarray(old), np.asarray(new), rtol=1e-3)
