"""Saving: what goes outside, where it lies, and that a failure leaves everything as it was."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planish import ir
from planish.ir import Builder, DType, GraphError, constant, emit_file
from planish.ir.load_tensor import ExternalTensor
from planish.ir.tensor import ArrayTensor, FileTensor, Spool
from planish.ir.types import Array
from planish.runtime.session import Feed, Session

Run = Callable[[ir.Graph | onnx.ModelProto, Mapping[str, Feed]], list[Array]]

X = np.ones((256, 4), np.float32)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def read(path: Path) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(path.read_bytes())


def run_file(path: Path) -> object:
    return Session(path).run({"x": X})[0]


def place(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def small_graph(weights: int = 1024) -> ir.Graph:
    b = Builder("small", opset=17)
    x = b.input("x", DType.FLOAT, (weights // 4, 4))
    big = b.initializer("big", np.arange(weights, dtype=np.float32).reshape(-1, 4))
    b.output("y", b.node("Add", (x, big)))
    return b.graph()


def test_a_model_inside_one_file(tmp_path: Path) -> None:
    ir.save(small_graph(), tmp_path / "out.onnx")
    assert names(tmp_path) == ["out.onnx"]
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), X + np.arange(1024).reshape(256, 4))
    assert (tmp_path / "out.onnx").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_what_came_from_outside_stays_outside(external_model: Path, tmp_path: Path) -> None:
    graph = ir.load(external_model)
    ir.save(graph, tmp_path / "out.onnx")
    assert names(tmp_path) == ["out.onnx", "out.onnx.data", "source"]
    big, small = read(tmp_path / "out.onnx").graph.initializer
    assert place(big) == {"location": "out.onnx.data", "offset": "0", "length": "4096", "checksum": "of big"}
    assert place(small) == {"location": "out.onnx.data", "offset": "4096", "length": "16", "checksum": "of small"}
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), run_file(external_model))


def test_an_untouched_weight_is_never_in_memory(
    external_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: FileTensor) -> Array:
        raise AssertionError("a weight was read whole")

    monkeypatch.setattr(FileTensor, "array", refuse)
    monkeypatch.setattr("planish.ir.tensor._CHUNK", 1000)
    graph = ir.load(external_model)
    big = next(value.constant for value in graph.initializers if value.name == "big")
    assert isinstance(big, ExternalTensor)
    assert [len(chunk) for chunk in big.raw_chunks()] == [1000, 1000, 1000, 1000, 96]
    ir.save(graph, tmp_path / "out.onnx")
    source = (external_model.parent / "weights.bin").read_bytes()
    assert (tmp_path / "out.onnx.data").read_bytes() == source[256:]


def test_never_brings_everything_inside(external_model: Path, tmp_path: Path) -> None:
    ir.save(ir.load(external_model), tmp_path / "out.onnx", external_data="never")
    assert names(tmp_path) == ["out.onnx", "source"]
    model = read(tmp_path / "out.onnx")
    assert [tensor.data_location for tensor in model.graph.initializer] == [TensorProto.DEFAULT] * 2
    assert not model.graph.initializer[0].external_data
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), run_file(external_model))


def test_always_puts_large_tensors_outside(tmp_path: Path) -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (256, 4))
    total = b.node("Add", (x, b.initializer("big", np.ones((256, 4), np.float32))))
    total = b.node("Add", (total, b.constant(np.full((256, 4), 2, np.float32), "loose")))
    total = b.node("Add", (total, b.initializer("small", np.ones(4, np.float32))))
    b.initializer("words", np.array(["long" * 1000], object))
    b.output("y", b.node("Add", (total, b.node("Constant", (), {"value": np.ones((256, 4), np.float32)}))))
    ir.save(b.graph(), tmp_path / "out.onnx", external_data="always")
    model = read(tmp_path / "out.onnx")
    outside = {tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}
    assert outside == {"big", "loose"}
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), X + 5)


def test_computed_weights_of_an_external_model_go_outside(external_model: Path, tmp_path: Path) -> None:
    graph = ir.load(external_model)
    assert graph.spool is not None
    first, second = graph.nodes
    for node, tensor in ((first, graph.spool.put(np.full((256, 4), 2, np.float32))), (second, np.ones(4, np.float32))):
        old = node.operands[1]
        graph.set_operand(node, 1, constant(tensor, "computed"))
        assert old is not None
        graph.erase(old)
    ir.save(graph, tmp_path / "out.onnx")
    model = read(tmp_path / "out.onnx")
    locations = {tensor.name: tensor.data_location for tensor in model.graph.initializer}
    assert locations == {"computed": TensorProto.EXTERNAL, "computed_1": TensorProto.DEFAULT}
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), X + 3)


def test_large_tensors_start_where_a_page_does(tmp_path: Path) -> None:
    b = Builder(opset=17)
    x = b.input("x", DType.FLOAT, (256, 4))
    for name, count in (("a", 300), ("b", 1 << 18), ("c", 257), ("d", 1 << 18)):
        b.initializer(name, np.full(count, ord(name), np.float32))
    b.output("y", b.node("Relu", (x,)))
    ir.save(b.graph(), tmp_path / "out.onnx", external_data="always")
    loaded = ir.load(tmp_path / "out.onnx")
    offsets: dict[str, int] = {}
    for value in loaded.initializers:
        assert isinstance(value.constant, ExternalTensor)
        offsets[value.name] = value.constant.offset
        assert set(value.constant.array().tolist()) == {ord(value.name)}
    assert {name: offset % 65536 for name, offset in offsets.items() if name in "bd"} == {"b": 0, "d": 0}
    assert all(offset % 64 == 0 for offset in offsets.values())


def test_a_weight_under_two_names_is_written_once(external_model: Path, tmp_path: Path) -> None:
    model = read(external_model)
    twin = model.graph.initializer.add()
    twin.CopyFrom(model.graph.initializer[0])
    twin.name = "twin"
    external_model.write_bytes(model.SerializeToString())
    ir.save(ir.load(external_model), tmp_path / "out.onnx")
    big, _, twin = read(tmp_path / "out.onnx").graph.initializer
    assert place(big)["offset"] == place(twin)["offset"]
    assert (tmp_path / "out.onnx.data").stat().st_size == 4112


@pytest.mark.parametrize("policy", ["auto", "always", "never"])
@pytest.mark.parametrize("spooled", [False, True])
def test_every_element_type_survives(tmp_path: Path, policy: Literal["auto", "always", "never"], spooled: bool) -> None:
    """Arrays, spooled files, external files and protobufs, each at 2,000 elements."""
    graph = small_graph()
    rng = np.random.default_rng(0)
    expected: dict[str, Array] = {}
    spool = Spool()
    for dtype in DType:
        if dtype in (DType.UNDEFINED, DType.STRING):
            continue
        numbers = rng.integers(0, 2, 2000) if dtype.bits < 8 or dtype is DType.BOOL else rng.integers(0, 100, 2000)
        array = numbers.astype(dtype.numpy)
        expected[dtype.name] = array
        graph.add_initializer(dtype.name, spool.put(array) if spooled else ArrayTensor(array))
    ir.save(graph, tmp_path / "first.onnx", external_data=policy)
    ir.save(ir.load(tmp_path / "first.onnx"), tmp_path / "second.onnx", external_data=policy)
    loaded = ir.load(tmp_path / "second.onnx")
    found = {value.name: value.constant for value in loaded.initializers if value.name in expected}
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor is not None
        assert isinstance(tensor, ExternalTensor) == (policy == "always" and tensor.nbytes >= 1024)
        assert tensor.array().tobytes() == expected[name].tobytes()


def test_sparse_initializers_stay_as_they_are(tmp_path: Path, external_model: Path) -> None:
    """A sparse tensor's own values may lie outside; they come inside, for the file that holds them stays behind."""
    model = read(external_model)
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend([64, 64])
    sparse.values.CopyFrom(model.graph.initializer[1])
    sparse.values.name = "sparse"
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [4], [0, 65, 130, 4095]))
    external_model.write_bytes(model.SerializeToString())
    graph = ir.load(external_model)
    ir.save(graph, tmp_path / "out.onnx", external_data="always")
    (written,) = read(tmp_path / "out.onnx").graph.sparse_initializer
    assert written.values.data_location == TensorProto.DEFAULT
    assert np.frombuffer(written.values.raw_data, np.float32).tolist() == [1, 2, 3, 4]
    loaded = next(value for value in ir.load(tmp_path / "out.onnx").initializers if value.name == "sparse")
    assert loaded.constant is not None
    dense = loaded.constant.array()
    assert (dense.shape, dense[0, 0], dense[1, 1], dense[63, 63]) == ((64, 64), 1, 2, 4)


