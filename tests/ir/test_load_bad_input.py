"""Each bad model gets one clear error that names the file and what is wrong in it."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, parser

from planish import ir
from planish.ir import GraphError

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
GOOD = f"{HEAD} net (float[N,2] x) => (float[N,2] y) <float[2] w = {{1, 2}}> {{ t = Add (x, w) y = Relu (t) }}"


def refuse(path: Path, message: str) -> None:
    """One error, of one sentence or two, that begins with the file; and nothing written beside it."""
    before = sorted(path.parent.rglob("*")) if path.parent.is_dir() else []
    with pytest.raises(GraphError) as raised:
        ir.load(path)
    assert re.match(f"{re.escape(str(path))}: .*{message}", raised.value.message), raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.__cause__ is None
    assert (sorted(path.parent.rglob("*")) if path.parent.is_dir() else []) == before


def refuse_model(folder: Path, model: onnx.ModelProto | str, message: str) -> None:
    proto = parser.parse_model(model) if isinstance(model, str) else model
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    refuse(path, message)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refuse(tmp_path / "missing.onnx", "cannot be read: No such file")
    refuse(tmp_path / "no" / "folder.onnx", "cannot be read: No such file")
    refuse(tmp_path, "cannot be read: Is a directory")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "net.onnx").touch()
    monkeypatch.setattr(Path, "read_bytes", denied)
    refuse(tmp_path / "net.onnx", "cannot be read: Permission denied")


@pytest.mark.parametrize("part", [1, 10, 50, 90, 99])
def test_a_truncated_file(tmp_path: Path, part: int) -> None:
    data = parser.parse_model(GOOD).SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data[: len(data) * part // 100])
    refuse(tmp_path / "net.onnx", "(is not an ONNX model, or is cut off|holds no graph|imports no operator set)")


def test_every_truncation_is_an_error_or_no_loss(tmp_path: Path) -> None:
    """Bytes cut at any place: protobuf cannot always tell, but what it takes for a model must hold a whole graph."""
    data = parser.parse_model(GOOD).SerializeToString()
    path = tmp_path / "net.onnx"
    whole = ir.text(ir.load(parser.parse_model(GOOD)))
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with suppress(GraphError):
            assert ir.text(ir.load(path)) == whole


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"not a model", b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n\x1a\n", bytes(range(256)), b"{}\n" * 100],
    ids=["empty", "zero", "text", "zip", "png", "bytes", "json"],
)
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    refuse(tmp_path / "net.onnx", "(is not an ONNX model, or is cut off|holds no graph, so it is not an ONNX model)")


def test_text_that_is_no_text(tmp_path: Path) -> None:
    """protobuf's parser lets names through that are not UTF-8."""
    places = ("value", "node", "input", "operator", "domain", "attribute", "extent", "graph", "weight", "branch")
    source = (
        '<ir_version: 8, opset_import: ["" : 17, "DOMAIN" : 1]> GRAPH (float[EXTENT] INPUT, bool c) => (y)'
        " <float[1] WEIGHT = {1}> { [NODE] VALUE = DOMAIN.OPERATOR <ATTRIBUTE = 1> (INPUT) y = If (c) <then_branch ="
        " BRANCH () => (p) { p = Neg (VALUE) }, else_branch = e () => (q) { q = Abs (VALUE) }> }"
    )
    data = parser.parse_model(source).SerializeToString()
    for place in places:
        name = place.upper().encode()
        assert name in data
        (tmp_path / "net.onnx").write_bytes(data.replace(name, b"\xff" * len(name)))
        refuse(tmp_path / "net.onnx", r"holds the text b'[\\xf]+', which is not UTF-8")


def test_cycles(tmp_path: Path) -> None:
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x) => (float[N] y) "
        "{ [first] a = Add (x, c) [second] b = Relu (a) [third] c = Neg (b) y = Abs (c) }",
        "the graph has a cycle: first -> second -> third -> first",
    )
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x) => (float[N] y) {{ [self] y = Add (x, y) }}",
        "the graph has a cycle: self -> self",
    )
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x, bool c) => (float[N] y) {{ [owner] y = If (c) <then_branch = t () => (p) "
        "{ p = Relu (z) }, else_branch = e () => (q) { q = Neg (x) }> [after] z = Exp (y) }",
        "the graph has a cycle: owner -> after -> owner",
    )
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x, bool c) => (float[N] y) {{ y = If (c) <then_branch = t () => (p) "
        "{ [one] p = Relu (r) [two] r = Neg (p) }, else_branch = e () => (q) { q = Neg (x) }> }",
        "the graph has a cycle: one -> two -> one",
    )


def test_names_that_nothing_defines(tmp_path: Path) -> None:
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x) => (float[N] y) {{ [reader] y = Add (x, ghost) }}",
        "node 'reader' reads 'ghost', which nothing defines",
    )
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x) => (float[N] y) {{ z = Relu (x) }}",
        "output 'y' of graph 'g' is made by no node",
    )
    refuse_model(
        tmp_path,
        f"{HEAD} g (float[N] x, bool c) => (float[N] y) {{ y = If (c) <then_branch = t () => (p) {{ p = Relu (q) }}, "
        "else_branch = e () => (q) { q = Neg (x) }> }",
        "node 'Relu' reads 'q', which nothing defines",
    )


