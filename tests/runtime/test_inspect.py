"""What a model is made of, told without running it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish import ir, runtime
from planish.ir import Builder, DType, Graph, GraphError
from planish.models.builders import branching_net, residual_convnet, transformer_block


def inspected(graph: Graph, tmp_path: Path, **shapes: tuple[int, ...]) -> runtime.Inspection:
    path = tmp_path / "model.onnx"
    ir.save(graph, path)
    return runtime.inspect(path, shapes)


def test_operators_parameters_and_interface(tmp_path: Path) -> None:
    found = inspected(residual_convnet(), tmp_path)
    assert found.operators["Conv"] == 8
    assert list(found.operators.values()) == sorted(found.operators.values(), reverse=True)
    assert found.nodes == 29
    assert [(port.name, port.type) for port in found.inputs] == [("image", "float[batch, 3, height, width]")]
    assert [(port.name, port.type) for port in found.outputs] == [("logits", "float[batch, 10]")]
    assert found.dynamic_dims == ("batch", "height", "width")
    assert found.opsets == {"ai.onnx": 17}
    assert found.bytes == (tmp_path / "model.onnx").stat().st_size
    (floats,) = found.weights
    assert floats.dtype == "float"
    assert floats.bytes == 4 * floats.elements == 4 * found.parameters


def test_macs_are_an_expression_or_a_number(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("batch", 3, None, 8))
    w = b.initializer("w", np.ones((4, 3, 1, 1), np.float32))
    b.output("y", b.node("Conv", (x, w)))
    found = inspected(b.graph(), tmp_path)
    assert found.macs == {"Conv": "96*x[2]*batch"}
    assert found.dynamic_dims == ("batch", "x[2]")
    found = runtime.inspect(tmp_path / "model.onnx", {"x": (2, 3, 5, 8)})
    assert found.total_macs == 96 * 2 * 5
    with pytest.raises(GraphError, match="no input 'z'"):
        runtime.inspect(tmp_path / "model.onnx", {"z": (1,)})


def test_macs_that_only_a_run_tells_are_counted_apart(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", DType.FLOAT, ("n", 8))
    some = b.node("Compress", (x, b.input("keep", DType.BOOL, ("n",))), {"axis": 0})
    b.output("y", b.node("MatMul", (some, b.initializer("w", np.ones((8, 8), np.float32)))))
    found = inspected(b.graph(), tmp_path)
    assert (found.total_macs, found.unknown_macs) == (0, 1)


def test_nested_graphs_are_looked_into(tmp_path: Path) -> None:
    found = inspected(branching_net(), tmp_path)
    assert (found.nested_graphs, found.depth) == (4, 1)
    assert found.operators["Gemm"] == 9
    assert found.total_macs != 0


def test_constants_count_once_and_by_type(tmp_path: Path) -> None:
    b = Builder()
    w = b.initializer("w", np.ones((3, 5), np.float16))
    x = b.input("x", DType.FLOAT16, ("n", 3), default=None)
    scale = b.input("scale", DType.FLOAT16, (5,), default=np.ones(5, np.float16))
    y = b.node("Mul", (b.node("MatMul", (x, w)), scale))
    y = b.node("Reshape", (b.node("Add", (y, b.node("MatMul", (x, w)))), b.constant(np.asarray([-1, 5], np.int64))))
    b.output("y", y)
    found = inspected(b.graph(), tmp_path)
    assert [weights.as_dict() for weights in found.weights] == [
        {"dtype": "float16", "tensors": 2, "elements": 20, "bytes": 40},
        {"dtype": "int64", "tensors": 1, "elements": 2, "bytes": 16},
    ]
    assert [port.overridable for port in found.inputs] == [False, True]


def test_external_data_is_counted_and_not_read(tmp_path: Path) -> None:
    ir.save(transformer_block(), tmp_path / "model.onnx", external_data="always")
    found = runtime.inspect(tmp_path / "model.onnx")
    assert found.external_files == ("model.onnx.data",)
    data = tmp_path / "model.onnx.data"
    assert found.bytes == (tmp_path / "model.onnx").stat().st_size + data.stat().st_size


def test_functions_are_named_and_looked_into(tmp_path: Path) -> None:
    b = Builder()
    b.output("y", b.node("Relu", (b.input("x", DType.FLOAT, ("n", 4)),)))
    proto = ir.emit(b.graph())
    function = proto.functions.add(name="Square", domain="local", input=["a"], output=["c"])
    function.opset_import.add(domain="", version=21)
    function.node.add(op_type="Mul", input=["a", "a"], output=["c"])
    proto.opset_import.add(domain="local", version=1)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Square", "local"
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    found = runtime.inspect(tmp_path / "model.onnx")
    assert found.functions == ("local::Square",)
    assert found.operators == {"Mul": 1}


def test_as_dict_is_plain(tmp_path: Path) -> None:
    found = inspected(residual_convnet(), tmp_path, image=(1, 3, 32, 32)).as_dict()
    assert found["nodes"] == 29
    assert isinstance(found["macs"], int)