def test_external_values_of_constant_nodes_come_inside(tmp_path: Path, external_model: Path) -> None:
    model = read(external_model)
    tensor = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["big"], name="c"))
    model.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor, doc_string="the big one")
    external_model.write_bytes(model.SerializeToString())
    graph = ir.load(external_model)
    for emitted in (ir.emit(graph), _saved(graph, tmp_path / "out.onnx")):
        attribute = emitted.graph.node[0].attribute[0]
        assert attribute.doc_string == "the big one"
        assert attribute.t.data_location == TensorProto.DEFAULT
        assert attribute.t.raw_data == np.arange(1024, dtype=np.float32).tobytes()
    np.testing.assert_array_equal(run_file(tmp_path / "out.onnx"), X + np.arange(1024).reshape(256, 4) + [1, 2, 3, 4])


def test_external_data_of_functions_and_training_comes_inside(tmp_path: Path, external_model: Path) -> None:
    model = read(external_model)
    body = helper.make_node("Constant", [], ["v"])
    body.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=model.graph.initializer[1])
    model.functions.append(helper.make_function("local", "four", [], ["v"], [body], [helper.make_opsetid("", 17)]))
    model.training_info.add().initialization.initializer.append(model.graph.initializer[1])
    external_model.write_bytes(model.SerializeToString())
    saved = _saved(ir.load(external_model), tmp_path / "out.onnx")
    for tensor in (saved.functions[0].node[0].attribute[0].t, saved.training_info[0].initialization.initializer[0]):
        assert tensor.data_location == TensorProto.DEFAULT
        assert not tensor.external_data
        assert np.frombuffer(tensor.raw_data, np.float32).tolist() == [1, 2, 3, 4]