def test_names_that_are_defined_twice(tmp_path: Path) -> None:
    twice = "value 't' is defined twice"
    body = "g (float[2] x) => (float[2] y) { [one] t = Relu (x) [two] t = Neg (x) y = Abs (t) }"
    with pytest.raises(GraphError, match=f"{twice}, the second time by two .Neg."):
        ir.load(parser.parse_model(f"{HEAD} {body}"), strict=True)
    body = "g (float[2] x) => (float[2] y) <float[2] t = {1, 2}> { [one] t = Relu (x) y = Abs (t) }"
    refuse_model(tmp_path, f"{HEAD} {body}", f"{twice}, the second time by one .Relu.")
    body = "g (float[2] t) => (float[2] y) { [one] t = Relu (t) y = Abs (t) }"
    refuse_model(tmp_path, f"{HEAD} {body}", f"{twice}, the second time by one .Relu.")
    body = "g (float[2] x, float[2] t) => (float[2] y) { [one] y, y = Split (x) }"
    refuse_model(tmp_path, f"{HEAD} {body}", "value 'y' is defined twice, the second time by one .Split.")
    refuse_model(tmp_path, f"{HEAD} g (float[2] t, float[2] t) => (float[2] y) {{ y = Abs (t) }}", twice)
    model = parser.parse_model(GOOD)
    model.graph.initializer.append(model.graph.initializer[0])
    refuse_model(tmp_path, model, "value 'w' is defined twice")
    model = parser.parse_model(GOOD)
    sparse = model.graph.sparse_initializer.add(dims=[2])
    sparse.values.CopyFrom(model.graph.initializer[0])
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [2], [0, 1]))
    refuse_model(tmp_path, model, "value 'w' is defined twice")


def test_opsets(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    model = parser.parse_model(GOOD)
    model.opset_import[0].version = newest + 1
    refuse_model(
        tmp_path, model, f"uses opset {newest + 1} of ai.onnx, and the installed onnx .* knows up to {newest}; "
    )
    model.opset_import[0].version = newest
    model.opset_import.add(domain="ai.onnx.ml", version=999)
    refuse_model(tmp_path, model, "uses opset 999 of ai.onnx.ml")
    del model.opset_import[:]
    refuse_model(tmp_path, model, "imports no operator set, so its operators have no meaning")
    model.opset_import.add(domain="", version=0)
    refuse_model(tmp_path, model, "uses opset 0 of ai.onnx; the first is 1")


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([2**40, 2**40], "tensor 'w' has the shape .*negative or overflows 64 bits"),
        ([2**62, 2], "tensor 'w' has the shape .*negative or overflows 64 bits"),
        ([2**63 - 1, 0, 2**63 - 1], "tensor 'w' of shape .* needs 0 bytes and holds 8"),
        ([-2], "tensor 'w' has the shape .-2., which is negative"),
        ([3], "tensor 'w' of shape .3. needs 12 bytes and holds 8"),
        ([2**40], "tensor 'w' of shape .* needs 4398046511104 bytes and holds 8"),
    ],
)
def test_initializers_whose_dims_cannot_be(tmp_path: Path, dims: list[int], message: str) -> None:
    model = parser.parse_model(GOOD)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(8)))
    refuse_model(tmp_path, model, message)
    assert model.graph.node[0].op_type == "Add"
    attribute = model.graph.node.add(op_type="Constant", output=["c"]).attribute.add(name="value")
    attribute.type = onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.append(helper.make_tensor("v", TensorProto.FLOAT, [2], [1, 2]))
    model.graph.node[0].input[1] = "v"
    refuse_model(tmp_path, model, message)


