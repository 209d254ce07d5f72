"""Large weights go around protobuf: what is taken out and put back in gives the very bytes, and faults stay faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish import ir
from planish.ir import GraphError, wire
from planish.ir.load_tensor import ProtoTensor
from planish.ir.tensor import ArrayTensor, Tensor

LARGE = np.arange(wire.LARGE, dtype=np.float32).reshape(-1, 64)


def model(*initializers: TensorProto) -> onnx.ModelProto:
    """A model that gives back the sum of its input and each initializer."""
    nodes: list[onnx.NodeProto] = []
    x = "x"
    for tensor in initializers:
        nodes.append(helper.make_node("Add", [x, tensor.name], [f"{tensor.name}_sum"]))
        x = f"{tensor.name}_sum"
    interface = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 64]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "sums", interface[:1], interface[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tensor(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = LARGE) -> TensorProto:
    return numpy_helper.from_array(array, name)


def typed(name: str) -> TensorProto:
    """A large tensor whose elements are no raw data."""
    return helper.make_tensor(name, TensorProto.FLOAT, LARGE.shape, LARGE.reshape(-1).tolist())


def put_back(data: bytes, *places: int) -> bytes:
    """What a model's bytes become when the weights at these places go out and in again."""
    rest, weights = wire.take_out(memoryview(data))
    taken = dict(zip(places, weights.values(), strict=True))
    tensors: dict[int, Tensor] = {place: ArrayTensor(np.frombuffer(raw, np.uint8)) for place, raw in taken.items()}
    parts: list[bytes | memoryview] = []
    for piece in wire.put_in(memoryview(rest), tensors):
        parts += piece.raw_chunks() if isinstance(piece, Tensor) else (piece,)
    return b"".join(parts)


def test_what_goes_out_comes_in_again() -> None:
    documented = tensor("documented")
    documented.doc_string = "behind the raw data"
    small = tensor("small", LARGE[:1])
    data = model(tensor("first"), small, typed("typed"), documented, tensor("last")).SerializeToString()
    rest, weights = wire.take_out(memoryview(data))
    assert list(weights) == ["first", "documented", "last"]
    assert all(bytes(raw) == LARGE.tobytes() for raw in weights.values())
    assert len(rest) < len(data) - 3 * LARGE.nbytes + 64
    assert put_back(data, 0, 3, 4) == data


def test_a_model_without_large_weights_stays_as_it_is() -> None:
    data = model(tensor("small", LARGE[:1])).SerializeToString()
    assert wire.take_out(memoryview(data)) == (data, {})


def test_what_is_not_plainly_all_of_a_tensor_stays_inside() -> None:
    outside, twice = tensor("outside"), tensor("twice")
    outside.data_location = TensorProto.EXTERNAL
    raw = twice.SerializeToString() + twice.SerializeToString()  # protobuf takes the last of two
    twin = model(tensor("a"))
    twin.graph.initializer.append(tensor("a"))
    for source in (model(outside).SerializeToString(), _with_initializer(raw)):
        assert wire.take_out(memoryview(source)) == (source, {})
    rest, weights = wire.take_out(memoryview(twin.SerializeToString()))
    assert list(weights) == ["a"]
    assert [t.HasField("raw_data") for t in onnx.ModelProto.FromString(rest).graph.initializer] == [False, True]


def _with_initializer(encoded: bytes) -> bytes:
    head = b"\x2a" + _varint(len(encoded))
    graph = model(tensor("small", LARGE[:1])).graph.SerializeToString() + head + encoded
    return b"\x3a" + _varint(len(graph)) + graph


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, *_varint(value >> 7)]) if value > 0x7F else bytes([value])


def test_a_graph_in_two_pieces(tmp_path: Path) -> None:
    """protobuf joins the two; so does whoever reads around it."""
    whole = model(tensor("a"), tensor("b"))
    second = onnx.ModelProto()
    second.graph.initializer.append(whole.graph.initializer.pop())
    (tmp_path / "net.onnx").write_bytes(whole.SerializeToString() + second.SerializeToString())
    graph = ir.load(tmp_path / "net.onnx")
    assert [value.name for value in graph.initializers] == ["a", "b"]
    assert all(np.array_equal(v.constant.array(), LARGE) for v in graph.initializers if v.constant is not None)


@pytest.mark.parametrize(
    "data", [b"\x3a", b"\x3a\xff", b"\x3a\x05\x2a", b"\x3b\x3c", b"\x08", b"\x3d\x00", b"\xff" * 12]
)
def test_bytes_that_are_no_message(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(GraphError, match=r"is not an ONNX model|holds no graph"):
        ir.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("end", [1, 200, 70_000, -1])
def test_a_file_that_is_cut_off(end: int, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(model(tensor("a"), tensor("b")).SerializeToString()[:end])
    with pytest.raises(GraphError, match="is not an ONNX model, or is cut off"):
        ir.load(tmp_path / "net.onnx")


def test_a_large_file(tmp_path: Path) -> None:
    """Larger than what is read in one piece, and with weights that start at any byte."""
    arrays = [np.random.default_rng(i).standard_normal((256 * 37, 64), np.float32) for i in range(2)]
    source = model(tensor("a", arrays[0]), tensor("bc", arrays[1]))
    data = source.SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data)
    graph = ir.load(tmp_path / "net.onnx")
    for value, array in zip(graph.initializers, arrays, strict=True):
        assert isinstance(value.constant, ProtoTensor)
        assert value.constant.apart is not None
        np.testing.assert_array_equal(value.constant.array(), array)
        assert not value.constant.array().flags.writeable
    assert ir.save(graph, tmp_path / "out.onnx") == (tmp_path / "out.onnx",)
    assert (tmp_path / "out.onnx").read_bytes() == data
    assert ir.emit(graph) == source


def test_saving_says_which_files(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(model(tensor("a")).SerializeToString())
    files = ir.save(ir.load(tmp_path / "net.onnx"), tmp_path / "out.onnx", external_data="always")
    assert files == (tmp_path / "out.onnx", tmp_path / "out.onnx.data")
    assert all(file.is_file() for file in files)


@pytest.mark.parametrize("rows", [40_000, 3])
def test_a_transposed_weight_is_written_in_rows(rows: int, tmp_path: Path) -> None:
    array = np.arange(rows * 300, dtype=np.float32).reshape(300, rows).T
    b = ir.Builder("transposed", opset=17)
    x = b.input("x", ir.DType.FLOAT, (rows, 300))
    b.output("y", b.node("Add", (x, b.initializer("w", array))))
    graph = b.graph()
    ir.save(graph, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == ir.emit(graph).SerializeToString()
    (value,) = ir.load(tmp_path / "out.onnx").initializers
    assert value.constant is not None
    np.testing.assert_array_equal(value.constant.array(), array)