def _saved(graph: ir.Graph, path: Path) -> onnx.ModelProto:
    ir.save(graph, path)
    return read(path)


def test_saving_twice_gives_the_same_bytes(external_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    ir.save(ir.load(external_model), target)
    first = target.read_bytes(), (tmp_path / "out.onnx.data").read_bytes()
    ir.save(ir.load(external_model), target)
    assert (target.read_bytes(), (tmp_path / "out.onnx.data").read_bytes()) == first
    assert names(tmp_path) == ["out.onnx", "out.onnx.data", "source"]


def test_the_data_file_never_replaces_one_that_is_read(external_model: Path) -> None:
    """The source's own weights are called as the result's would be, and a second name as the next choice would be."""
    folder = external_model.parent
    model = read(external_model)
    (folder / "weights.bin").rename(folder / "out.onnx.data")
    (folder / "out.onnx-1.data").hardlink_to(folder / "out.onnx.data")
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "out.onnx.data"
    external_model.write_bytes(model.SerializeToString())
    before = (folder / "out.onnx.data").read_bytes()
    graph = ir.load(external_model)
    ir.save(graph, folder / "out.onnx")
    assert (folder / "out.onnx.data").read_bytes() == before
    assert place(read(folder / "out.onnx").graph.initializer[0])["location"] == "out.onnx-2.data"
    np.testing.assert_array_equal(run_file(folder / "out.onnx"), run_file(external_model))


def test_an_output_that_is_read_is_refused(external_model: Path, tmp_path: Path) -> None:
    graph = ir.load(external_model)
    weights = external_model.parent / "weights.bin"
    (tmp_path / "link.onnx").symlink_to(external_model)
    (tmp_path / "hard.onnx").hardlink_to(external_model)
    (tmp_path / "link.bin").symlink_to(weights)
    (tmp_path / "folder").symlink_to(external_model.parent)
    before = external_model.read_bytes(), weights.read_bytes()
    for name in ("source/net.onnx", "source/../source/net.onnx", "link.onnx", "hard.onnx", "folder/net.onnx"):
        with pytest.raises(GraphError, match=f"{tmp_path / name}: is the model that was loaded"):
            ir.save(graph, tmp_path / name)
    for name in ("source/weights.bin", "link.bin", "folder/weights.bin"):
        with pytest.raises(GraphError, match=f"{tmp_path / name}: holds weights of the model that was loaded"):
            ir.save(graph, tmp_path / name)
    assert (external_model.read_bytes(), weights.read_bytes()) == before
    assert names(tmp_path) == ["folder", "hard.onnx", "link.bin", "link.onnx", "source"]


def test_the_source_is_known_after_the_working_folder_changed(
    external_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(external_model.parent)
    graph = ir.load("net.onnx")
    monkeypatch.chdir(tmp_path)
    ir.save(graph, "net.onnx")
    np.testing.assert_array_equal(run_file(tmp_path / "net.onnx"), run_file(external_model))
    with pytest.raises(GraphError, match=r"source/net\.onnx: is the model that was loaded"):
        ir.save(graph, "source/net.onnx")


def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    graph = small_graph()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("folder", "is a folder; name a file in it"),
        ("missing/out.onnx", f"there is no folder {tmp_path / 'missing'}"),
        ("file/out.onnx", f"there is no folder {tmp_path / 'file'}"),
        ("pipe", "is not a regular file"),
        ("n" * 300, "cannot be written: File name too long"),
    ):
        with pytest.raises(GraphError, match=f"{tmp_path / name}: .*{message}"):
            ir.save(graph, tmp_path / name)
    assert names(tmp_path) == ["file", "folder", "pipe"]


def test_a_folder_that_forbids_writing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: Path, mode: int) -> bool:
        return not mode & os.W_OK  # the superuser, whom CI may be, is allowed to write anywhere

    monkeypatch.setattr(os, "access", forbidden)
    with pytest.raises(GraphError, match=f"out.onnx: cannot be written, the folder {tmp_path} does not allow it"):
        ir.save(small_graph(), tmp_path / "out.onnx")


def test_an_unknown_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="external_data is 'often'; it can be auto, always, never"):
        ir.save(small_graph(), tmp_path / "out.onnx", external_data="often")  # pyright: ignore[reportArgumentType]  so
    assert names(tmp_path) == []


def test_weights_that_fit_no_protobuf_go_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_file, "LARGEST_PROTOBUF", 5000)
    monkeypatch.setattr(sys.modules["planish.ir.emit"], "LARGEST_PROTOBUF", 5000)  # its name means the function
    graph = small_graph(2048)
    with pytest.raises(GraphError, match=r'out.onnx: 8192 bytes of weights do not fit one file.*external_data="auto"'):
        ir.save(graph, tmp_path / "out.onnx", external_data="never")
    with pytest.raises(GraphError, match="8192 bytes of weights do not fit one protobuf; use save"):
        ir.emit(graph)
    assert names(tmp_path) == []
    ir.save(graph, tmp_path / "out.onnx")
    assert names(tmp_path) == ["out.onnx", "out.onnx.data"]