def test_inputs_whose_dims_overflow(tmp_path: Path) -> None:
    model = parser.parse_model(GOOD)
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = 2**40
    refuse_model(tmp_path, model, r"the dims \[1099511627776, 1099511627776\] of 'x' overflow 64 bits")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TensorProto(name="w", data_type=99, dims=[1]), "tensor 'w' has the element type 99, which onnx"),
        (TensorProto(name="w", dims=[1]), "tensor 'w' has the element type 0, which onnx"),
        (TensorProto(name="w", data_type=1, dims=[2], float_data=[1]), "needs 2 elements of float_data and holds 1"),
        (TensorProto(name="w", data_type=7, dims=[2], float_data=[1, 2]), "needs 2 elements of int64_data and holds 0"),
        (TensorProto(name="w", data_type=8, dims=[1], raw_data=b"a"), "holds strings as raw bytes"),
        (
            TensorProto(name="w", data_type=8, dims=[2], string_data=[b"a"]),
            "needs 2 elements of string_data and holds 1",
        ),
        (TensorProto(name="w", data_type=22, dims=[3], raw_data=b"a"), "of shape .3. needs 2 bytes and holds 1"),
    ],
)
def test_initializers_whose_elements_do_not_agree(tmp_path: Path, tensor: TensorProto, message: str) -> None:
    model = parser.parse_model(GOOD)
    model.graph.initializer[0].CopyFrom(tensor)
    refuse_model(tmp_path, model, message)


def test_types_that_onnx_lacks(tmp_path: Path) -> None:
    model = parser.parse_model(GOOD)
    model.graph.input[0].type.tensor_type.elem_type = 77
    refuse_model(tmp_path, model, "value 'x' has the element type 77, which onnx lacks")


def test_nodes_that_cannot_be_right(tmp_path: Path) -> None:
    body = "g (float[2,3] x, float[4,5] z) => (float[2,5] y) { [bad] y = MatMul (x, z) }"
    refuse_model(tmp_path, f"{HEAD} {body}", "MatMul")
    body = "g (float[2,3] x) => (float[2,3] y) { [bad] y = Softmax <axis = 0, axis = 1> (x) }"
    refuse_model(tmp_path, f"{HEAD} {body}", "node bad has one attribute twice")
    model = parser.parse_model(GOOD)
    model.graph.node.add(op_type="Constant", output=["c"], name="empty")
    refuse_model(tmp_path, model, "the Constant empty holds no value")


Edit = Callable[[Path, TensorProto], None]


def entry(key: str, value: str) -> Edit:
    def edit(_: Path, tensor: TensorProto) -> None:
        for existing in tensor.external_data:
            if existing.key == key:
                existing.value = value
                return
        tensor.external_data.add(key=key, value=value)

    return edit


def linked(link: str, to: str) -> Edit:
    """A link in the model's folder, and the tensor's data behind it."""

    def edit(folder: Path, tensor: TensorProto) -> None:
        (folder / link).symlink_to(to)
        (folder.parent / "outside").mkdir(exist_ok=True)
        (folder.parent / "outside" / "weights.bin").write_bytes(bytes(8192))
        entry("location", f"{link}/weights.bin" if to.endswith("outside") else link)(folder, tensor)

    return edit


def shorter(folder: Path, _: TensorProto) -> None:
    os.truncate(folder / "weights.bin", 4000)


def gone(folder: Path, _: TensorProto) -> None:
    (folder / "weights.bin").unlink()


def strings(_: Path, tensor: TensorProto) -> None:
    tensor.data_type = TensorProto.STRING


OUTSIDE = "does not stay in the model's folder; put the file beside the model"
THROUGH = "leads out of the model's folder through a link; copy the file beside the model"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (gone, "external data 'weights.bin' of tensor 'big' is missing; put the file at .*source/weights.bin"),
        (entry("location", "other.bin"), "external data 'other.bin' of tensor 'big' is missing"),
        (entry("location", "n" * 300), "external data 'n+' of tensor 'big' is missing"),
        (entry("location", ""), f"external data '' of tensor 'big' {OUTSIDE}"),
        (entry("location", "../weights.bin"), f"external data '../weights.bin' of tensor 'big' {OUTSIDE}"),
        (entry("location", "a/../../source/weights.bin"), OUTSIDE),
        (entry("location", "/etc/passwd"), f"external data '/etc/passwd' of tensor 'big' {OUTSIDE}"),
        (entry("location", "..\\weights.bin"), OUTSIDE),
        (entry("location", "."), "external data '.' of tensor 'big' is not a file"),
        (linked("link.bin", "../outside/weights.bin"), f"external data 'link.bin' of tensor 'big' {THROUGH}"),
        (linked("folder", "../outside"), f"external data 'folder/weights.bin' of tensor 'big' {THROUGH}"),
        (linked("absolute", "/etc/passwd"), f"external data 'absolute' of tensor 'big' {THROUGH}"),
        (linked("loop", "loop"), "external data 'loop' of tensor 'big' is missing"),
        (shorter, "external data of tensor 'big' in .*weights.bin takes bytes 256 to 4352 of a file of 4000"),
        (entry("offset", "1000000"), "takes bytes 1000000 to 1004096 of a file of"),
        (entry("offset", str(2**70)), "takes bytes 1180591620717411303424 to"),
        (entry("offset", "-1"), "takes bytes -1 to 4095 of a file of"),
        (entry("offset", "here"), "has an offset or length that is not a number"),
        (entry("length", "many"), "has an offset or length that is not a number"),
        (entry("length", "4095"), "has 4095 bytes, and shape .256, 4. needs 4096"),
        (entry("length", "-4096"), "has -4096 bytes, and shape .256, 4. needs 4096"),
        (strings, "holds strings, which ONNX does not allow"),
    ],
)
def test_external_data(external_model: Path, edit: Edit, message: str) -> None:
    model = onnx.ModelProto.FromString(external_model.read_bytes())
    edit(external_model.parent, model.graph.initializer[0])
    external_model.write_bytes(model.SerializeToString())
    refuse(external_model, message)


def test_a_link_that_stays_in_the_folder_is_followed(external_model: Path) -> None:
    folder = external_model.parent
    (folder / "deep").mkdir()
    (folder / "weights.bin").rename(folder / "deep" / "real.bin")
    (folder / "weights.bin").symlink_to("deep/real.bin")
    big = next(value.constant for value in ir.load(external_model).initializers if value.name == "big")
    assert big is not None
    assert big.array().ravel()[:3].tolist() == [0, 1, 2]
    (folder.parent / "alias").symlink_to(folder)
    ir.load(folder.parent / "alias" / "net.onnx")


def test_external_data_of_a_model_without_a_path(external_model: Path) -> None:
    model = onnx.ModelProto.FromString(external_model.read_bytes())
    with pytest.raises(GraphError, match=r"net: tensor 'big' has its data in 'weights\.bin'.*load it by its path"):
        ir.load(model)


@pytest.mark.parametrize("where", ["attribute", "function", "training", "sparse"])
def test_external_data_elsewhere_is_held_to_the_same(external_model: Path, where: str) -> None:
    model = onnx.ModelProto.FromString(external_model.read_bytes())
    tensor = model.graph.initializer[1]
    entry("location", "../weights.bin")(external_model.parent, tensor)
    node = helper.make_node("Constant", [], ["v"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
    if where == "attribute":
        model.graph.node.append(node)
    elif where == "function":
        model.functions.append(helper.make_function("local", "f", [], ["v"], [node], [helper.make_opsetid("", 17)]))
    elif where == "training":
        model.training_info.add().algorithm.node.append(node)
    else:
        sparse = model.graph.sparse_initializer.add(dims=[4], values=tensor)
        sparse.values.name = "sparse"
        sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [4], [0, 1, 2, 3]))
    if where != "sparse":
        tensor.external_data[0].value = "weights.bin"
    external_model.write_bytes(model.SerializeToString())
    refuse(external_model, f"external data '../weights.bin' of tensor 's[a-z]+' {OUTSIDE}")


@pytest.mark.parametrize(
    ("dims", "count", "indices", "message"),
    [
        ([-1], 2, [2], "sparse tensor 's' has the shape .-1., which is negative"),
        ([2**40, 2**40], 2, [2], "sparse tensor 's' has the shape .*overflows 64 bits"),
        ([9], 2, [3], "sparse tensor 's' has values of the shape .2. and indices of .3."),
        ([3, 3], 2, [2, 3], "sparse tensor 's' has values of the shape .2. and indices of .2, 3."),
    ],
)
def test_sparse_tensors_that_do_not_agree(
    tmp_path: Path, dims: list[int], count: int, indices: list[int], message: str
) -> None:
    model = parser.parse_model(GOOD)
    sparse = model.graph.sparse_initializer.add(dims=dims)
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [count], [1] * count))
    size = 1
    for extent in indices:
        size *= extent
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, indices, [0] * size))
    refuse_model(tmp_path, model, message)


def test_an_index_outside_a_sparse_tensor() -> None:
    model = parser.parse_model(GOOD)
    sparse = model.graph.sparse_initializer.add(dims=[3])
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [1], [1]))
    sparse.indices.CopyFrom(helper.make_tensor("", TensorProto.INT64, [1], [3]))
    tensor = next(value.constant for value in ir.load(model).initializers if value.name == "s")
    assert tensor is not None
    with pytest.raises(GraphError, match=r"sparse tensor 's' has an index outside of \[3\]"):
        tensor.array()
